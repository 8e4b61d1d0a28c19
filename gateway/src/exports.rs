//! [`Catalogue`]: what this server offers, as the handshake asks for it.

use std::cell::RefCell;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use drivers::Limits;
use nbd::server::{Exports, ListAnswer, Listed};
use nbd::{BlockSizes, ExportFacts, TransmissionFlags};

use crate::disk::DiskShared;
use crate::server::Offer;

/// Longest payload of a write that is announced; longer ones are refused.
const MAXIMUM_PAYLOAD_BYTES: u32 = 32 << 20;

/// Longest read whose data comes in a single chunk on demand.
const MAXIMUM_DF_BYTES: u32 = 1 << 20;

/// One export: a name for a disk.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) offer: Offer,
    pub(crate) disk: Arc<DiskShared>,
}

/// What this server offers now. The first one is the default.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    exports: RwLock<Vec<Arc<Export>>>,
}

impl Catalogue {
    /// Offers these from now on. Sessions of others are not touched.
    pub(crate) fn offer(&self, exports: Vec<Arc<Export>>) {
        *self.exports.write().unwrap_or_else(PoisonError::into_inner) = exports;
    }

    /// What is offered now.
    fn exports(&self) -> RwLockReadGuard<'_, Vec<Arc<Export>>> {
        self.exports.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The export of this name.
    fn by_name(&self, name: &str) -> Option<Arc<Export>> {
        self.exports().iter().find(|export| export.offer.name == name).cloned()
    }

    /// The export that clients get who name none.
    fn default(&self) -> Option<Arc<Export>> {
        self.by_name("").or_else(|| self.exports().first().cloned())
    }
}

/// The catalogue as one client sees it.
#[derive(Debug)]
pub(crate) struct View<'a> {
    catalogue: &'a Catalogue,
    /// What was found last: what is opened, when the client is told that it is. The catalogue may change meanwhile.
    found: RefCell<Option<Arc<Export>>>,
}

impl View<'_> {
    /// A view of a client that has asked for nothing yet.
    pub(crate) fn new(catalogue: &Catalogue) -> View<'_> {
        View { catalogue, found: RefCell::default() }
    }

    /// The export that was found last.
    pub(crate) fn into_found(self) -> Option<Arc<Export>> {
        self.found.into_inner()
    }

    fn found(&self, export: Option<Arc<Export>>) -> Option<ExportFacts> {
        let facts = export.as_deref().map(facts);
        self.found.replace(export);
        facts
    }
}

impl Exports for View<'_> {
    fn list(&self) -> ListAnswer {
        let listed = |export: &Arc<Export>| Listed {
            name: export.offer.name.clone(),
            description: export.offer.description.clone().unwrap_or_default(),
        };
        ListAnswer::Exports(self.catalogue.exports().iter().map(listed).collect())
    }

    fn find(&self, name: &str) -> Option<ExportFacts> {
        self.found(self.catalogue.by_name(name))
    }

    fn find_default(&self) -> Option<ExportFacts> {
        self.found(self.catalogue.default())
    }
}

/// What NBD clients are told about an export.
fn facts(export: &Export) -> ExportFacts {
    let limits = export.disk.limits();
    let mut facts = ExportFacts::new(export.offer.name.clone(), limits.capacity_bytes);
    facts.description = export.offer.description.clone();
    facts.flags = flags(&limits, export.offer.read_only);
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
