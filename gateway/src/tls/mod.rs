//! TLS: encryption of connections, and who is at their other end.
//!
//! | module | is |
//! |---|---|
//! | `context` | what was asked for, loaded and checked: certificates, keys |
//! | `certificates`, `psk` | the files, with the names that nbdkit, libnbd and qemu share |
//! | `accept` | the handshake of one client, without blocking its worker |
//! | `identity` | who the client has proven to be |
//! | `stream`, `pipe` | a connection whose records are made in this process, a batch at a time |
//! | `kernel` | a connection whose records the kernel makes |
//! | `reason` | why something failed, in words |
//! | `pki` | certificates and keys to begin with |
//! | `raw` | the calls of OpenSSL that have no safe face |

mod accept;
mod certificates;
mod context;
mod identity;
pub(crate) mod kernel;
mod pipe;
pub(crate) mod pki;
mod psk;
mod raw;
mod reason;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Failure, Secured, accept};
pub(crate) use context::{Context, Settings};
pub(crate) use identity::PeerIdentity;
pub(crate) use stream::TlsStream;
