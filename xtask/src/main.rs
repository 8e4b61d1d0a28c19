//! Command line of `cargo xtask`; the work is in the library.
use clap::{Parser, Subcommand};
use xtask::{bed, bench, boot};

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
    /// Boots a disk (an NBD URI or a raw image file) under software emulation.
    Boot(boot::Args),
    /// Measures speed and CPU per request against other servers.
    Bench(bench::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Setup(args) => bed::run(&args),
        Task::Boot(args) => boot::run(args),
        Task::Bench(args) => bench::run(args),
    }
}
