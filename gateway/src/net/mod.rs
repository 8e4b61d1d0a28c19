//! Sockets: listening, who is at the other end, and moving bytes without waiting.

pub(crate) mod address;
pub(crate) mod listen;
pub(crate) mod peer;
pub(crate) mod stream;
