//! A worker: one thread with its share of the sessions and one queue of every disk.
//!
//! The thread runs a tokio-uring runtime, which does handshakes and timers. Sessions in transmission are the business
//! of one task, [`serve`], that works in turns: messages, finished waits, completions of the disks, sessions that have
//! something to do. It sleeps only when there is nothing left to do, and before that it polls for a moment if recent
//! requests came close together.

mod ending;
mod idle;
pub(crate) mod mailbox;
pub(crate) mod ring;
mod spin;
pub(crate) mod wake;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nbd::Transmission;
use tokio::time::timeout;

use crate::disk::Disk;
use crate::exports::ExportTable;
use crate::handshake;
use crate::net::handshakes::Handshakes;
use crate::net::stream::Stream;
use crate::session::input::ReceiveBuffer;
use crate::session::{Session, Turn};
use crate::slab::{Key, Slab};
use ending::Next;
pub(crate) use ending::{Ending, LastFlush};
pub(crate) use idle::Idle;
use mailbox::{Mailbox, Message};
use ring::{DataRing, Interest};
use spin::Spin;
use wake::Bells;

/// The runtime's other tasks get the thread at least this often.
const YIELD_AFTER: Duration = Duration::from_micros(200);

/// A worker that waits for a device looks by itself this often, so that a device that forgets to call is slow and no
/// more.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Idle sessions that are looked at directly instead of by a wait on the ring.
const HOT_MAX: usize = 4;

/// A token with this bit is the wait of a session for room to send.
const WRITABLE_BIT: u64 = 1 << 31;

/// A worker's state; everything in it belongs to its thread.
pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    exports: Arc<ExportTable>,
    ring: DataRing,
    disks: Vec<Disk>,
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
    ending: Ending,
    handshakes: Handshakes,
    idle: Idle,
}

/// Runs the worker until it has been drained.
pub(crate) async fn serve(mut worker: Worker) -> io::Result<()> {
    let bells = worker.bells()?;
    let mut yielded = Instant::now();
    loop {
        let now = Instant::now();
        if worker.turn(now)? || worker.spin()? {
            if yielded.elapsed() >= YIELD_AFTER {
                tokio::task::yield_now().await;
                yielded = Instant::now();
            }
            continue;
        }
        if worker.prepare_to_sleep()? {
            continue;
        }
        match worker.approach_end() {
            Next::End => return Ok(()),
            Next::Work => continue,
            Next::Sleep => {}
        }
        match worker.patience() {
            // When the time is over the next turn looks.
            Some(patience) => timeout(patience, bells.any()).await.unwrap_or(Ok(()))?,
            None => bells.any().await?,
        }
        yielded = Instant::now();
    }
}

impl Worker {
    /// A worker with its disks open. Call on its own thread.
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        exports: Arc<ExportTable>,
        disks: Vec<Disk>,
        spin_budget: Duration,
        ending: Ending,
        handshakes: Handshakes,
        idle: Idle,
    ) -> io::Result<Worker> {
        let ring = DataRing::new(mailbox.wake().as_fd())?;
        Ok(Worker {
            ring,
            disks,
            sessions: Slab::new(),
            buffer: ReceiveBuffer::new(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            starved_since: 0,
            hot: Vec::new(),
            spin: Spin::new(spin_budget),
            finished: Vec::new(),
            ending,
            handshakes,
            idle,
            mailbox,
            exports,
        })
    }

    /// Everything that can wake the worker. The disks' events are watched by the runtime itself and not by the data
    /// ring: an eventfd that completes a poll request whose ring then has to signal an eventfd of its own is one
    /// nesting too many, Linux loses such signals (seen on 6.18).
    fn bells(&self) -> io::Result<Bells> {
        let disks = self.disks.iter().filter_map(Disk::event);
        Bells::new(std::iter::once(self.mailbox.wake().as_fd()).chain(disks))
    }

    /// How long it may sleep at most.
    fn patience(&self) -> Option<Duration> {
        let device = self.disks.iter().any(Disk::is_waiting).then_some(LOOK_AGAIN);
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
        if busy {
            self.spin.worked(now);
        }
        Ok(busy)
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Connection(socket) if !self.ending.has_begun() => {
                handshake::spawn(socket, self.exports.clone(), self.mailbox.clone(), &self.handshakes);
            }
            Message::Connection(_) => self.mailbox.connection_over(),
            Message::Session { stream, transmission, received } => {
                self.welcome(stream, transmission, received)
            }
            Message::Disk { disk, message } => {
                if let Some(disk) = self.disks.get_mut(disk) {
                    disk.receive(message);
                }
            }
            Message::MakeRoom => self.handshakes.make_room(),
            Message::Drain => {
                self.ending.begin();
                self.handshakes.give_up();
                for key in self.keys() {
                    if let Some(session) = self.sessions.get_mut(key) {
                        session.drain();
                    }
                    self.enqueue(key);
                }
            }
            Message::Close => {
                for key in self.keys() {
                    self.close(key);
                }
            }
            Message::End => self.ending.finish(),
        }
    }

    fn keys(&self) -> Vec<Key> {
        self.sessions.entries().map(|(key, _)| key).collect()
    }

    /// Takes over a client whose handshake is done.
    fn welcome(&mut self, stream: Stream, transmission: Box<Transmission>, received: Vec<u8>) {
        let Some(disk) = self.exports.disk_of(&transmission.export.name) else {
            self.mailbox.connection_over();
            return;
        };
        let disk = &mut self.disks[disk];
        disk.shared().device().try_again();
        disk.refresh();
        self.buffer.count_parked(received.len());
        let key = self.sessions.insert_with(|key| Session::new(key, stream, transmission, disk, received));
        if self.ending.has_begun()
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.drain();
        }
        self.enqueue(key);
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
        for index in 0..self.disks.len() {
            let disk = &mut self.disks[index];
            // One that is dead is asked whether it still is.
            if disk.is_idle() && !disk.is_dead() {
                continue;
            }
            busy |= disk.turn();
            while let Some(delivery) = self.disks[index].next_delivery() {
                busy = true;
                let key = delivery.ticket.session;
                let Some(session) = self.sessions.get_mut(key) else { continue };
                if let Err(hangup) = session.take(delivery, &mut self.disks[index]) {
                    hangup.log(&session.stream);
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
        let disk = &mut self.disks[session.disk];
        let turn = session.run(disk, &mut self.buffer);
        let worked = session.has_worked();
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
            tracing::error!("cannot wait for a client: {error}; closing its connection");
            self.close(key);
        }
    }

    fn close(&mut self, key: Key) {
        let Some(mut session) = self.sessions.remove(key) else { return };
        self.mailbox.connection_over();
        for (waits, bit) in [(session.waits_readable, 0), (session.waits_writable, WRITABLE_BIT)] {
            if waits {
                // A wait that is not forgotten ends by itself when the stream is shut down.
                let _ = self.ring.forget(key.to_word() | bit);
            }
        }
        let disk = &mut self.disks[session.disk];
        session.close(disk, &mut self.buffer);
    }

    /// Polls for a moment. Returns whether something came.
    fn spin(&mut self) -> io::Result<bool> {
        if self.hot.len() > HOT_MAX || !self.spin.is_worthwhile() {
            return Ok(false);
        }
        if self.hot.is_empty() && !self.disks.iter().any(Disk::is_waiting) {
            return Ok(false);
        }
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
        for disk in self.disks.iter_mut().filter(|disk| disk.is_waiting()) {
            work |= disk.arm() || disk.event().is_none();
        }
        work |= self.ring.turn(&mut self.finished)?;
        for token in std::mem::take(&mut self.finished) {
            self.wait_finished(token);
        }
        Ok(work)
    }
}
