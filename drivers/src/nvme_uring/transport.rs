//! What the keeper's thread does for a namespace that the kernel looks after.

use std::sync::Arc;
use std::time::Duration;

use super::target::Target;
use crate::device::keeper::{Transport, Trouble};
use crate::error::Error;

/// How often the device is looked at: the kernel tells of nothing by itself.
const PACE: Duration = Duration::from_secs(1);

/// A namespace in service.
pub(super) struct UringTransport {
    pub(super) target: Arc<Target>,
    /// As it was at the start.
    pub(super) capacity_bytes: u64,
}

impl Transport for UringTransport {
    fn capacity_bytes(&self) -> Result<u64, Error> {
        Ok(self.target.size_bytes().unwrap_or(self.capacity_bytes))
    }

    fn trouble(&self) -> Option<Trouble> {
        (!self.target.is_there()).then(|| Trouble::Gone("has been removed".into()))
    }

    fn pace(&self) -> Option<Duration> {
        Some(PACE)
    }

    // The kernel ends what is in flight, and its driver goes on.
    fn fail(&mut self) {}

    fn end(&mut self) {}
}
