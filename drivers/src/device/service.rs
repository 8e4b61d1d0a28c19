//! [`Service`]: a device in service, as the caller sees it.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::news::News;
use super::queue::DeviceQueue;
use super::state::Device;
use crate::driver::{Event, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{self, Extra, Value};
use crate::queue::Queue;
use crate::tally::Tally;

/// What keeps a device in service until it is dropped.
pub(crate) trait Keep: Any + Send + Sync {
    /// What happened to the device.
    fn news(&self) -> &News;

    /// As [`Started::try_again`].
    fn try_again(&self) {}

    /// As [`Started::hurry`].
    fn hurry(&self) {}
}

/// What the properties of a device are.
pub(crate) trait View: Send + Sync {
    /// The value of a property, with the limits as they are now; `None` for a name that the driver does not have.
    fn property(&self, limits: &Limits, name: &str) -> Option<Value>;
}

/// Properties that are known at the start, and facts.
pub(crate) struct Listed {
    /// The driver's own.
    pub(crate) own: Vec<(&'static str, Value)>,
    pub(crate) extra: Extra,
}

impl Listed {
    /// As [`View::property`].
    pub(crate) fn value(&self, limits: &Limits, name: &str) -> Option<Value> {
        match self.own.iter().find(|(own, _)| *own == name) {
            Some((_, value)) => Some(value.clone()),
            None => property::fact(name, limits, &self.extra),
        }
    }
}

impl View for Listed {
    fn property(&self, limits: &Limits, name: &str) -> Option<Value> {
        self.value(limits, name)
    }
}

/// A device in service.
pub(crate) struct Service<K, V> {
    keeper: Arc<K>,
    device: Arc<Device>,
    view: V,
    in_use: Mutex<Vec<bool>>,
}

impl<K: Keep, V: View> Service<K, V> {
    pub(crate) fn new(keeper: K, device: Arc<Device>, view: V) -> Service<K, V> {
        let in_use = Mutex::new(vec![false; device.queues()]);
        Service { keeper: Arc::new(keeper), device, view, in_use }
    }
}

impl<K: Keep, V: View + 'static> Started for Service<K, V> {
    fn limits(&self) -> Limits {
        self.device.limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.view.property(&self.device.limits(), name)
    }

    fn region(&self) -> &Arc<Region> {
        &self.device.region
    }

    fn queues(&self) -> usize {
        self.device.queues()
    }

    fn queue(&self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let name = &self.device.facts.name;
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.get_mut(index).is_none_or(|in_use| std::mem::replace(in_use, true)) {
            return Err(Error::device(format!("queue {index} of {name} is in use")));
        }
        let queue = DeviceQueue::new(self.device.clone(), index, self.keeper.clone())
            .map_err(|cause| Error::system(format!("watch a queue of {name}"), &cause))?;
        Ok(Box::new(queue))
    }

    fn losses(&self) -> u64 {
        self.device.durability.losses()
    }

    fn is_flushed(&self) -> bool {
        self.device.durability.is_clean()
    }

    fn tally(&self) -> Tally {
        self.device.tally()
    }

    fn try_again(&self) {
        self.keeper.try_again();
    }

    fn hurry(&self) {
        self.keeper.hurry();
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.keeper.news().as_fd())
    }

    fn next_event(&self) -> Option<Event> {
        self.keeper.news().next()
    }
}
