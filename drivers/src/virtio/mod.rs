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
//! | `lane` | requests of this crate to chains of buffers and back; `kick`: telling the device of them |
//! | `view` | the values of properties |
//!
//! A transport (module `vhost_user`) negotiates features, gives the device memory and queues, and tells when it is
//! gone. It knows nothing of requests; this module knows nothing of sockets or ioctls. What becomes of requests when
//! the device goes is the business of the module `device`.
//!
//! Nothing that the device can write is believed: which chains are with the device, how long they are and how far the
//! ring has come is kept in private memory, and what the device says is compared with that. A device that lies fails
//! its queue.
//!
//! The specification is "Virtual I/O Device (VIRTIO) Version 1.2"; sections are named in the modules.

pub(crate) mod config;
pub(crate) mod kick;
pub(crate) mod lane;
pub(crate) mod memory;
mod packed;
pub(crate) mod properties;
pub(crate) mod ring;
pub(crate) mod rings;
pub(crate) mod serial;
pub(crate) mod spec;
mod split;
pub(crate) mod view;
