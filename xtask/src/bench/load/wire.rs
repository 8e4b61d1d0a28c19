//! The few constants and layouts of the NBD protocol that the load generator needs.
//!
//! Source: NBD protocol document (NetworkBlockDevice/nbd, doc/proto.md), sections "Newstyle negotiation",
//! "Option types", "Request message", "Simple reply message", "Structured reply chunk message". All integers are
//! big-endian.

/// "NBDMAGIC", first word of a server's greeting.
pub(crate) const MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT", second word of a fixed newstyle greeting and first word of each option.
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First word of each reply to an option.
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// `NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES`, the same bits in both directions.
pub(crate) const HANDSHAKE_FLAGS: u16 = 3;

/// `NBD_OPT_GO`.
pub(crate) const OPT_GO: u32 = 7;
/// `NBD_OPT_STRUCTURED_REPLY`.
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;

/// `NBD_REP_ACK`.
pub(crate) const REP_ACK: u32 = 1;
/// `NBD_REP_INFO`.
pub(crate) const REP_INFO: u32 = 3;
/// Replies to options with this bit are errors.
pub(crate) const REP_FLAG_ERROR: u32 = 1 << 31;
/// `NBD_INFO_EXPORT`.
pub(crate) const INFO_EXPORT: u16 = 0;

/// `NBD_CMD_READ`.
pub(crate) const CMD_READ: u16 = 0;
/// `NBD_CMD_WRITE`.
pub(crate) const CMD_WRITE: u16 = 1;
/// `NBD_CMD_DISC`.
pub(crate) const CMD_DISC: u16 = 2;

/// First word of a request.
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of a simple reply.
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First word of a chunk of a structured reply.
pub(crate) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Length of a request header in bytes.
pub(crate) const REQUEST_BYTES: usize = 28;
/// Length of a simple reply's header in bytes.
pub(crate) const SIMPLE_REPLY_BYTES: usize = 16;
/// Length of a structured reply chunk's header in bytes.
pub(crate) const CHUNK_BYTES: usize = 20;

/// `NBD_REPLY_FLAG_DONE`.
pub(crate) const CHUNK_DONE: u16 = 1;
/// `NBD_REPLY_TYPE_NONE`.
pub(crate) const CHUNK_NONE: u16 = 0;
/// `NBD_REPLY_TYPE_OFFSET_DATA`.
pub(crate) const CHUNK_OFFSET_DATA: u16 = 1;
/// `NBD_REPLY_TYPE_OFFSET_HOLE`.
pub(crate) const CHUNK_OFFSET_HOLE: u16 = 2;

/// One request header.
pub(crate) fn request(command: u16, cookie: u64, offset: u64, len_bytes: u32) -> [u8; REQUEST_BYTES] {
    let mut header = [0; REQUEST_BYTES];
    header[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    header[6..8].copy_from_slice(&command.to_be_bytes());
    header[8..16].copy_from_slice(&cookie.to_be_bytes());
    header[16..24].copy_from_slice(&offset.to_be_bytes());
    header[24..28].copy_from_slice(&len_bytes.to_be_bytes());
    header
}

/// The two bytes at `at`; the caller has checked the length.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes at `at`; the caller has checked the length.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

/// The eight bytes at `at`; the caller has checked the length.
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}
