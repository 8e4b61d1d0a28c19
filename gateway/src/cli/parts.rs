//! Several drivers on one command line, separated by `--`.
//!
//! The line is split before clap sees it. The first part takes all options, the others those of one export.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser};

use super::args::{Arguments, Offered, memory_bytes};

/// What stands between two drivers.
const SEPARATOR: &str = "--";

/// Another export.
#[derive(Debug, Parser)]
#[command(
    name = "gateway",
    disable_help_flag = true,
    disable_version_flag = true,
    no_binary_name = true,
    override_usage = "gateway [OPTIONS] -e NAME DRIVER [PROPERTY=VALUE]... -- -e NAME [-r] [--description TEXT] \
                      [--memory SIZE] DRIVER [PROPERTY=VALUE]..."
)]
pub(super) struct Another {
    /// As in the first part.
    #[arg(hide = true)]
    pub(super) words: Vec<String>,

    #[command(flatten)]
    pub(super) offered: Offered,

    #[arg(long, value_parser = memory_bytes)]
    pub(super) memory: Option<usize>,

    #[arg(short = 'h', long)]
    pub(super) help: bool,
}

/// The parts of a command line; at least one.
pub(super) fn split(line: impl IntoIterator<Item = OsString>) -> Vec<Vec<OsString>> {
    let mut parts = vec![Vec::new()];
    for word in line {
        match parts.last_mut() {
            Some(part) if word != SEPARATOR => part.push(word),
            _ => parts.push(Vec::new()),
        }
    }
    parts
}

impl Another {
    /// Parses a part behind the first.
    ///
    /// # Errors
    /// What clap says; of an option of the server, where it belongs.
    pub(super) fn parse_part(part: Vec<OsString>) -> Result<Another, clap::Error> {
        Another::try_parse_from(part).map_err(|error| match server_option(&error) {
            Some(option) => Another::command().error(
                ErrorKind::UnknownArgument,
                format!("option {option} is for the whole server: write it before the first driver"),
            ),
            None => error,
        })
    }
}

/// The option that is not known here, if it is one of the first part.
fn server_option(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let known = Arguments::command().get_arguments().any(|argument| {
        let long = |name: &str| option.strip_prefix("--") == Some(name);
        argument.get_long().is_some_and(long)
            || argument.get_all_aliases().is_some_and(|names| names.into_iter().any(long))
            || argument.get_short().is_some_and(|name| *option == format!("-{name}"))
    });
    (error.kind() == ErrorKind::UnknownArgument && known).then(|| option.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> Vec<Vec<String>> {
        let line = line.split_whitespace().map(OsString::from);
        let text = |part: Vec<OsString>| part.into_iter().map(|word| word.into_string().unwrap()).collect();
        split(line).into_iter().map(text).collect()
    }

    fn parse(line: &str) -> Result<Another, String> {
        let part = line.split_whitespace().map(OsString::from).collect();
        Another::parse_part(part).map_err(|error| error.render().to_string())
    }

    #[test]
    fn words_that_are_exactly_two_dashes_separate() {
        assert_eq!(parts("g a -- b --c -- ---"), [vec!["g", "a"], vec!["b", "--c"], vec!["---"]]);
        assert_eq!(parts("g"), [["g"]]);
        assert_eq!(parts("g --"), [vec!["g"], vec![]]);
        assert_eq!(parts("-- --"), [[""; 0]; 3]);
    }

    #[test]
    fn a_part_has_the_options_of_an_export() {
        let another = parse("-e b -r --description d memory --memory 2M 1G get=size").unwrap();
        assert_eq!(another.words, ["memory", "1G", "get=size"]);
        let Offered { exportname, description, readonly } = another.offered;
        assert_eq!((exportname.as_str(), description.as_deref(), readonly), ("b", Some("d"), true));
        assert_eq!(another.memory, Some(2 << 20));
    }

    #[test]
    fn options_of_the_server_belong_before_the_first_driver() {
        for option in ["--workers", "-p", "--port", "--ip-addr", "-U", "--config", "--run", "-v"] {
            let message = parse(&format!("memory 1G {option} 1")).unwrap_err();
            assert!(message.contains(option) && message.contains("before the first driver"), "{message}");
        }
        let message = parse("memory 1G --zzz").unwrap_err();
        assert!(message.contains("--zzz") && !message.contains("before the first"), "{message}");
    }
}
