//! [`Crew`]: the worker threads, from the control thread's side.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use drivers::Error;
use socket2::Socket;
use tokio::sync::mpsc;

use super::Plan;
use crate::exports::Catalogue;
use crate::metrics::Effort;
use crate::net::handshakes::Handshakes;
use crate::net::limits::Limits;
use crate::worker::mailbox::{Mailbox, Message};
use crate::worker::{self, Idle, Worker};

/// What a worker thread tells.
#[derive(Debug)]
enum Report {
    /// It takes messages.
    Ready,
    /// It could not start.
    Refused(Error),
    /// It ended; with a reason if that was wrong.
    Ended(Option<String>),
}

/// The workers, for whoever has something to tell them.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Rc<[Arc<Mailbox>]>);

impl Workers {
    /// Workers for the queues of a disk, beginning with one of them: as many as it has queues, at most all. A worker
    /// without a queue hands its clients over to one that has.
    pub(super) fn owners(&self, queues: usize, first: usize) -> Vec<Arc<Mailbox>> {
        let all = self.0.len();
        (0..queues.clamp(1, all)).map(|queue| self.0[(first + queue) % all].clone()).collect()
    }

    /// The worker of each number.
    pub(crate) fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.0
    }

    /// Tells every worker something.
    pub(super) fn tell(&self, message: fn() -> Message) {
        for mailbox in self.0.iter() {
            mailbox.post(message());
        }
    }

    /// Connections that are not over.
    pub(crate) fn connections(&self) -> usize {
        self.0.iter().map(|mailbox| mailbox.connections()).sum()
    }
}

/// The worker threads.
#[derive(Debug)]
pub(super) struct Crew {
    workers: Workers,
    /// One for each worker.
    efforts: Arc<[Arc<Effort>]>,
    reports: mpsc::UnboundedReceiver<Report>,
    running: usize,
}

impl Crew {
    /// Starts the workers, and waits until each is ready. They have no disk yet.
    ///
    /// # Errors
    /// A worker could not start.
    pub(super) async fn start(count: usize, plan: &Plan, exports: &Arc<Catalogue>) -> Result<Crew, Error> {
        let mailboxes: Vec<Arc<Mailbox>> = (0..count)
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<io::Result<_>>()
            .map_err(|cause| no_worker(&cause))?;
        let (sender, reports) = mpsc::unbounded_channel();
        let efforts = (0..count).map(|_| Arc::default()).collect();
        let mut crew = Crew { workers: Workers(mailboxes.into()), efforts, reports, running: 0 };
        for (index, mailbox) in crew.workers.0.iter().enumerate() {
            let post = Post {
                index,
                mailbox: mailbox.clone(),
                exports: exports.clone(),
                poll: plan.poll,
                limits: plan.limits,
                handshakes_max: plan.limits.handshakes_per_worker(count),
                effort: crew.efforts[index].clone(),
                reports: sender.clone(),
            };
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || post.work())
                .map_err(|cause| no_worker(&cause))?;
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

    /// The workers.
    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Gives new connections to the workers.
    pub(super) fn balance(&self) -> Balance {
        Balance { workers: self.workers.clone(), next: Rc::default() }
    }

    /// What the workers do, by their numbers.
    pub(super) fn efforts(&self) -> Arc<[Arc<Effort>]> {
        self.efforts.clone()
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
    workers: Workers,
    /// Where to begin looking: equals take turns.
    next: Rc<Cell<usize>>,
}

impl Balance {
    /// Gives a connection to the worker that has the fewest.
    pub(super) fn hand_over(&self, socket: Socket) {
        let mailboxes = self.workers.mailboxes();
        let loads: Vec<usize> = mailboxes.iter().map(|mailbox| mailbox.connections()).collect();
        let chosen = least_loaded(&loads, self.next.get());
        self.next.set(chosen + 1);
        mailboxes[chosen].post_connection(socket.into());
    }

    /// Ends handshakes that could have been over long ago: descriptors are short.
    pub(super) fn make_room(&self) {
        self.workers.tell(|| Message::MakeRoom);
    }

    /// Ends a handshake that could have been over long ago: another client wants to be served. `false`: none is under
    /// way.
    pub(super) fn end_oldest_handshake(&self) -> bool {
        let busiest = self.workers.0.iter().max_by_key(|mailbox| mailbox.handshakes());
        let busiest = busiest.filter(|mailbox| mailbox.handshakes() > 0);
        busiest.inspect(|mailbox| mailbox.post(Message::EndOldestHandshake)).is_some()
    }

    /// Connections that are not over.
    pub(super) fn connections(&self) -> usize {
        self.workers.connections()
    }

    /// Waits until each worker has been without connections.
    pub(super) async fn all_over(&self) {
        for mailbox in self.workers.mailboxes() {
            mailbox.all_over().await;
        }
    }
}

/// The first of those with the least load, counted from `start` on and around.
fn least_loaded(loads: &[usize], start: usize) -> usize {
    (0..loads.len()).map(|step| (start + step) % loads.len()).min_by_key(|&index| loads[index]).unwrap_or(0)
}

/// What a worker thread starts with.
struct Post {
    index: usize,
    mailbox: Arc<Mailbox>,
    exports: Arc<Catalogue>,
    poll: Duration,
    limits: Limits,
    /// The worker's share of them.
    handshakes_max: usize,
    effort: Arc<Effort>,
    reports: mpsc::UnboundedSender<Report>,
}

/// Reports the end of a thread, however it comes about, and keeps others from waiting for its answers.
struct Farewell {
    mailbox: Arc<Mailbox>,
    reports: mpsc::UnboundedSender<Report>,
    reason: Option<String>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.mailbox.close();
        // Nobody listens when the start has failed already.
        let _ = self.reports.send(Report::Ended(self.reason.take()));
    }
}

impl Post {
    /// The whole life of a worker thread.
    fn work(self) {
        // Declared first, so that the end is reported last, when everything is closed.
        let mut farewell = Farewell {
            mailbox: self.mailbox.clone(),
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
            let handshakes = Handshakes::new(self.handshakes_max, self.limits.handshake_timeout);
            let idle = Idle::new(self.limits.idle_timeout);
            let worker = Worker::new(self.mailbox, self.exports, self.poll, handshakes, idle, self.effort);
            match worker.map_err(|cause| no_runtime(&cause)) {
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
    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::{Arc, Farewell, Mailbox, Message, Report, least_loaded, mpsc};

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
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let (unanswered, mut answer) = oneshot::channel();
        mailbox.post(Message::CloseDisk { disk: 0, closed: unanswered });
        let of_thread = mailbox.clone();
        let thread = std::thread::spawn(move || {
            let reason = Some("worker 0 panicked".into());
            let _farewell = Farewell { mailbox: of_thread, reports, reason };
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(answer.try_recv(), Err(TryRecvError::Closed), "nobody waits for an answer from before");
        let (unanswered, mut answer) = oneshot::channel();
        mailbox.post(Message::CloseDisk { disk: 0, closed: unanswered });
        assert_eq!(answer.try_recv(), Err(TryRecvError::Closed), "nobody waits for one from after");
        let report = received.try_recv().unwrap();
        assert!(matches!(report, Report::Ended(Some(reason)) if reason == "worker 0 panicked"));
    }
}
