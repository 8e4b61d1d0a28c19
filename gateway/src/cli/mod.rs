//! The command line: what was typed becomes a [`Plan`](crate::server::Plan), or something to print, or an error.
//!
//! Everything about properties comes from the drivers' tables; nothing here knows a driver by name.

mod args;
mod complete;
mod ctl;
mod generate;
mod help;
mod info;
mod parts;
mod places;
mod plan;
mod stat;
mod table;
mod tls;
mod words;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use drivers::{Error, ErrorKind};
use nix::unistd::{Pid, getppid};

use crate::config::{self, Report, ServerConfig, Told};
use crate::log;
use crate::net::activation::Activation;
use crate::server::{self, Device};
use crate::tls::pki;
use args::{Arguments, Command, Serve};
use parts::Another;
use words::Words;

/// Wrong usage.
const USAGE: u8 = 2;

/// Why nothing came of it.
#[derive(Debug)]
enum Failure {
    Error(Error),
    /// The configuration file is wrong.
    Report(Report),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Failure {
        Failure::Report(report)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(error) => write!(f, "gateway: {error}"),
            // Lines that begin with the file: editors find the places by them.
            Failure::Report(report) => write!(f, "{report}"),
        }
    }
}

impl Failure {
    fn exit_code(&self) -> u8 {
        let usage = match self {
            Failure::Error(error) => error.kind == ErrorKind::Usage,
            Failure::Report(report) => report.is_about_words(),
        };
        if usage { USAGE } else { 1 }
    }
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let started_by = getppid();
    let line: Vec<OsString> = std::env::args_os().collect();
    // Its words may be those of any command line, and mean nothing here.
    if let Some(text) = complete::answer(&line) {
        return printed(&text);
    }
    let mut parts = parts::split(line).into_iter();
    let first = Arguments::try_parse_from(parts.next().unwrap_or_default());
    let more = parts.map(Another::parse_part).collect::<Result<Vec<_>, _>>();
    let (arguments, more) = match (first, more) {
        (Ok(arguments), Ok(more)) => (arguments, more),
        (Err(error), _) | (_, Err(error)) => return not_parsed(&error),
    };
    match run(arguments, &more, started_by) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments, more: &[Another], started_by: Pid) -> Result<u8, Failure> {
    if let Some(another) = more.iter().find(|another| another.help) {
        return Ok(print(&help_about(another.words.first().map(String::as_str))?)?);
    }
    if arguments.help {
        return Ok(print(&help_wanted(&arguments)?)?);
    }
    // Descriptors that were passed have owners before anything else is opened.
    let activation = match arguments.command {
        None => Activation::from_environment()?,
        Some(_) => Activation::default(),
    };
    log::start(arguments.verbosity.verbose)?;
    if arguments.command.is_some() && !more.is_empty() {
        return Err(Error::usage("'--' separates drivers that are to be served")
            .hint("leave it out, or ask for one driver after the other")
            .into());
    }
    let text = match arguments.command {
        Some(Command::Help { word }) => help_about(word.as_deref())?,
        Some(Command::Drivers { json: true }) => help::drivers_json(),
        Some(Command::Drivers { json: false }) => help::drivers_text(),
        Some(Command::Info { words, json, readonly, tuning }) => {
            let Words { driver, settings, gets } = Words::parse(&words, readonly)?;
            if let Some(name) = gets.first() {
                return Err(Error::usage(format!("'get={name}' is for serving; info prints all properties"))
                    .hint("leave it out")
                    .into());
            }
            let options = plan::start_options(&tuning, &ServerConfig::default());
            info::text(&Device { driver, settings, options }, json)?
        }
        Some(Command::Pki(wanted)) => {
            let wanted = pki::Wanted {
                folder: wanted.dir,
                hosts: wanted.host,
                clients: wanted.client,
                days: wanted.days,
            };
            pki::make(wanted)?
        }
        Some(Command::Ctl(wanted)) => ctl::text(wanted)?,
        Some(Command::Generate(wanted)) => generate::write(&wanted)?,
        None => return serve(&arguments.words, arguments.serve, more, activation, started_by),
    };
    Ok(print(&text)?)
}

/// Serves what the line or the file says, or only checks the file.
fn serve(
    words: &[String],
    mut options: Serve,
    more: &[Another],
    activation: Activation,
    started_by: Pid,
) -> Result<u8, Failure> {
    options.resolve_paths()?;
    let file = options.config.as_ref().or(options.check_config.as_ref());
    if file.is_some() && !(words.is_empty() && more.is_empty()) {
        return Err(Error::usage("there are drivers on the command line besides a configuration file")
            .hint("write them into the file, or leave --config out")
            .into());
    }
    if let Some(file) = &options.check_config {
        let exports = config::load(file, Told::default())?.exports.len();
        let plural = if exports == 1 { "" } else { "s" };
        return Ok(print(&format!("{}: {exports} export{plural}, fine\n", file.display()))?);
    }
    let plan = match options.config.clone() {
        Some(file) => plan::of_config(&file, options, &activation)?,
        None => plan::of_line(words, &options, more, &activation)?,
    };
    log::settle(&plan.log, plan.daemon)?;
    Ok(server::run(&plan, activation, started_by)?)
}

/// What `--help` is about, by the words before or after it.
fn help_wanted(arguments: &Arguments) -> Result<String, Error> {
    let words = match &arguments.command {
        Some(Command::Info { words, .. }) if words.is_empty() => return Ok(subcommand_help(&["info"])),
        Some(Command::Drivers { .. }) => return Ok(subcommand_help(&["drivers"])),
        Some(Command::Pki(_)) => return Ok(subcommand_help(&["pki"])),
        Some(Command::Ctl(ctl)) => return Ok(subcommand_help(ctl.help_path())),
        Some(Command::Generate(_)) => return Ok(subcommand_help(&["generate"])),
        Some(Command::Help { .. }) => return help_about(None),
        Some(Command::Info { words, .. }) => words,
        None => &arguments.words,
    };
    help_about(words.first().map(String::as_str))
}

/// The help of a subcommand, which may be one of another.
fn subcommand_help(path: &[&str]) -> String {
    let mut root = Arguments::command();
    // Makes the subcommands know of the options that all have.
    root.build();
    let mut command = Some(&mut root);
    for name in path {
        command = command.and_then(|command| command.find_subcommand_mut(name));
    }
    command.map_or_else(String::new, |command| command.render_help().to_string())
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
    print_on(text).map(|_| 0)
}

/// The same, of what goes on. Returns whether somebody reads it.
fn print_on(text: &str) -> Result<bool, Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(cause) => Err(Error::system("print to standard output", &cause)),
    }
}

/// An error's only message. When not even that can be written there is nobody to tell.
fn complain(message: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "{}", log::harmless(&message.to_string()));
}

/// What clap has to say: errors of usage, and the version and the help of a subcommand, which are none.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        complain(&format_args!("gateway: {}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()));
        return ExitCode::from(USAGE);
    }
    printed(&text)
}

/// Prints the text, and ends with that.
fn printed(text: &str) -> ExitCode {
    match print(text) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&Failure::from(error));
            ExitCode::FAILURE
        }
    }
}
