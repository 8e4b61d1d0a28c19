//! A worker: one thread with its share of the sessions and one queue of every disk.
//!
//! The thread runs a tokio-uring runtime, which does handshakes and timers. Sessions in transmission are the business
//! of one task, [`serve`], that works in turns: messages, finished waits, completions of the disks, sessions that have
//! something to do. It sleeps only when there is nothing left to do, and before that it polls for a moment if recent
//! requests came close together.

pub(crate) mod admission;
pub(crate) mod clients;
mod disks;
mod ending;
mod idle;
pub(crate) mod mailbox;
pub(crate) mod ring;
mod spin;
pub(crate) mod wake;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use drivers::Error;
use nbd::Transmission;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::disk::Disk;
use crate::exports::{Catalogue, Export};
use crate::handshake;
use crate::metrics::Effort;
use crate::net::handshakes::Handshakes;
use crate::net::stream::Stream;
use crate::net::visit::Visit;
use crate::session::input::ReceiveBuffer;
use crate::session::{Session, Turn};
use crate::slab::{Key, Slab};
use admission::{Admission, Awaited};
use disks::Disks;
use ending::Ending;
pub(crate) use ending::LastFlush;
pub(crate) use idle::Idle;
use mailbox::{Mailbox, Message};
use ring::{DataRing, Interest};
use spin::Spin;
use wake::Bell;

/// The runtime's other tasks get the thread at least this often.
const YIELD_AFTER: Duration = Duration::from_micros(200);

/// A worker that waits for a device looks by itself this often, so that a device that forgets to call is slow and no
/// more.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A worker that never sleeps looks this often whether a device has news for it.
const LOOK_FOR_NEWS: Duration = Duration::from_millis(10);

/// Idle sessions that are looked at directly instead of by a wait on the ring.
const HOT_MAX: usize = 4;

/// A token with this bit is the wait of a session for room to send.
const WRITABLE_BIT: u64 = 1 << 31;

/// A worker's state; everything in it belongs to its thread.
pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    exports: Arc<Catalogue>,
    ring: DataRing,
    /// Rings when there are messages, or waits of the data ring have ended.
    bell: Bell,
    disks: Disks,
    sessions: Slab<Session>,
    buffer: ReceiveBuffer,
    /// Sessions that have something to do.
    ready: VecDeque<Key>,
    /// Sessions that wait for a lease.
    starved: VecDeque<Key>,
    /// Leases that had come back before they were tried last.
    starved_since: u64,
    /// Sessions that were busy a moment ago and wait for their client.
    hot: Vec<Key>,
    spin: Spin,
    finished: Vec<u64>,
    /// No connection is taken any more.
    is_draining: bool,
    /// Nobody needs this worker any more.
    is_over: bool,
    handshakes: Handshakes,
    idle: Idle,
    effort: Arc<Effort>,
    /// Who waits until clients are served otherwise.
    awaited: Vec<Awaited>,
    /// Who waits until a client is gone.
    dismissed: Vec<(Key, oneshot::Sender<()>)>,
}

/// Runs the worker until it has been drained.
pub(crate) async fn serve(mut worker: Worker) -> io::Result<()> {
    let mut yielded = Instant::now();
    let mut asked = yielded;
    loop {
        let now = Instant::now();
        if worker.turn(now)? || worker.spin()? {
            if yielded.elapsed() >= YIELD_AFTER {
                tokio::task::yield_now().await;
                yielded = Instant::now();
                if yielded - asked >= LOOK_FOR_NEWS {
                    worker.disks.activate_those_with_news();
                    asked = yielded;
                }
            }
            continue;
        }
        if worker.prepare_to_sleep()? {
            continue;
        }
        if worker.is_over && worker.handshakes.is_zero() {
            return Ok(());
        }
        match worker.patience() {
            // When the time is over the next turn looks.
            Some(patience) => timeout(patience, worker.rung()).await.unwrap_or(Ok(()))?,
            None => worker.rung().await?,
        }
        worker.effort.wakeups.add(1);
        yielded = Instant::now();
        asked = yielded;
    }
}

impl Worker {
    /// A worker without disks. Call on its own thread.
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        exports: Arc<Catalogue>,
        spin_budget: Duration,
        handshakes: Handshakes,
        idle: Idle,
        effort: Arc<Effort>,
    ) -> io::Result<Worker> {
        let ring = DataRing::new(mailbox.wake().as_fd())?;
        Ok(Worker {
            ring,
            bell: Bell::new(mailbox.wake().as_fd())?,
            disks: Disks::default(),
            sessions: Slab::new(),
            buffer: ReceiveBuffer::new(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            starved_since: 0,
            hot: Vec::new(),
            spin: Spin::new(spin_budget),
            finished: Vec::new(),
            is_draining: false,
            is_over: false,
            handshakes,
            idle,
            effort,
            awaited: Vec::new(),
            dismissed: Vec::new(),
            mailbox,
            exports,
        })
    }

    /// Waits for anything that can wake the worker, and marks the disks that did. Their events are watched by the
    /// runtime itself and not by the data ring: an eventfd that completes a poll request whose ring then has to signal
    /// an eventfd of its own is one nesting too many, Linux loses such signals (seen on 6.18).
    async fn rung(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            let worker = self.bell.poll_rung(context)?;
            let disk = self.disks.poll_bells(context)?;
            if worker || disk { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// How long it may sleep at most.
    fn patience(&mut self) -> Option<Duration> {
        let device = self.disks.any_active(|disk| disk.is_waiting()).then_some(LOOK_AGAIN);
        let clients = self.idle.next_look(!self.sessions.is_empty());
        device.into_iter().chain(clients).min()
    }

    /// Does what there is to do. Returns whether there was anything.
    fn turn(&mut self, now: Instant) -> io::Result<bool> {
        let mut busy = false;
        self.close_idle(now);
        for message in self.mailbox.take() {
            self.receive(message);
            busy = true;
        }
        busy |= self.ring.turn(&mut self.finished)?;
        self.effort.ring_submissions.set(self.ring.submissions());
        for token in std::mem::take(&mut self.finished) {
            self.wait_finished(token);
        }
        busy |= self.turn_disks();
        busy |= self.run_hot();
        busy |= self.run_starved();
        let deadline = now + YIELD_AFTER;
        while let Some(key) = self.ready.pop_front() {
            self.run(key);
            busy = true;
            if Instant::now() >= deadline {
                break;
            }
        }
        busy |= self.turn_disks();
        busy |= self.disks.approach_ends();
        self.approach_admissions();
        if busy {
            self.spin.worked(now);
        }
        Ok(busy)
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Connection(socket) if !self.is_draining => {
                handshake::spawn(socket, self.exports.clone(), self.mailbox.clone(), &self.handshakes);
            }
            Message::Connection(_) => {
                self.mailbox.handshake_over();
                self.mailbox.connection_over();
            }
            Message::Session { stream, visit, transmission, export, received } => {
                self.welcome((stream, visit), transmission, &export, received);
            }
            Message::Disk { disk, message } => {
                if let Some(hosted) = self.disks.get_mut(disk) {
                    hosted.disk.receive(message);
                    self.disks.activate(disk);
                }
            }
            Message::MakeRoom => self.handshakes.make_room(),
            Message::EndOldestHandshake => self.handshakes.end_oldest(),
            Message::OpenDisk { shared, queue, opened } => {
                let result = Disk::open(shared, queue).and_then(|disk| {
                    self.disks
                        .insert(disk)
                        .map_err(|cause| Error::system("watch a queue of the device", &cause))
                });
                // Whoever does not wait for it lets the disk go again.
                let _ = opened.send(result);
            }
            Message::Admit { disk, admission, reached } => self.admit(disk, admission, reached),
            Message::Describe { from, page } => drop(page.send(self.describe(from))),
            Message::Dismiss { client, now, found, gone } => self.dismiss(client, now, found, gone),
            Message::DrainDisk { disk } => self.drain_sessions(disk),
            Message::EndDisk { disk, drained } => {
                self.disks.begin_end(disk, Ending::new(drained));
                self.drain_sessions(disk);
            }
            Message::CloseDrained { disk } => self.close_sessions(disk, Session::is_draining),
            Message::CloseSessions { disk } => self.close_sessions(disk, |_| true),
            Message::CloseDisk { disk, closed } => self.close_disk(disk, closed),
            Message::Drain => {
                self.is_draining = true;
                self.handshakes.give_up();
            }
            Message::End => self.is_over = true,
        }
    }

    fn keys(&self) -> Vec<Key> {
        self.sessions.entries().map(|(key, _)| key).collect()
    }

    fn sessions_of(&self, disk: usize) -> Vec<Key> {
        self.sessions.entries().filter(|(_, session)| session.disk == disk).map(|(key, _)| key).collect()
    }

    /// Answers what the clients of a disk have asked for, and takes no more from them.
    fn drain_sessions(&mut self, disk: usize) {
        for key in self.sessions_of(disk) {
            if let Some(session) = self.sessions.get_mut(key) {
                session.drain();
            }
            self.enqueue(key);
        }
    }

    fn close_sessions(&mut self, disk: usize, which: impl Fn(&Session) -> bool) {
        for key in self.sessions_of(disk) {
            if self.sessions.get(key).is_some_and(&which) {
                self.close(key);
            }
        }
    }

    /// Lets a disk go, and its sessions if there are any.
    fn close_disk(&mut self, disk: usize, closed: oneshot::Sender<()>) {
        self.close_sessions(disk, |_| true);
        drop(self.disks.remove(disk));
        // Whoever does not wait for it does not want to know.
        let _ = closed.send(());
    }

    /// Takes over a client whose handshake is done.
    fn welcome(
        &mut self,
        client: (Stream, Visit),
        transmission: Box<Transmission>,
        export: &Export,
        received: Vec<u8>,
    ) {
        let index = export.disk.index();
        let hosted = self.disks.get_mut(index);
        // The export may have been taken out of service meanwhile.
        let Some(hosted) = hosted.filter(|hosted| hosted.ending.as_ref().is_none_or(|end| !end.is_closed()))
        else {
            self.mailbox.connection_over();
            return;
        };
        hosted.disk.shared().device().try_again();
        hosted.disk.refresh();
        hosted.sessions += 1;
        hosted.disk.shared().session_began();
        hosted.disk.traffic().session_began();
        self.buffer.count_parked(received.len());
        let is_over = hosted.ending.is_some() || export.is_withdrawn();
        let admission = if is_over { Admission::Shut } else { hosted.admission };
        let key =
            self.sessions.insert_with(|key| Session::new(key, client, transmission, &hosted.disk, received));
        self.effort.sessions.set(self.sessions.len() as u64);
        self.apply(key, admission);
    }

    /// Marks a session as having something to do.
    fn enqueue(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key)
            && !session.is_queued
        {
            session.is_queued = true;
            self.ready.push_back(key);
        }
    }

    fn wait_finished(&mut self, token: u64) {
        let key = Key::from_word(token & !WRITABLE_BIT);
        if let Some(session) = self.sessions.get_mut(key) {
            if token & WRITABLE_BIT != 0 {
                session.writable();
            } else {
                session.waits_readable = false;
            }
            self.enqueue(key);
        }
    }

    /// Lets the disks work and hands out what they deliver.
    fn turn_disks(&mut self) -> bool {
        let mut busy = false;
        let mut position = 0;
        while position < self.disks.active() {
            let index = self.disks.active_index(position);
            if !self.disks[index].has_something_to_do() {
                self.disks.rest(position);
                continue;
            }
            position += 1;
            busy |= self.disks[index].turn();
            while let Some(delivery) = self.disks[index].next_delivery() {
                busy = true;
                let key = delivery.ticket.session;
                let Some(session) = self.sessions.get_mut(key) else { continue };
                if let Err(hangup) = session.take(delivery, &mut self.disks[index]) {
                    hangup.log(&session.visit);
                    self.close(key);
                } else {
                    self.enqueue(key);
                }
            }
        }
        busy
    }

    /// Leases that came back so far, of all disks.
    fn leases_returned(&self) -> u64 {
        self.disks.iter().map(Disk::leases_returned).sum()
    }

    /// Tries the sessions that wait for a lease.
    fn run_starved(&mut self) -> bool {
        if self.starved.is_empty() {
            return false;
        }
        let mut busy = false;
        self.starved_since = self.leases_returned();
        for _ in 0..self.starved.len() {
            let Some(key) = self.starved.pop_front() else { break };
            busy |= self.run(key);
        }
        busy
    }

    /// Looks at the sessions that were busy a moment ago.
    fn run_hot(&mut self) -> bool {
        let mut busy = false;
        for key in std::mem::take(&mut self.hot) {
            if let Some(session) = self.sessions.get_mut(key) {
                session.is_hot = false;
            }
            busy |= self.run(key);
        }
        busy
    }

    /// Lets a session work. Returns whether it did anything.
    fn run(&mut self, key: Key) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        session.is_queued = false;
        let index = session.disk;
        let turn = session.run(&mut self.disks[index], &mut self.buffer);
        let worked = session.has_worked();
        self.effort.batches.add(session.has_taken_requests().into());
        self.disks.activate(index);
        match turn {
            Turn::Again => self.enqueue(key),
            Turn::Idle if session.is_hot => {}
            Turn::Idle => {
                session.is_hot = true;
                self.hot.push(key);
            }
            Turn::Blocked => self.wait(key, Interest::Writable),
            Turn::Starved => {
                session.is_queued = true;
                self.starved.push_back(key);
            }
            Turn::Full => {}
            Turn::Closed => self.close(key),
        }
        worked
    }

    /// Waits for a session's socket on the ring.
    fn wait(&mut self, key: Key, interest: Interest) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (waits, bit) = match interest {
            Interest::Readable => (&mut session.waits_readable, 0),
            Interest::Writable => (&mut session.waits_writable, WRITABLE_BIT),
        };
        if std::mem::replace(waits, true) {
            return;
        }
        if let Err(error) = self.ring.wait(session.stream.as_fd(), interest, key.to_word() | bit) {
            let (client, export) = (session.visit.client(), session.visit.export());
            tracing::error!(client, export, "cannot wait for {client}: {error}; closing its connection");
            self.close(key);
        }
    }

    fn close(&mut self, key: Key) {
        let Some(mut session) = self.sessions.remove(key) else { return };
        self.effort.sessions.set(self.sessions.len() as u64);
        self.mailbox.connection_over();
        if !self.dismissed.is_empty() {
            // Whoever waits for the end of this client hears of it by the end of the channel.
            self.dismissed.retain(|(dismissed, _)| *dismissed != key);
        }
        for (waits, bit) in [(session.waits_readable, 0), (session.waits_writable, WRITABLE_BIT)] {
            if waits {
                // A wait that is not forgotten ends by itself when the stream is shut down.
                let _ = self.ring.forget(key.to_word() | bit);
            }
        }
        session.close(&mut self.disks[session.disk], &mut self.buffer);
        if let Some(hosted) = self.disks.get_mut(session.disk) {
            hosted.sessions -= 1;
            hosted.disk.shared().session_ended();
        }
        self.disks.activate(session.disk);
    }

    /// Polls for a moment. Returns whether something came.
    fn spin(&mut self) -> io::Result<bool> {
        if self.hot.len() > HOT_MAX || !self.spin.is_worthwhile() {
            return Ok(false);
        }
        if self.hot.is_empty() && !self.disks.any_active(|disk| disk.is_waiting()) {
            return Ok(false);
        }
        self.effort.polls.add(1);
        let start = Instant::now();
        loop {
            std::thread::yield_now();
            let now = Instant::now();
            if self.turn(now)? {
                self.spin.succeeded();
                return Ok(true);
            }
            if now - start >= self.spin.budget() {
                self.spin.failed();
                self.effort.polls_in_vain.add(1);
                return Ok(false);
            }
        }
    }

    /// Arms everything that can wake the worker. Returns whether there is work already.
    fn prepare_to_sleep(&mut self) -> io::Result<bool> {
        for key in std::mem::take(&mut self.hot) {
            if let Some(session) = self.sessions.get_mut(key) {
                session.is_hot = false;
            }
            self.wait(key, Interest::Readable);
        }
        // A session that waits gives back what it has, which may be what it or another one waits for.
        let lease_came_back = !self.starved.is_empty() && self.leases_returned() != self.starved_since;
        let mut work = !self.ready.is_empty() || lease_came_back;
        work |= self.disks.any_active(|disk| disk.is_waiting() && (disk.arm() || disk.event().is_none()));
        work |= self.ring.turn(&mut self.finished)?;
        for token in std::mem::take(&mut self.finished) {
            self.wait_finished(token);
        }
        Ok(work)
    }
}
