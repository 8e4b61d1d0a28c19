//! Measures one scenario: all servers side by side, run by run in turn, so that a slow minute of the machine hits
//! each of them. Behind a vhost-user back-end a server is started for each run, see [`super::backend`]; so is a part of
//! the gateway, see [`super::part`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::backend::BackendProcess;
use super::fio;
use super::image::SEED;
use super::interrupt;
use super::load::{self, Check, Job, Outcome};
use super::part;
use super::peers::{Disk, Kind};
use super::result::{Row, ScenarioResult};
use super::scenario::{Client, Media, Scenario};
use super::server::{Server, warn};
use super::tools::Tools;

/// Share of the machine that others may take before a run counts as disturbed. Ticks are coarse: less means nothing.
pub(crate) const OTHERS_MAX: f64 = 0.08;

/// What is the same for all scenarios.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Programs.
    pub tools: Tools,
    /// Rounds of runs; one run per server in each.
    pub rounds: usize,
    /// How often a disturbed run is repeated.
    pub patience: usize,
    /// Measured time of a run.
    pub duration: Duration,
    /// Load before each measurement.
    pub warm_up: Duration,
    /// Servers to measure.
    pub servers: Vec<Kind>,
    /// Size of each disk in bytes.
    pub size_bytes: u64,
    /// Image on tmpfs for reads.
    pub tmpfs_image: PathBuf,
    /// Image on tmpfs for writes.
    pub tmpfs_scratch: PathBuf,
    /// Image on another file system.
    pub file_image: PathBuf,
    /// Folder for sockets and logs.
    pub folder: PathBuf,
}

/// A server of the scenario with what was measured so far.
struct Entry {
    row: Row,
    place: Place,
}

/// Where an entry's server comes from.
enum Place {
    /// It runs.
    Running(Box<Server>),
    /// It is started for each run, with its back-end, or is a part.
    EachRun,
    /// It is missing, or has failed.
    Nowhere,
}

/// Measures `scenario`. A server that is missing or fails has a row that says so.
///
/// # Errors
/// The user interrupts.
pub(crate) fn measure(plan: &Plan, scenario: &'static Scenario) -> anyhow::Result<ScenarioResult> {
    let disk = disk(plan, scenario);
    let mut entries = Vec::new();
    for &kind in scenario.servers.iter().filter(|kind| plan.servers.contains(kind)) {
        interrupt::check()?;
        entries.push(start(plan, scenario, kind, &disk));
    }
    for round in 0..plan.rounds {
        // Every other round goes backwards: no server always runs after the same one.
        let order: Vec<usize> =
            if round % 2 == 0 { (0..entries.len()).collect() } else { (0..entries.len()).rev().collect() };
        for index in order {
            let entry = &mut entries[index];
            if matches!(entry.place, Place::Nowhere) {
                entry.row.runs.push(None);
                continue;
            }
            let result = patient_run(plan, scenario, round, entry);
            interrupt::check()?;
            match result {
                Ok(outcome) => entry.row.runs.push(Some(outcome)),
                Err(error) => fail(entry, round, &error),
            }
        }
    }
    Ok(ScenarioResult { scenario, rows: entries.into_iter().map(|entry| entry.row).collect() })
}

fn disk(plan: &Plan, scenario: &Scenario) -> Disk {
    match scenario.media {
        Media::Tmpfs if scenario.access.is_write() => Disk::File(plan.tmpfs_scratch.clone()),
        Media::Tmpfs => Disk::File(plan.tmpfs_image.clone()),
        Media::File => Disk::File(plan.file_image.clone()),
        Media::Memory => Disk::Memory(plan.size_bytes),
        Media::Null => Disk::Null(plan.size_bytes),
        // Each run gives its server the socket of a back-end.
        Media::VhostUser(_) => Disk::VhostUser(PathBuf::new()),
    }
}

fn start(plan: &Plan, scenario: &Scenario, kind: Kind, disk: &Disk) -> Entry {
    let mut row = Row { server: kind, title: kind.title(disk), runs: Vec::new(), problem: None };
    if scenario.backend().is_some() || kind.is_part() {
        return Entry { row, place: Place::EachRun };
    }
    match serve(plan, scenario, kind, disk) {
        Ok(server) => Entry { row, place: Place::Running(Box::new(server)) },
        Err(error) => {
            warn(format_args!("{}: {} is not measured: {error:#}", scenario.name, row.title));
            row.problem = Some(format!("not measured: {error:#}"));
            Entry { row, place: Place::Nowhere }
        }
    }
}

/// Starts a server with its disk's content.
fn serve(plan: &Plan, scenario: &Scenario, kind: Kind, disk: &Disk) -> anyhow::Result<Server> {
    let server = Server::start(kind, &plan.tools, disk, None, scenario.transport, &plan.folder)?;
    if scenario.media == Media::Memory {
        load::fill(&server.target, SEED)?;
    }
    Ok(server)
}

/// Starts the gateway as for a run.
///
/// # Errors
/// It does not start.
pub(super) fn start_gateway(plan: &Plan, scenario: &Scenario) -> anyhow::Result<Server> {
    match scenario.backend() {
        Some(_) => start_for_run(plan, scenario, Kind::Gateway),
        None => serve(plan, scenario, Kind::Gateway, &disk(plan, scenario)),
    }
}

/// Starts a server for one run behind a back-end of its own.
fn start_for_run(plan: &Plan, scenario: &Scenario, kind: Kind) -> anyhow::Result<Server> {
    let backend = scenario.backend().context("only a server behind a back-end is started for each run")?;
    let backend = BackendProcess::start(backend, &plan.tools, plan.size_bytes, &plan.folder, kind.slug())?;
    let disk = Disk::VhostUser(backend.socket.clone());
    Server::start(kind, &plan.tools, &disk, Some(backend), scenario.transport, &plan.folder)
}

fn fail(entry: &mut Entry, round: usize, error: &anyhow::Error) {
    let problem = format!("failed in round {}: {error:#}", round + 1);
    warn(format_args!("{} {problem}", entry.row.title));
    entry.row.problem = Some(problem);
    entry.row.runs.push(None);
    // What it did wrong once it may do again, and it may hang: it is not asked any more.
    entry.place = Place::Nowhere;
}

/// Repeats a run that others disturbed. The choice looks at the others' CPU time only, never at the result.
fn patient_run(plan: &Plan, scenario: &Scenario, round: usize, entry: &Entry) -> anyhow::Result<Outcome> {
    let mut best = one_run(plan, scenario, round, entry)?;
    for _ in 0..plan.patience {
        if best.others.is_none_or(|others| others <= OTHERS_MAX) {
            break;
        }
        let again = one_run(plan, scenario, round, entry)?;
        if again.others < best.others {
            best = again;
        }
    }
    Ok(best)
}

fn one_run(plan: &Plan, scenario: &Scenario, round: usize, entry: &Entry) -> anyhow::Result<Outcome> {
    let kind = entry.row.server;
    let job = job(plan, scenario, round, kind);
    if kind.is_part() {
        return part::run(&plan.tools, kind, &job, plan.size_bytes);
    }
    let started;
    let server: &Server = match &entry.place {
        Place::Running(server) => server,
        Place::EachRun | Place::Nowhere => {
            started = start_for_run(plan, scenario, kind)?;
            &started
        }
    };
    put_load(plan, scenario, &job, server)
        .map_err(|error| anyhow::anyhow!("{error:#}{}", server.last_words()))
}

pub(super) fn job(plan: &Plan, scenario: &Scenario, round: usize, kind: Kind) -> Job {
    let written = u64::from(scenario.access.is_write()) * (round as u64 + 1);
    Job {
        connections: kind.connections(scenario.connections),
        depth: scenario.depth,
        block_bytes: scenario.block_bytes,
        access: scenario.access,
        replies: scenario.replies,
        // Each round of writes has a pattern of its own, so that reading back finds a write that was lost.
        seed: SEED + written,
        offset_seed: round as u64,
        check: if scenario.keeps_data() { Check::Some } else { Check::Off },
        warm_up: plan.warm_up,
        duration: plan.duration,
        ..Job::new(scenario.access, SEED)
    }
}

pub(super) fn put_load(
    plan: &Plan,
    scenario: &Scenario,
    job: &Job,
    server: &Server,
) -> anyhow::Result<Outcome> {
    match scenario.client {
        Client::Own => load::run(&server.target, job, Some(&server.observed)),
        Client::Fio => {
            // A run of our own first: it warms up the server, and checks data, which fio does not.
            load::run(&server.target, &Job { duration: plan.warm_up, ..job.clone() }, None)?;
            fio::run(&plan.tools, server, job, &plan.folder)
        }
    }
}
