//! What the options mean together, and with a configuration file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::{Error, StartOptions};
use nbd::server::TlsMode;

use super::Failure;
use super::args::{Clients, Log, Offered, Serve, Tuning};
use super::parts::Another;
use super::places::{self, Passed};
use super::words::Words;
use crate::config::ranges::{WORKERS_MAX, check_string};
use crate::config::{self, MetricsPlace, ServerConfig, Told};
use crate::log;
use crate::net::activation::Activation;
use crate::net::limits::Limits;
use crate::net::listen::Listen;
use crate::rules::Rules;
use crate::server::{Device, ExportPlan, Offer, Plan, Reload};

/// Payload memory of a disk, unless told otherwise.
const MEMORY_BYTES: usize = 32 << 20;

/// How long a worker polls, unless told otherwise.
const POLL_MICROSECONDS: u32 = 50;

/// Clients in the handshake, unless told otherwise.
const HANDSHAKES_MAX: usize = 2000;

/// How long a handshake may take, unless told otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

impl Serve {
    /// Makes paths absolute: they mean what they mean in the folder where the program was started, also when a daemon
    /// that is elsewhere makes its plan anew.
    ///
    /// # Errors
    /// Usage errors: a path is empty.
    pub(super) fn resolve_paths(&mut self) -> Result<(), Error> {
        let sockets = self.places.unix.iter_mut().filter(|path| path.as_os_str() != "-");
        let others = [
            ("pidfile", &mut self.pidfile),
            ("control", &mut self.control),
            ("tls-certificates", &mut self.tls.tls_certificates),
            ("tls-psk", &mut self.tls.tls_psk),
        ];
        let metrics = match &mut self.metrics {
            Some(MetricsPlace::Unix(path)) => Some(("metrics", path)),
            _ => None,
        };
        let others = others.into_iter().filter_map(|(option, path)| Some((option, path.as_mut()?)));
        for (option, path) in sockets.map(|path| ("unix", path)).chain(others).chain(metrics) {
            *path = absolute(option, path)?;
        }
        Ok(())
    }
}

fn absolute(option: &str, path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|cause| {
        Error::usage(format!("option --{option} cannot be '{}': {cause}", path.display())).hint("give a path")
    })
}

/// The plan of a server that serves the drivers of the command line.
///
/// # Errors
/// Usage errors, and paths that cannot be resolved.
pub(super) fn of_line(
    words: &[String],
    options: &Serve,
    more: &[Another],
    activation: &Activation,
) -> Result<Plan, Error> {
    let server = ServerConfig::default();
    let start = start_options(&options.tuning, &server);
    let mut exports = vec![export(words, &options.offered, start)?];
    for Another { words, offered, memory, .. } in more {
        let region_bytes = memory.unwrap_or(start.region_bytes);
        exports.push(export(words, offered, StartOptions { region_bytes, ..start })?);
    }
    check_names(&exports)?;
    if options.places.single
        && let Some(name) = exports.iter().flat_map(|export| &export.gets).next()
    {
        return Err(Error::usage(format!(
            "'get={name}' prints on standard output, where option -s has its client"
        ))
        .hint("leave it out"));
    }
    exports[0].offer.is_default = true;
    assemble(options, &server, Passed::of(activation), Vec::new(), exports)
}

/// The plan of a server that serves the exports of a file. Options go before what the file says of the server. This
/// is done again for each reload: it touches no device.
///
/// # Errors
/// What is wrong with the file, and usage errors.
fn of_file(file: &Path, options: &Serve, passed: Passed) -> Result<Plan, Failure> {
    let told = Told { tls: options.tls.is_told(), places: options.places.are_told() || passed.any };
    let config = config::load(file, told)?;
    let start = start_options(&options.tuning, &config.server);
    let exports: Vec<ExportPlan> = config.exports.into_iter().map(|export| export.into_plan(start)).collect();
    Ok(assemble(options, &config.server, passed, config.listen, exports)?)
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
    passed: Passed,
    listen: Vec<Listen>,
    mut exports: Vec<ExportPlan>,
) -> Result<Plan, Error> {
    let poll = options.poll.or(server.poll_microseconds).unwrap_or(POLL_MICROSECONDS);
    let tls = options.tls.settings(server)?;
    if tls.mode == TlsMode::Off
        && let Some(export) = exports.iter().find(|export| export.offer.needs_tls)
    {
        let name = &export.offer.name;
        return Err(Error::usage(format!(
            "export '{name}' is for clients with TLS only, and there is no TLS"
        ))
        .hint("give certificates or keys, by tls-certificates or tls-psk"));
    }
    if tls.mode == TlsMode::Require {
        exports.iter_mut().for_each(|export| export.offer.needs_tls = true);
    }
    Ok(Plan {
        workers: start_options(&options.tuning, server).workers,
        listen: places::listen(&options.places, options.run.is_some(), passed, listen)?,
        single: options.places.single,
        limits: limits(&options.clients, server),
        tls,
        log: log(&options.log, server),
        daemon: options.daemon,
        exit_with_parent: options.exit_with_parent,
        exports,
        pidfile: options.pidfile.clone().or_else(|| server.pidfile.clone()),
        metrics: options.metrics.as_ref().or(server.metrics.as_ref()).map(MetricsPlace::listen),
        print_uri: options.print_uri,
        run: options.run.clone(),
        control: options.control.clone().or_else(|| server.control.clone()),
        options: start_options(&options.tuning, server),
        poll: Duration::from_micros(poll.into()),
        reload: None,
    })
}

/// The plan of a server that serves the exports of a file, and can do that anew when the file has changed.
///
/// # Errors
/// As [`of_file`].
pub(super) fn of_config(file: &Path, options: Serve, activation: &Activation) -> Result<Plan, Failure> {
    let passed = Passed::of(activation);
    let mut plan = of_file(file, &options, passed)?;
    // A daemon is elsewhere when it reads the file again; messages at the start call it as the user did.
    let file = absolute("config", file)?;
    let again = move || {
        of_file(&file, &options, passed).map_err(|failure| match failure {
            Failure::Error(error) => error.to_string(),
            Failure::Report(report) => report.to_string(),
        })
    };
    plan.reload = Some(Reload(Box::new(again)));
    Ok(plan)
}

/// Where the log goes.
fn log(options: &Log, server: &ServerConfig) -> log::Settings {
    log::Settings {
        place: options.log.or(server.log).unwrap_or_default(),
        format: options.log_format.or(server.log_format).unwrap_or_default(),
        level: server.log_level.clone(),
    }
}

/// What clients are held to.
fn limits(clients: &Clients, server: &ServerConfig) -> Limits {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let seconds = |number: u32| Duration::from_secs(number.into());
    let clients_max = clients.max_clients.or(server.max_clients).map(count);
    let handshakes_max = clients.max_handshakes.or(server.max_handshakes).map(count);
    let handshake_timeout = clients.handshake_timeout.or(server.handshake_timeout_seconds).map(seconds);
    let idle_timeout = clients.idle_timeout.or(server.idle_timeout_seconds).map(seconds);
    Limits {
        clients_max: clients_max.filter(|max| *max > 0),
        handshakes_max: handshakes_max.unwrap_or(HANDSHAKES_MAX),
        handshake_timeout: handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT),
        idle_timeout: idle_timeout.filter(|timeout| !timeout.is_zero()),
    }
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
        plan_of(Arguments::try_parse_from(line).unwrap())
    }

    fn plan_of(mut arguments: Arguments) -> Result<Plan, Error> {
        arguments.serve.resolve_paths()?;
        of_line(&arguments.words, &arguments.serve, &[], &Activation::default())
    }

    fn places(line: &[&str]) -> Vec<Listen> {
        parse(line).unwrap().listen
    }

    fn listens(line: &[&str]) -> Listen {
        let [listen] = places(line).try_into().unwrap();
        listen
    }

    fn tcp(hosts: &[&str], port: u16) -> Listen {
        Listen::Tcp { hosts: hosts.iter().map(ToString::to_string).collect(), port }
    }

    /// Plan of a line with `--` in it.
    fn parts(line: &str) -> Result<Plan, Error> {
        let mut parts = super::super::parts::split(line.split_whitespace().map(Into::into)).into_iter();
        let first = Arguments::try_parse_from(parts.next().unwrap()).unwrap();
        let more: Vec<Another> = parts.map(|part| Another::parse_part(part).unwrap()).collect();
        of_line(&first.words, &first.serve, &more, &Activation::default())
    }

    /// Plan of options and the text of a file.
    fn with_file(line: &[&str], text: &str) -> Result<Plan, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = Arguments::try_parse_from(["gateway"].iter().chain(line)).unwrap();
        of_file(&file, &arguments.serve, Passed::default())
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
    fn kinds_of_places_add_up_when_they_are_asked_for() {
        let unix = || Listen::Unix("/s".into());
        let vsock = |port| Listen::Vsock { port };
        let table: [(&[&str], &[Listen]); 13] = [
            (&["-U/s"], &[unix()]),
            (&["-U/s", "-U/t"], &[unix(), Listen::Unix("/t".into())]),
            (&["-U/s", "-p1"], &[unix(), tcp(&[], 1)]),
            (&["-U/s", "-i::1"], &[unix(), tcp(&["::1"], 10809)]),
            (&["-U-", "-p0"], &[Listen::Private, tcp(&[], 0)]),
            (&["--vsock"], &[vsock(10809)]),
            (&["--vsock=7"], &[vsock(7)]),
            (&["--vsock", "-p1"], &[vsock(1)]),
            (&["--vsock", "-i::1"], &[vsock(10809), tcp(&["::1"], 10809)]),
            (&["--vsock", "-p1", "-i127.0.0.1"], &[vsock(1), tcp(&["127.0.0.1"], 1)]),
            (&["--vsock=4294967294", "-p1"], &[vsock(4_294_967_294), tcp(&[], 1)]),
            (&["--vsock", "-U/s"], &[unix(), vsock(10809)]),
            (&["--vsock", "--run", "true"], &[vsock(10809)]),
        ];
        for (line, expected) in table {
            assert_eq!(places(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_socket_is_given_once() {
        let error = parse(&["-U", "s", "-U", "./s"]).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
        assert_eq!(places(&["-U", "-", "-U", "-"]).len(), 2, "private ones are different ones");
    }

    #[test]
    fn a_port_of_vsock_is_one() {
        for port in ["--vsock=4294967295", "--vsock=x", "--vsock=-1", "--vsock="] {
            assert!(Arguments::try_parse_from(["gateway", port, "memory", "1M"]).is_err(), "{port}");
        }
    }

    #[test]
    fn a_client_on_the_standard_streams_has_them_for_itself() {
        let plan = parse(&["-s"]).unwrap();
        assert!(plan.single && plan.listen.is_empty());
        for other in ["-p1", "-i::1", "-Us", "--vsock", "--run=true", "--print-uri", "--daemon"] {
            let line = ["gateway", "-s", other, "memory", "1M"];
            assert!(Arguments::try_parse_from(line).is_err(), "{other}");
        }
        let line = Arguments::try_parse_from(["gateway", "-s", "memory", "1M", "get=capacity"]).unwrap();
        let error = plan_of(line).unwrap_err().to_string();
        assert!(error.contains("get=capacity") && error.contains("-s"), "{error}");
    }

    #[test]
    fn no_limit_is_zero() {
        let limits = parse(&[]).unwrap().limits;
        assert_eq!((limits.clients_max, limits.idle_timeout), (None, None));
        assert_eq!(limits.handshake_timeout, Duration::from_secs(30));
        let limits = parse(&["--max-clients", "3", "--idle-timeout=60"]).unwrap().limits;
        assert_eq!((limits.clients_max, limits.idle_timeout), (Some(3), Some(Duration::from_secs(60))));
    }

    #[test]
    fn a_server_in_the_background_belongs_to_nobody() {
        for other in ["-f", "--run=true", "--exit-with-parent"] {
            let line = ["gateway", "--daemon", other, "memory", "1M"];
            assert!(Arguments::try_parse_from(line).is_err(), "{other}");
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
    fn the_log_goes_where_the_line_says_before_the_file() {
        let settings = |place, format, level: Option<&str>| log::Settings {
            place,
            format,
            level: level.map(str::to_owned),
        };
        let text = format!("[server]\nlog = 'syslog'\nlog-format = 'json'\nlog-level = 'debug'\n{EXPORT}");
        let (place, json) = (log::Place::Syslog, log::Format::Json);
        assert_eq!(with_file(&[], &text).unwrap().log, settings(place, json, Some("debug")));
        let line = ["--log=stderr", "--log-format=text"];
        let expected = settings(log::Place::Stderr, log::Format::Text, Some("debug"));
        assert_eq!(with_file(&line, &text).unwrap().log, expected);
        assert_eq!(with_file(&[], EXPORT).unwrap().log, log::Settings::default());
    }

    #[test]
    fn a_file_without_places_to_listen_is_as_a_line_without() {
        let listen = |line: &[&str]| with_file(line, EXPORT).unwrap().listen;
        assert_eq!(listen(&[]), [Listen::Tcp { hosts: vec![], port: 10809 }]);
        assert_eq!(listen(&["--run", "true"]), [Listen::Private]);
        assert_eq!(listen(&["-p", "1"]), [Listen::Tcp { hosts: vec![], port: 1 }]);
    }

    #[test]
    fn an_export_for_clients_with_tls_needs_a_server_with_tls() {
        let text = format!("{EXPORT}tls = 'require'\n");
        assert!(with_file(&[], &text).unwrap_err().to_string().contains("'a' is for clients with TLS only"));
        let plan = with_file(&["--tls=on", "--tls-psk=/keys"], &text).unwrap();
        assert!(plan.exports[0].offer.needs_tls && plan.tls.mode == TlsMode::On);
        let text = format!("[server]\ntls-psk = '/k'\n{EXPORT}");
        let plan = with_file(&[], &text).unwrap();
        assert_eq!((plan.tls.mode, plan.tls.psk), (TlsMode::Require, Some("/k".into())));
    }
}
