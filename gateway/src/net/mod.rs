//! Sockets: listening, who is at the other end, complaints about them, and moving bytes without waiting.

pub(crate) mod activation;
pub(crate) mod address;
pub(crate) mod complaint;
pub(crate) mod gather;
pub(crate) mod handshakes;
pub(crate) mod limits;
pub(crate) mod listen;
pub(crate) mod peer;
pub(crate) mod relay;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod visit;
mod wide;
