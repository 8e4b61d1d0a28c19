//! Command line of `cargo xtask`; the work is in the library.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use xtask::{bed, bench, boot, check, dist, fuzz, guest, test, tidy};

/// Tasks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Makes the test bed: other people's NBD tools in recent versions, and a bootable image.
    Setup(bed::Args),
    /// Checks format, lints, documentation and tidiness: the gate before a commit.
    Check,
    /// Checks the rules of this repository that no other tool knows.
    Tidy,
    /// Installs what the tests need and runs them all, with checks and fuzz targets.
    Test(test::Args),
    /// Replays the corpora of the fuzz targets and looks for new inputs.
    Fuzz(fuzz::Args),
    /// Boots a disk (an NBD URI or a raw image file) under software emulation.
    Boot(boot::Args),
    /// Runs scenarios in a guest under software emulation, with disks behind an IOMMU.
    Guest(guest::Args),
    /// Packs the gateway: a .deb, and an archive of the same tree.
    Dist(dist::Args),
    /// Measures speed and CPU per request against other servers.
    Bench(bench::Args),
    /// Draws where the gateway spends its time under the load of a scenario of the bench.
    Flamegraph(bench::flamegraph::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup(args) => bed::run(&args),
        Task::Check => check::run(),
        Task::Tidy => tidy::run(),
        Task::Test(args) => test::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Boot(args) => boot::run(args),
        Task::Guest(args) => guest::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Bench(_) | Task::Flamegraph(_) if cfg!(debug_assertions) => run_optimised(),
        Task::Bench(args) => bench::run(args),
        Task::Flamegraph(args) => bench::flamegraph::run(&args),
    }
}

/// Runs the same command line with a release build: `cargo xtask` itself is a quick build, whose load generator
/// would be slower than the servers that it measures.
fn run_optimised() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "xtask", "--features", "tls", "--"])
        .args(std::env::args_os().skip(1))
        .status()
        .context("cannot start cargo for a release build")?;
    if !status.success() {
        bail!("the release build of this task ended with {status}");
    }
    Ok(())
}
