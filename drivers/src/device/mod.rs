//! Devices with queues of their own: what virtio and NVMe disks share.
//!
//! | module | is |
//! |---|---|
//! | `lane` | the contract of a device's queue: sending, and learning of ends |
//! | `queue` | the requests of one worker on a lane: the in-flight table, and what follows when the device goes |
//! | `state` | what the queues of a device share, and what becomes of it |
//! | `durability` | what is covered by a flush |
//! | `bell` | what a queue's worker waits for |
//! | `service` | the device as the caller sees it; `news`: telling what happens to it |
//! | `properties` | rows that drivers of such devices have |
//! | `keeper` | the thread that follows a device, for those that do not reconnect |
//!
//! Nothing here knows registers, rings or ioctls. A driver negotiates with its device, gives it memory, makes a lane
//! for each queue, and tells when the device is gone.

mod bell;
mod durability;
pub(crate) mod keeper;
pub(crate) mod lane;
pub(crate) mod news;
pub(crate) mod properties;
pub(crate) mod queue;
pub(crate) mod service;
pub(crate) mod state;
