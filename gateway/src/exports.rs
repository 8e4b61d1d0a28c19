//! [`Catalogue`]: what this server offers, as the handshake asks for it.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use drivers::Limits;
use nbd::server::{Exports, ListAnswer, Listed};
use nbd::{BlockSizes, ExportFacts, TransmissionFlags};

use crate::disk::DiskShared;
use crate::rules::Client;
use crate::server::Offer;
use crate::tls::{self, PeerIdentity};

/// Longest payload of a write that is announced; longer ones are refused.
const MAXIMUM_PAYLOAD_BYTES: u32 = 32 << 20;

/// Longest read whose data comes in a single chunk on demand.
const MAXIMUM_DF_BYTES: u32 = 1 << 20;

/// One export: a name for a disk.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) offer: Offer,
    /// Clients may have several connections.
    pub(crate) multi_conn: bool,
    pub(crate) disk: Arc<DiskShared>,
}

/// What this server offers now, and how connections are encrypted.
pub(crate) struct Catalogue {
    exports: RwLock<Vec<Arc<Export>>>,
    tls: RwLock<tls::Context>,
}

impl Catalogue {
    /// Nothing yet.
    pub(crate) fn new(tls: tls::Context) -> Catalogue {
        Catalogue { exports: RwLock::default(), tls: RwLock::new(tls) }
    }

    /// How connections that come now are encrypted.
    pub(crate) fn tls(&self) -> tls::Context {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Encrypts like this from now on. Connections that are there go on as they are.
    pub(crate) fn encrypt(&self, tls: tls::Context) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Offers these from now on. Sessions of others are not touched.
    pub(crate) fn offer(&self, exports: Vec<Arc<Export>>) {
        *self.exports.write().unwrap_or_else(PoisonError::into_inner) = exports;
    }

    /// What is offered now.
    fn exports(&self) -> RwLockReadGuard<'_, Vec<Arc<Export>>> {
        self.exports.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The export of this name; that of clients who name none has no name.
    fn find(&self, name: &str) -> Option<Arc<Export>> {
        let exports = self.exports();
        let by_name = exports.iter().find(|export| export.offer.name == name);
        let found =
            by_name.or_else(|| exports.iter().find(|export| name.is_empty() && export.offer.is_default));
        found.cloned()
    }
}

/// The catalogue as one client sees it. What the client may not open is not there for it.
pub(crate) struct View<'a> {
    catalogue: &'a Catalogue,
    client: Client,
    is_encrypted: bool,
    /// What was found last: what is opened, when the client is told that it is. The catalogue may change meanwhile.
    found: RefCell<Option<Arc<Export>>>,
    /// Why what was asked for last is not there for this client.
    refusal: Cell<Option<&'static str>>,
}

impl<'a> View<'a> {
    /// A view of a client that has asked for nothing yet.
    pub(crate) fn new(catalogue: &'a Catalogue, client: Client) -> View<'a> {
        let (found, refusal) = (RefCell::default(), Cell::default());
        View { catalogue, client, is_encrypted: false, found, refusal }
    }

    /// The client has proven to be this, and its connection is encrypted.
    pub(crate) fn encrypted(&mut self, identity: &PeerIdentity) {
        self.is_encrypted = true;
        self.client.certificate_names.clone_from(&identity.certificate_names);
        self.client.psk_user.clone_from(&identity.psk_user);
    }

    /// The export that was found last.
    pub(crate) fn into_found(self) -> Option<Arc<Export>> {
        self.found.into_inner()
    }

    /// Why what was asked for last is not there for this client, if it is for others: for the log. Said once.
    pub(crate) fn take_refusal(&self) -> Option<&'static str> {
        self.refusal.take()
    }

    /// Whether the client may see and open the export.
    fn admits(&self, export: &Export) -> Result<(), &'static str> {
        if export.offer.needs_tls && !self.is_encrypted {
            return Err("it is not encrypted");
        }
        export.offer.rules.admits(&self.client)
    }

    fn look(&self, name: &str) -> Option<ExportFacts> {
        let export = self.catalogue.find(name)?;
        if let Err(reason) = self.admits(&export) {
            self.refusal.set(Some(reason));
            return None;
        }
        let facts = facts(&export);
        self.found.replace(Some(export));
        Some(facts)
    }
}

impl Exports for View<'_> {
    fn list(&self) -> ListAnswer {
        let exports = self.catalogue.exports();
        let seen = exports.iter().filter(|export| self.admits(export).is_ok());
        let listed = seen.map(|export| Listed {
            name: export.offer.name.clone(),
            description: export.offer.description.clone().unwrap_or_default(),
        });
        ListAnswer::Exports(listed.collect())
    }

    fn find(&self, name: &str) -> Option<ExportFacts> {
        self.look(name)
    }

    fn find_default(&self) -> Option<ExportFacts> {
        self.look("")
    }

    /// Where some exports are for encrypted connections only, a name that does not exist looks like one of them.
    fn needs_tls(&self, name: &str) -> bool {
        match self.catalogue.find(name) {
            Some(export) => export.offer.needs_tls,
            None => self.catalogue.exports().iter().any(|export| export.offer.needs_tls),
        }
    }
}

/// What NBD clients are told about an export.
fn facts(export: &Export) -> ExportFacts {
    let limits = export.disk.limits();
    let mut facts = ExportFacts::new(export.offer.name.clone(), limits.capacity_bytes);
    facts.description = export.offer.description.clone();
    facts.flags = flags(&limits, export.offer.read_only);
    facts.flags.set(TransmissionFlags::CAN_MULTI_CONN, export.multi_conn);
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
        | TransmissionFlags::BLOCK_STATUS_PAYLOAD;
    flags.set(TransmissionFlags::READ_ONLY, read_only);
    flags.set(TransmissionFlags::ROTATIONAL, limits.rotational);
    flags.set(TransmissionFlags::SEND_CACHE, limits.immediate);
    flags.set(TransmissionFlags::SEND_TRIM, !read_only && limits.discard.is_some());
    flags.set(TransmissionFlags::SEND_WRITE_ZEROES, !read_only);
    flags.set(TransmissionFlags::SEND_FAST_ZERO, !read_only);
    flags
}
