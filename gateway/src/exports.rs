//! [`ExportTable`]: what this server offers, as the handshake asks for it.

use std::sync::Arc;

use drivers::Limits;
use nbd::server::{Exports, ListAnswer, Listed};
use nbd::{BlockSizes, ExportFacts, TransmissionFlags};

use crate::disk::DiskShared;
use crate::tls;

/// Longest payload of a write that is announced; longer ones are refused.
const MAXIMUM_PAYLOAD_BYTES: u32 = 32 << 20;

/// Longest read whose data comes in a single chunk on demand.
const MAXIMUM_DF_BYTES: u32 = 1 << 20;

/// One export: a name for a disk.
pub(crate) struct Export {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) disk: Arc<DiskShared>,
}

/// The exports of this server. The first one is the default.
pub(crate) struct ExportTable {
    exports: Vec<Export>,
    tls: tls::Context,
}

impl ExportTable {
    pub(crate) fn new(exports: Vec<Export>, tls: tls::Context) -> ExportTable {
        ExportTable { exports, tls }
    }

    /// How connections to them are encrypted.
    pub(crate) fn tls(&self) -> &tls::Context {
        &self.tls
    }

    /// Which disk the export of this name is.
    pub(crate) fn disk_of(&self, name: &str) -> Option<usize> {
        self.by_name(name).map(|export| export.disk.index())
    }

    fn by_name(&self, name: &str) -> Option<&Export> {
        self.exports.iter().find(|export| export.name == name)
    }
}

impl Exports for ExportTable {
    fn list(&self) -> ListAnswer {
        let listed = |export: &Export| Listed {
            name: export.name.clone(),
            description: export.description.clone().unwrap_or_default(),
        };
        ListAnswer::Exports(self.exports.iter().map(listed).collect())
    }

    fn find(&self, name: &str) -> Option<ExportFacts> {
        self.by_name(name).map(facts)
    }

    fn find_default(&self) -> Option<ExportFacts> {
        self.find("").or_else(|| self.exports.first().map(facts))
    }
}

/// What NBD clients are told about an export.
fn facts(export: &Export) -> ExportFacts {
    let limits = export.disk.limits();
    let mut facts = ExportFacts::new(export.name.clone(), limits.capacity_bytes);
    facts.description = export.description.clone();
    facts.flags = flags(&limits, export.read_only);
    facts.block_sizes = BlockSizes {
        minimum_bytes: 1,
        preferred_bytes: limits.optimal_io_alignment_bytes.clamp(4096, MAXIMUM_PAYLOAD_BYTES),
        maximum_payload_bytes: MAXIMUM_PAYLOAD_BYTES,
    };
    facts.maximum_read_bytes = u32::MAX;
    facts.maximum_df_bytes = MAXIMUM_DF_BYTES;
    facts
}

fn flags(limits: &Limits, read_only: bool) -> TransmissionFlags {
    let read_only = read_only || limits.read_only;
    let mut flags = TransmissionFlags::HAS_FLAGS
        | TransmissionFlags::SEND_FLUSH
        | TransmissionFlags::SEND_FUA
        | TransmissionFlags::SEND_DF
        | TransmissionFlags::CAN_MULTI_CONN
        | TransmissionFlags::BLOCK_STATUS_PAYLOAD;
    flags.set(TransmissionFlags::READ_ONLY, read_only);
    flags.set(TransmissionFlags::ROTATIONAL, limits.rotational);
    flags.set(TransmissionFlags::SEND_CACHE, limits.immediate);
    flags.set(TransmissionFlags::SEND_TRIM, !read_only && limits.discard.is_some());
    flags.set(TransmissionFlags::SEND_WRITE_ZEROES, !read_only);
    flags.set(TransmissionFlags::SEND_FAST_ZERO, !read_only);
    flags
}
