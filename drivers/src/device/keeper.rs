//! [`Keeper`]: the thread that follows changes of a device that does not come back, and ends its service.
//!
//! Resetting and closing a device may take long, so no worker does that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::lane::Lane;
use super::news::News;
use super::service::Keep;
use super::state::Device;
use crate::driver::Event;
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::sys::poll;

/// What a transport does for a device in service, on the keeper's thread.
pub(crate) trait Transport: Send + 'static {
    /// The capacity as the device tells it now.
    ///
    /// # Errors
    /// It cannot be read, or cannot be.
    fn capacity_bytes(&self) -> Result<u64, Error>;

    /// What is wrong with the device, as far as it tells by itself. Asked when its configuration has changed, its
    /// alarms have gone off, or time has passed ([`Transport::pace`]).
    fn trouble(&self) -> Option<Trouble> {
        None
    }

    /// Stops the device, proves that it uses no memory any more, and takes it up again, with a lane for each queue.
    /// `stopped` is called between. Called when no queue has a lane.
    ///
    /// # Errors
    /// It cannot be stopped, or does not start again.
    fn mend(&mut self, stopped: &mut dyn FnMut()) -> Result<Vec<Box<dyn Lane>>, Error> {
        let _ = stopped;
        Err(Error::device("nothing can be done about it"))
    }

    /// Readable when there may be trouble.
    fn alarms(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// How often to ask a device that tells nothing by itself.
    fn pace(&self) -> Option<Duration> {
        None
    }

    /// The device counts as dead: nothing that it does is wanted any more.
    fn fail(&mut self);

    /// Leaves the device as it was found.
    fn end(&mut self);
}

/// What is wrong with a device: the second half of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is gone, or wanted elsewhere.
    Gone(String),
    /// It may be mended.
    Ill(String),
}

/// How long queues may take to give their lanes back.
const LANES_PATIENCE: Duration = Duration::from_secs(10);

/// How often a device may be mended within a minute.
const MENDS_MAX: usize = 5;

/// What the thread remembers of a device.
#[derive(Default)]
struct Past {
    /// When it was mended within the last minute.
    mended: Vec<Instant>,
    /// What it tells that cannot be.
    told: Option<String>,
}

impl Past {
    /// Whether a device has not told this before, or told something else meanwhile: it may be asked every second, and
    /// a warning for each would say nothing.
    fn is_news(&mut self, told: String) -> bool {
        let told = Some(told);
        let is_news = self.told != told;
        self.told = told;
        is_news
    }
}

/// Keeps a device in service until it is dropped.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its owner share.
struct Shared {
    device: Arc<Device>,
    news: News,
    stop: EventFd,
    /// Signalled by the device when its configuration changes.
    changed: EventFd,
}

impl Keeper {
    /// Looks after `device`, which runs by `transport` and signals `changed` when its
    /// configuration changes.
    ///
    /// # Errors
    /// What the system answered to the request for a thread or a descriptor.
    pub(crate) fn start(
        device: Arc<Device>,
        transport: impl Transport,
        changed: EventFd,
    ) -> io::Result<Keeper> {
        let shared = Arc::new(Shared { device, news: News::new()?, stop: EventFd::new()?, changed });
        let for_thread = shared.clone();
        let thread =
            thread::Builder::new().name("device".into()).spawn(move || for_thread.keep(transport))?;
        Ok(Keeper { shared, thread: Some(thread) })
    }
}

impl Keep for Keeper {
    fn news(&self) -> &News {
        &self.shared.news
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stop.signal();
        // One that failed may take its time to close, which is nobody's business any more.
        if let Some(thread) = self.thread.take().filter(|_| !self.shared.device.is_dead()) {
            // It does not panic, and if it did its work would be over as well.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn keep(&self, mut transport: impl Transport) {
        let mut past = Past::default();
        while !self.device.is_dead() {
            let device = &self.device;
            let mut files = vec![
                self.stop.as_fd(),
                device.death().as_fd(),
                self.changed.as_fd(),
                device.complaint().as_fd(),
            ];
            files.extend(transport.alarms());
            let pace = transport.pace();
            let reason = match poll::first(&files, pace).map(|ready| ready.map(|ready| ready.index)) {
                Ok(Some(0)) | Err(_) => return transport.end(),
                Ok(Some(2)) => {
                    self.changed.reset();
                    self.look(&transport, &mut past)
                }
                Ok(Some(3)) => self.hear(&mut past),
                Ok(Some(4..)) => self.look(&transport, &mut past),
                Ok(None) if pace.is_some() => self.look(&transport, &mut past),
                Ok(_) => None,
            };
            if let Some(reason) = reason {
                self.restart(&mut transport, &reason);
            }
        }
        self.news.tell(Event::Dead { reason: self.device.reason() });
        transport.fail();
        // Whoever drops the keeper now does not wait for it.
        while poll::first(&[self.stop.as_fd()], None).is_ok_and(|ready| ready.is_none()) {}
        transport.end();
    }

    /// Does something about what queues complained of. Returns why the device is to be restarted, if it is.
    fn hear(&self, past: &mut Past) -> Option<String> {
        self.hold(self.device.take_complaint()?, past)
    }

    /// Follows what the device tells. Returns why it is to be restarted, if it is.
    fn look(&self, transport: &impl Transport, past: &mut Past) -> Option<String> {
        let told = match transport.trouble() {
            None => transport.capacity_bytes(),
            Some(trouble) => return self.judge(trouble, past),
        };
        match told {
            Ok(capacity_bytes) => {
                past.told = None;
                if self.device.resize(capacity_bytes) {
                    self.news.tell(Event::CapacityChanged);
                }
            }
            Err(error) => match transport.trouble() {
                // It may have gone while it was read.
                Some(trouble) => return self.judge(trouble, past),
                None if past.is_news(error.to_string()) => {
                    tracing::warn!("{} tells a change that cannot be: {error}", self.device.facts.name);
                }
                None => {}
            },
        }
        None
    }

    fn judge(&self, trouble: Trouble, past: &mut Past) -> Option<String> {
        let name = &self.device.facts.name;
        match trouble {
            Trouble::Gone(what) => {
                self.device.die(&format!("{name} {what}"));
                None
            }
            Trouble::Ill(what) => self.hold(format!("{name} {what}"), past),
        }
    }

    /// Has the queues give their lanes back, so that the device can be restarted for this reason, which is returned.
    /// One that needs it too often is dead.
    fn hold(&self, reason: String, past: &mut Past) -> Option<String> {
        past.mended.retain(|then| then.elapsed() < Duration::from_secs(60));
        if past.mended.len() >= MENDS_MAX {
            self.device.die(&format!("{reason}, after {MENDS_MAX} resets within a minute"));
            return None;
        }
        past.mended.push(Instant::now());
        self.device.hold();
        self.news.tell(Event::Suspended { reason: format!("{reason}: it is reset") });
        Some(reason)
    }

    /// Stops the device that is held and takes it up again.
    fn restart(&self, transport: &mut impl Transport, reason: &str) {
        if !self.device.await_lanes(Instant::now() + LANES_PATIENCE) {
            return self.device.die(&format!("{reason}, and its queues are still in use"));
        }
        // What was said of the device as it was is no matter any more. Nobody has a lane to say more of.
        let _ = self.device.take_complaint();
        let lanes = transport.mend(&mut || self.device.is_stopped());
        let resumed = lanes.and_then(|lanes| {
            let payload = self
                .device
                .give_payload()
                .map_err(|cause| Error::system("give the device its memory again", &cause))?;
            Ok(self.device.resume(lanes, &payload))
        });
        match resumed {
            Ok(true) => self.news.tell(Event::Resumed),
            Ok(false) => {}
            Err(error) => self.device.die(&format!("{reason}, and a reset does not help: {error}")),
        }
    }
}

/// A keeper without a thread, for whoever plays all parts on one: nothing happens but by calls.
#[cfg(feature = "testing")]
pub(crate) struct Hand<T: Transport> {
    shared: Shared,
    transport: T,
    past: Past,
    /// Why the device is to be restarted.
    reason: Option<String>,
}

#[cfg(feature = "testing")]
impl<T: Transport> Hand<T> {
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new(device: Arc<Device>, transport: T) -> io::Result<Hand<T>> {
        let shared = Shared { device, news: News::new()?, stop: EventFd::new()?, changed: EventFd::new()? };
        Ok(Hand { shared, transport, past: Past::default(), reason: None })
    }

    /// Does what the thread does when it wakes up. `true`: the device is to be restarted when the queues have given
    /// their lanes back.
    pub(crate) fn look(&mut self) -> bool {
        let Hand { shared, transport, past, reason } = self;
        if reason.is_none() && !shared.device.is_dead() {
            *reason = shared.hear(past).or_else(|| {
                let is_alive = !shared.device.is_dead();
                is_alive.then(|| shared.look(transport, past)).flatten()
            });
        }
        if shared.device.is_dead() {
            transport.fail();
        }
        reason.is_some()
    }

    /// What happened.
    pub(crate) fn next_event(&self) -> Option<Event> {
        self.shared.news.next()
    }

    /// Restarts the device, if it is to be.
    pub(crate) fn restart(&mut self) {
        if let Some(reason) = self.reason.take() {
            self.shared.restart(&mut self.transport, &reason);
        }
    }
}

#[cfg(feature = "testing")]
impl<T: Transport> Drop for Hand<T> {
    fn drop(&mut self) {
        self.transport.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_tells_again_is_no_news() {
        let mut past = Past::default();
        let news = ["huge", "huge", "odd", "huge"].map(|told| past.is_news(told.into()));
        assert_eq!(news, [true, false, true, true]);
        past.told = None;
        assert!(past.is_news("huge".into()));
    }
}
