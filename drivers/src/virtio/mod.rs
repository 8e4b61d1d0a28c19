//! virtio-blk: one block driver over a ring format and a transport.
//!
//! | module | is |
//! |---|---|
//! | `spec` | numbers of the specification |
//! | `properties` | the properties that every transport has |
//! | `config` | the device's configuration space, checked |
//! | `memory` | the memory of one queue that the device sees |
//! | `ring` | the contract of a ring format; `split` and `packed` are the two there are |
//! | `rings` | the memory of all queues, and the first request: `serial`, asking the device who it is |
//! | `device` | what the queues of a device share, and what becomes of it; `news`: telling of it |
//! | `service` | a device in service; `keeper`: following one over a transport that does not reconnect |
//! | `durability` | what is covered by a flush |
//! | `queue` | requests of this crate to chains of buffers and back |
//! | `bell` | what a queue's worker waits for; `kick`: what the device waits for |
//!
//! A transport (module `vhost_user`) negotiates features, gives the device memory and queues, and tells when it is
//! gone. It knows nothing of requests; this module knows nothing of sockets or ioctls.
//!
//! Nothing that the device can write is believed: which chains are with the device, how long they are and how far the
//! ring has come is kept in private memory, and what the device says is compared with that. A device that lies fails
//! its queue.
//!
//! The specification is "Virtual I/O Device (VIRTIO) Version 1.2"; sections are named in the modules.

mod bell;
pub(crate) mod config;
pub(crate) mod device;
mod durability;
pub(crate) mod keeper;
pub(crate) mod kick;
pub(crate) mod memory;
pub(crate) mod news;
mod packed;
pub(crate) mod properties;
pub(crate) mod queue;
pub(crate) mod ring;
pub(crate) mod rings;
pub(crate) mod serial;
pub(crate) mod service;
pub(crate) mod spec;
mod split;
