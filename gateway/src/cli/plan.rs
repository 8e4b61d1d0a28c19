//! What the options mean together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::{Error, StartOptions};

use super::args::{Serve, Tuning, WORKERS_MAX};
use super::words::Words;
use crate::net::listen::{DEFAULT_PORT, Listen};
use crate::server::{Device, ExportPlan, Offer, Plan};

/// Longest name or description (doc/proto.md, section "Values": strings).
const STRING_BYTES_MAX: usize = 4096;

/// The plan of a server.
///
/// # Errors
/// Usage errors, and paths that cannot be resolved.
pub(super) fn plan(words: &[String], options: Serve) -> Result<Plan, Error> {
    let Words { driver, settings, gets } = Words::parse(words, options.readonly)?;
    check_string("exportname", &options.exportname)?;
    if let Some(description) = &options.description {
        check_string("description", description)?;
    }
    let pidfile = options.pidfile.as_deref().map(|path| absolute("pidfile", path)).transpose()?;
    let tls = options.tls.settings()?;
    let start = start_options(&options.tuning);
    Ok(Plan {
        workers: start.workers,
        listen: vec![listen(&options)?],
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
        tls,
    })
}

/// What a device is started with.
pub(super) fn start_options(tuning: &Tuning) -> StartOptions {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX.into());
    StartOptions { workers: tuning.workers.map_or_else(processors, usize::from), region_bytes: tuning.memory }
}

fn listen(options: &Serve) -> Result<Listen, Error> {
    let tcp = options.port.is_some() || !options.ipaddr.is_empty();
    match &options.unix {
        Some(path) if path.as_os_str() == "-" => Ok(Listen::Private),
        Some(path) => Ok(Listen::Unix(absolute("unix", path)?)),
        None if options.run.is_some() && !tcp => Ok(Listen::Private),
        None => Ok(Listen::Tcp { hosts: options.ipaddr.clone(), port: options.port.unwrap_or(DEFAULT_PORT) }),
    }
}

/// Paths mean what they mean in the folder where the program was started.
pub(super) fn absolute(option: &str, path: &Path) -> Result<PathBuf, Error> {
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
        let arguments = Arguments::try_parse_from(line).unwrap();
        plan(&arguments.words, arguments.serve)
    }

    fn listens(line: &[&str]) -> Listen {
        parse(line).unwrap().listen.remove(0)
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
    fn tcp_and_a_unix_socket_exclude_each_other() {
        for option in ["-p1", "-i::1"] {
            assert!(Arguments::try_parse_from(["gateway", "-U", "s", option, "memory", "1M"]).is_err());
        }
    }
}
