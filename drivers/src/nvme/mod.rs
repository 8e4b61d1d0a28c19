//! The NVMe command layer: what the drivers of NVMe disks share, whatever carries their commands.
//!
//! | module | is |
//! |---|---|
//! | `spec` | numbers of the specifications |
//! | `command` | commands as they lie in memory: reads, writes, flushes, ranges, administration |
//! | `errand` | from requests of this crate to commands, and from statuses to what comes of the requests |
//! | `identify` | what controllers and namespaces say about themselves, checked |
//! | `facts` | from there to the limits of a disk |
//! | `disk` | all that is asked of a controller about a disk |
//! | `properties` | rows about controllers in the drivers' tables |
//! | `status` | what the status of a completion means |
//! | `health` | the health log |
//!
//! It knows nothing of registers, queues or ioctls. The specifications are "NVM Express Base Specification 2.0c" and
//! "NVM Command Set Specification 1.0c"; sections are named in the modules. All fields are little-endian.

pub(crate) mod command;
pub(crate) mod disk;
pub(crate) mod errand;
pub(crate) mod facts;
pub(crate) mod health;
pub(crate) mod identify;
pub(crate) mod properties;
pub(crate) mod spec;
pub(crate) mod status;
