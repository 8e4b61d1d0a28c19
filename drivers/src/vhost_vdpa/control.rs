//! [`Control`]: the ioctls of a vhost-vdpa device.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use vhost::vdpa::VhostVdpa;
use vhost::vhost_kern::VhostKernFeatures;
use vhost::vhost_kern::vdpa::VhostKernVdpa;
use vhost::{
    Error as VhostError, VhostBackend, VhostIotlbBackend, VhostIotlbMsg, VhostIotlbType, VringConfigData,
};
use vm_memory::GuestMemoryMmap;

use super::open::NAMES;
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;
use crate::virtio::config::{self, CONFIG_BYTES};
use crate::virtio::memory::QueueMemory;
use crate::virtio::spec::{BLOCK_DEVICE, device_status as status};

/// Backend features, as bits of the mask that VHOST_GET_BACKEND_FEATURES gives.
const IOTLB_MSG_V2: u64 = 1 << 1;
const IOTLB_BATCH: u64 = 1 << 2;

/// An open device.
pub(super) struct Control {
    vdpa: VhostKernVdpa<Arc<GuestMemoryMmap>>,
    /// What messages call it.
    name: String,
    batches: bool,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Control {
    /// Takes the device, and resets it: whoever had it before may have left it running.
    ///
    /// # Errors
    /// It is no vhost-vdpa device, or not one of a disk.
    pub(super) fn take(file: File, name: &str) -> Result<Control, Error> {
        let vdpa = VhostKernVdpa::with(file, Arc::new(GuestMemoryMmap::new()), 0);
        let mut control = Control { vdpa, name: name.to_owned(), batches: false };
        let id = control.said("VHOST_VDPA_GET_DEVICE_ID", control.vdpa.get_device_id());
        let id = id.map_err(|error| error.hint(NAMES))?;
        if id != u32::from(BLOCK_DEVICE) {
            return Err(Error::device(format!("{name} is a virtio device of type {id}, and no disk")));
        }
        control.said("VHOST_SET_OWNER", control.vdpa.set_owner())?;
        let offered = control.said("VHOST_GET_BACKEND_FEATURES", control.vdpa.get_backend_features())?;
        let wanted = offered & (IOTLB_MSG_V2 | IOTLB_BATCH);
        let set = control.vdpa.set_backend_features(wanted);
        control.said("VHOST_SET_BACKEND_FEATURES", set)?;
        control.batches = wanted & IOTLB_BATCH != 0;
        control.set_status(0)?;
        control.set_status(status::ACKNOWLEDGE | status::DRIVER)?;
        Ok(control)
    }

    fn said<T>(&self, ioctl: &str, result: Result<T, VhostError>) -> Result<T, Error> {
        result.map_err(|cause| {
            let cause = match cause {
                VhostError::IoctlError(cause) | VhostError::IOError(cause) => cause,
                other => io::Error::other(other.to_string()),
            };
            Error::system(format!("set up {}: {ioctl}", self.name), &cause)
        })
    }

    /// Writes the device status.
    ///
    /// # Errors
    /// What the ioctl answered. It may take half a minute with a device whose other side is gone.
    pub(super) fn set_status(&self, status: u8) -> Result<(), Error> {
        self.said("VHOST_VDPA_SET_STATUS", self.vdpa.set_status(status))
    }

    /// The virtio features that the device offers.
    ///
    /// # Errors
    /// What the ioctl answered.
    pub(super) fn features(&self) -> Result<u64, Error> {
        self.said("VHOST_GET_FEATURES", self.vdpa.get_features())
    }

    /// Accepts features, and sees that the device agrees.
    ///
    /// # Errors
    /// What an ioctl answered, or that the device does not agree.
    pub(super) fn accept(&self, features: u64) -> Result<(), Error> {
        self.said("VHOST_SET_FEATURES", self.vdpa.set_features(features))?;
        let wanted = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set_status(wanted)?;
        let now = self.said("VHOST_VDPA_GET_STATUS", self.vdpa.get_status())?;
        match now & status::FEATURES_OK {
            0 => Err(Error::device(format!("{} does not accept the features {features:#x}", self.name))),
            _ => Ok(()),
        }
    }

    /// The configuration space, and how much of it the device has.
    ///
    /// # Errors
    /// What an ioctl answered, or that there is not even a capacity.
    pub(super) fn config(&self) -> Result<([u8; CONFIG_BYTES], usize), Error> {
        let size = self.said("VHOST_VDPA_GET_CONFIG_SIZE", self.vdpa.get_config_size())?;
        let len = (size as usize).min(CONFIG_BYTES);
        if len < config::LEAST {
            return Err(Error::device(format!("{} has a configuration of {size} bytes", self.name)));
        }
        let mut bytes = [0; CONFIG_BYTES];
        self.said("VHOST_VDPA_GET_CONFIG", self.vdpa.get_config(0, &mut bytes[..len]))?;
        Ok((bytes, len))
    }

    /// Most queues, and most entries of one.
    ///
    /// # Errors
    /// What an ioctl answered.
    pub(super) fn queue_limits(&self) -> Result<(usize, u16), Error> {
        // Before Linux 5.18 there is no way to ask for the number.
        let count = self.vdpa.get_vqs_count().unwrap_or(u32::MAX);
        let entries = self.said("VHOST_VDPA_GET_VRING_NUM", self.vdpa.get_vring_num())?;
        Ok((usize::try_from(count).unwrap_or(usize::MAX), entries))
    }

    /// The addresses that the device reaches: the first and the last.
    ///
    /// # Errors
    /// What the ioctl answered.
    pub(super) fn iova_range(&self) -> Result<(u64, u64), Error> {
        let range = self.said("VHOST_VDPA_GET_IOVA_RANGE", self.vdpa.get_iova_range())?;
        Ok((range.first, range.last))
    }

    /// Gives the device memory, at these addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn map(&self, memories: &[(u64, &Mapping)]) -> Result<(), Error> {
        self.mark(VhostIotlbType::BatchBegin)?;
        for (address, mapping) in memories {
            let len = mapping.len_bytes();
            let Some(slice) = mapping.slice(0, len) else { continue };
            let start = slice.ptr_guard_mut().as_ptr();
            let mapped = self.vdpa.dma_map(*address, len as u64, start, false);
            self.said("VHOST_IOTLB_UPDATE", mapped).map_err(|error| {
                error.hint("its memory is locked: raise the limit (ulimit -l), or use less --memory")
            })?;
        }
        self.mark(VhostIotlbType::BatchEnd)
    }

    /// Takes memory back.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn unmap(&self, address: u64, len_bytes: usize) -> Result<(), Error> {
        self.said("VHOST_IOTLB_INVALIDATE", self.vdpa.dma_unmap(address, len_bytes as u64))
    }

    /// Begins or ends a batch of changes, where the device has batches.
    fn mark(&self, msg_type: VhostIotlbType) -> Result<(), Error> {
        if !self.batches {
            return Ok(());
        }
        let message = VhostIotlbMsg { msg_type, ..VhostIotlbMsg::default() };
        self.said("VHOST_IOTLB_BATCH", self.vdpa.send_iotlb_msg(&message))
    }

    /// Sets up a queue and enables it. `call`: `None` for one that is polled.
    ///
    /// # Errors
    /// What an ioctl answered.
    pub(super) fn start_queue(
        &self,
        index: usize,
        memory: &QueueMemory,
        kick: &EventFd,
        call: Option<&EventFd>,
    ) -> Result<(), Error> {
        let event = |event: &EventFd| {
            event
                .for_vhost()
                .map_err(|cause| Error::system(format!("hand an event to {}", self.name), &cause))
        };
        let (descriptors, driver_area, device_area) = memory.areas();
        let size = memory.size();
        self.said("VHOST_SET_VRING_NUM", self.vdpa.set_vring_num(index, size))?;
        self.said("VHOST_SET_VRING_BASE", self.vdpa.set_vring_base(index, 0))?;
        let addresses = VringConfigData {
            queue_max_size: size,
            queue_size: size,
            flags: 0,
            desc_table_addr: descriptors,
            used_ring_addr: device_area,
            avail_ring_addr: driver_area,
            log_addr: None,
        };
        // The addresses are the device's: the trait's method of the same name would look them up in a guest.
        let set = VhostKernVdpa::set_vring_addr(&self.vdpa, index, &addresses);
        self.said("VHOST_SET_VRING_ADDR", set)?;
        if let Some(call) = call {
            self.said("VHOST_SET_VRING_CALL", self.vdpa.set_vring_call(index, &event(call)?))?;
        }
        self.said("VHOST_SET_VRING_KICK", self.vdpa.set_vring_kick(index, &event(kick)?))?;
        let enabled = VhostVdpa::set_vring_enable(&self.vdpa, index, true);
        self.said("VHOST_VDPA_SET_VRING_ENABLE", enabled)
    }

    /// Lets the device run.
    ///
    /// # Errors
    /// What the ioctl answered.
    pub(super) fn run(&self) -> Result<(), Error> {
        self.set_status(status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK)
    }

    /// Has `event` signalled when the configuration changes.
    ///
    /// # Errors
    /// What the ioctl answered: not every device can.
    pub(super) fn watch_config(&self, event: &EventFd) -> Result<(), Error> {
        let event = event
            .for_vhost()
            .map_err(|cause| Error::system(format!("hand an event to {}", self.name), &cause))?;
        self.said("VHOST_VDPA_SET_CONFIG_CALL", self.vdpa.set_config_call(&event))
    }
}
