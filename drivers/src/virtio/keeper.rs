//! [`Keeper`]: the thread that follows changes of a device that does not come back, and ends its service.
//!
//! Resetting and closing a device may take long, so no worker does that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::config::{self, BlkConfig, CONFIG_BYTES};
use super::device::Device;
use super::news::News;
use super::service::Keep;
use crate::driver::Event;
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::sys::poll;

/// What a transport does for a device in service, on the keeper's thread.
pub(crate) trait Transport: Send + 'static {
    /// The configuration space, and how much of it the device has.
    ///
    /// # Errors
    /// It cannot be read.
    fn config(&self) -> Result<([u8; CONFIG_BYTES], usize), Error>;

    /// Why the device is of no use any more, as far as it tells by itself. Asked when its configuration has changed,
    /// its alarm has gone off, or time has passed ([`Transport::pace`]).
    fn trouble(&self) -> Option<String> {
        None
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
    /// What was negotiated.
    features: u64,
}

impl Keeper {
    /// Looks after `device`, which runs by `transport` with these features, and signals `changed` when its
    /// configuration changes.
    ///
    /// # Errors
    /// What the system answered to the request for a thread or a descriptor.
    pub(crate) fn start(
        device: Arc<Device>,
        transport: impl Transport,
        features: u64,
        changed: EventFd,
    ) -> io::Result<Keeper> {
        let shared =
            Arc::new(Shared { device, news: News::new()?, stop: EventFd::new()?, changed, features });
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
        while !self.device.is_dead() {
            let mut files = vec![self.stop.as_fd(), self.device.death().as_fd(), self.changed.as_fd()];
            files.extend(transport.alarms());
            let pace = transport.pace();
            match poll::first(&files, pace).map(|ready| ready.map(|ready| ready.index)) {
                Ok(Some(0)) | Err(_) => return transport.end(),
                Ok(Some(2)) => {
                    self.changed.reset();
                    self.look(&transport);
                }
                Ok(Some(3..)) => self.look(&transport),
                Ok(None) if pace.is_some() => self.look(&transport),
                Ok(_) => {}
            }
        }
        self.news.tell(Event::Dead { reason: self.device.reason() });
        transport.fail();
        // Whoever drops the keeper now does not wait for it.
        while poll::first(&[self.stop.as_fd()], None).is_ok_and(|ready| ready.is_none()) {}
        transport.end();
    }

    /// Whether the device has died of what it tells by itself.
    fn is_troubled(&self, transport: &impl Transport) -> bool {
        let trouble = transport.trouble();
        if let Some(trouble) = &trouble {
            self.device.die(&format!("{} {trouble}", self.device.facts.name));
        }
        trouble.is_some()
    }

    /// Follows what the device tells.
    fn look(&self, transport: &impl Transport) {
        if self.is_troubled(transport) {
            return;
        }
        let limits = transport.config().and_then(|(bytes, len)| {
            BlkConfig::decode(&bytes, self.features & config::features_within(len)).limits(true)
        });
        match limits {
            Ok(limits) if self.device.resize(limits.capacity_bytes) => {
                self.news.tell(Event::CapacityChanged);
            }
            Ok(_) => {}
            // It may have gone while it was read.
            Err(_) if self.is_troubled(transport) => {}
            Err(error) => {
                tracing::warn!("{} tells a change that cannot be: {error}", self.device.facts.name);
            }
        }
    }
}
