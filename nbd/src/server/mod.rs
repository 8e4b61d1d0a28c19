//! The server's side of the handshake: option haggling until an export is open.
//!
//! [`Handshake`] is a state machine. It takes bytes in pieces of any size, appends replies to a buffer, and says at
//! the end which [`Transmission`](crate::Transmission) was agreed. It keeps at most one incomplete option in memory
//! and bounds lengths and number of options; how long a client may take is for the caller to bound.
//!
//! ```
//! use nbd::server::{Exports, Handshake, Listed, ListAnswer, Policy, State};
//! use nbd::ExportFacts;
//!
//! struct OneDisk;
//! impl Exports for OneDisk {
//!     fn list(&self) -> ListAnswer {
//!         ListAnswer::Exports(vec![Listed { name: "disk".into(), description: String::new() }])
//!     }
//!     fn find(&self, name: &str) -> Option<ExportFacts> {
//!         (name.is_empty() || name == "disk").then(|| ExportFacts::new("disk", 1 << 20))
//!     }
//! }
//!
//! let mut handshake = Handshake::new(Policy::default());
//! assert_eq!(handshake.greeting(), *b"NBDMAGICIHAVEOPT\0\x03");
//! let mut out = Vec::new();
//! // Fixed newstyle, no zeroes; then EXPORT_NAME "disk".
//! let received = b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk";
//! let advance = handshake.advance(received, &OneDisk, &mut out);
//! let State::Transmission(session) = advance.state else { panic!("the export exists") };
//! assert_eq!((session.export.size_bytes, out.len()), (1 << 20, 10));
//! ```

mod answer;
mod exports;
mod handshake;
mod meta;
mod open;
mod options;
mod policy;
#[cfg(test)]
mod tests;

pub use exports::{Exports, ListAnswer, Listed};
pub use handshake::{Advance, CloseReason, Handshake, State};
pub use policy::{Offer, Policy, TlsMode};
