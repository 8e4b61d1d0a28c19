//! Facts about an export: what a server announces and later checks requests against.

use crate::wire::{DEFAULT_PAYLOAD_BYTES, TransmissionFlags, context};

/// Size constraints of an export (doc/proto.md, section "Block size constraints").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSizes {
    /// Offsets and lengths should be multiples of this; a power of 2, 1 to 65,536.
    pub minimum_bytes: u32,
    /// Multiples of this are fast; a power of 2, at least 512 and at least the minimum.
    pub preferred_bytes: u32,
    /// Longest payload of one request; at least the preferred size. `u32::MAX` says that there is no fixed limit.
    pub maximum_payload_bytes: u32,
}

/// Why a set of size constraints must not be announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBlockSizes {
    /// The minimum is no power of 2 from 1 to 65,536.
    #[error("minimum block size {0} is not a power of 2 between 1 and 65536")]
    Minimum(u32),
    /// The preferred size is no power of 2, or too small.
    #[error("preferred block size {0} is not a power of 2 of at least 512 and of at least the minimum")]
    Preferred(u32),
    /// The maximum is below the preferred size.
    #[error("maximum payload {0} is smaller than the preferred block size")]
    MaximumPayload(u32),
}

impl BlockSizes {
    /// What both sides assume when nothing was agreed.
    pub const DEFAULT: BlockSizes =
        BlockSizes { minimum_bytes: 1, preferred_bytes: 4096, maximum_payload_bytes: DEFAULT_PAYLOAD_BYTES };

    /// Checks the rules of section "Block size constraints".
    ///
    /// # Errors
    /// The first rule that is broken.
    pub const fn check(&self) -> Result<(), BadBlockSizes> {
        if !self.minimum_bytes.is_power_of_two() || self.minimum_bytes > 65536 {
            return Err(BadBlockSizes::Minimum(self.minimum_bytes));
        }
        if !self.preferred_bytes.is_power_of_two()
            || self.preferred_bytes < 512
            || self.preferred_bytes < self.minimum_bytes
        {
            return Err(BadBlockSizes::Preferred(self.preferred_bytes));
        }
        if self.maximum_payload_bytes < self.preferred_bytes {
            return Err(BadBlockSizes::MaximumPayload(self.maximum_payload_bytes));
        }
        Ok(())
    }
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a server says about size constraints to a client that did not ask for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum BlockSizeDemand {
    /// Any request is served; the constraints are advice.
    #[default]
    Advice,
    /// GO is answered with ERR_BLOCK_SIZE_REQD until the client asks for the constraints.
    Required,
}

/// All that the protocol needs to know about one export.
///
/// A server fills it in; a client gets from it what the server announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFacts {
    /// Canonical name, not longer than 4096 bytes and without NUL.
    pub name: String,
    /// Text for humans.
    pub description: Option<String>,
    /// Size of the export in bytes.
    pub size_bytes: u64,
    /// What the export can do. A handshake clears the bits that the agreed kind of reply does not allow; see
    /// [`TransmissionFlags::announced`].
    pub flags: TransmissionFlags,
    /// Size constraints to announce.
    pub block_sizes: BlockSizes,
    /// Whether clients must ask for the size constraints.
    pub block_size_demand: BlockSizeDemand,
    /// Offsets and lengths of requests that are no multiple of this get EINVAL; a power of 2. 1 (the default) for a
    /// server that reads, modifies and writes by itself, as servers should.
    pub required_alignment_bytes: u32,
    /// Longest READ that is served, in bytes; it may exceed the maximum payload if the server splits its answers.
    /// Longer ones get EINVAL.
    pub maximum_read_bytes: u32,
    /// Longest READ with DF that is served, in bytes; at least 65,536. Longer ones get EOVERFLOW.
    pub maximum_df_bytes: u32,
    /// Names of the metadata contexts that clients may select.
    pub contexts: Vec<String>,
}

impl ExportFacts {
    /// Facts about an export that can be read, and nothing else; everything may be changed afterwards.
    pub fn new(name: impl Into<String>, size_bytes: u64) -> ExportFacts {
        ExportFacts {
            name: name.into(),
            description: None,
            size_bytes,
            flags: TransmissionFlags::HAS_FLAGS | TransmissionFlags::READ_ONLY,
            block_sizes: BlockSizes::DEFAULT,
            block_size_demand: BlockSizeDemand::Advice,
            required_alignment_bytes: 1,
            maximum_read_bytes: DEFAULT_PAYLOAD_BYTES,
            maximum_df_bytes: 65536,
            contexts: vec![context::BASE_ALLOCATION.to_owned()],
        }
    }

    /// Whether writes are refused.
    pub const fn is_read_only(&self) -> bool {
        self.flags.contains(TransmissionFlags::READ_ONLY)
    }
}
