//! Payload memory: a [`Region`] mapped once per device, a [`Pool`] of it per worker, a [`Lease`] per request.

mod lease;
pub(crate) mod place;
mod pool;
mod region;

pub use lease::Lease;
pub use pool::{LARGEST_LEASE_BYTES, Pool};
pub use region::Region;
