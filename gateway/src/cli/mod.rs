//! The command line: what was typed becomes a [`Plan`](crate::server::Plan), or something to print, or an error.
//!
//! Everything about properties comes from the drivers' tables; nothing here knows a driver by name.

mod args;
mod help;
mod info;
mod log;
mod plan;
mod tls;
mod words;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use drivers::{Error, ErrorKind};

use crate::server::{self, Device};
use crate::tls::pki;
use args::{Arguments, Command};
use words::Words;

/// Wrong usage.
const USAGE: u8 = 2;

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return not_parsed(&error),
    };
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(match error.kind {
                ErrorKind::Usage => USAGE,
                ErrorKind::Device => 1,
            })
        }
    }
}

fn run(arguments: Arguments) -> Result<u8, Error> {
    if arguments.help {
        return print(&help_wanted(&arguments)?);
    }
    log::start(arguments.log.verbose)?;
    match arguments.command {
        Some(Command::Help { word }) => print(&help_about(word.as_deref())?),
        Some(Command::Drivers { json: true }) => print(&help::drivers_json()),
        Some(Command::Drivers { json: false }) => print(&help::drivers_text()),
        Some(Command::Info { words, json, readonly, tuning }) => {
            let Words { driver, settings, gets } = Words::parse(&words, readonly)?;
            if let Some(name) = gets.first() {
                return Err(Error::usage(format!("'get={name}' is for serving; info prints all properties"))
                    .hint("leave it out"));
            }
            print(&info::text(&Device { driver, settings, options: plan::start_options(&tuning) }, json)?)
        }
        Some(Command::Pki(wanted)) => {
            let wanted = pki::Wanted {
                folder: wanted.dir,
                hosts: wanted.host,
                clients: wanted.client,
                days: wanted.days,
            };
            print(&pki::make(wanted)?)
        }
        None => server::run(&plan::plan(&arguments.words, arguments.serve)?),
    }
}

/// What `--help` is about, by the words before or after it.
fn help_wanted(arguments: &Arguments) -> Result<String, Error> {
    let words = match &arguments.command {
        Some(Command::Info { words, .. }) if words.is_empty() => return Ok(subcommand_help("info")),
        Some(Command::Drivers { .. }) => return Ok(subcommand_help("drivers")),
        Some(Command::Pki(_)) => return Ok(subcommand_help("pki")),
        Some(Command::Help { .. }) => return help_about(None),
        Some(Command::Info { words, .. }) => words,
        None => &arguments.words,
    };
    help_about(words.first().map(String::as_str))
}

fn subcommand_help(name: &str) -> String {
    let mut command = Arguments::command();
    // Makes the subcommands know of the options that all have.
    command.build();
    command.find_subcommand_mut(name).map_or_else(String::new, |command| command.render_help().to_string())
}

/// Help about a driver, or about the program.
fn help_about(word: Option<&str>) -> Result<String, Error> {
    Ok(match word {
        Some(word) => help::driver_text(words::find(word)?),
        None => Arguments::command().render_help().to_string(),
    })
}

/// Prints what was asked for. A reader that has seen enough is no error.
fn print(text: &str) -> Result<u8, Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::system("print to standard output", &cause))
        }
        _ => Ok(0),
    }
}

/// An error's only message. When not even that can be written there is nobody to tell.
fn complain(message: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "gateway: {message}");
}

/// What clap has to say: errors of usage, and the version and the help of a subcommand, which are none.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        complain(&text.strip_prefix("error: ").unwrap_or(&text).trim_end());
        return ExitCode::from(USAGE);
    }
    match print(&text) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
