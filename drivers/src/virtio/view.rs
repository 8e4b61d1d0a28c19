//! [`BlkView`]: the properties of a virtio block device.

use super::properties::Offer;
use super::rings::Queues;
use crate::device::service::View;
use crate::limits::Limits;
use crate::property::Value;

/// What properties tell besides the limits.
pub(crate) struct BlkView {
    /// The driver's name on the command line.
    pub(crate) driver: &'static str,
    /// Properties of the transport, with values that stay.
    pub(crate) own: Vec<(&'static str, Value)>,
    pub(crate) offer: Offer,
    pub(crate) queues: Queues,
    pub(crate) serial: String,
}

impl View for BlkView {
    fn property(&self, limits: &Limits, name: &str) -> Option<Value> {
        match self.own.iter().find(|(own, _)| *own == name) {
            Some((_, value)) => Some(value.clone()),
            None => self.offer.property(self.driver, limits, self.queues, &self.serial, name),
        }
    }
}
