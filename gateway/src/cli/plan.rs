//! What the options mean together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::{Error, StartOptions};

use super::args::{Clients, Places, Serve, Tuning, WORKERS_MAX};
use super::words::Words;
use crate::net::activation::Activation;
use crate::net::limits::Limits;
use crate::net::listen::{DEFAULT_PORT, Listen};
use crate::server::{Device, ExportPlan, Offer, Plan};

/// Longest name or description (doc/proto.md, section "Values": strings).
const STRING_BYTES_MAX: usize = 4096;

/// The plan of a server.
///
/// # Errors
/// Usage errors, and paths that cannot be resolved.
pub(super) fn plan(words: &[String], options: Serve, activation: &Activation) -> Result<Plan, Error> {
    let Words { driver, settings, gets } = Words::parse(words, options.readonly)?;
    let single = options.places.single;
    if single && let Some(name) = gets.first() {
        return Err(Error::usage(format!(
            "'get={name}' prints on standard output, where option -s has its client"
        ))
        .hint("leave it out"));
    }
    check_string("exportname", &options.exportname)?;
    if let Some(description) = &options.description {
        check_string("description", description)?;
    }
    let pidfile = options.pidfile.as_deref().map(|path| absolute("pidfile", path)).transpose()?;
    let start = start_options(&options.tuning);
    Ok(Plan {
        workers: start.workers,
        listen: listen(&options.places, options.run.is_some(), activation)?,
        single,
        limits: limits(&options.clients),
        daemon: options.daemon,
        exit_with_parent: options.exit_with_parent,
        exports: vec![ExportPlan {
            device: Device { driver, settings, options: start },
            offer: Offer {
                name: options.exportname,
                description: options.description,
                read_only: options.readonly,
            },
            gets,
        }],
        pidfile,
        print_uri: options.print_uri,
        run: options.run,
        poll: Duration::from_micros(options.poll.into()),
    })
}

/// What a device is started with.
pub(super) fn start_options(tuning: &Tuning) -> StartOptions {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX.into());
    StartOptions { workers: tuning.workers.map_or_else(processors, usize::from), region_bytes: tuning.memory }
}

/// What clients are held to.
fn limits(clients: &Clients) -> Limits {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let seconds = |number: u32| Duration::from_secs(number.into());
    Limits {
        clients_max: Some(count(clients.max_clients)).filter(|max| *max > 0),
        handshakes_max: count(clients.max_handshakes),
        handshake_timeout: seconds(clients.handshake_timeout),
        idle_timeout: Some(seconds(clients.idle_timeout)).filter(|timeout| !timeout.is_zero()),
    }
}

/// Where to listen. `run`: for a captive command.
///
/// Unix sockets and vsock add up, and TCP to them if it is asked for: by `-i`, or by `-p` unless vsock takes that port.
/// With none of these it is TCP, or a private socket for a captive command. A client or sockets that were passed, or a
/// client on the standard streams, exclude all of them.
fn listen(places: &Places, run: bool, activation: &Activation) -> Result<Vec<Listen>, Error> {
    if !activation.is_empty() {
        return activated(places, run, activation);
    }
    if places.single {
        return Ok(Vec::new());
    }
    let port = places.port.unwrap_or(DEFAULT_PORT);
    let mut all = Vec::new();
    for path in &places.unix {
        let listen = match path.as_os_str() == "-" {
            true => Listen::Private,
            false => Listen::Unix(absolute("unix", path)?),
        };
        if listen != Listen::Private && all.contains(&listen) {
            return Err(
                Error::usage(format!("socket '{}' is given twice", path.display())).hint("give it once")
            );
        }
        all.push(listen);
    }
    let takes_port = match places.vsock {
        None => false,
        Some(own) => {
            all.push(Listen::Vsock { port: own.unwrap_or(port.into()) });
            own.is_none()
        }
    };
    if !places.ipaddr.is_empty() || (places.port.is_some() && !takes_port) {
        all.push(Listen::Tcp { hosts: places.ipaddr.clone(), port });
    }
    if all.is_empty() {
        all.push(if run { Listen::Private } else { Listen::Tcp { hosts: Vec::new(), port } });
    }
    Ok(all)
}

/// The same with sockets that were passed.
fn activated(places: &Places, run: bool, activation: &Activation) -> Result<Vec<Listen>, Error> {
    let given = [
        ("-p", places.port.is_some()),
        ("-i", !places.ipaddr.is_empty()),
        ("-U", !places.unix.is_empty()),
        ("--vsock", places.vsock.is_some()),
        ("-s", places.single),
        ("--run", run && activation.has_client()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Error::usage(format!(
            "option {option} says where clients are, and so does socket activation (LISTEN_FDS is set)"
        ))
        .hint("leave one of them out"));
    }
    Ok(match activation.has_client() {
        true => Vec::new(),
        false => vec![Listen::Activated { name: None }],
    })
}

/// Paths mean what they mean in the folder where the program was started.
fn absolute(option: &str, path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|cause| {
        Error::usage(format!("option --{option} cannot be '{}': {cause}", path.display())).hint("give a path")
    })
}

fn check_string(option: &str, text: &str) -> Result<(), Error> {
    if text.len() > STRING_BYTES_MAX {
        return Err(Error::usage(format!(
            "option --{option} has {} bytes; the protocol allows {STRING_BYTES_MAX}",
            text.len()
        ))
        .hint("choose a shorter text"));
    }
    Ok(())
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

    fn plan_of(arguments: Arguments) -> Result<Plan, Error> {
        plan(&arguments.words, arguments.serve, &Activation::default())
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
}
