//! [`Service`]: the exports that are in service, and how others take their place.

use std::collections::HashMap;
use std::sync::Arc;

use drivers::{Error, Started};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::crew::Crew;
use super::metrics::Source;
use super::{ExportPlan, Plan, events, opening, retire};
use crate::disk::DiskShared;
use crate::exports::{Catalogue, Export};
use crate::tls;
use crate::worker::mailbox::Message;

/// An export in service.
pub(super) struct Served {
    pub(super) plan: ExportPlan,
    pub(super) device: Arc<dyn Started>,
    export: Arc<Export>,
    /// Tells of the device's events.
    events: Option<JoinHandle<()>>,
}

/// What a reload changed, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) added: usize,
    pub(super) removed: usize,
    /// Those whose device is another one, and those that are offered otherwise.
    pub(super) changed: usize,
}

/// The exports that are in service, and the workers that serve them.
pub(super) struct Service {
    pub(super) crew: Crew,
    catalogue: Arc<Catalogue>,
    /// Clients may have several connections.
    multi_conn: bool,
    exports: Vec<Served>,
    /// Exports on their way out of service.
    leaving: Vec<JoinHandle<bool>>,
    /// Number of the next disk.
    next_disk: usize,
    /// The worker that gets the first queue of the next disk.
    next_owner: usize,
}

impl Service {
    /// Opens all devices, and starts the workers.
    ///
    /// # Errors
    /// The first thing that failed.
    pub(super) async fn start(plan: &Plan, tls: tls::Context) -> Result<Service, Error> {
        let devices =
            opening::start_all(plan.exports.iter().map(|export| export.device.clone()).collect()).await?;
        let catalogue = Arc::new(Catalogue::new(tls));
        // A worker without a queue could only hand its clients over, unless a disk comes that has one for it.
        let queues = devices.iter().map(|device| device.queues()).max().unwrap_or(1);
        let workers = if plan.reload.is_some() { plan.workers } else { plan.workers.min(queues).max(1) };
        let crew = Crew::start(workers, plan, &catalogue).await?;
        let mut service = Service {
            crew,
            catalogue,
            multi_conn: !plan.is_for_one(),
            exports: Vec::new(),
            leaving: Vec::new(),
            next_disk: 0,
            next_owner: 0,
        };
        for (plan, device) in plan.exports.iter().zip(devices) {
            let served = service.take_up(plan.clone(), device).await?;
            service.exports.push(served);
        }
        service.publish(None);
        Ok(service)
    }

    /// What the metrics are taken from.
    pub(super) fn numbers(&self) -> Source {
        Source { catalogue: self.catalogue.clone(), efforts: self.crew.efforts() }
    }

    /// Those in service.
    pub(super) fn exports(&self) -> &[Served] {
        &self.exports
    }

    /// Gives a device queues on workers. No client finds it yet.
    async fn take_up(&mut self, plan: ExportPlan, device: Arc<dyn Started>) -> Result<Served, Error> {
        let owners = self.crew.owners(device.queues(), self.next_owner);
        self.next_owner += owners.len();
        let disk = Arc::new(DiskShared::new(device.clone(), self.next_disk, owners));
        self.next_disk += 1;
        retire::open(&disk).await?;
        let export = Arc::new(Export::new(plan.offer.clone(), self.multi_conn, disk));
        Ok(Served { plan, device, export, events: None })
    }

    /// Offers what is in service, and nothing else; to clients that are encrypted like this, if that changes.
    fn publish(&self, tls: Option<tls::Context>) {
        self.catalogue.offer(self.exports.iter().map(|served| served.export.clone()).collect(), tls);
    }

    /// Tells in the log what happens to the devices from now on.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn watch_devices(&mut self) -> Result<(), Error> {
        for served in self.exports.iter_mut().filter(|served| served.events.is_none()) {
            let of = of(&served.plan);
            let task = events::log(served.device.clone(), of);
            served.events = task.map_err(|cause| Error::system("watch the device", &cause))?;
        }
        Ok(())
    }

    /// Puts these exports in the place of those in service, or changes nothing. Devices that are used by both go on,
    /// and clients of exports that are offered as before notice nothing. Clients of all others get their answers and
    /// are sent away. New clients are encrypted like this.
    ///
    /// # Errors
    /// A device cannot be opened.
    pub(super) async fn reload(
        &mut self,
        plans: Vec<ExportPlan>,
        tls: tls::Context,
    ) -> Result<Changes, Error> {
        let fresh: Vec<ExportPlan> = plans
            .iter()
            .filter(|plan| !self.exports.iter().any(|served| served.has_device_of(plan)))
            .cloned()
            .collect();
        let devices = fresh.iter().map(|plan| plan.device.clone()).collect();
        let devices = opening::start_all_in_time(devices).await?;
        let mut opened: Vec<Served> = Vec::new();
        for (plan, device) in fresh.into_iter().zip(devices) {
            match self.take_up(plan, device).await {
                Ok(served) => opened.push(served),
                Err(error) => {
                    opened.into_iter().for_each(|served| self.dismiss(served));
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
    fn exchange(&mut self, plans: Vec<ExportPlan>, opened: Vec<Served>, tls: tls::Context) -> Changes {
        let mut changes = Changes::default();
        let mut before = std::mem::take(&mut self.exports);
        let mut opened = opened.into_iter();
        let mut ends = HashMap::new();
        for plan in plans {
            if let Some(place) = before.iter().position(|served| served.has_device_of(&plan)) {
                let served = before.remove(place);
                changes.changed += usize::from(served.plan.offer != plan.offer);
                self.exports.push(served.offered_as(plan));
                continue;
            }
            let Some(successor) = opened.next() else { continue };
            match before.iter().any(|served| served.has_name_of(&plan)) {
                true => {
                    changes.changed += 1;
                    let (end, predecessor) = watch::channel(());
                    ends.insert(plan.offer.name, end);
                    self.exports.push(successor.after(predecessor));
                }
                false => {
                    changes.added += 1;
                    self.exports.push(successor);
                }
            }
        }
        self.publish(Some(tls));
        for served in before {
            let end = ends.remove(&served.plan.offer.name);
            changes.removed += usize::from(end.is_none());
            self.dismiss_before(served, end);
        }
        changes
    }

    /// Takes an export out of service that no client finds any more, in a task of its own.
    fn dismiss(&mut self, served: Served) {
        self.dismiss_before(served, None);
    }

    /// The same; a successor is told the end.
    fn dismiss_before(&mut self, served: Served, end: Option<watch::Sender<()>>) {
        let of = of(&served.plan);
        self.leaving.retain(|task| !task.is_finished());
        self.leaving.push(tokio_uring::spawn(async move {
            let fine = leave(served, of).await;
            drop(end);
            fine
        }));
    }

    /// Takes everything out of service. Returns whether all went well.
    pub(super) async fn end(&mut self) -> bool {
        self.crew.tell(|| Message::Drain);
        self.catalogue.offer(Vec::new(), None);
        while let Some(served) = self.exports.pop() {
            self.dismiss(served);
        }
        let mut fine = true;
        for task in std::mem::take(&mut self.leaving) {
            fine &= task.await.unwrap_or(false);
        }
        fine
    }
}

impl Served {
    fn has_name_of(&self, plan: &ExportPlan) -> bool {
        self.plan.offer.name == plan.offer.name
    }

    /// Whether the plan's device is this one, under the same name.
    fn has_device_of(&self, plan: &ExportPlan) -> bool {
        self.has_name_of(plan) && self.plan.device == plan.device
    }

    /// The same device, offered otherwise. Clients that would not get what they have now are sent away.
    fn offered_as(self, plan: ExportPlan) -> Served {
        if self.plan.offer == plan.offer {
            return self;
        }
        if self.plan.offer.ends_with(&plan.offer) {
            // Those that are on their way into service first.
            self.export.withdraw();
            retire::send_away(self.export.disk.clone());
        }
        let export = Export::new(plan.offer.clone(), self.export.multi_conn, self.export.disk.clone());
        Served { plan, export: Arc::new(export), ..self }
    }

    /// The same; clients are not served before `predecessor` ends.
    fn after(self, predecessor: watch::Receiver<()>) -> Served {
        Served { export: Arc::new(self.export.after(predecessor)), ..self }
    }
}

/// Takes an export out of service that no client finds any more. Returns whether all went well.
async fn leave(served: Served, of: String) -> bool {
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
fn of(plan: &ExportPlan) -> String {
    match plan.offer.name.as_str() {
        "" => String::new(),
        name => format!(" of export {name:?}"),
    }
}
