//! The `virtio-blk-vhost-user` driver: block devices of another process, over a vhost-user socket.
//!
//! | module | is |
//! |---|---|
//! | `address` | where the back-end is, and connecting to it |
//! | `link` | the conversation: negotiation, memory table, queues; `changes`: what the back-end says by itself |
//! | `message` | what the crate `vhost` cannot send |
//! | `deadline` | a bound on how long the other side may be silent |
//! | `service` | from a conversation to queues that run |
//! | `keeper` | noticing that the back-end is gone, and going on with another one |
//! | `device` | the life cycle of the driver |
//!
//! We are the front-end. The protocol is that of docs/interop/vhost-user.rst of the QEMU project.

mod address;
mod changes;
mod deadline;
mod device;
mod keeper;
mod link;
mod message;
mod service;

use std::sync::Arc;

use crate::driver::{Connected, DriverType, Opener};
use crate::error::Error;
use crate::property::{self, Kind, Phase, Property, Settings};
use crate::virtio::properties;
use device::VhostUserConnected;

pub(crate) struct VhostUserDriver;
pub(crate) static VHOST_USER: VhostUserDriver = VhostUserDriver;

/// The name on the command line.
const NAME: &str = "virtio-blk-vhost-user";

static TABLE: [Property; 40] = property::join([
    Property {
        name: "path",
        kind: Kind::Path,
        phase: Phase::Connect,
        default: "none; this or fd must be given",
        help: "Unix socket of the back-end",
    },
    Property {
        name: "fd",
        kind: Kind::Int { min: 0, max: i32::MAX as i64 },
        phase: Phase::Connect,
        default: "none",
        help: "Descriptor of a socket that is connected to the back-end",
    },
    Property {
        name: "size",
        kind: Kind::Size { min: 0, max: i64::MAX as u64 },
        phase: Phase::Connect,
        default: "told by the back-end",
        help: "Size of the disk, for a back-end that does not tell it",
    },
    Property {
        name: "reconnect",
        kind: Kind::Patience { max: 31_536_000 },
        phase: Phase::Connect,
        default: "60; 0 with fd",
        help: "How long requests wait for a back-end that went, until it is back",
    },
    Property {
        name: "reconnect-cache",
        kind: Kind::Word(&["kept", device::LOST]),
        phase: Phase::Connect,
        default: "kept",
        help: "What becomes of writes that were not flushed when the back-end goes",
    },
    properties::QUEUE_SIZE,
    properties::NUM_POLL_QUEUES,
    properties::MAX_QUEUE_SIZE,
    properties::SERIAL,
]);

impl DriverType for VhostUserDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "disks of another process over a vhost-user socket"
    }

    fn magic_property(&self) -> &'static str {
        "path"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        Ok(Box::new(VhostUserConnected::new(settings, opener)?))
    }
}
