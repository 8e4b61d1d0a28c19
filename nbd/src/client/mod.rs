//! The client's side: opening an export, sending requests, and checking replies.
//!
//! [`Handshake`] negotiates as much as the server has and falls back where it has less. [`header_for`] makes legal
//! request headers and refuses others. [`Replies`] decodes what comes back, keeps account of each request in flight,
//! and treats each breach of a rule as the end of the connection. All take bytes in pieces of any size and do no I/O.
//!
//! Oldstyle servers (before 2014) are recognised and refused.
//!
//! Source: doc/proto.md, sections "Newstyle negotiation", "Fixed newstyle negotiation" and "Transmission phase".

mod coverage;
mod goal;
mod handshake;
mod options;
mod pending;
mod replies;
mod requests;
#[cfg(test)]
mod tests;

pub use goal::{Answered, Config, Failure, Goal, Tls, Wanted};
pub use handshake::{Advance, Handshake, State};
pub use pending::{RequestError, Violation};
pub use replies::{Event, Replies, ReplyHeader};
pub use requests::{BadRequest, header_for};
