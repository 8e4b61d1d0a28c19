//! `vhost-user-back-end`: a block device behind a vhost-user socket, for tests and measurements.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use drivers::testing::backend::{FAULTS, FEATURES, Fault, Kind, Protocol, READ_ONLY, Server, Store};

/// Parts of the protocol that may be missing.
const PROTOCOL_NAMES: [&str; 5] = ["protocol", "config", "mq", "reply-ack", "mem-slots"];

/// Serves a block device on a vhost-user socket, one connection at a time.
///
/// It prints one line when it listens. The device may be told to misbehave; what must come of each fault is said where
/// the faults are defined.
#[derive(Parser)]
#[command(version, after_help = after_help())]
struct Args {
    /// Socket to listen on; replaced if it is there.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Where the data lies.
    #[command(flatten)]
    store: Where,
    /// Number of queues; one thread serves them all.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    queues: u16,
    /// Virtio features, of those below.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = parse_feature,
        default_value = "indirect-desc,event-idx,flush,discard,write-zeroes"
    )]
    features: Vec<u64>,
    /// What it does not speak of the protocol: protocol means no protocol features at all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PROTOCOL_NAMES)]
    without: Vec<String>,
    /// Block size in bytes, told with the feature blk-size.
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    block_size: u32,
    /// Longest buffer in bytes, told with the feature size-max.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 16)]
    size_max: u32,
    /// Most buffers of data in a request, told with the feature seg-max.
    #[arg(long, value_name = "N", default_value_t = 64)]
    seg_max: u32,
    /// What it does wrong, of the faults below.
    #[arg(long, value_name = "NAME[=N]", value_parser = str::parse::<Fault>)]
    fault: Option<Fault>,
    /// Ends after one connection.
    #[arg(long)]
    once: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Where {
    /// A RAM disk of this size (512, 64K, 16M, 1G).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// A file or block device, all of it.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Nothing, as cheaply as can be: writes are forgotten, and a read leaves the memory of the driver as it is.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    null: Option<u64>,
}

fn after_help() -> String {
    let mut text = "Features:\n".to_owned();
    for (name, bit) in FEATURES {
        text += &format!("  {name:18} bit {}\n", bit.trailing_zeros());
    }
    text += "\nFaults:\n";
    for fault in FAULTS {
        let name = match fault.parameter {
            Some((word, _)) => format!("{}={word}", fault.name),
            None => fault.name.to_owned(),
        };
        let default = fault.parameter.map(|(_, value)| format!(" [{value}]")).unwrap_or_default();
        text += &format!("  {name:18} {}{default}\n", fault.help);
    }
    text + "\nExample:\n  vhost-user-back-end --socket vu.sock --memory 64M --fault late=20 &\n  \
            gateway virtio-blk-vhost-user path=vu.sock"
}

fn parse_feature(name: &str) -> Result<u64, String> {
    let found = FEATURES.iter().find(|(known, _)| *known == name);
    found.map(|(_, bit)| *bit).ok_or_else(|| "no such feature; see --help".into())
}

/// A number of bytes, with K, M or G; a multiple of the sector.
fn parse_size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes > 0 && bytes.is_multiple_of(512) => Ok(bytes),
        Some(_) => Err("it is no multiple of 512".into()),
        None => Err("it is no size, such as 512, 64K, 16M or 1G".into()),
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-user-back-end: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let features = args.features.iter().fold(0, |all, bit| all | bit);
    let (store, capacity_bytes) = match &args.store {
        Where { memory: Some(bytes), .. } => (Store::memory(*bytes), *bytes),
        Where { null: Some(bytes), .. } => (Store::Null, *bytes),
        Where { file, .. } => {
            let path = file.as_deref().context("one of --memory, --file and --null is needed")?;
            let (store, bytes) = Store::file(path, features & READ_ONLY != 0)
                .with_context(|| format!("cannot open {}", path.display()))?;
            (store, bytes / 512 * 512)
        }
    };
    let has = |name: &str| !args.without.iter().any(|without| without == name);
    let kind = Kind {
        capacity_bytes,
        queues: args.queues,
        features,
        blk_size: args.block_size,
        size_max: args.size_max,
        seg_max: args.seg_max,
        protocol: Protocol {
            any: has("protocol"),
            config: has("config"),
            mq: has("mq"),
            reply_ack: has("reply-ack"),
            mem_slots: has("mem-slots"),
        },
        fault: args.fault.unwrap_or(Fault::None),
        ..Kind::default()
    };
    let socket = args.socket.display();
    let mut server =
        Server::bind(&args.socket, kind, store).with_context(|| format!("cannot listen on {socket}"))?;
    println!("listening on {socket}");
    std::io::stdout().flush()?;
    loop {
        server.serve_one().with_context(|| format!("serving {socket}"))?;
        if args.once {
            return Ok(());
        }
    }
}
