//! One connection and the thread that keeps it busy.
//!
//! Cheapness is the point: one receive takes as many replies as there are, one send carries the requests that
//! replace them, and nothing is allocated or timed per request (unless latencies are asked for).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use nbd::wire::{CommandFlags, cmd};
use nbd::{Cookie, HeaderFormat, RequestHeader, Transmission};

use super::latency::Samples;
use super::pattern::{Check, Pattern, Random};
use super::reply::{Finished, LEFT_MAX_BYTES, Parser};
use super::slots::Slots;
use super::target::Stream;
use super::{Access, Job};

/// Fits a second-level cache; larger receives were not faster.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Payloads are generated and sent in parts of this size, so that they are still in cache when the kernel copies them.
const SEND_BYTES: usize = 256 * 1024;
/// How much of what was written last is read back after the run.
const READ_BACK_MAX_BYTES: usize = 8 << 20;

/// What the threads of a run share; alone on its cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    /// Finished requests of one connection.
    pub finished: AtomicU64,
}

/// Phases of a run, set by the thread that started it.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// The warm-up is over: latencies count.
    pub measuring: AtomicBool,
    /// Send nothing more.
    pub stop: AtomicBool,
}

/// Counts finished requests and notes their latencies.
struct Tally<'a> {
    progress: &'a Progress,
    finished: u64,
    samples: Samples,
}

impl Finished for Tally<'_> {
    fn finished(&mut self, issued: Option<Instant>) {
        self.finished += 1;
        if let Some(issued) = issued {
            self.samples.add(issued.elapsed().as_nanos());
        }
    }
}

/// Chooses the offset of each request.
struct Offsets {
    first_block: u64,
    blocks: u64,
    next: u64,
    random: Option<Random>,
}

impl Offsets {
    fn next_block(&mut self) -> u64 {
        match &mut self.random {
            Some(random) => random.below(self.blocks),
            None => {
                let block = self.next;
                self.next = if block + 1 == self.blocks { 0 } else { block + 1 };
                block
            }
        }
    }
}

/// A connection in the transmission phase.
pub(crate) struct Connection {
    stream: Stream,
    session: Transmission,
    slots: Slots,
    offsets: Offsets,
    command: u16,
    block_bytes: u32,
    pattern: Pattern,
    check: Check,
    note_latency: bool,
    header: Vec<u8>,
    send: Vec<u8>,
    send_len: usize,
    written: VecDeque<u64>,
}

impl Connection {
    /// Takes over `stream`, connection number `index` of `job`, after the handshake that agreed on `session`.
    pub(crate) fn new(stream: Stream, session: Transmission, job: &Job, index: u64) -> anyhow::Result<Self> {
        let size_bytes = session.export.size_bytes;
        let blocks = size_bytes / u64::from(job.block_bytes);
        ensure!(blocks > 0, "an export of {size_bytes} bytes has no block of {} bytes", job.block_bytes);
        // Sequential connections walk parts of their own; random ones share the whole export.
        let share = (blocks / job.connections.max(1) as u64).max(1);
        let random = job.access.is_random();
        let (first_block, blocks) = if random { (0, blocks) } else { (share * index % blocks, share) };
        let random = random.then(|| Random::new(job.offset_seed ^ index << 56));
        Ok(Self {
            header: Vec::with_capacity(session.header_format().len()),
            stream,
            session,
            slots: Slots::new(job.depth, job.block_bytes),
            offsets: Offsets { first_block, blocks, next: 0, random },
            command: if job.access.is_write() { cmd::WRITE } else { cmd::READ },
            block_bytes: job.block_bytes,
            pattern: Pattern::new(job.seed),
            check: job.check,
            note_latency: job.depth == 1,
            send: vec![0; SEND_BYTES],
            send_len: 0,
            written: VecDeque::new(),
        })
    }

    /// Keeps the queue full until `phase` says stop or `limit` requests are sent, then waits for what is in flight.
    /// Gives the latencies noted since the end of the warm-up.
    pub(crate) fn run(&mut self, phase: &Phase, progress: &Progress, limit: u64) -> anyhow::Result<Samples> {
        let payload_bytes = if self.command == cmd::READ { self.block_bytes } else { 0 };
        let mut parser = Parser::new(self.session.replies, self.pattern.clone(), self.check, payload_bytes);
        let mut tally = Tally { progress, finished: 0, samples: Samples::default() };
        let mut buffer = vec![0; RECEIVE_BYTES];
        let (mut held, mut measuring, mut sent) = (0, false, 0);
        loop {
            if !phase.stop.load(Ordering::Relaxed) {
                sent += self.refill(limit - sent)?;
            }
            if self.slots.busy_count() == 0 {
                return Ok(tally.samples);
            }
            let received = self.stream.read(&mut buffer[held..]).context("receiving replies")?;
            ensure!(
                received > 0,
                "the server closed the connection with {} requests open",
                self.slots.busy_count()
            );
            if self.note_latency && !measuring && phase.measuring.load(Ordering::Relaxed) {
                measuring = true;
                tally.samples.clear();
            }
            let filled = held + received;
            let eaten = parser.feed(&buffer[..filled], &mut self.slots, &mut tally)?;
            held = filled - eaten;
            debug_assert!(held <= LEFT_MAX_BYTES, "the parser leaves less than a header");
            buffer.copy_within(eaten..filled, 0);
            tally.progress.finished.store(tally.finished, Ordering::Relaxed);
        }
    }

    /// Sends requests, at most `max`, until the queue is full; gives their number.
    fn refill(&mut self, max: u64) -> anyhow::Result<u64> {
        let issued = self.note_latency.then(Instant::now);
        let mut sent = 0;
        while sent < max && self.slots.busy_count() < self.slots.depth() {
            let block = self.offsets.first_block + self.offsets.next_block();
            let offset = block * u64::from(self.block_bytes);
            let Some(cookie) = self.slots.take(offset, issued) else { break };
            self.push_request(cookie, offset)?;
            sent += 1;
        }
        self.flush()?;
        Ok(sent)
    }

    fn push_request(&mut self, cookie: u64, offset: u64) -> anyhow::Result<()> {
        if self.send.len() - self.send_len < self.format().len() {
            self.flush()?;
        }
        self.encode(self.command, cookie, offset, self.block_bytes);
        self.send[self.send_len..][..self.header.len()].copy_from_slice(&self.header);
        self.send_len += self.header.len();
        if self.command == cmd::WRITE {
            self.push_payload(offset)?;
            self.remember(offset);
        }
        Ok(())
    }

    fn format(&self) -> HeaderFormat {
        self.session.header_format()
    }

    /// Puts a request header into `self.header`.
    fn encode(&mut self, kind: u16, cookie: u64, offset: u64, len_bytes: u32) {
        // Extended requests say of each payload that it comes.
        let announced = kind == cmd::WRITE && self.format() == HeaderFormat::Extended;
        let flags = if announced { CommandFlags::PAYLOAD_LEN.bits() } else { 0 };
        let request = RequestHeader { flags, kind, cookie: Cookie(cookie), offset, len: len_bytes.into() };
        self.header.clear();
        request.encode(self.format(), &mut self.header);
    }

    fn push_payload(&mut self, mut offset: u64) -> anyhow::Result<()> {
        let mut remaining = self.block_bytes as usize;
        while remaining > 0 {
            if self.send.len() - self.send_len < remaining.min(SEND_BYTES / 2) {
                self.flush()?;
            }
            let len = remaining.min((self.send.len() - self.send_len) & !7);
            self.pattern.fill(offset, &mut self.send[self.send_len..][..len]);
            self.send_len += len;
            offset += len as u64;
            remaining -= len;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let sent = self.stream.write_all(&self.send[..self.send_len]);
        sent.and_then(|()| self.stream.flush()).context("sending requests")?;
        self.send_len = 0;
        Ok(())
    }

    fn remember(&mut self, offset: u64) {
        if self.written.len() >= (READ_BACK_MAX_BYTES / self.block_bytes as usize).max(1) {
            self.written.pop_front();
        }
        self.written.push_back(offset);
    }

    /// Reads the blocks that were written last, one by one, and compares every word.
    pub(crate) fn read_back(&mut self) -> anyhow::Result<()> {
        let (progress, phase) = (Progress::default(), Phase::default());
        self.command = cmd::READ;
        self.check = if self.check == Check::Off { Check::Off } else { Check::Full };
        let offsets: Vec<u64> = self.written.drain(..).collect();
        self.slots = Slots::new(1, self.block_bytes);
        for offset in offsets {
            let first_block = offset / u64::from(self.block_bytes);
            self.offsets = Offsets { first_block, blocks: 1, next: 0, random: None };
            self.run(&phase, &progress, 1).context("reading back what was written")?;
        }
        Ok(())
    }

    /// Takes leave of the server.
    pub(crate) fn disconnect(mut self) {
        self.encode(cmd::DISC, 0, 0, 0);
        // The server may be gone already; then there is nobody to tell.
        let _ = self.stream.write_all(&self.header).and_then(|()| self.stream.flush());
    }
}

impl Access {
    fn is_random(self) -> bool {
        matches!(self, Self::RandRead | Self::RandWrite)
    }

    /// Whether the requests are writes.
    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::RandWrite | Self::Write)
    }
}
