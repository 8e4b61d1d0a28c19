//! [`Keeper`]: the thread that follows changes of the device, and ends its service.
//!
//! Resetting and closing a device whose other side is gone may block for half a minute, so no worker does that.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::control::{Control, status};
use crate::driver::Event;
use crate::sys::eventfd::EventFd;
use crate::sys::poll;
use crate::virtio::config::{self, BlkConfig};
use crate::virtio::device::Device;
use crate::virtio::news::News;

/// Keeps a device in service until it is dropped.
pub(super) struct Keeper {
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
    /// Looks after `device`, which runs by `control` with memory at these addresses.
    ///
    /// # Errors
    /// What the system answered to the request for a thread or a descriptor.
    pub(super) fn start(
        device: Arc<Device>,
        control: Control,
        features: u64,
        memories: Vec<(u64, usize)>,
    ) -> io::Result<Keeper> {
        let (news, stop, changed) = (News::new()?, EventFd::new()?, EventFd::new()?);
        // A device that cannot tell changes has none.
        let _ = control.watch_config(&changed);
        let shared = Arc::new(Shared { device, news, stop, changed });
        let work = Work { shared: shared.clone(), control, features, memories };
        let thread = thread::Builder::new().name("vhost-vdpa".into()).spawn(move || work.run())?;
        Ok(Keeper { shared, thread: Some(thread) })
    }

    /// What happened to the device.
    pub(super) fn news(&self) -> &News {
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

/// The thread's own.
struct Work {
    shared: Arc<Shared>,
    control: Control,
    features: u64,
    memories: Vec<(u64, usize)>,
}

impl Work {
    fn run(self) {
        let shared = &self.shared;
        let mut failed = false;
        loop {
            let mut files = vec![shared.stop.as_fd(), shared.changed.as_fd()];
            files.extend((!failed).then(|| shared.device.death().as_fd()));
            match poll::first(&files, None).map(|ready| ready.map(|ready| ready.index)) {
                Ok(Some(0)) | Err(_) => break,
                Ok(Some(1)) => {
                    shared.changed.reset();
                    self.follow_change();
                }
                Ok(Some(_)) => {
                    failed = true;
                    shared.news.tell(Event::Dead { reason: shared.device.reason() });
                    let _ = self.control.set_status(status::FAILED);
                }
                Ok(None) => {}
            }
        }
        self.end();
    }

    /// Follows a change of the capacity.
    fn follow_change(&self) {
        let device = &self.shared.device;
        let limits = self.control.config().and_then(|(bytes, len)| {
            BlkConfig::decode(&bytes, self.features & config::features_within(len)).limits(true)
        });
        match limits {
            Ok(limits) if device.resize(limits.capacity_bytes) => {
                self.shared.news.tell(Event::CapacityChanged);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("{} tells a change that cannot be: {error}", device.facts.name),
        }
    }

    /// Leaves the device as it was found. Old kernels keep the mappings of a descriptor that is merely closed.
    fn end(&self) {
        if let Err(error) = self.control.set_status(0) {
            tracing::warn!("{error}");
        }
        for (address, len_bytes) in &self.memories {
            if let Err(error) = self.control.unmap(*address, *len_bytes) {
                tracing::debug!("{error}");
            }
        }
    }
}
