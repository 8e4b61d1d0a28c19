//! [`Mailbox`]: how threads talk to a worker.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drivers::Error;
use nbd::Transmission;
use tokio::sync::{Notify, oneshot};

use super::LastFlush;
use super::admission::Admission;
use super::clients::Page;
use super::wake::Wake;
use crate::disk::{DiskMessage, DiskShared};
use crate::exports::Export;
use crate::net::stream::Stream;
use crate::net::visit::Visit;

/// What a worker can be told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A client connected; do the handshake and serve it.
    Connection(OwnedFd),
    /// A handshake ended, on this worker or another; `received` came after it.
    Session {
        stream: Stream,
        visit: Visit,
        transmission: Box<Transmission>,
        export: Arc<Export>,
        received: Vec<u8>,
    },
    /// About a disk, from another worker.
    Disk { disk: usize, message: DiskMessage },
    /// Descriptors are short; end the older ones of the handshakes.
    MakeRoom,
    /// A client more wants to be served than may be; end the oldest handshake.
    EndOldestHandshake,
    /// Open a queue of a disk.
    OpenDisk { shared: Arc<DiskShared>, queue: usize, opened: oneshot::Sender<Result<(), Error>> },
    /// Answer what the clients of a disk have in flight and close their sessions. Others may come.
    DrainDisk { disk: usize },
    /// Serve, hold or send away the clients of a disk, those that come later too; `reached` is told when nothing is
    /// under way any more that should not be.
    Admit { disk: usize, admission: Admission, reached: oneshot::Sender<()> },
    /// Describe the clients at some places of the table, from one on.
    Describe { from: usize, page: oneshot::Sender<Page> },
    /// Send a client away, with its answers or at once, if it is here.
    Dismiss { client: u64, now: bool, found: oneshot::Sender<bool>, gone: oneshot::Sender<()> },
    /// As `DrainDisk`; then flush, and report. Other workers may need answers until all have reported.
    EndDisk { disk: usize, drained: oneshot::Sender<LastFlush> },
    /// Close the sessions of a disk that are being drained and are still there.
    CloseDrained { disk: usize },
    /// Close the sessions of a disk that are still there, whatever they wait for.
    CloseSessions { disk: usize },
    /// Let a disk go.
    CloseDisk { disk: usize, closed: oneshot::Sender<()> },
    /// Take no connection any more, and give up handshakes.
    Drain,
    /// End, now that no disk is left.
    End,
}

/// Messages for one worker, and the bell that wakes it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// `None`: nobody reads them any more.
    messages: Mutex<Option<Vec<Message>>>,
    /// There may be messages; a look at it costs the worker's turn no lock.
    any: AtomicBool,
    wake: Wake,
    /// Connections that were given to the worker and are not over.
    connections: AtomicUsize,
    /// Those of them that are in the handshake.
    handshakes: AtomicUsize,
    /// One of them ended.
    over: Notify,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Mailbox> {
        Ok(Mailbox {
            messages: Mutex::new(Some(Vec::new())),
            any: AtomicBool::new(false),
            wake: Wake::new()?,
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            over: Notify::new(),
        })
    }

    /// The bell: also what the worker's data ring reports to.
    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Leaves a message and wakes the worker. Whoever waits for an answer of a worker that is gone learns that it is:
    /// the message is dropped with its way to answer.
    pub(crate) fn post(&self, message: Message) {
        match &mut *self.messages() {
            Some(messages) => messages.push(message),
            None => return,
        }
        self.any.store(true, Ordering::Release);
        self.wake.ring();
    }

    /// The worker is gone: drops all messages, and all that come.
    pub(crate) fn close(&self) {
        let messages = self.messages().take();
        // Not with the lock in hand: what a message holds may post another one when it is dropped.
        drop(messages);
    }

    fn messages(&self) -> MutexGuard<'_, Option<Vec<Message>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all messages, oldest first.
    pub(crate) fn take(&self) -> Vec<Message> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        self.messages().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Connections that the worker has: what decides who gets the next one.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections that are in the handshake.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// A handshake is over, for better or for worse.
    pub(crate) fn handshake_over(&self) {
        self.handshakes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives the worker a connection.
    pub(crate) fn post_connection(&self, socket: OwnedFd) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        self.post(Message::Connection(socket));
    }

    /// Gives the worker a connection whose handshake another one did.
    pub(crate) fn post_session(&self, session: Message) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.post(session);
    }

    /// A connection is over.
    pub(crate) fn connection_over(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.over.notify_one();
    }

    /// Waits until the worker has no connection.
    pub(crate) async fn all_over(&self) {
        while self.connections() > 0 {
            self.over.notified().await;
        }
    }
}
