//! Numbers of the protocol: magics, codes, bit words and bounds, and nothing that acts on them.
//!
//! Source: doc/proto.md of the NetworkBlockDevice/nbd project, section "Values", and for everything about
//! extended headers the same file on the branch `extension-ext-header`. Section titles below are those of that
//! file. All integers on the wire are big-endian ("Conventions").

mod bytes;
mod flags;
mod option;

pub use bytes::Reader;
pub use flags::{ClientFlags, CommandFlags, HandshakeFlags, ReplyFlags, TransmissionFlags};
pub use option::{info, opt, rep};

/// First 8 bytes from a server, the text `NBDMAGIC` (section "Magic values").
pub const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// The text `IHAVEOPT`: second 8 bytes from a newstyle server, and the start of each option from a client.
pub const IHAVEOPT: u64 = 0x4948_4156_454F_5054;
/// Start of each option reply from a server.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Second 8 bytes from an oldstyle server (section "Oldstyle negotiation"); no longer served.
pub const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// Start of a compact request (section "Request message").
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Start of an extended request (extension-ext-header, section "Extended request message").
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// Start of a simple reply (section "Simple reply message").
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Start of a structured reply chunk (section "Structured reply chunk message").
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// Start of an extended reply chunk (extension-ext-header, section "Extended reply chunk message").
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// TCP port of the protocol, assigned by IANA under the service name `nbd`.
pub const DEFAULT_PORT: u16 = 10809;
/// Longest string of the protocol in bytes: names, queries, descriptions, messages ("Values", on strings).
pub const STRING_BYTES_MAX: usize = 4096;
/// Length of the server's greeting in bytes ("Newstyle negotiation").
pub const GREETING_BYTES: usize = 18;
/// Length of an option header in bytes ("Newstyle negotiation").
pub const OPTION_HEADER_BYTES: usize = 16;
/// Length of an option reply header in bytes ("Fixed newstyle negotiation").
pub const OPTION_REPLY_HEADER_BYTES: usize = 20;
/// Length of the answer to `NBD_OPT_EXPORT_NAME` without its zeroes, in bytes.
pub const EXPORT_NAME_REPLY_BYTES: usize = 10;
/// Zeroes behind that answer unless both sides set `NO_ZEROES`, in bytes.
pub const EXPORT_NAME_ZEROES_BYTES: usize = 124;
/// Payload that any server should take when nothing was agreed, in bytes ("Block size constraints").
pub const DEFAULT_PAYLOAD_BYTES: u32 = 1 << 25;
/// Length of a simple reply in bytes.
pub const SIMPLE_REPLY_BYTES: usize = 16;
/// Length of a structured reply chunk's header in bytes.
pub const STRUCTURED_REPLY_BYTES: usize = 20;
/// Length of an extended reply chunk's header in bytes.
pub const EXTENDED_REPLY_BYTES: usize = 32;

/// Request types (section "Request types").
pub mod cmd {
    /// `NBD_CMD_READ`
    pub const READ: u16 = 0;
    /// `NBD_CMD_WRITE`
    pub const WRITE: u16 = 1;
    /// `NBD_CMD_DISC`
    pub const DISC: u16 = 2;
    /// `NBD_CMD_FLUSH`
    pub const FLUSH: u16 = 3;
    /// `NBD_CMD_TRIM`
    pub const TRIM: u16 = 4;
    /// `NBD_CMD_CACHE`
    pub const CACHE: u16 = 5;
    /// `NBD_CMD_WRITE_ZEROES`
    pub const WRITE_ZEROES: u16 = 6;
    /// `NBD_CMD_BLOCK_STATUS`
    pub const BLOCK_STATUS: u16 = 7;
    /// `NBD_CMD_RESIZE` (branch extension-resize)
    pub const RESIZE: u16 = 8;
}

/// Types of reply chunks (section "Structured reply types").
pub mod chunk {
    /// `NBD_REPLY_TYPE_NONE`
    pub const NONE: u16 = 0;
    /// `NBD_REPLY_TYPE_OFFSET_DATA`
    pub const OFFSET_DATA: u16 = 1;
    /// `NBD_REPLY_TYPE_OFFSET_HOLE`
    pub const OFFSET_HOLE: u16 = 2;
    /// `NBD_REPLY_TYPE_BLOCK_STATUS`
    pub const BLOCK_STATUS: u16 = 5;
    /// `NBD_REPLY_TYPE_BLOCK_STATUS_EXT` (extension-ext-header)
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// `NBD_REPLY_TYPE_ERROR`
    pub const ERROR: u16 = 0x8001;
    /// `NBD_REPLY_TYPE_ERROR_OFFSET`
    pub const ERROR_OFFSET: u16 = 0x8002;
    /// Set in each type that reports an error, known or not.
    pub const ERROR_BIT: u16 = 0x8000;
}

/// Names and status bits of metadata contexts (section "Metadata querying").
pub mod context {
    /// Allocation of the export, the one context that the specification itself defines.
    pub const BASE_ALLOCATION: &str = "base:allocation";
    /// `NBD_STATE_HOLE`: not allocated, a write may find no space.
    pub const STATE_HOLE: u64 = 1;
    /// `NBD_STATE_ZERO`: reads as zeroes.
    pub const STATE_ZERO: u64 = 2;
    /// qemu docs/interop/nbd.rst: depth of the backing file that holds the range.
    pub const QEMU_ALLOCATION_DEPTH: &str = "qemu:allocation-depth";
    /// qemu docs/interop/nbd.rst: start of the name of each dirty bitmap's context.
    pub const QEMU_DIRTY_BITMAP: &str = "qemu:dirty-bitmap:";
}
