//! What a client wants from a handshake, and how that may fail.

use bitflags::bitflags;

use crate::option::{BadName, check_name};
use crate::server::Listed;
use crate::transmission::Transmission;
use crate::wire::rep;

bitflags! {
    /// Features that the client asks for; a server that lacks one is served without.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Wanted: u16 {
        /// STRUCTURED_REPLY.
        const STRUCTURED_REPLY = 1;
        /// EXTENDED_HEADERS, before STRUCTURED_REPLY.
        const EXTENDED_HEADERS = 1 << 1;
        /// The size constraints; the client must obey them.
        const BLOCK_SIZE = 1 << 2;
        /// Canonical name and description.
        const TEXTS = 1 << 3;
        /// GO; without it EXPORT_NAME is used, as old clients do.
        const GO = 1 << 4;
        /// To leave out the zeroes behind the answer to EXPORT_NAME.
        const NO_ZEROES = 1 << 5;
    }
}

/// Whether the client wants encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Tls {
    /// No.
    #[default]
    Off,
    /// If the server has it.
    Try,
    /// Yes, or no connection.
    Require,
}

/// What the handshake is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Goal {
    /// Open the export and go on to transmission.
    #[default]
    Open,
    /// Ask about the export, then say goodbye.
    Describe,
    /// Ask for the list of exports, then say goodbye.
    List,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the export; empty for the default one.
    pub name: String,
    /// What for.
    pub goal: Goal,
    /// Features.
    pub wanted: Wanted,
    /// Full names of the metadata contexts to select.
    pub contexts: Vec<String>,
    /// Encryption.
    pub tls: Tls,
}

impl Config {
    /// Opens `name` with all features and no metadata context.
    pub fn open(name: impl Into<String>) -> Config {
        Config {
            name: name.into(),
            goal: Goal::Open,
            wanted: Wanted::all(),
            contexts: Vec::new(),
            tls: Tls::Off,
        }
    }

    /// Checks what can be checked before connecting.
    ///
    /// # Errors
    /// The name or the name of a context is too long or contains NUL.
    pub fn check(&self) -> Result<(), BadName> {
        check_name(&self.name)?;
        self.contexts.iter().try_for_each(|context| check_name(context))
    }
}

/// What was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// [`Goal::Open`]: requests may be sent.
    Open(Box<Transmission>),
    /// [`Goal::Describe`]: what opening would give. Send the output, then close.
    Described(Box<Transmission>),
    /// [`Goal::List`]: the exports that the server names. Send the output, then close.
    Listed(Vec<Listed>),
}

/// Why the goal was not reached; the connection is to be closed, after sending the output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The other side is no NBD server.
    #[error("the peer does not greet as an NBD server does")]
    NotNbd,
    /// The server speaks the dead oldstyle protocol.
    #[error("the server speaks the oldstyle protocol, which is not supported; upgrade it")]
    OldStyle,
    /// The server lacks fixed newstyle, which the goal or TLS needs.
    #[error(
        "the server lacks fixed newstyle negotiation, so that it can only be asked for an export by name"
    )]
    NotFixedNewstyle,
    /// The server broke a rule.
    #[error("the server broke the protocol: {0}")]
    Violation(&'static str),
    /// The server answered with an error.
    #[error("the server refused option {option}: {}{text:?}", describe(*.kind))]
    Refused {
        /// The option that failed.
        option: u32,
        /// Type of the error reply, see [`rep`].
        kind: u32,
        /// What the server said, possibly nothing.
        text: String,
    },
}

/// A few words on each known error, ending so that a text can follow.
fn describe(kind: u32) -> &'static str {
    match kind {
        rep::ERR_UNSUP => "option is not supported; it said ",
        rep::ERR_POLICY => "forbidden by policy; it said ",
        rep::ERR_INVALID => "malformed or out of place; it said ",
        rep::ERR_PLATFORM => "not possible on its platform; it said ",
        rep::ERR_TLS_REQD => "encryption is required (use nbds: or TLS options); it said ",
        rep::ERR_UNKNOWN => "no such export; it said ",
        rep::ERR_SHUTDOWN => "it is shutting down; it said ",
        rep::ERR_BLOCK_SIZE_REQD => "it wants its block sizes obeyed; it said ",
        rep::ERR_TOO_BIG => "too big; it said ",
        rep::ERR_EXT_HEADER_REQD => "extended headers are required; it said ",
        _ => "unknown error; it said ",
    }
}
