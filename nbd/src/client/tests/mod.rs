//! The client against this crate's own server, and against servers that break rules.

mod handshake;
mod replies;
