//! What the keeper's thread does for a vhost-vdpa device.

use super::control::Control;
use crate::error::Error;
use crate::virtio::config::CONFIG_BYTES;
use crate::virtio::keeper::Transport;
use crate::virtio::spec::device_status;

/// A device that runs, and where it sees memory: addresses and lengths.
pub(super) struct VdpaTransport {
    pub(super) control: Control,
    pub(super) memories: Vec<(u64, usize)>,
}

impl Transport for VdpaTransport {
    fn config(&self) -> Result<([u8; CONFIG_BYTES], usize), Error> {
        self.control.config()
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
