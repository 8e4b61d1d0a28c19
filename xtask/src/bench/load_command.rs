//! `cargo xtask bench load`: one load against any server, for quick experiments.

use std::time::Duration;

use super::load::{self, Access, Check, Job, Outcome, Replies, Target};
use super::observe::Observed;

/// What `cargo xtask bench load` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Server: nbd+unix:///EXPORT?socket=PATH or nbd://HOST:PORT/EXPORT.
    #[arg(long)]
    uri: Target,
    /// Number of connections.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 32)]
    depth: usize,
    /// Length of each request in bytes.
    #[arg(long, default_value_t = 4096)]
    size: u32,
    /// Order and direction of the requests.
    #[arg(long, value_enum, default_value = "randread")]
    pattern: Access,
    /// Form of the replies.
    #[arg(long, value_enum, default_value = "simple")]
    replies: Replies,
    /// How much of each payload is compared with the pattern that `bench image` writes.
    #[arg(long, value_enum, default_value = "some")]
    check: Check,
    /// Seed of the image's pattern.
    #[arg(long, default_value_t = super::image::SEED)]
    seed: u64,
    /// Measured time of each run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Time under load before each measurement.
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    /// Number of runs, each on new connections.
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Process of the server, to measure its CPU time.
    #[arg(long)]
    pid: Option<u32>,
    /// Print one line of JSON per run.
    #[arg(long)]
    json: bool,
}

/// Runs the load and prints one line per run.
///
/// # Errors
/// As for [`load::run`].
pub(crate) fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let server = args.pid.map(|pid| Observed::new(pid, None)).transpose()?;
    for run in 0..args.runs {
        let job = Job {
            connections: args.connections,
            depth: args.depth,
            block_bytes: args.size,
            access: args.pattern,
            replies: args.replies,
            seed: args.seed,
            offset_seed: u64::from(run),
            check: args.check,
            warm_up: Duration::try_from_secs_f64(args.warm_up)?,
            duration: Duration::try_from_secs_f64(args.seconds)?,
            ..Job::new(args.pattern, args.seed)
        };
        let outcome = load::run(&args.uri, &job, server.as_ref())?;
        if args.json {
            println!("{}", serde_json::to_string(&outcome)?);
        } else {
            println!("{}", line(&outcome));
        }
    }
    Ok(())
}

fn line(outcome: &Outcome) -> String {
    let mut line = format!("{:9.0} IOPS  {:8.1} MB/s", outcome.iops, outcome.mb_per_s);
    if let Some(server_us) = outcome.server_us {
        line += &format!("  server {server_us:7.2} µs/req");
    }
    if let Some(client_us) = outcome.client_us {
        line += &format!("  client {client_us:6.2} µs/req");
    }
    if let Some(latency) = outcome.latency {
        let us = |ns: u32| f64::from(ns) / 1e3;
        line += &format!("  p50 {:.1} µs  p99 {:.1} µs", us(latency.p50_ns), us(latency.p99_ns));
    }
    line
}
