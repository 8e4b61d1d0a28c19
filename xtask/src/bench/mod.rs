//! `cargo xtask bench`: speed and CPU per request against other servers.

mod cpu;
mod image;
mod interrupt;
mod load;
mod load_command;

use std::path::PathBuf;

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
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
/// A server or a tool that cannot be started.
pub fn run(args: Args) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        anyhow::bail!(
            "this xtask is built without optimisation; run `cargo xtask bench`, which uses the release profile"
        );
    }
    interrupt::install()?;
    match args.command {
        Some(Command::Load(args)) => load_command::run(&args),
        Some(Command::Image { path, mib }) => image::prepare(&path, mib << 20),
        None => anyhow::bail!("not there yet"),
    }
}
