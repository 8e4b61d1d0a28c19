//! `cargo xtask bench`: speed and CPU per request against other servers.
//!
//! Every scenario starts its servers side by side and measures them in turn, round by round; a round gives one ratio
//! per peer, and medians and ranges of the rounds are reported. Data is in the page cache and its content is
//! checked. In front of a vhost-user back-end, where there is no content, each run starts back-end and server anew
//! (`backend`). A part of the gateway that is measured by itself (`part`) is a row beside the whole, round by round,
//! too. Only release builds are measured.

mod backend;
mod compare;
mod cpu;
mod fio;
pub mod flamegraph;
mod goal;
mod image;
mod interrupt;
mod load;
mod load_command;
mod observe;
mod part;
mod peers;
mod pki;
mod report;
mod result;
mod rounds;
mod scenario;
mod server;
mod stats;
mod table;
mod tools;
mod vhost_user;

use std::path::PathBuf;

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: Box<compare::CompareArgs>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Puts one load on any server.
    Load(load_command::LoadArgs),
    /// Writes an image that `load` can check.
    Image {
        /// File to make.
        path: PathBuf,
        /// Size in MiB.
        #[arg(long, default_value_t = 1024)]
        mib: u64,
    },
}

/// Runs the bench.
///
/// # Errors
/// This program is not a release build, a file cannot be made, the user interrupts, or (with `--strict`) a goal is
/// missed. A server that is missing or fails is reported in its row and is no error by itself.
pub fn run(args: Args) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        anyhow::bail!("this xtask is a debug build; run `cargo xtask bench`, which uses the release profile");
    }
    interrupt::install()?;
    match args.command {
        Some(Command::Load(args)) => load_command::run(&args),
        Some(Command::Image { path, mib }) => image::prepare(&path, mib << 20),
        None => compare::run(&args.compare),
    }
}
