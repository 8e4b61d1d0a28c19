//! Bit words of the handshake, of requests and of replies.

use bitflags::bitflags;

bitflags! {
    /// Bits of the server's greeting (section "Handshake flags").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct HandshakeFlags: u16 {
        /// `NBD_FLAG_FIXED_NEWSTYLE`: any option is answered, known or not.
        const FIXED_NEWSTYLE = 1;
        /// `NBD_FLAG_NO_ZEROES`: the zeroes behind the answer to EXPORT_NAME may be left out.
        const NO_ZEROES = 1 << 1;
    }

    /// Bits of the client's answer to the greeting (section "Client flags").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct ClientFlags: u32 {
        /// `NBD_FLAG_C_FIXED_NEWSTYLE`
        const FIXED_NEWSTYLE = 1;
        /// `NBD_FLAG_C_NO_ZEROES`
        const NO_ZEROES = 1 << 1;
    }

    /// What an export offers on one connection (section "Transmission flags").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct TransmissionFlags: u16 {
        /// The word means something; always set.
        const HAS_FLAGS = 1;
        /// Writes are refused.
        const READ_ONLY = 1 << 1;
        /// FLUSH works.
        const SEND_FLUSH = 1 << 2;
        /// FUA is honoured.
        const SEND_FUA = 1 << 3;
        /// The medium likes sequential access; advice only.
        const ROTATIONAL = 1 << 4;
        /// TRIM works.
        const SEND_TRIM = 1 << 5;
        /// WRITE_ZEROES and NO_HOLE work.
        const SEND_WRITE_ZEROES = 1 << 6;
        /// DF works; needs structured or extended replies.
        const SEND_DF = 1 << 7;
        /// A flush on one connection covers writes completed on all.
        const CAN_MULTI_CONN = 1 << 8;
        /// RESIZE works (branch extension-resize).
        const SEND_RESIZE = 1 << 9;
        /// CACHE is understood.
        const SEND_CACHE = 1 << 10;
        /// FAST_ZERO is understood; needs SEND_WRITE_ZEROES.
        const SEND_FAST_ZERO = 1 << 11;
        /// BLOCK_STATUS takes a payload (extension-ext-header); needs extended headers.
        const BLOCK_STATUS_PAYLOAD = 1 << 12;
    }

    /// Bits of a request (section "Command flags").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct CommandFlags: u16 {
        /// Reply only when the command's own data is on stable storage.
        const FUA = 1;
        /// WRITE_ZEROES must leave the range provisioned.
        const NO_HOLE = 1 << 1;
        /// READ must be answered with at most one content chunk.
        const DF = 1 << 2;
        /// BLOCK_STATUS must be answered with one extent.
        const REQ_ONE = 1 << 3;
        /// WRITE_ZEROES must fail at once where it would not be fast.
        const FAST_ZERO = 1 << 4;
        /// The length field counts a payload behind the header (extension-ext-header).
        const PAYLOAD_LEN = 1 << 5;
    }

    /// Bits of a reply chunk (section "Structured reply flags").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct ReplyFlags: u16 {
        /// Last chunk of the reply.
        const DONE = 1;
    }
}
