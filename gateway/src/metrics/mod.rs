//! What the server does, in numbers.
//!
//! Each worker counts for itself, in memory that no other thread writes, so that counting costs neither locks nor cache
//! misses. Whoever wants the numbers adds them up.

mod effort;
mod latency;
mod moment;
mod page;
mod process;
mod traffic;

pub(crate) use effort::Effort;
pub(crate) use moment::Moment;
pub(crate) use page::{CONTENT_TYPE, Page};
pub(crate) use process::starts as process_starts;
pub(crate) use traffic::{Answered, Kind, Open, RequestSum, Traffic, TrafficSum};
