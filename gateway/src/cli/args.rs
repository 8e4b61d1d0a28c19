//! The options, as clap parses them. What they mean together is decided in [`super::plan`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use drivers::Value;
use drivers::property::Kind;

use super::tls::Tls;

/// Smallest payload memory: two blocks of the largest part for one worker.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Largest payload memory.
const MEMORY_BYTES_MAX: u64 = 1 << 40;

/// Most worker threads.
pub(super) const WORKERS_MAX: u16 = 1024;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "gateway",
    about = ABOUT,
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    override_usage = "gateway [OPTIONS] DRIVER [PROPERTY=VALUE]...\n       \
                      gateway DRIVER --help\n       \
                      gateway info DRIVER [PROPERTY=VALUE]... [--json]\n       \
                      gateway drivers [--json]\n       \
                      gateway pki DIR [--host NAME]... [--client NAME]...",
    after_help = EXAMPLES,
    max_term_width = 110,
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,

    /// Driver, its properties, and get=PROPERTY to print one after the start
    #[arg(value_name = "DRIVER [PROPERTY=VALUE]...", hide = true)]
    pub(super) words: Vec<String>,

    #[command(flatten)]
    pub(super) serve: Serve,

    #[command(flatten)]
    pub(super) log: Log,

    /// Print help; 'gateway DRIVER --help' explains a driver's properties
    #[arg(short = 'h', long, global = true, help_heading = "General")]
    pub(super) help: bool,

    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version, help_heading = "General")]
    version: Option<bool>,
}

/// What a server is told.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// TCP port; 0 takes a free one [default: 10809]
    #[arg(short, long, value_name = "PORT", help_heading = "Where to listen", allow_negative_numbers = true)]
    pub(super) port: Option<u16>,

    /// Address or host name to listen on; 0.0.0.0 and :: are all (repeatable) [default: 127.0.0.1 and ::1]
    #[arg(short, long, value_name = "HOST", help_heading = "Where to listen", alias = "ip-addr")]
    pub(super) ipaddr: Vec<String>,

    /// Unix socket to listen on instead; '-' makes a private one that goes when the server ends
    #[arg(
        short = 'U',
        long,
        value_name = "PATH",
        help_heading = "Where to listen",
        conflicts_with_all = ["port", "ipaddr"]
    )]
    pub(super) unix: Option<PathBuf>,

    /// Name of the export; clients that ask for none get it too
    #[arg(
        short,
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "What clients see",
        aliases = ["export", "export-name"]
    )]
    pub(super) exportname: String,

    /// Description of the export, for people
    #[arg(long, value_name = "TEXT", help_heading = "What clients see")]
    pub(super) description: Option<String>,

    /// Refuse writes; also sets the property read-only
    #[arg(short, long, help_heading = "What clients see", alias = "read-only")]
    pub(super) readonly: bool,

    #[command(flatten)]
    pub(super) tls: Tls,

    /// Run a shell command that finds the server by $uri ($nbd $port $unixsocket $exportname), and end with it and
    /// its exit code; listens on a private Unix socket unless told otherwise
    #[arg(long, value_name = "COMMAND", help_heading = "Life of the server")]
    pub(super) run: Option<String>,

    /// Print the server's URI on standard output, when it serves
    #[arg(long, help_heading = "Life of the server")]
    pub(super) print_uri: bool,

    /// Write the process id to a file, when it serves; removed at the end
    #[arg(short = 'P', long, value_name = "FILE", help_heading = "Life of the server", alias = "pid-file")]
    pub(super) pidfile: Option<PathBuf>,

    /// Stay in the foreground, as always; for scripts that say so
    #[arg(short, long, help_heading = "Life of the server", alias = "no-fork")]
    pub(super) foreground: bool,

    #[command(flatten)]
    pub(super) tuning: Tuning,

    /// How long a busy worker polls for the next request before it sleeps; 0 switches that off
    #[arg(
        long,
        value_name = "MICROSECONDS",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(0..=10_000),
        help_heading = "Speed",
        allow_negative_numbers = true
    )]
    pub(super) poll: u32,
}

/// What a device is started with.
#[derive(Debug, Args)]
pub(super) struct Tuning {
    /// Threads that move data [default: one per processor]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)),
        help_heading = "Speed",
        allow_negative_numbers = true
    )]
    pub(super) workers: Option<u16>,

    /// Payload memory of the disk, for all workers together (K, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = memory_bytes, help_heading = "Speed")]
    pub(super) memory: usize,
}

/// How much is said.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// Say more on standard error; twice: even more. GATEWAY_LOG=debug, or =gateway=debug,drivers=trace, does so by
    /// part
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "General")]
    pub(super) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the drivers
    Drivers {
        /// As JSON, with all properties
        #[arg(long)]
        json: bool,
    },
    /// Open a disk, print what is known about it, and end
    #[command(
        after_help = INFO_EXAMPLES,
        override_usage = "gateway info [OPTIONS] DRIVER [PROPERTY=VALUE]... [--json]"
    )]
    Info {
        /// Driver and properties, as for serving
        #[arg(value_name = "DRIVER [PROPERTY=VALUE]...", hide = true)]
        words: Vec<String>,
        /// As a JSON object instead of lines of NAME=VALUE
        #[arg(long)]
        json: bool,
        /// Open for reading only; sets the property read-only
        #[arg(short, long, alias = "read-only")]
        readonly: bool,
        #[command(flatten)]
        tuning: Tuning,
    },
    /// Make an authority, certificates and pre-shared keys for a server and its clients
    #[command(after_help = PKI_EXAMPLES)]
    Pki(Pki),
    /// Explain a driver, or the program
    #[command(hide = true)]
    Help { word: Option<String> },
}

/// What is to be made.
#[derive(Debug, Args)]
pub(super) struct Pki {
    /// Folder to make; nothing in it is replaced
    pub(super) dir: PathBuf,
    /// Name or address that clients have for the server, besides localhost and this machine's name (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(super) host: Vec<String>,
    /// Client that gets a certificate and a key [default: the name of the user] (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(super) client: Vec<String>,
    /// How long the certificates are valid
    #[arg(long, value_name = "NUMBER", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(super) days: u32,
}

/// A size as properties have them.
fn memory_bytes(text: &str) -> Result<usize, String> {
    match (Kind::Size { min: MEMORY_BYTES_MIN, max: MEMORY_BYTES_MAX }).parse(text)? {
        Value::Size(bytes) => {
            usize::try_from(bytes).map_err(|_| "it is more than this machine can address".into())
        }
        _ => Err("it is not a size".into()),
    }
}

const ABOUT: &str = "\
Serves block devices of the virtualisation world over NBD.

DRIVER says how the disk is reached ('gateway drivers' lists them), the properties say
which disk it is ('gateway DRIVER --help' explains them). A word without '=' sets the
driver's most important property. Options and properties may stand in any order.";

const EXAMPLES: &str = "\
Examples:
  gateway io_uring path=disk.img                  an image, for this machine: nbd://localhost
  gateway io_uring path=disk.img direct=true -r   past the page cache, read-only
  gateway -i 0.0.0.0 -p 10810 io_uring /dev/sdb   a block device, for the network
  gateway -U /tmp/disk.sock memory 1G             a RAM disk, on a Unix socket
  gateway memory 64M --run 'nbdinfo \"$uri\"'       for one command only
  gateway null 1T get=num-queues --print-uri      for measuring: no disk behind it
  gateway info io_uring path=disk.img             what is known about a disk

SIGTERM or Ctrl-C end the server: requests in flight are answered and the disk is
flushed. A second one ends it at once. Exit codes: 0 success, 1 failure, 2 wrong
usage; with --run that of the command.";

const PKI_EXAMPLES: &str = "\
Examples:
  gateway pki /etc/gateway/pki --host storage.example.com --client alice --client bob
  gateway --tls-certificates /etc/gateway/pki --tls-verify-peer io_uring /dev/sdb
  gateway --tls-psk /etc/gateway/pki/keys.psk io_uring /dev/sdb";

const INFO_EXAMPLES: &str = "\
Examples:
  gateway info io_uring path=disk.img
  gateway info io_uring path=disk.img --json | jq .capacity";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_and_words_may_be_mixed() {
        let line = ["gateway", "-r", "io_uring", "-p", "0", "path=a", "--workers=2", "get=capacity"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert_eq!(arguments.words, ["io_uring", "path=a", "get=capacity"]);
        assert_eq!((arguments.serve.port, arguments.serve.readonly), (Some(0), true));
    }

    #[test]
    fn a_value_may_be_called_like_a_subcommand() {
        let arguments = Arguments::try_parse_from(["gateway", "io_uring", "info"]).unwrap();
        assert!(arguments.command.is_none());
        assert_eq!(arguments.words, ["io_uring", "info"]);
    }

    #[test]
    fn sizes_of_memory_have_units_and_bounds() {
        assert_eq!(memory_bytes("64M"), Ok(64 << 20));
        for text in ["", "1", "2T", "x", "-1"] {
            assert!(memory_bytes(text).is_err(), "{text}");
        }
    }
}
