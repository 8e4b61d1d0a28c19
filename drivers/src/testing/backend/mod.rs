//! A vhost-user back-end for tests and measurements: a small block device that does as it is told, wrong included.
//!
//! | module | is |
//! |---|---|
//! | `kind` | what a device is to be: size, queues, features |
//! | `fault` | what it does wrong, by name, and what must come of it |
//! | `store` | where its data lies: memory, a file, nowhere |
//! | `config` | its configuration space |
//! | `serve` | one request |
//! | `answer` | how requests end, and the faults of that |
//! | `null` | the quick way for a device that keeps nothing |
//! | `ring` | the ring for that |
//! | `device` | all of that as a device of the crate `vhost-user-backend` |
//! | `wire` | faults of the conversation, made between the two sides |
//! | `server` | connections, one after the other |
//!
//! It stands on `vhost-user-backend` and `virtio-queue`, that is on code that shares nothing with the driver that it
//! is to test. It trusts its front-end no further than they do, and it is no product: it ends with an error where a
//! device would go on.

mod answer;
mod config;
mod device;
mod fault;
mod kind;
mod null;
mod ring;
mod serve;
mod server;
mod store;
mod wire;

pub use fault::{FAULTS, Fault, FaultName};
pub use kind::{
    BLK_SIZE, DISCARD, EVENT_IDX, FEATURES, FLUSH, INDIRECT_DESC, Kind, MQ, PROTOCOL_FEATURES, Protocol,
    READ_ONLY, SEG_MAX, SERIAL, SIZE_MAX, VERSION_1, WRITE_ZEROES,
};
pub use server::Server;
pub use store::Store;
