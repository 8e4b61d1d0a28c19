//! Sockets: listening, and moving bytes without waiting.

pub(crate) mod listen;
pub(crate) mod stream;
