//! `nvme-driver-load`: what the NVMe driver costs by itself, for measurements.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use drivers::testing::load::Load;
use drivers::testing::nvme::NullController;
use drivers::{Settings, StartOptions};
use nix::time::{ClockId, clock_gettime};

/// The driver that is measured.
const NAME: &str = "nvme-vfio-pci";

/// Payload memory of the disk: what the gateway has.
const REGION_BYTES: usize = 32 << 20;

/// How long the controller may take for commands of administration.
const PATIENCE: Duration = Duration::from_secs(10);

/// Turns between two looks at the clock.
const TURNS: usize = 64;

/// Puts random reads on the NVMe driver, over a controller in this process that moves no payload.
///
/// The controller has a thread of its own, and its queue is polled. What is measured is the CPU time of the other
/// thread, which does what a worker of the gateway does of the driver's work: it takes what has ended, gives leases
/// back to the pool, takes others, and submits as many reads again. Looks that find nothing are part of it, so the
/// figure is never better than what the driver costs. It prints one line of JSON.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Size of the disk in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    size: usize,
    /// Reads in flight.
    #[arg(long, default_value_t = 32)]
    depth: usize,
    /// Length of each read in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    block: usize,
    /// Measured time.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Time under load before it.
    #[arg(long, default_value_t = 0.3, value_name = "SECONDS")]
    warm_up: f64,
}

/// What was done in a time.
#[derive(Clone, Copy, Default)]
struct Spent {
    requests: usize,
    /// Turns, and those that found nothing.
    turns: usize,
    empty_turns: usize,
    seconds: f64,
    driver_ns: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvme-driver-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let duration = |seconds| Duration::try_from_secs_f64(seconds).context("a time");
    let (warm_up, measured) = (duration(args.warm_up)?, duration(args.seconds)?);
    let controller = NullController::new(args.size);
    let driver = drivers::find(NAME)?;
    let settings = Settings::parse(NAME, driver.properties(), driver.magic_property(), &[])?;
    let connected = controller.connect(&settings, PATIENCE)?;
    let device = connected.start(&settings, StartOptions { workers: 1, region_bytes: REGION_BYTES })?;
    let mut load = Load::new(&device, args.depth, args.block)?;
    put(&mut load, warm_up)?;
    let spent = put(&mut load, measured)?;
    load.end()?;
    let report = serde_json::json!({
        "requests": spent.requests,
        "seconds": spent.seconds,
        "driver_ns": spent.driver_ns,
        "driver_ns_per_request": spent.driver_ns as f64 / spent.requests as f64,
        "requests_per_turn": spent.requests as f64 / (spent.turns - spent.empty_turns).max(1) as f64,
        "empty_turns": spent.empty_turns as f64 / spent.turns as f64,
        "process_ns": now_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID)?,
    });
    println!("{report}");
    Ok(())
}

/// Keeps the load up for a time.
fn put(load: &mut Load, time: Duration) -> anyhow::Result<Spent> {
    let mut spent = Spent::default();
    let (started, before_ns) = (Instant::now(), now_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
    while spent.requests == 0 || started.elapsed() < time {
        for _ in 0..TURNS {
            let ended = load.turn()?;
            spent.requests += ended;
            spent.empty_turns += usize::from(ended == 0);
        }
        spent.turns += TURNS;
    }
    spent.driver_ns = now_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before_ns;
    spent.seconds = started.elapsed().as_secs_f64();
    Ok(spent)
}

fn now_ns(clock: ClockId) -> anyhow::Result<u64> {
    Ok(u64::try_from(Duration::from(clock_gettime(clock)?).as_nanos())?)
}
