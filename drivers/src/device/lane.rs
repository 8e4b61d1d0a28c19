//! [`Lane`]: one queue of a device, as far as its format goes.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Errno;
use crate::request::Request;
use crate::sys::eventfd::EventFd;

/// What is sent to the device for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Errand<'a> {
    /// What the request asks for.
    Request(&'a Request),
    /// A flush, which is the request or follows it.
    Flush,
}

/// What the device ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The slot of the request.
    pub(crate) slot: u16,
    pub(crate) verdict: Verdict,
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done. A device that counts says how many bytes it has written to our memory.
    Done {
        /// `None`: the device does not count.
        written: Option<u32>,
    },
    /// It failed.
    Failed(Errno),
    /// The device did not say how.
    Unanswered,
    /// It failed, but might succeed after this time.
    Again {
        /// What it is if it is not tried again.
        errno: Errno,
        /// How long to wait.
        after: Duration,
    },
}

/// The device said what cannot be: the queue is beyond use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Lie(pub(crate) String);

/// One queue of a device. A *slot* is a place for one request: whoever drives the lane keeps what is in them.
pub(crate) trait Lane: Send {
    /// How many slots there are.
    fn slots(&self) -> u16;

    /// Puts an errand for the slot into the queue, none of which is with the device. The device sees it after
    /// [`Lane::publish`].
    fn send(&mut self, slot: u16, errand: Errand<'_>);

    /// Shows the device what was sent. Returns whether it had to be told.
    fn publish(&mut self) -> bool;

    /// The next errand that the device has ended.
    ///
    /// # Errors
    /// What the device says is impossible.
    fn next_ended(&mut self) -> Result<Option<Ended>, Lie>;

    /// Asks to be called when the next errand ends. `true`: one has ended already.
    fn arm(&mut self) -> bool;

    /// Asks not to be called.
    fn disarm(&mut self);

    /// The device calls by this; `None`: the queue is polled.
    fn call(&self) -> Option<&Arc<EventFd>>;
}
