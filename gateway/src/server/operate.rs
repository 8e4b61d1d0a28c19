//! What an operator does with single exports while the server serves.

use std::sync::Arc;
use std::time::Duration;

use drivers::Error;
use drivers::property::nearest;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::phase::Phase;
use super::retire::{CLIENTS, DEVICE};
use super::service::{Of, Service};
use super::{ExportPlan, Offer, opening};
use crate::disk::DiskShared;
use crate::worker::admission::Admission;
use crate::worker::mailbox::Message;

/// How long workers may take to read a message.
const WORKERS: Duration = Duration::from_secs(5);

impl Service {
    /// Puts one more export into service.
    ///
    /// # Errors
    /// Its name is taken, or its device cannot be opened; nothing has changed then.
    pub(crate) async fn add(&self, plan: ExportPlan) -> Result<(), Error> {
        self.check_free(&plan.offer)?;
        // Others need not wait until it is open.
        let device = opening::start_in_time(plan.device.clone()).await?;
        let _turn = self.turn.lock().await;
        if let Err(error) = self.check_free(&plan.offer) {
            opening::close_in_time(device, &Of::plan(&plan)).await;
            return Err(error);
        }
        let name = plan.offer.name.clone();
        let mut served = self.take_up(plan, device).await?;
        served.is_added = true;
        self.exports.borrow_mut().push(served);
        self.publish(None);
        if let Err(error) = self.watch_devices() {
            // It serves all the same.
            tracing::warn!("{error}");
        }
        tracing::info!("export {name:?} is added by an operator");
        Ok(())
    }

    /// Whether there may be one more export that is offered so.
    fn check_free(&self, offer: &Offer) -> Result<(), Error> {
        let exports = self.exports();
        if exports.iter().any(|served| served.plan.offer.name == offer.name) {
            return Err(Error::device(format!("there is an export '{}' already", offer.name))
                .hint("choose another name, or remove that one first"));
        }
        let default = exports.iter().find(|served| served.plan.offer.is_default);
        match default.filter(|_| offer.is_default) {
            Some(default) => Err(Error::device(format!(
                "export '{}' is the one for clients that ask for no name",
                default.plan.offer.name
            ))
            .hint("leave 'default' out")),
            None => Ok(()),
        }
    }

    /// Takes an export out of service: its clients get their answers and are sent away, its device is closed. Returns
    /// when it is out.
    ///
    /// # Errors
    /// There is none of this name, or its end was not as it should be.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let out = {
            let _turn = self.turn.lock().await;
            let place = self.place_of(name)?;
            let served = self.exports.borrow_mut().remove(place);
            self.publish(None);
            tracing::info!("export {name:?} is removed by an operator");
            self.dismiss(served)
        };
        match out.await {
            Ok(true) => Ok(()),
            _ => Err(Error::device(format!("export '{name}' is out of service, but not in good order"))
                .hint("the log says why")),
        }
    }

    /// Lets no new client come to an export, and sends those away that it has, with their answers. Its device stays
    /// open. Returns how many had to be cut off because they did not take their answers.
    ///
    /// # Errors
    /// There is none of this name, or somebody wanted something else of it meanwhile.
    pub(crate) async fn drain(&self, name: &str) -> Result<usize, Error> {
        let disk = self.enter(name, Phase::Draining)?;
        tracing::info!("export {name:?} is drained by an operator");
        let mut reached = admit(&disk, Admission::Shut);
        let mut cut_off = 0;
        let mut done = timeout(CLIENTS, all(&mut reached)).await;
        if done.is_err() {
            cut_off = disk.sessions();
            tracing::warn!("closing connections of export {name:?} whose clients do not finish: {cut_off}");
            for mailbox in disk.mailboxes() {
                mailbox.post(Message::CloseSessions { disk: disk.index() });
            }
            done = timeout(DEVICE, all(&mut reached)).await;
        }
        match done {
            Ok(true) => {
                self.settle(&disk, Phase::Draining, Phase::Drained);
                Ok(cut_off)
            }
            Ok(false) => Err(superseded(name)),
            Err(_) => Err(Error::device(format!("cannot drain export '{name}': its workers do not answer"))),
        }
    }

    /// Has an export take no requests. Returns when all that were taken before are answered.
    ///
    /// # Errors
    /// There is none of this name, it is drained, somebody wanted something else of it meanwhile, or a request is not
    /// completed in time; it takes no more all the same.
    pub(crate) async fn pause(&self, name: &str) -> Result<(), Error> {
        let disk = self.enter(name, Phase::Pausing)?;
        tracing::info!("export {name:?} is paused by an operator");
        let mut reached = admit(&disk, Admission::Held);
        match timeout(CLIENTS, all(&mut reached)).await {
            Ok(true) => {
                self.settle(&disk, Phase::Pausing, Phase::Paused);
                Ok(())
            }
            Ok(false) => Err(superseded(name)),
            Err(_) => Err(Error::device(format!(
                "export '{name}' takes no requests any more, but not all that it has taken are done after {} s: its \
                 device, or a client that takes no replies, is slow",
                CLIENTS.as_secs()
            ))
            .hint("pause it once more to go on waiting; or resume it; 'clients' shows who waits for what")),
        }
    }

    /// Serves an export again that was paused or drained.
    ///
    /// # Errors
    /// There is none of this name, or a worker does not answer.
    pub(crate) async fn resume(&self, name: &str) -> Result<(), Error> {
        let disk = self.enter(name, Phase::Serving)?;
        tracing::info!("export {name:?} is resumed by an operator");
        let mut reached = admit(&disk, Admission::Open);
        match timeout(WORKERS, all(&mut reached)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(superseded(name)),
            Err(_) => Err(Error::device(format!("cannot resume export '{name}': its workers do not answer"))),
        }
    }

    /// Changes the phase of an export, and what new clients find. Returns its disk.
    fn enter(&self, name: &str, phase: Phase) -> Result<Arc<DiskShared>, Error> {
        let place = self.place_of(name)?;
        let disk = {
            let mut exports = self.exports.borrow_mut();
            let served = &mut exports[place];
            match (served.phase, phase) {
                (now, Phase::Pausing) if now.is_closed() => {
                    return Err(Error::device(format!(
                        "export '{name}' is {}, so it has no clients",
                        now.name()
                    ))
                    .hint("resume it first"));
                }
                // It stays what it is.
                (Phase::Paused, Phase::Pausing) | (Phase::Drained, Phase::Draining) => {}
                _ => served.phase = phase,
            }
            served.export.disk.clone()
        };
        self.publish(None);
        Ok(disk)
    }

    /// The phase of an export has come about, unless it is in another one by now.
    fn settle(&self, disk: &Arc<DiskShared>, from: Phase, to: Phase) {
        let mut exports = self.exports.borrow_mut();
        let served = exports.iter_mut().find(|served| Arc::ptr_eq(&served.export.disk, disk));
        if let Some(served) = served.filter(|served| served.phase == from) {
            served.phase = to;
        }
    }

    /// Which of the exports has this name.
    fn place_of(&self, name: &str) -> Result<usize, Error> {
        let exports = self.exports();
        let names = || exports.iter().map(|served| served.plan.offer.name.as_str());
        names().position(|other| other == name).ok_or_else(|| {
            let error = Error::device(format!("there is no export '{name}'"));
            match nearest(name, names()) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error.hint("'exports' lists those that are there"),
            }
        })
    }
}

/// Tells the workers of a disk what becomes of its clients.
fn admit(disk: &DiskShared, admission: Admission) -> Vec<oneshot::Receiver<()>> {
    let index = disk.index();
    let tell = |mailbox: &Arc<crate::worker::mailbox::Mailbox>| {
        let (reached, answer) = oneshot::channel();
        mailbox.post(Message::Admit { disk: index, admission, reached });
        answer
    };
    disk.mailboxes().iter().map(tell).collect()
}

/// Waits until it has come about on every worker. `false`: somebody wanted something else. Each that has answered is
/// taken out, so that a wait that was given up can be taken up again.
async fn all(reached: &mut Vec<oneshot::Receiver<()>>) -> bool {
    while let Some(last) = reached.last_mut() {
        if last.await.is_err() {
            return false;
        }
        reached.pop();
    }
    true
}

fn superseded(name: &str) -> Error {
    Error::device(format!("somebody wanted something else of export '{name}' meanwhile"))
        .hint("'exports' shows how it is served now")
}
