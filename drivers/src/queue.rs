//! [`Queue`]: the data plane's contract.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use vm_memory::VolatileSlice;

use crate::error::Errno;
use crate::request::{Completion, Extent, Request, RequestFlags};

/// The answer of a `*_now` method.
#[derive(Debug, PartialEq, Eq)]
pub enum Now<T> {
    /// Finished; nothing is in flight.
    Done(T),
    /// Failed for good; nothing is in flight.
    Failed(Errno),
    /// Not without waiting: send it by [`Queue::submit`]. Nothing happened.
    Later,
}

/// Where the first bytes of a read are: at least one, at most as many as were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// So many bytes are in the [`Store`].
    Store(usize),
    /// So many bytes read as zeroes and have no memory; reading them from the store would allocate it.
    Zero(usize),
}

/// A queue is beyond use: every request it held has come back from `reap` with an error, and so will any other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct QueueDead {
    /// What went wrong, for the log.
    pub reason: String,
}

/// Memory of a driver that a read may be answered from without a copy (a RAM disk, a file mapping).
pub trait Store: Send + Sync {
    /// The memory of `offset..offset + len` on the disk; `None` when that is outside of it.
    ///
    /// The memory may change at any time, so it is only ever handed to system calls.
    fn view(&self, offset: u64, len: usize) -> Option<VolatileSlice<'_>>;
}

/// One device queue. Made on the thread that uses it, owned by it, never shared.
///
/// The offsets and lengths it is given are inside the capacity at the time of the call and inside the limits; a queue
/// answers `EINVAL` to what is not, and never panics. A read, write, discard or write zeroes of length 0 succeeds and
/// does nothing.
pub trait Queue {
    /// Reads into `into` if the data is at hand. The default is [`Now::Later`], as for all `*_now` methods.
    fn read_now(&mut self, _offset: u64, _into: &VolatileSlice<'_>) -> Now<()> {
        Now::Later
    }

    /// Answers the beginning of a read by a range of the driver's [`Store`], or says that it reads as zeroes and has
    /// no memory. The caller asks again for what follows.
    fn view_now(&mut self, _offset: u64, _len: usize) -> Now<View> {
        Now::Later
    }

    /// Writes `from` without FUA.
    fn write_now(&mut self, _offset: u64, _from: &[u8]) -> Now<()> {
        Now::Later
    }

    /// Discards.
    fn discard_now(&mut self, _offset: u64, _len: u64) -> Now<()> {
        Now::Later
    }

    /// Writes zeroes.
    fn write_zeroes_now(&mut self, _offset: u64, _len: u64, _flags: RequestFlags) -> Now<()> {
        Now::Later
    }

    /// Flushes.
    fn flush_now(&mut self) -> Now<()> {
        Now::Later
    }

    /// Says what is known of the range, in order and without gaps; at least one extent, possibly less than the range.
    fn block_status_now(&mut self, _offset: u64, _len: u64, _extents: &mut Vec<Extent>) -> Now<()> {
        Now::Later
    }

    /// Moves requests from the front of `todo` into the device until it is full; the rest stays, in order.
    ///
    /// A request the device refuses comes back from [`Queue::reap`] with an error.
    ///
    /// # Errors
    /// When the queue is dead. Requests it had taken come back from `reap` with an error; those in `todo` stay there.
    fn submit(&mut self, todo: &mut VecDeque<Request>) -> Result<(), QueueDead>;

    /// Appends every finished request to `done`.
    fn reap(&mut self, done: &mut Vec<Completion>);

    /// Requests that were submitted and not yet returned by `reap`.
    fn in_flight(&self) -> usize;

    /// Whether [`Queue::reap`] has something to do although nothing is in flight: the device has changed, and waits for
    /// the queue to follow. [`Queue::event`] tells.
    fn has_news(&self) -> bool {
        false
    }

    /// Whether the queue is beyond use. A request that it held may come back without its lease: the device may still
    /// write to that memory, which stays on loan for ever.
    fn is_dead(&self) -> bool {
        false
    }

    /// Becomes readable when `reap` may have work; `None` for a queue that must be polled while it has requests in
    /// flight. One that must be polled at times only answers [`Queue::arm`] with `true` then. The caller only waits on
    /// the descriptor; `arm` resets it.
    fn event(&self) -> Option<BorrowedFd<'_>>;

    /// Asks for a wake-up by [`Queue::event`]. `true`: there is work already, so reap again instead of sleeping.
    fn arm(&mut self) -> bool;
}
