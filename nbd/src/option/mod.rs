//! Layouts of option haggling, for both sides: headers, names, and the data of options and of their replies.
//!
//! Nothing here knows in which order options come or what they change; see [`server`](crate::server) and
//! [`client`](crate::client).
//!
//! Source: doc/proto.md, sections "Fixed newstyle negotiation", "Option types" and "Option reply types".

mod header;
mod info;
mod meta;
mod name;

pub use header::{OptionHeader, OptionReplyHeader};
pub use info::{Info, InfoRequest};
pub use meta::{MetaContext, MetaRequest, query_lists};
pub use name::{BadName, check_name, parse_name};

/// Why the data of an option or of a reply to it cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Counts and lengths inside do not add up to the length of the whole.
    #[error("lengths inside do not match the length of the whole")]
    Length,
    /// A name, query or text.
    #[error(transparent)]
    Name(#[from] BadName),
}
