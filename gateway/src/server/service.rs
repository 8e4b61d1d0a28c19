//! [`Service`]: the exports that are in service, and how others take their place.
//!
//! It belongs to the control thread. Whoever changes which exports there are takes its turn, since opening a disk
//! takes a while; everything else is done between two waits, so nobody sees half of it.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use drivers::{Error, StartOptions, Started};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;

use super::crew::Workers;
use super::metrics::Source;
use super::phase::Phase;
use super::{ExportPlan, Plan, events, opening, retire};
use crate::disk::DiskShared;
use crate::exports::{Catalogue, Export};
use crate::log::Shown;
use crate::metrics::{Effort, TrafficSum};
use crate::tls;
use crate::worker::mailbox::Message;

/// An export in service.
pub(crate) struct Served {
    pub(crate) plan: ExportPlan,
    pub(crate) device: Arc<dyn Started>,
    pub(super) export: Arc<Export>,
    /// Tells of the device's events.
    events: Option<JoinHandle<()>>,
    pub(crate) phase: Phase,
    /// An operator added it while the server ran.
    pub(crate) is_added: bool,
}

/// What a reload changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: usize,
    pub(crate) removed: usize,
    /// Those whose device is another one, and those that are offered otherwise.
    pub(crate) changed: usize,
}

/// The exports that are in service.
pub(crate) struct Service {
    workers: Workers,
    catalogue: Arc<Catalogue>,
    /// Clients may have several connections.
    multi_conn: bool,
    pub(super) exports: RefCell<Vec<Served>>,
    /// Exports on their way out of service.
    leaving: RefCell<Vec<JoinHandle<bool>>>,
    /// Number of the next disk.
    next_disk: Cell<usize>,
    /// The worker that gets the first queue of the next disk.
    next_owner: Cell<usize>,
    /// For exports that say nothing of their own.
    options: Cell<StartOptions>,
    /// Of those who change which exports there are.
    pub(super) turn: Mutex<()>,
}

impl Service {
    /// Offers nothing yet.
    pub(super) fn new(plan: &Plan, workers: Workers, catalogue: Arc<Catalogue>) -> Service {
        Service {
            workers,
            catalogue,
            multi_conn: !plan.is_for_one(),
            exports: RefCell::default(),
            leaving: RefCell::default(),
            next_disk: Cell::new(0),
            next_owner: Cell::new(0),
            options: Cell::new(plan.options),
            turn: Mutex::default(),
        }
    }

    /// Puts the exports of the plan into service, whose devices these are.
    ///
    /// # Errors
    /// The first thing that failed.
    pub(super) async fn begin(&self, plan: &Plan, devices: Vec<Arc<dyn Started>>) -> Result<(), Error> {
        for (plan, device) in plan.exports.iter().zip(devices) {
            let served = self.take_up(plan.clone(), device).await?;
            self.exports.borrow_mut().push(served);
        }
        self.publish(None);
        Ok(())
    }

    /// How connections that come now are encrypted.
    pub(crate) fn tls(&self) -> tls::Context {
        self.catalogue.tls()
    }

    /// What the metrics are taken from.
    pub(super) fn numbers(&self, efforts: Arc<[Arc<Effort>]>) -> Source {
        Source { catalogue: self.catalogue.clone(), efforts }
    }

    /// The workers that serve them.
    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What exports are started with that say nothing of their own.
    pub(crate) fn options(&self) -> StartOptions {
        self.options.get()
    }

    /// Starts exports with these from now on.
    pub(super) fn set_options(&self, options: StartOptions) {
        self.options.set(options);
    }

    /// Those in service. Not to be kept over a wait.
    pub(crate) fn exports(&self) -> Ref<'_, Vec<Served>> {
        self.exports.borrow()
    }

    /// Gives a device queues on workers. No client finds it yet.
    pub(super) async fn take_up(&self, plan: ExportPlan, device: Arc<dyn Started>) -> Result<Served, Error> {
        let owners = self.workers.owners(device.queues(), self.next_owner.get());
        self.next_owner.set(self.next_owner.get() + owners.len());
        let disk = Arc::new(DiskShared::new(device.clone(), self.next_disk.get(), owners));
        self.next_disk.set(self.next_disk.get() + 1);
        retire::open(&disk).await?;
        let export = Arc::new(Export::new(plan.offer.clone(), self.multi_conn, disk));
        Ok(Served { plan, device, export, events: None, phase: Phase::Serving, is_added: false })
    }

    /// Offers what new clients may come to, and nothing else; to clients that are encrypted like this, if that changes.
    pub(super) fn publish(&self, tls: Option<tls::Context>) {
        let exports = self.exports.borrow();
        let offered = exports.iter().filter(|served| served.phase.is_offered());
        self.catalogue.offer(offered.map(|served| served.export.clone()).collect(), tls);
    }

    /// Tells in the log what happens to the devices from now on.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn watch_devices(&self) -> Result<(), Error> {
        for served in self.exports.borrow_mut().iter_mut().filter(|served| served.events.is_none()) {
            let of = Of::plan(&served.plan);
            let task = events::log(served.device.clone(), of);
            served.events = task.map_err(|cause| Error::system("watch the device", &cause))?;
        }
        Ok(())
    }

    /// Puts these exports in the place of those in service, or changes nothing. Devices that are used by both go on,
    /// and clients of exports that are offered as before notice nothing. Clients of all others get their answers and
    /// are sent away. What an operator added stays, unless there is one of its name now. New clients are encrypted like
    /// this.
    ///
    /// # Errors
    /// A device cannot be opened.
    pub(super) async fn reload(&self, plans: Vec<ExportPlan>, tls: tls::Context) -> Result<Changes, Error> {
        let _turn = self.turn.lock().await;
        let has_device = |plan: &&ExportPlan| self.exports().iter().any(|served| served.has_device_of(plan));
        let fresh: Vec<ExportPlan> = plans.iter().filter(|plan| !has_device(plan)).cloned().collect();
        let devices = fresh.iter().map(|plan| plan.device.clone()).collect();
        let devices = opening::start_all_in_time(devices).await?;
        let mut opened: Vec<Served> = Vec::new();
        for (plan, device) in fresh.into_iter().zip(devices) {
            match self.take_up(plan, device).await {
                Ok(served) => opened.push(served),
                Err(error) => {
                    opened.into_iter().for_each(|served| drop(self.dismiss(served)));
                    return Err(error);
                }
            }
        }
        let changes = self.exchange(plans, opened, tls);
        if let Err(error) = self.watch_devices() {
            // They serve all the same.
            tracing::warn!("{error}");
        }
        Ok(changes)
    }

    /// The part of a reload that cannot fail. `opened` are the plans' devices that were not in service.
    fn exchange(&self, plans: Vec<ExportPlan>, opened: Vec<Served>, tls: tls::Context) -> Changes {
        let mut changes = Changes::default();
        let mut before = self.exports.take();
        let mut exports = Vec::new();
        let mut opened = opened.into_iter();
        let mut ends = HashMap::new();
        for plan in plans {
            if let Some(place) = before.iter().position(|served| served.has_device_of(&plan)) {
                let served = before.remove(place);
                changes.changed += usize::from(served.plan.offer != plan.offer);
                exports.push(served.offered_as(plan));
                continue;
            }
            let Some(successor) = opened.next() else { continue };
            match before.iter().any(|served| served.has_name_of(&plan)) {
                true => {
                    changes.changed += 1;
                    let (end, predecessor) = watch::channel(());
                    ends.insert(plan.offer.name, end);
                    exports.push(successor.after(predecessor));
                }
                false => {
                    changes.added += 1;
                    exports.push(successor);
                }
            }
        }
        let has_successor = |served: &Served| exports.iter().any(|other| other.has_name_of(&served.plan));
        let (go, stay): (Vec<Served>, Vec<Served>) =
            before.into_iter().partition(|served| has_successor(served) || !served.is_added);
        changes.removed += go.iter().filter(|served| !has_successor(served)).count();
        exports.extend(stay);
        self.exports.replace(exports);
        self.publish(Some(tls));
        for served in go {
            let end = ends.remove(&served.plan.offer.name);
            drop(self.dismiss_before(served, end));
        }
        changes
    }

    /// Takes an export out of service that no client finds any more, in a task of its own. Tells when it is out, and
    /// whether all went well.
    pub(super) fn dismiss(&self, served: Served) -> oneshot::Receiver<bool> {
        self.dismiss_before(served, None)
    }

    /// The same; a successor is told the end.
    fn dismiss_before(&self, served: Served, end: Option<watch::Sender<()>>) -> oneshot::Receiver<bool> {
        let of = Of::plan(&served.plan);
        let (sender, out) = oneshot::channel();
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|task| !task.is_finished());
        leaving.push(tokio_uring::spawn(async move {
            let fine = leave(served, of).await;
            drop(end);
            // Whoever does not wait for it does not want to know.
            let _ = sender.send(fine);
            fine
        }));
        out
    }

    /// Takes everything out of service. Returns whether all went well.
    pub(super) async fn end(&self) -> bool {
        self.workers.tell(|| Message::Drain);
        self.catalogue.offer(Vec::new(), None);
        for served in self.exports.take().into_iter().rev() {
            drop(self.dismiss(served));
        }
        let mut fine = true;
        for task in self.leaving.take() {
            fine &= task.await.unwrap_or(false);
        }
        fine
    }
}

impl Served {
    /// Clients that have it open.
    pub(crate) fn clients(&self) -> usize {
        self.export.disk.sessions()
    }

    /// What clients have asked for, and what they got.
    pub(crate) fn traffic(&self) -> TrafficSum {
        TrafficSum::of(self.export.disk.traffic())
    }

    fn has_name_of(&self, plan: &ExportPlan) -> bool {
        self.plan.offer.name == plan.offer.name
    }

    /// Whether the plan's device is this one, under the same name.
    fn has_device_of(&self, plan: &ExportPlan) -> bool {
        self.has_name_of(plan) && self.plan.device == plan.device
    }

    /// The same device, offered otherwise, as a file says. Clients that would not get what they have now are sent
    /// away.
    fn offered_as(self, plan: ExportPlan) -> Served {
        if self.plan.offer == plan.offer {
            return Served { is_added: false, ..self };
        }
        if self.plan.offer.ends_with(&plan.offer) {
            // Those that are on their way into service first.
            self.export.withdraw();
            retire::send_away(self.export.disk.clone());
        }
        let export = Export::new(plan.offer.clone(), self.export.multi_conn, self.export.disk.clone());
        Served { plan, export: Arc::new(export), is_added: false, ..self }
    }

    /// The same; clients are not served before `predecessor` ends.
    fn after(self, predecessor: watch::Receiver<()>) -> Served {
        Served { export: Arc::new(self.export.after(predecessor)), ..self }
    }
}

/// Takes an export out of service that no client finds any more. Returns whether all went well.
async fn leave(served: Served, of: Of) -> bool {
    served.device.hurry();
    let fine = retire::retire(served.export.disk.clone(), of.clone()).await;
    if let Some(events) = served.events {
        events.abort();
        // It answers that it was aborted.
        let _ = events.await;
    }
    drop(served.export);
    fine & opening::close_in_time(served.device, &of).await
}

/// Which export a message is about, as a part of it. One without a name is alone.
#[derive(Clone, Debug)]
pub(super) struct Of(pub(super) String);

impl Of {
    pub(super) fn plan(plan: &ExportPlan) -> Of {
        Of(plan.offer.name.clone())
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => Ok(()),
            name => write!(f, " of export {}", Shown(name)),
        }
    }
}
