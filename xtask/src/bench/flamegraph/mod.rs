//! `cargo xtask flamegraph`: where the gateway spends its time under the load of a scenario, as a picture.
//!
//! The gateway is the release build that the bench measures; its frame pointers, which all builds of this workspace
//! have, are what perf(1) follows. Stacks that end halfway would make a picture that lies, so that is looked at first.

mod perf;
mod stacks;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use inferno::flamegraph;

use super::compare;
use super::image;
use super::interrupt;
use super::peers::Kind;
use super::rounds::{self, Plan};
use super::scenario::{self, Scenario};
use super::tools::Tools;
use stacks::Stacks;

/// What `cargo xtask flamegraph` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario of the bench; `cargo xtask bench --list` names them.
    #[arg(default_value = "4k-randread-qd32")]
    scenario: String,
    /// Picture to make [default: flamegraph/SCENARIO.svg beside the build's output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How long the load is watched.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Another release build of the gateway.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Size of the image in MiB.
    #[arg(
        long,
        default_value_t = 1024,
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(16..=1 << 20)
    )]
    image_size: u64,
}

/// Makes the picture.
///
/// # Errors
/// This program is not a release build, there is no such scenario, perf is missing or forbidden, the load fails, or
/// the stacks are in pieces.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        anyhow::bail!(
            "this xtask is a debug build; run `cargo xtask flamegraph`, which uses the release profile"
        );
    }
    interrupt::install()?;
    let scenario = scenario::named(&args.scenario)?;
    let perf = perf::program()?;
    let folder =
        tempfile::Builder::new().prefix("gateway-flamegraph-").tempdir().context("folder for sockets")?;
    let plan = plan(args, folder.path(), scenario)?;
    compare::prepare(&plan, &[scenario])?;
    let data = folder.path().join("perf.data");
    record(&plan, scenario, &perf, &data)?;
    let stacks = perf::stacks(&perf, &data)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => std::env::current_exe()?.with_file_name("flamegraph").join(format!("{}.svg", scenario.name)),
    };
    draw(&stacks, scenario, &out)?;
    println!("{}", out.display());
    println!("{}", stacks.wholeness()?);
    Ok(())
}

fn plan(args: &Args, sockets: &Path, scenario: &Scenario) -> anyhow::Result<Plan> {
    let servers = vec![Kind::Gateway];
    let own = std::env::current_exe().context("path of this program")?;
    let tmpfs = image::tmpfs_folder();
    Ok(Plan {
        tools: Tools::new(args.gateway.as_deref(), &compare::programs(&servers, &[scenario]))?,
        rounds: 1,
        patience: 0,
        duration: Duration::try_from_secs_f64(args.seconds)
            .with_context(|| format!("--seconds {}", args.seconds))?,
        warm_up: Duration::from_millis(300),
        servers,
        size_bytes: args.image_size << 20,
        tmpfs_image: tmpfs.join("image"),
        tmpfs_scratch: tmpfs.join("scratch"),
        file_image: own.with_file_name("bench").join("image"),
        folder: sockets.to_path_buf(),
    })
}

/// Puts the load on a gateway, and watches it all the time.
fn record(plan: &Plan, scenario: &Scenario, perf: &Path, data: &Path) -> anyhow::Result<()> {
    let server = rounds::start_gateway(plan, scenario)?;
    let recording = perf::Recording::start(perf, server.pid(), data)?;
    let job = rounds::job(plan, scenario, 0, Kind::Gateway);
    let outcome = rounds::put_load(plan, scenario, &job, &server)
        .map_err(|error| anyhow::anyhow!("{error:#}{}", server.last_words()))?;
    recording.end()?;
    println!("{}: {:.0} requests a second while it was watched", scenario.name, outcome.iops);
    Ok(())
}

fn draw(stacks: &Stacks, scenario: &Scenario, out: &Path) -> anyhow::Result<()> {
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let file = File::create(out).with_context(|| format!("writing {}", out.display()))?;
    let mut options = flamegraph::Options::default();
    options.title = format!("gateway, {}: {}", scenario.name, scenario.description("a disk's file system"));
    options.count_name = "samples".into();
    ensure!(!stacks.folded().is_empty(), "perf has no sample: was there any load?");
    flamegraph::from_reader(&mut options, stacks.folded().as_bytes(), file)
        .with_context(|| format!("drawing {}", out.display()))
}
