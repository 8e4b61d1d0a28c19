//! What a server offers and tolerates in the handshake.

use bitflags::bitflags;

bitflags! {
    /// Features that a server offers; all but the baseline can be masked, for tests of clients that meet old servers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Offer: u16 {
        /// Fixed newstyle. Without it only EXPORT_NAME can be used.
        const FIXED_NEWSTYLE = 1;
        /// The zeroes behind the answer to EXPORT_NAME may be left out.
        const NO_ZEROES = 1 << 1;
        /// LIST; else it is forbidden.
        const LIST = 1 << 2;
        /// INFO and GO. EXTENDED_HEADERS is not offered without it.
        const GO = 1 << 3;
        /// STRUCTURED_REPLY.
        const STRUCTURED_REPLY = 1 << 4;
        /// LIST_META_CONTEXT and SET_META_CONTEXT.
        const META_CONTEXTS = 1 << 5;
        /// EXTENDED_HEADERS.
        const EXTENDED_HEADERS = 1 << 6;
    }
}

/// Whether connections may or must be encrypted (doc/proto.md, section "TLS support").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TlsMode {
    /// NOTLS: STARTTLS is forbidden.
    #[default]
    Off,
    /// SELECTIVETLS: possible, and needed for the exports that say so.
    On,
    /// FORCEDTLS: nothing else is done before.
    Require,
}

/// What a server offers and tolerates in one handshake; does not change while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Features.
    pub offer: Offer,
    /// Encryption.
    pub tls: TlsMode,
    /// A longer option ends the connection, in bytes.
    pub option_bytes_max: u32,
    /// More options end the connection; the first LIST adds some for each export that it names.
    pub options_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { offer: Offer::all(), tls: TlsMode::Off, option_bytes_max: 1 << 20, options_max: 32 }
    }
}

impl Policy {
    /// Whether a feature is offered, and all that it needs.
    pub(super) fn offers(&self, feature: Offer) -> bool {
        let needed = if feature == Offer::EXTENDED_HEADERS { feature | Offer::GO } else { feature };
        self.offer.contains(needed)
    }
}
