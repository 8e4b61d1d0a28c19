//! What the keeper's thread does for a vhost-vdpa device.

use super::control::Control;
use crate::device::keeper::Transport;
use crate::error::Error;
use crate::virtio::config::BlkConfig;
use crate::virtio::spec::device_status;

/// A device that runs, and where it sees memory: addresses and lengths.
pub(super) struct VdpaTransport {
    pub(super) control: Control,
    /// What was negotiated.
    pub(super) features: u64,
    pub(super) memories: Vec<(u64, usize)>,
}

impl Transport for VdpaTransport {
    fn capacity_bytes(&self) -> Result<u64, Error> {
        let (bytes, len) = self.control.config()?;
        BlkConfig::capacity_bytes(&bytes, len, self.features)
    }

    fn fail(&mut self) {
        // It may be beyond taking notice.
        let _ = self.control.set_status(device_status::FAILED);
    }

    /// Old kernels keep the mappings of a descriptor that is merely closed. A reset takes half a minute if nobody is
    /// behind the device.
    fn end(&mut self) {
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
