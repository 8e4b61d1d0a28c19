//! The options, as clap parses them. What they mean together is decided in [`super::plan`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use drivers::Value;
use drivers::property::Kind;

use super::ctl::Ctl;
use super::tls::Tls;
use crate::config::MetricsPlace;
use crate::config::ranges::{MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, POLL_MICROSECONDS_MAX, WORKERS_MAX};
use crate::log;

/// Longest time-out: a year.
const SECONDS_MAX: u32 = 366 * 24 * 60 * 60;

/// The port above that is no port but a wish for any (vsock(7)).
const VSOCK_PORT_MAX: i64 = u32::MAX as i64 - 1;

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
                      gateway [OPTIONS] -e NAME DRIVER [PROPERTY=VALUE]... -- -e NAME DRIVER ...\n       \
                      gateway [OPTIONS] --config FILE\n       \
                      gateway --check-config FILE\n       \
                      gateway DRIVER --help\n       \
                      gateway info DRIVER [PROPERTY=VALUE]... [--json]\n       \
                      gateway drivers [--json]\n       \
                      gateway pki DIR [--host NAME]... [--client NAME]...\n       \
                      gateway ctl PATH COMMAND...",
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
    pub(super) verbosity: Verbosity,

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
    #[command(flatten)]
    pub(super) places: Places,

    #[command(flatten)]
    pub(super) offered: Offered,

    #[command(flatten)]
    pub(super) tls: Tls,

    /// Serve the exports of a file instead of those of this line; options of this line go before those of the file
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Many exports",
        conflicts_with_all = ["exportname", "description", "readonly"]
    )]
    pub(super) config: Option<PathBuf>,

    /// Print what is wrong with such a file, one FILE:LINE:COLUMN: a line, and end; with 2 if something is
    #[arg(long, value_name = "FILE", help_heading = "Many exports", exclusive = true)]
    pub(super) check_config: Option<PathBuf>,

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

    /// Unix socket for 'gateway ctl', which shows and changes what is served; for this user and root only
    #[arg(long, value_name = "PATH", help_heading = "Life of the server")]
    pub(super) control: Option<PathBuf>,

    /// Stay in the foreground, as always without --daemon; for scripts that say so
    #[arg(short, long, help_heading = "Life of the server", alias = "no-fork")]
    pub(super) foreground: bool,

    /// Go into the background when clients can connect; then the command ends, and the log goes to the system's log
    /// unless --log says otherwise (/dev/log; without one there is none)
    #[arg(
        long,
        help_heading = "Life of the server",
        conflicts_with_all = ["foreground", "run", "single", "exit_with_parent"]
    )]
    pub(super) daemon: bool,

    /// End, as by SIGTERM, when the process (strictly: the thread) that started this one ends
    #[arg(long, help_heading = "Life of the server")]
    pub(super) exit_with_parent: bool,

    /// Tell Prometheus what goes on: at http://HOST:PORT/metrics, or by HTTP on a Unix socket; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT|unix:PATH", help_heading = "Life of the server")]
    pub(super) metrics: Option<MetricsPlace>,

    #[command(flatten)]
    pub(super) log: Log,

    #[command(flatten)]
    pub(super) clients: Clients,

    #[command(flatten)]
    pub(super) tuning: Tuning,

    /// How long a busy worker polls for the next request before it sleeps; 0 switches that off [default: 50]
    #[arg(
        long,
        value_name = "MICROSECONDS",
        value_parser = clap::value_parser!(u32).range(0..=i64::from(POLL_MICROSECONDS_MAX)),
        help_heading = "Speed",
        allow_negative_numbers = true
    )]
    pub(super) poll: Option<u32>,
}

/// How an export is offered.
#[derive(Debug, Args)]
pub(super) struct Offered {
    /// Name of the export; clients that ask for none get the first one
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
}

/// Where clients come from. Options of several kinds add up; see [`super::plan`].
#[derive(Debug, Args)]
pub(super) struct Places {
    /// TCP port, or that of --vsock; 0 takes a free one [default: 10809]
    #[arg(short, long, value_name = "PORT", help_heading = "Where to listen", allow_negative_numbers = true)]
    pub(super) port: Option<u16>,

    /// Address or host name to listen on; 0.0.0.0 and :: are all (repeatable) [default: 127.0.0.1 and ::1]
    #[arg(short, long, value_name = "HOST", help_heading = "Where to listen", alias = "ip-addr")]
    pub(super) ipaddr: Vec<String>,

    /// Unix socket to listen on, and no TCP unless -p or -i is given too; '-' makes a private one that goes when the
    /// server ends (repeatable)
    #[arg(short = 'U', long, value_name = "PATH", help_heading = "Where to listen")]
    pub(super) unix: Vec<PathBuf>,

    /// Listen for virtual machines and their host, on this port or that of -p, and no TCP unless -i is given too
    #[arg(
        long,
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        value_parser = clap::value_parser!(u32).range(..=VSOCK_PORT_MAX),
        help_heading = "Where to listen"
    )]
    #[expect(clippy::option_option, reason = "the option may stand without a port")]
    pub(super) vsock: Option<Option<u32>>,

    /// Serve one client, on standard input and output, and end with it
    #[arg(
        short,
        long,
        help_heading = "Where to listen",
        conflicts_with_all = ["port", "ipaddr", "unix", "vsock", "run", "print_uri"]
    )]
    pub(super) single: bool,
}

impl Places {
    /// Whether a configuration file has nothing to say of it.
    pub(super) fn are_told(&self) -> bool {
        let Places { port, ipaddr, unix, vsock, single } = self;
        port.is_some() || !ipaddr.is_empty() || !unix.is_empty() || vsock.is_some() || *single
    }
}

/// What clients are held to.
#[derive(Debug, Args)]
pub(super) struct Clients {
    /// Clients at a time; one more is sent away at once; 0 is any number [default: 0]
    #[arg(long, value_name = "NUMBER", help_heading = "Limits", allow_negative_numbers = true)]
    pub(super) max_clients: Option<u32>,

    /// Clients in the handshake at a time; one more ends the oldest handshake [default: 2000]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    pub(super) max_handshakes: Option<u32>,

    /// How long a client may take for the handshake [default: 30]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SECONDS_MAX)),
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    pub(super) handshake_timeout: Option<u32>,

    /// How long a client may neither send anything nor wait for anything; 0 is for ever [default: 0]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(..=i64::from(SECONDS_MAX)),
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    pub(super) idle_timeout: Option<u32>,
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

    /// Payload memory of the disk, for all workers together (K, M, G: powers of 1024) [default: 32M]
    #[arg(long, value_name = "SIZE", value_parser = memory_bytes, help_heading = "Speed")]
    pub(super) memory: Option<usize>,
}

/// Where the log goes.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// Where the log goes: standard error, the journal of systemd, or the system's log. auto is the journal where
    /// standard error is connected to it, the system's log in the background, else standard error [default: auto]
    #[arg(
        long,
        value_name = "auto|stderr|journald|syslog",
        hide_possible_values = true,
        help_heading = "Life of the server"
    )]
    pub(super) log: Option<log::Place>,

    /// Form of the log on standard error; json is an object in each line, for programs [default: text]
    #[arg(long, value_name = "text|json", hide_possible_values = true, help_heading = "Life of the server")]
    pub(super) log_format: Option<log::Format>,
}

/// How much is said.
#[derive(Debug, Args)]
pub(super) struct Verbosity {
    /// Say more; twice: even more; three times: each request too. GATEWAY_LOG=debug, or
    /// =gateway=debug,drivers=trace, does so by part
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
    /// Show or change what a server serves that was started with --control PATH
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(Ctl),
    /// Explain a driver, or the program
    #[command(hide = true)]
    Help { word: Option<String> },
    /// Write the manual or the completions of shells, as a package needs them
    #[command(hide = true)]
    Generate(Generate),
}

/// What is to be written.
#[derive(Debug, Args)]
pub(super) struct Generate {
    #[arg(value_enum)]
    pub(super) what: Generated,
    /// Folder for the files; it is made if it is not there
    pub(super) dir: PathBuf,
    /// Date of the manual's pages, YYYY-MM-DD
    #[arg(long, value_name = "DATE", default_value = "", hide_default_value = true)]
    pub(super) date: String,
}

/// Kinds of files that are made of the tables.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Generated {
    /// Pages for man(1): NAME.SECTION
    Man,
    /// Scripts for bash, zsh and fish
    Completions,
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
pub(super) fn memory_bytes(text: &str) -> Result<usize, String> {
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
  gateway -U /tmp/disk.sock -p 10809 memory 1G    on a Unix socket and on TCP
  gateway --vsock memory 1G                       for the virtual machines of this host
  gateway --daemon -P gw.pid io_uring disk.img    in the background
  nbdinfo -- [ gateway memory 1G ]                for this client only: socket activation
  gateway memory 64M --run 'nbdinfo \"$uri\"'       for one command only
  gateway null 1T get=num-queues --print-uri      for measuring: no disk behind it
  gateway -e a memory 1G -- -e b -r null 1G       two exports
  gateway --config /etc/gateway.toml              any number of exports
  gateway --metrics localhost:9182 memory 1G      with numbers for Prometheus
  gateway info io_uring path=disk.img             what is known about a disk
  gateway ctl /run/gateway.ctl exports            what a server with --control serves

SIGTERM or Ctrl-C end the server: requests in flight are answered and the disk is
flushed. A second one ends it at once. SIGHUP has the file of --config read again.
Exit codes: 0 success, 1 failure, 2 wrong usage or a wrong configuration; with
--run that of the command.";

const PKI_EXAMPLES: &str = "\
Examples:
  gateway pki /etc/gateway/pki --host storage.example.com --client alice --client bob
  gateway --tls-certificates /etc/gateway/pki --tls-verify-peer io_uring /dev/sdb
  gateway --tls-psk /etc/gateway/pki/keys.psk io_uring /dev/sdb";

const CTL_EXAMPLES: &str = "\
Examples:
  gateway --control /run/gateway.ctl --config /etc/gateway.toml
  gateway ctl /run/gateway.ctl clients
  gateway ctl /run/gateway.ctl --json exports | jq -r '.exports[].name'
  gateway ctl /run/gateway.ctl add -e scratch memory 1G
  gateway ctl /run/gateway.ctl pause disk1 && make-snapshot && gateway ctl /run/gateway.ctl resume disk1";

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
        let readonly = arguments.serve.offered.readonly;
        assert_eq!((arguments.serve.places.port, readonly), (Some(0), true));
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
