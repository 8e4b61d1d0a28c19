//! The NBD protocol without I/O: bytes in, decisions out, for servers and for clients.
//!
//! This crate knows layouts and rules. It does not know sockets, runtimes, clocks, disks or TLS: whoever uses it moves
//! the bytes, does the work that an accepted request asks for, and bounds the time that a peer may take. It decides
//! nothing by itself about what is exported.
//!
//! A connection has two phases (doc/proto.md of the NetworkBlockDevice/nbd project, section "Protocol phases"):
//!
//! 1. **Handshake.** Modules [`server`] and [`client`], on the layouts of [`option`]. It ends with a
//!    [`Transmission`]: the export's facts, the kind of replies, the selected contexts.
//! 2. **Transmission.** Each [`RequestHeader`] goes through [`validate()`], the one place that judges requests; replies
//!    are made by the functions of [`ReplyMode`] (module [`reply`]).
//!
//! ```
//! use nbd::{Command, Contexts, ExportFacts, ReplyMode, RequestHeader, Transmission, Verdict, validate};
//!
//! let session = Transmission::new(ExportFacts::new("disk", 1 << 20), ReplyMode::Simple, Contexts::none());
//! let received = b"\x25\x60\x95\x13\0\0\0\0cookie!!\0\0\0\0\0\0\x10\0\0\0\x02\0";
//! let header = RequestHeader::decode(session.header_format(), received)?;
//! let Verdict::Accept(request) = validate(&header, &session) else { panic!("a plain read") };
//! assert_eq!((request.command, request.offset, request.len), (Command::Read { df: false }, 4096, 512));
//! let head = session.replies.data(request.cookie, request.offset, request.offset, 512, true);
//! assert_eq!(head.as_bytes(), b"\x67\x44\x66\x98\0\0\0\0cookie!!");
//! # Ok::<(), nbd::BadMagic>(())
//! ```
#![forbid(unsafe_code)]

#[macro_use]
mod planted;

pub mod client;
mod errno;
mod export;
pub mod option;
pub mod reply;
mod request;
pub mod server;
mod status_query;
mod transmission;
pub mod uri;
mod validate;
pub mod wire;

pub use errno::{Errno, ErrnoContext};
pub use export::{BadBlockSizes, BlockSizeDemand, BlockSizes, ExportFacts};
pub use reply::{ErrorReply, Extent, Extents, Head};
pub use request::{BadMagic, Cookie, HeaderFormat, RequestHeader};
pub use status_query::{BadStatusQuery, StatusQuery};
pub use transmission::{Contexts, ReplyMode, SelectedContext, Transmission};
pub use validate::{Command, PAYLOAD_TOLERATED_BYTES, Request, Verdict, validate};
pub use wire::{CommandFlags, TransmissionFlags};
