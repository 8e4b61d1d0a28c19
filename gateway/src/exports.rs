//! [`Catalogue`]: what this server offers, as the handshake asks for it.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use drivers::Limits;
use nbd::server::{Exports, ListAnswer, Listed};
use nbd::{BlockSizes, ExportFacts, TransmissionFlags};
use tokio::sync::watch;

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
    /// It is offered otherwise by now: clients that found it as it was are sent away.
    withdrawn: AtomicBool,
    /// Ends with the device that had this one's place, which may be the same disk: nobody writes before that.
    predecessor: Option<watch::Receiver<()>>,
}

impl Export {
    /// An offer of a disk.
    pub(crate) fn new(offer: Offer, multi_conn: bool, disk: Arc<DiskShared>) -> Export {
        Export { offer, multi_conn, disk, withdrawn: AtomicBool::new(false), predecessor: None }
    }

    /// The same; clients are not served before `predecessor` ends.
    pub(crate) fn after(&self, predecessor: watch::Receiver<()>) -> Export {
        let predecessor = Some(predecessor);
        Export { predecessor, ..Export::new(self.offer.clone(), self.multi_conn, self.disk.clone()) }
    }

    /// Waits until clients may be served.
    pub(crate) async fn is_free(&self) {
        if let Some(mut predecessor) = self.predecessor.clone() {
            // Nothing is ever told but its end.
            while predecessor.changed().await.is_ok() {}
        }
    }

    /// Clients that have found it are not to be served any more.
    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }
}

/// What this server offers now, and how connections are encrypted. Both change in one step.
pub(crate) struct Catalogue(RwLock<Offered>);

struct Offered {
    exports: Vec<Arc<Export>>,
    tls: tls::Context,
}

impl Catalogue {
    /// Nothing yet.
    pub(crate) fn new(tls: tls::Context) -> Catalogue {
        Catalogue(RwLock::new(Offered { exports: Vec::new(), tls }))
    }

    /// How connections that come now are encrypted.
    pub(crate) fn tls(&self) -> tls::Context {
        self.offered().tls.clone()
    }

    /// Offers these from now on, and encrypts like this if that changes. Sessions that are there are not touched.
    pub(crate) fn offer(&self, exports: Vec<Arc<Export>>, tls: Option<tls::Context>) {
        let mut offered = self.0.write().unwrap_or_else(PoisonError::into_inner);
        offered.exports = exports;
        if let Some(tls) = tls {
            offered.tls = tls;
        }
    }

    /// The exports that are offered now.
    pub(crate) fn exports(&self) -> Vec<Arc<Export>> {
        self.offered().exports.clone()
    }

    /// What is offered now.
    fn offered(&self) -> RwLockReadGuard<'_, Offered> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offered {
    /// The export of this name; that of clients who name none has no name.
    fn find(&self, name: &str) -> Option<&Arc<Export>> {
        let by_name = self.exports.iter().find(|export| export.offer.name == name);
        by_name.or_else(|| self.exports.iter().find(|export| name.is_empty() && export.offer.is_default))
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
        let offered = self.catalogue.offered();
        let export = offered.find(name)?;
        if let Err(reason) = self.admits(export) {
            self.refusal.set(Some(reason));
            return None;
        }
        let facts = facts(export);
        self.found.replace(Some(export.clone()));
        Some(facts)
    }
}

impl Exports for View<'_> {
    fn list(&self) -> ListAnswer {
        let offered = self.catalogue.offered();
        let seen = offered.exports.iter().filter(|export| self.admits(export).is_ok());
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

    /// Where some exports are for encrypted connections only, a name that does not exist, or that is not for this
    /// client, looks like one of them.
    fn needs_tls(&self, name: &str) -> bool {
        let offered = self.catalogue.offered();
        match offered.find(name) {
            Some(export) if self.admits(export).is_ok() => false,
            _ => offered.exports.iter().any(|export| export.offer.needs_tls),
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
