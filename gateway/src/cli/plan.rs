//! What the options mean together, and with a configuration file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::{Error, StartOptions};
use nbd::server::TlsMode;

use super::Failure;
use super::args::{Offered, Serve, Tuning};
use super::parts::Another;
use super::words::Words;
use crate::config::ranges::{WORKERS_MAX, check_string};
use crate::config::{self, ListenConfig, ServerConfig};
use crate::net::listen::{DEFAULT_PORT, Listen};
use crate::rules::Rules;
use crate::server::{Device, ExportPlan, Offer, Plan, Reload};

/// Payload memory of a disk, unless told otherwise.
const MEMORY_BYTES: usize = 32 << 20;

/// How long a worker polls, unless told otherwise.
const POLL_MICROSECONDS: u32 = 50;

/// The plan of a server that serves the drivers of the command line.
///
/// # Errors
/// Usage errors, and paths that cannot be resolved.
pub(super) fn of_line(words: &[String], options: &Serve, more: &[Another]) -> Result<Plan, Error> {
    let server = ServerConfig::default();
    let start = start_options(&options.tuning, &server);
    let mut exports = vec![export(words, &options.offered, start)?];
    for Another { words, offered, memory, .. } in more {
        let region_bytes = memory.unwrap_or(start.region_bytes);
        exports.push(export(words, offered, StartOptions { region_bytes, ..start })?);
    }
    check_names(&exports)?;
    exports[0].offer.is_default = true;
    assemble(options, &server, Vec::new(), exports)
}

/// The plan of a server that serves the exports of a file. Options go before what the file says of the server. This
/// is done again for each reload: it touches no device.
///
/// # Errors
/// What is wrong with the file, and usage errors.
pub(super) fn of_file(file: &Path, options: &Serve) -> Result<Plan, Failure> {
    let config = config::load(file)?;
    let start = start_options(&options.tuning, &config.server);
    let listen = config.listen.into_iter().map(listen_of_file).collect::<Result<_, _>>()?;
    let exports: Vec<ExportPlan> = config.exports.into_iter().map(|export| export.into_plan(start)).collect();
    check_carried_out(&config.server, &exports)?;
    Ok(assemble(options, &config.server, listen, exports)?)
}

/// What a device is started with.
pub(super) fn start_options(tuning: &Tuning, server: &ServerConfig) -> StartOptions {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX.into());
    StartOptions {
        workers: tuning.workers.or(server.workers).map_or_else(processors, usize::from),
        region_bytes: tuning.memory.or(server.memory_bytes).unwrap_or(MEMORY_BYTES),
    }
}

fn assemble(
    options: &Serve,
    server: &ServerConfig,
    listen: Vec<Listen>,
    exports: Vec<ExportPlan>,
) -> Result<Plan, Error> {
    let pidfile = options.pidfile.as_deref().map(|path| absolute("pidfile", path)).transpose()?;
    let poll = options.poll.or(server.poll_microseconds).unwrap_or(POLL_MICROSECONDS);
    Ok(Plan {
        workers: start_options(&options.tuning, server).workers,
        listen: places(options, listen)?,
        exports,
        pidfile: pidfile.or_else(|| server.pidfile.clone()),
        print_uri: options.print_uri,
        run: options.run.clone(),
        poll: Duration::from_micros(poll.into()),
        reload: None,
    })
}

/// The plan of a server that serves the exports of a file, and can do that anew when the file has changed.
///
/// # Errors
/// As [`of_file`].
pub(super) fn of_config(file: &Path, options: Serve) -> Result<Plan, Failure> {
    let mut plan = of_file(file, &options)?;
    // A daemon may be elsewhere by then.
    let file = absolute("config", file)?;
    let again = move || {
        of_file(&file, &options).map_err(|failure| match failure {
            Failure::Error(error) => error.to_string(),
            Failure::Report(report) => report.to_string(),
        })
    };
    plan.reload = Some(Reload(Box::new(again)));
    Ok(plan)
}

/// An export of the command line.
fn export(words: &[String], offered: &Offered, options: StartOptions) -> Result<ExportPlan, Error> {
    let Words { driver, settings, gets } = Words::parse(words, offered.readonly)?;
    check_option("exportname", &offered.exportname)?;
    if let Some(description) = &offered.description {
        check_option("description", description)?;
    }
    Ok(ExportPlan {
        device: Device { driver, settings, options },
        offer: Offer {
            name: offered.exportname.clone(),
            description: offered.description.clone(),
            read_only: offered.readonly,
            is_default: false,
            needs_tls: false,
            rules: Rules::default(),
        },
        gets,
    })
}

fn check_names(exports: &[ExportPlan]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for ExportPlan { offer, .. } in exports {
        if !seen.insert(&offer.name) {
            return Err(match offer.name.as_str() {
                "" => Error::usage("several exports have no name")
                    .hint("put -e NAME before each driver: gateway -e a DRIVER … -- -e b DRIVER …"),
                name => Error::usage(format!("several exports have the name '{name}'"))
                    .hint("give each a name of its own with -e NAME"),
            });
        }
    }
    Ok(())
}

/// Where to listen: as the options say, or else as the file says.
fn places(options: &Serve, of_file: Vec<Listen>) -> Result<Vec<Listen>, Error> {
    let tcp = options.port.is_some() || !options.ipaddr.is_empty();
    Ok(match &options.unix {
        Some(path) if path.as_os_str() == "-" => vec![Listen::Private],
        Some(path) => vec![Listen::Unix(absolute("unix", path)?)],
        None if !tcp && !of_file.is_empty() => of_file,
        None if !tcp && options.run.is_some() => vec![Listen::Private],
        None => {
            vec![Listen::Tcp { hosts: options.ipaddr.clone(), port: options.port.unwrap_or(DEFAULT_PORT) }]
        }
    })
}

fn listen_of_file(place: ListenConfig) -> Result<Listen, Error> {
    match place {
        ListenConfig::Tcp { host, port } => Ok(Listen::Tcp { hosts: vec![host], port }),
        ListenConfig::Unix(path) => Ok(Listen::Unix(path)),
        ListenConfig::Private => Ok(Listen::Private),
        ListenConfig::Vsock { port } => Err(not_carried_out(&format!("vsock = {port}"))),
        ListenConfig::Activation { name } => Err(not_carried_out(&format!("activation = \"{name}\""))),
    }
}

/// Refuses what the file may say and this server does not do: a rule that is ignored would let everybody in.
fn check_carried_out(server: &ServerConfig, exports: &[ExportPlan]) -> Result<(), Error> {
    let tls = server.tls.is_some_and(|tls| tls != TlsMode::Off)
        || server.tls_certificates.is_some()
        || server.tls_psk.is_some()
        || server.tls_verify_peer.is_some()
        || exports.iter().any(|export| export.offer.needs_tls);
    let keys = [
        ("tls", tls),
        ("max-clients", server.max_clients.is_some()),
        ("max-handshakes", server.max_handshakes.is_some()),
        ("handshake-timeout", server.handshake_timeout_seconds.is_some()),
        ("idle-timeout", server.idle_timeout_seconds.is_some()),
    ];
    keys.into_iter().find(|(_, given)| *given).map_or(Ok(()), |(key, _)| Err(not_carried_out(key)))
}

fn not_carried_out(key: &str) -> Error {
    Error::usage(format!("this server cannot do what the configuration says by {key}")).hint("leave it out")
}

/// Paths mean what they mean in the folder where the program was started.
fn absolute(option: &str, path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|cause| {
        Error::usage(format!("option --{option} cannot be '{}': {cause}", path.display())).hint("give a path")
    })
}

fn check_option(option: &str, text: &str) -> Result<(), Error> {
    check_string(text)
        .map_err(|reason| Error::usage(format!("option --{option} {reason}")).hint("choose a shorter text"))
}

#[cfg(test)]
mod tests {
    use super::super::args::Arguments;
    use super::*;
    use clap::Parser;

    fn parse(line: &[&str]) -> Result<Plan, Error> {
        let line = ["gateway"].iter().chain(line).chain(&["memory", "1M"]);
        let arguments = Arguments::try_parse_from(line).unwrap();
        of_line(&arguments.words, &arguments.serve, &[])
    }

    fn listens(line: &[&str]) -> Listen {
        parse(line).unwrap().listen.remove(0)
    }

    /// Plan of a line with `--` in it.
    fn parts(line: &str) -> Result<Plan, Error> {
        let mut parts = super::super::parts::split(line.split_whitespace().map(Into::into)).into_iter();
        let first = Arguments::try_parse_from(parts.next().unwrap()).unwrap();
        let more: Vec<Another> = parts.map(|part| Another::parse_part(part).unwrap()).collect();
        of_line(&first.words, &first.serve, &more)
    }

    /// Plan of options and the text of a file.
    fn with_file(line: &[&str], text: &str) -> Result<Plan, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = Arguments::try_parse_from(["gateway"].iter().chain(line)).unwrap();
        of_file(&file, &arguments.serve)
    }

    const EXPORT: &str = "[[export]]\nname = 'a'\ndriver = 'memory'\nproperties = { size = '1M' }\n";

    #[test]
    fn loopback_and_the_registered_port_are_the_default() {
        assert_eq!(listens(&[]), Listen::Tcp { hosts: vec![], port: 10809 });
        assert_eq!(listens(&["-p", "0"]), Listen::Tcp { hosts: vec![], port: 0 });
        assert_eq!(
            listens(&["-i", "::", "-i", "0.0.0.0"]),
            Listen::Tcp { hosts: vec!["::".into(), "0.0.0.0".into()], port: 10809 }
        );
    }

    #[test]
    fn a_captive_command_implies_a_private_socket_unless_told_otherwise() {
        assert_eq!(listens(&["--run", "true"]), Listen::Private);
        assert_eq!(listens(&["-U", "-"]), Listen::Private);
        assert_eq!(listens(&["--run", "true", "-U", "/s"]), Listen::Unix("/s".into()));
        assert_eq!(listens(&["--run", "true", "-p", "1"]), Listen::Tcp { hosts: vec![], port: 1 });
    }

    #[test]
    fn relative_paths_are_resolved_at_once() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(listens(&["-U", "s"]), Listen::Unix(here.join("s")));
        assert_eq!(parse(&["-P", "pid"]).unwrap().pidfile, Some(here.join("pid")));
    }

    #[test]
    fn names_fit_into_the_protocol() {
        assert!(parse(&["-e", &"x".repeat(4096)]).is_ok());
        let error = parse(&["-e", &"x".repeat(4097)]).unwrap_err();
        assert!(error.to_string().contains("4097"), "{error}");
    }

    #[test]
    fn tcp_and_a_unix_socket_exclude_each_other() {
        for option in ["-p1", "-i::1"] {
            assert!(Arguments::try_parse_from(["gateway", "-U", "s", option, "memory", "1M"]).is_err());
        }
    }

    #[test]
    fn each_part_is_an_export_with_its_own_options() {
        let plan =
            parts("g --memory 8M -e a memory 1M -- -e b -r --memory 2M null 1G get=size -- null 2G").unwrap();
        let [a, b, c] = &plan.exports[..] else { panic!("{:?}", plan.exports) };
        assert_eq!([&a.offer.name, &b.offer.name, &c.offer.name], ["a", "b", ""]);
        assert_eq!([a, b, c].map(|export| export.offer.read_only), [false, true, false]);
        assert_eq!([a, b, c].map(|export| export.offer.is_default), [true, false, false]);
        let memory = [a, b, c].map(|export| export.device.options.region_bytes);
        assert_eq!(memory, [8 << 20, 2 << 20, 8 << 20]);
        assert_eq!([&a.gets, &b.gets, &c.gets], [&[][..], &["size"], &[]]);
    }

    #[test]
    fn exports_need_names_that_differ() {
        let error = parts("g memory 1M -- memory 1M").unwrap_err().to_string();
        assert!(error.contains("no name") && error.contains("-e NAME before each driver"), "{error}");
        let error = parts("g -e a memory 1M -- -e a memory 1M").unwrap_err().to_string();
        assert!(error.contains("'a'"), "{error}");
        let error = parts("g -e a memory 1M --").unwrap_err().to_string();
        assert!(error.contains("no driver"), "{error}");
    }

    #[test]
    fn options_go_before_what_the_file_says() {
        let text = format!(
            "[server]\nworkers = 3\npoll = 7\nmemory = '2M'\npidfile = 'p'\n[[listen]]\nunix = '/a'\n{EXPORT}"
        );
        let plan = with_file(&[], &text).unwrap();
        assert_eq!(
            (plan.workers, plan.poll, &plan.listen[..]),
            (3, Duration::from_micros(7), &[Listen::Unix("/a".into())][..])
        );
        assert_eq!(plan.exports[0].device.options.region_bytes, 2 << 20);
        assert!(plan.pidfile.unwrap().ends_with("p"));
        let line = ["--workers=2", "--poll=0", "--memory=4M", "-P/q", "-U/b"];
        let plan = with_file(&line, &text).unwrap();
        assert_eq!(
            (plan.workers, plan.poll, &plan.listen[..]),
            (2, Duration::ZERO, &[Listen::Unix("/b".into())][..])
        );
        assert_eq!(plan.exports[0].device.options.region_bytes, 4 << 20);
        assert_eq!(plan.pidfile, Some("/q".into()));
    }

    #[test]
    fn a_file_without_places_to_listen_is_as_a_line_without() {
        let listen = |line: &[&str]| with_file(line, EXPORT).unwrap().listen;
        assert_eq!(listen(&[]), [Listen::Tcp { hosts: vec![], port: 10809 }]);
        assert_eq!(listen(&["--run", "true"]), [Listen::Private]);
        assert_eq!(listen(&["-p", "1"]), [Listen::Tcp { hosts: vec![], port: 1 }]);
    }

    #[test]
    fn rules_that_nobody_would_keep_are_refused() {
        let text = format!("{EXPORT}allow = {{ uid = [0] }}\n");
        assert!(with_file(&[], &text).unwrap_err().to_string().contains("[export.allow]"));
        let text = format!("{EXPORT}tls = 'require'\n");
        assert!(with_file(&[], &text).unwrap_err().to_string().contains("tls"));
    }
}
