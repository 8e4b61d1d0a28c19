//! [`Crew`]: the worker threads, from the control thread's side.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use drivers::{Error, Started};
use socket2::Socket;
use tokio::sync::{mpsc, oneshot};

use super::Plan;
use crate::disk::{Disk, DiskShared};
use crate::exports::{Export, ExportTable};
use crate::tls;
use crate::worker::mailbox::{Mailbox, Message};
use crate::worker::{self, Ending, LastFlush, Worker};

/// What a worker thread tells.
#[derive(Debug)]
enum Report {
    /// It has its queue, and serves.
    Ready,
    /// It could not start.
    Refused(Error),
    /// It ended; with a reason if that was wrong.
    Ended(Option<String>),
}

/// The worker threads.
#[derive(Debug)]
pub(super) struct Crew {
    mailboxes: Rc<[Arc<Mailbox>]>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// One per worker: tells when it is drained, and how the last flush went.
    drained: Vec<oneshot::Receiver<LastFlush>>,
    /// The worst of those told.
    last_flush: LastFlush,
    running: usize,
}

impl Crew {
    /// Starts the workers, and waits until each has its queue. A device with fewer queues than were asked for gets as
    /// many workers as it has queues: one without a queue could serve nobody.
    ///
    /// # Errors
    /// A worker could not start.
    pub(super) async fn start(
        plan: &Plan,
        device: &Arc<dyn Started>,
        tls: tls::Context,
    ) -> Result<Crew, Error> {
        let count = device.queues().clamp(1, plan.workers);
        let mailboxes: Vec<Arc<Mailbox>> = (0..count)
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<io::Result<_>>()
            .map_err(|cause| no_worker(&cause))?;
        let offer = &plan.exports[0].offer;
        let disk = Arc::new(DiskShared::new(device.clone(), 0, mailboxes.clone()));
        let export = Export {
            name: offer.name.clone(),
            description: offer.description.clone(),
            read_only: offer.read_only,
            disk: disk.clone(),
        };
        let exports = Arc::new(ExportTable::new(vec![export], tls));
        let (sender, reports) = mpsc::unbounded_channel();
        let mut crew = Crew {
            mailboxes: mailboxes.into(),
            reports,
            drained: Vec::new(),
            last_flush: Ok(()),
            running: 0,
        };
        for index in 0..count {
            let (report, drained) = oneshot::channel();
            let post = Post {
                index,
                disk: disk.clone(),
                exports: exports.clone(),
                poll: plan.poll,
                ending: Ending::new(report),
                reports: sender.clone(),
            };
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || post.work())
                .map_err(|cause| no_worker(&cause))?;
            crew.drained.push(drained);
            crew.running += 1;
        }
        for _ in 0..count {
            match crew.reports.recv().await {
                Some(Report::Ready) => {}
                Some(Report::Refused(error)) => return Err(error),
                Some(Report::Ended(reason)) => {
                    let reason = reason.unwrap_or_else(|| "it ended at once".into());
                    return Err(Error::device(format!("cannot start a worker: {reason}")));
                }
                None => return Err(Error::device("cannot start the workers: their threads are gone")),
            }
        }
        Ok(crew)
    }

    /// Gives new connections to the workers.
    pub(super) fn balance(&self) -> Balance {
        Balance { mailboxes: self.mailboxes.clone(), next: Rc::default() }
    }

    /// Waits until a worker ends that should not, and says why it did.
    pub(super) async fn failure(&mut self) -> String {
        loop {
            match self.reports.recv().await {
                Some(Report::Ended(reason)) => {
                    self.running -= 1;
                    return reason.unwrap_or_else(|| "a worker ended too early".into());
                }
                Some(Report::Ready | Report::Refused(_)) => {}
                None => return "all workers are gone".into(),
            }
        }
    }

    /// Tells every worker something.
    pub(super) fn tell(&self, message: fn() -> Message) {
        for mailbox in self.mailboxes.iter() {
            mailbox.post(message());
        }
    }

    /// Connections that are not over.
    pub(super) fn connections(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.connections()).sum()
    }

    /// Waits until every worker is drained, and returns the worst last flush. Workers that are gone count as drained.
    pub(super) async fn drained(&mut self) -> LastFlush {
        // One by one, so that a wait that was given up can be taken up again.
        while let Some(last) = self.drained.last_mut() {
            if let Ok(Err(failed)) = last.await {
                self.last_flush = Err(failed);
            }
            self.drained.pop();
        }
        self.last_flush
    }

    /// Waits until every worker has ended. Returns whether all did so in order.
    pub(super) async fn ended(&mut self) -> bool {
        let mut fine = true;
        while self.running > 0 {
            match self.reports.recv().await {
                Some(Report::Ended(reason)) => {
                    self.running -= 1;
                    if let Some(reason) = reason {
                        tracing::error!("{reason}");
                        fine = false;
                    }
                }
                Some(_) => {}
                None => return false,
            }
        }
        fine
    }
}

/// Who gets the next connection.
#[derive(Clone, Debug)]
pub(super) struct Balance {
    mailboxes: Rc<[Arc<Mailbox>]>,
    /// Where to begin looking: equals take turns.
    next: Rc<Cell<usize>>,
}

impl Balance {
    /// Gives a connection to the worker that has the fewest.
    pub(super) fn hand_over(&self, socket: Socket) {
        let loads: Vec<usize> = self.mailboxes.iter().map(|mailbox| mailbox.connections()).collect();
        let chosen = least_loaded(&loads, self.next.get());
        self.next.set(chosen + 1);
        self.mailboxes[chosen].post_connection(socket.into());
    }
}

/// The first of those with the least load, counted from `start` on and around.
fn least_loaded(loads: &[usize], start: usize) -> usize {
    (0..loads.len()).map(|step| (start + step) % loads.len()).min_by_key(|&index| loads[index]).unwrap_or(0)
}

/// What a worker thread starts with.
struct Post {
    index: usize,
    disk: Arc<DiskShared>,
    exports: Arc<ExportTable>,
    poll: std::time::Duration,
    ending: Ending,
    reports: mpsc::UnboundedSender<Report>,
}

/// Reports the end of a thread, however it comes about.
struct Farewell {
    reports: mpsc::UnboundedSender<Report>,
    reason: Option<String>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        // Nobody listens when the start has failed already.
        let _ = self.reports.send(Report::Ended(self.reason.take()));
    }
}

impl Post {
    /// The whole life of a worker thread.
    fn work(self) {
        // Declared first, so that the end is reported last, when the queue is closed.
        let mut farewell = Farewell {
            reports: self.reports.clone(),
            reason: Some(format!("worker {} panicked", self.index)),
        };
        let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => runtime,
            Err(cause) => {
                let _ = self.reports.send(Report::Refused(no_runtime(&cause)));
                return;
            }
        };
        let index = self.index;
        let result = runtime.block_on(async {
            let reports = self.reports.clone();
            match self.open() {
                Ok(worker) => {
                    let _ = reports.send(Report::Ready);
                    worker::serve(worker).await
                }
                Err(error) => {
                    let _ = reports.send(Report::Refused(error));
                    Ok(())
                }
            }
        });
        farewell.reason = result.err().map(|cause| format!("worker {index} failed: {cause}"));
    }

    fn open(self) -> Result<Worker, Error> {
        let mailbox = self.disk.mailboxes()[self.index].clone();
        let disk = Disk::open(self.disk, self.index)?;
        Worker::new(mailbox, self.exports, vec![disk], self.poll, self.ending)
            .map_err(|cause| no_runtime(&cause))
    }
}

fn no_worker(cause: &io::Error) -> Error {
    Error::system("start a worker", cause).hint("fewer workers need less: --workers 1")
}

/// The runtime, or a worker's own ring, could not be made.
pub(super) fn no_runtime(cause: &io::Error) -> Error {
    let error = Error::system("make an io_uring for network traffic", cause);
    match cause.raw_os_error() {
        Some(libc::ENOSYS) => error.hint("the kernel is built without io_uring, or a sandbox hides it"),
        Some(libc::EPERM | libc::EACCES) => error.hint(
            "io_uring is forbidden here: see sysctl kernel.io_uring_disabled and the sandbox's seccomp rules",
        ),
        Some(libc::ENOMEM) => {
            error.hint("raise the limit of locked memory (ulimit -l), or use fewer --workers")
        }
        Some(libc::EMFILE | libc::ENFILE) => error.hint("raise the limit of open files: ulimit -n"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{Farewell, Report, least_loaded, mpsc};

    #[test]
    fn the_least_loaded_worker_gets_the_next_connection() {
        assert_eq!(least_loaded(&[3, 1, 2], 0), 1);
        assert_eq!(least_loaded(&[0], 7), 0);
    }

    #[test]
    fn equals_take_turns() {
        assert_eq!(least_loaded(&[5, 5, 5], 0), 0);
        assert_eq!(least_loaded(&[5, 5, 5], 1), 1);
        assert_eq!(least_loaded(&[5, 5, 5], 3), 0);
        assert_eq!(least_loaded(&[4, 5, 4], 1), 2);
    }

    #[test]
    fn a_thread_that_panics_says_farewell() {
        let (reports, mut received) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let _farewell = Farewell { reports, reason: Some("worker 0 panicked".into()) };
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        let report = received.try_recv().unwrap();
        assert!(matches!(report, Report::Ended(Some(reason)) if reason == "worker 0 panicked"));
    }
}
