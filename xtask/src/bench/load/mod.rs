//! A pipelining NBD load generator: connections × depth × block size × access, with checked payload.
//!
//! It is made to be cheap (about a microsecond of CPU per 4 KiB request at depth 32), because it shares the cores
//! with the server it measures. It is not a conformance test: any surprise from the server ends the run.

mod connection;
mod handshake;
mod latency;
mod pattern;
mod reply;
mod slots;
mod target;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

pub(crate) use handshake::Replies;
pub(crate) use latency::Percentiles;
pub(crate) use pattern::{Check, Pattern};
pub(crate) use target::{Address, Target};

use super::cpu;
use super::interrupt;
use super::observe::{Observed, Reading, Teamwork};
use connection::{Connection, Phase, Progress};
use latency::Samples;
use target::Stream;

/// Order and direction of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    /// Reads at random blocks.
    #[value(name = "randread")]
    RandRead,
    /// Writes at random blocks.
    #[value(name = "randwrite")]
    RandWrite,
    /// Reads of one block after the other.
    Read,
    /// Writes of one block after the other.
    Write,
}

/// What to do to a server.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Number of connections, one thread each.
    pub connections: usize,
    /// Requests in flight on each connection.
    pub depth: usize,
    /// Length of each request in bytes, a multiple of 8.
    pub block_bytes: u32,
    /// Order and direction.
    pub access: Access,
    /// Form of the replies.
    pub replies: Replies,
    /// Seed of the image's pattern: reads check it, writes write it.
    pub seed: u64,
    /// Seed of the random offsets.
    pub offset_seed: u64,
    /// How much of each payload is compared.
    pub check: Check,
    /// Time under load before the measurement.
    pub warm_up: Duration,
    /// Time measured; longer when no request finishes in it.
    pub duration: Duration,
    /// How long a server may take for any reply, and for its last replies with the checks that follow.
    pub reply_max: Duration,
}

/// What came out of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// Requests finished in the measured time.
    pub requests: u64,
    /// The measured time.
    pub seconds: f64,
    /// Requests per second.
    pub iops: f64,
    /// 10^6 bytes of payload per second.
    pub mb_per_s: f64,
    /// CPU time of the load generator per request, in microseconds, where it is a program of its own.
    pub client_us: Option<f64>,
    /// CPU time of the server per request, in microseconds.
    pub server_us: Option<f64>,
    /// How server and vhost-user back-end worked together, where there is one.
    pub teamwork: Option<Teamwork>,
    /// Share of the machine's CPU time that went to others than client, server and back-end, 0 to 1; known with
    /// `server_us`.
    pub others: Option<f64>,
    /// Latencies, at depth 1 only.
    pub latency: Option<Percentiles>,
}

/// Share of a core from which on a load generator with one connection counts as busy throughout.
const CLIENT_BUSY_MIN: f64 = 0.95;

impl Outcome {
    /// Whether the load generator, with one connection, could do no more.
    pub(crate) fn is_client_bounded(&self) -> bool {
        self.client_us.is_some_and(|client_us| client_us * self.iops / 1e6 >= CLIENT_BUSY_MIN)
    }
}

/// How long a server may take for any reply, and for its last replies with the checks that follow.
const REPLY_MAX: Duration = Duration::from_secs(20);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often an interrupt is looked for.
const TICK: Duration = Duration::from_millis(50);

/// Runs `job` against `target`; `server` is what is seen of the server's process.
///
/// # Errors
/// The server cannot be reached, breaks the protocol, returns wrong data or stops answering; or the user interrupts.
pub(crate) fn run(target: &Target, job: &Job, server: Option<&Observed>) -> anyhow::Result<Outcome> {
    ensure!((1..=1024).contains(&job.depth), "depth {} is not in 1..1024", job.depth);
    ensure!(
        job.block_bytes > 0 && job.block_bytes.is_multiple_of(8),
        "block size {} is not a multiple of 8",
        job.block_bytes
    );
    let (streams, connections) = connect(target, job)?;
    let mut marks = None;
    let samples = drive(connections, &streams, u64::MAX, job.reply_max, |phase, progress, failed| {
        wait(job.warm_up, failed)?;
        phase.measuring.store(true, Ordering::Relaxed);
        let before = Mark::take(progress, server)?;
        wait(job.duration, failed)?;
        let mut after = Mark::take(progress, server)?;
        while after.finished == before.finished {
            ensure!(after.at - before.at < job.reply_max, "{target}: no reply within {:?}", job.reply_max);
            wait(TICK, failed)?;
            after = Mark::take(progress, server)?;
        }
        marks = Some((before, after));
        Ok(())
    })?;
    let (before, after) = marks.context("the run ended before it was measured")?;
    Ok(before.outcome(&after, job, samples))
}

/// Connects, negotiates and leaves: proof that `target` serves.
///
/// # Errors
/// It does not.
pub(crate) fn probe(target: &Target) -> anyhow::Result<()> {
    let job = Job::new(Access::Read, 0);
    let (_, connections) = connect(target, &job)?;
    connections.into_iter().for_each(Connection::disconnect);
    Ok(())
}

/// Writes the pattern of `seed` over the whole export of `target`.
///
/// # Errors
/// As for [`run`].
pub(crate) fn fill(target: &Target, seed: u64) -> anyhow::Result<()> {
    let job = Job { block_bytes: 256 * 1024, access: Access::Write, ..Job::new(Access::Write, seed) };
    let stream = target.address.connect().with_context(|| format!("connecting to {target}"))?;
    let (stream, session) = handshake::negotiate(stream, target, job.replies)?;
    let size_bytes = session.export.size_bytes;
    let unblock = stream.try_clone()?;
    let connection = Connection::new(stream, session, &job, 0)?;
    let limit = size_bytes / u64::from(job.block_bytes);
    ensure!(
        size_bytes.is_multiple_of(u64::from(job.block_bytes)),
        "{size_bytes} bytes: not a multiple of 256 KiB"
    );
    drive(vec![connection], &[unblock], limit, job.reply_max, |_, progress, failed| {
        while progress[0].finished.load(Ordering::Relaxed) < limit {
            wait(TICK, failed)?;
        }
        Ok(())
    })?;
    Ok(())
}

impl Job {
    /// A job with one connection, depth 4, 1 MiB, simple replies and one second.
    pub(crate) fn new(access: Access, seed: u64) -> Self {
        Self {
            connections: 1,
            depth: 4,
            block_bytes: 1 << 20,
            access,
            replies: Replies::Simple,
            seed,
            offset_seed: 0,
            check: Check::Some,
            warm_up: Duration::from_millis(300),
            duration: Duration::from_secs(1),
            reply_max: REPLY_MAX,
        }
    }
}

/// State of the counters at one moment.
struct Mark {
    at: Instant,
    finished: u64,
    client_ns: u64,
    server: Option<Reading>,
    machine_ns: u64,
}

impl Mark {
    fn take(progress: &[Progress], server: Option<&Observed>) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            finished: progress.iter().map(|p| p.finished.load(Ordering::Relaxed)).sum(),
            client_ns: cpu::own_ns()?,
            server: server.map(Observed::read).transpose()?,
            machine_ns: cpu::machine_ns()?,
        })
    }

    fn outcome(&self, after: &Self, job: &Job, samples: Samples) -> Outcome {
        let requests = after.finished - self.finished;
        let seconds = (after.at - self.at).as_secs_f64();
        let per_request_us = |ns: u64| ns as f64 / 1e3 / requests as f64;
        let iops = requests as f64 / seconds;
        let client_ns = after.client_ns - self.client_ns;
        let spent = self.server.as_ref().zip(after.server.as_ref()).map(|(from, to)| to.since(from));
        let others = |server_ns: u64, backend_ns: u64| {
            let ours_ns = server_ns + backend_ns + client_ns;
            let others_ns = (after.machine_ns - self.machine_ns).saturating_sub(ours_ns);
            others_ns as f64 / 1e9 / seconds / cpu::cores() as f64
        };
        Outcome {
            requests,
            seconds,
            iops,
            mb_per_s: iops * f64::from(job.block_bytes) / 1e6,
            client_us: Some(per_request_us(client_ns)),
            server_us: spent.map(|spent| per_request_us(spent.server_ns)),
            teamwork: spent.and_then(|spent| spent.teamwork(requests, seconds)),
            others: spent.map(|spent| others(spent.server_ns, spent.backend_ns.unwrap_or(0))),
            latency: samples.percentiles(),
        }
    }
}

/// Opens all connections of `job`, and a second handle to each.
fn connect(target: &Target, job: &Job) -> anyhow::Result<(Vec<Stream>, Vec<Connection>)> {
    let (mut streams, mut connections) = (Vec::new(), Vec::new());
    for index in 0..job.connections as u64 {
        let stream = target.address.connect().with_context(|| format!("connecting to {target}"))?;
        stream.set_read_timeout(Some(HANDSHAKE))?;
        let (stream, session) = handshake::negotiate(stream, target, job.replies)
            .with_context(|| format!("negotiating with {target}"))?;
        stream.set_read_timeout(None)?;
        streams.push(stream.try_clone()?);
        connections.push(Connection::new(stream, session, job, index)?);
    }
    Ok((streams, connections))
}

/// Runs each connection on a thread of its own while `watch` runs here; stops them when it returns.
///
/// A thread that does not end in time has its socket shut down, so that a server that hangs cannot hang the bench.
fn drive(
    connections: Vec<Connection>,
    streams: &[Stream],
    limit: u64,
    reply_max: Duration,
    watch: impl FnOnce(&Phase, &[Progress], &mpsc::Receiver<anyhow::Error>) -> anyhow::Result<()>,
) -> anyhow::Result<Samples> {
    let phase = Phase::default();
    let progress: Vec<Progress> = connections.iter().map(|_| Progress::default()).collect();
    let (failure, failed) = mpsc::channel();
    thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .zip(&progress)
            .map(|(connection, progress)| {
                let (failure, phase) = (failure.clone(), &phase);
                scope.spawn(move || serve(connection, phase, progress, limit, &failure))
            })
            .collect();
        // The channel now closes when the last thread ends.
        drop(failure);
        let watched = watch(&phase, &progress, &failed);
        phase.stop.store(true, Ordering::Relaxed);
        let drained = if watched.is_ok() { drained(&failed, reply_max) } else { Ok(()) };
        streams.iter().for_each(Stream::shutdown);
        let mut samples = Samples::default();
        for thread in threads {
            samples.merge(
                thread.join().map_err(|_| anyhow::anyhow!("a thread of the load generator panicked"))?,
            );
        }
        watched.and(drained).map(|()| samples)
    })
}

fn serve(
    mut connection: Connection,
    phase: &Phase,
    progress: &Progress,
    limit: u64,
    failure: &mpsc::Sender<anyhow::Error>,
) -> Samples {
    let result = connection.run(phase, progress, limit).and_then(|samples| {
        connection.read_back()?;
        connection.disconnect();
        Ok(samples)
    });
    result.unwrap_or_else(|error| {
        // Without a receiver the run has failed already for another reason.
        let _ = failure.send(error);
        Samples::default()
    })
}

/// Waits until every thread has ended.
fn drained(failed: &mpsc::Receiver<anyhow::Error>, reply_max: Duration) -> anyhow::Result<()> {
    match failed.recv_timeout(reply_max) {
        Ok(error) => Err(error),
        Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            bail!("the server has not answered everything after {reply_max:?}")
        }
    }
}

/// Sleeps for `duration`, unless a thread fails or the user interrupts.
fn wait(duration: Duration, failed: &mpsc::Receiver<anyhow::Error>) -> anyhow::Result<()> {
    let end = Instant::now() + duration;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        match failed.recv_timeout(left.min(TICK)) {
            Ok(error) => return Err(error),
            // Every thread has reached its limit.
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}
