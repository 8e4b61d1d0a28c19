//! Options and arguments of a command, as clap has them.

use clap::{Arg, Command};
use roff::{Inline, bold, italic, roman};

use super::page::Page;

/// What options without a heading of their own stand under.
const OTHERS: &str = "Options";

/// The options of a command under their headings, in the order in which these first occur. What is about all commands
/// comes last.
pub(super) fn add(page: &mut Page, command: &Command) {
    let positionals: Vec<&Arg> = command.get_positionals().filter(|arg| !arg.is_hide_set()).collect();
    if !positionals.is_empty() {
        page.section("ARGUMENTS");
    }
    for arg in positionals {
        page.term([italic(value_name(arg))], &help(arg));
    }
    let options: Vec<&Arg> =
        command.get_opts().chain(flags(command)).filter(|arg| !arg.is_hide_set()).collect();
    if options.is_empty() {
        return;
    }
    page.section("OPTIONS");
    for heading in headings(command) {
        let under = options.iter().filter(|arg| heading_of(arg) == heading);
        if heading != OTHERS {
            page.subsection(heading);
        }
        for arg in under {
            page.term(term(arg), &help(arg));
        }
    }
}

/// Options without a value.
fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional() && !arg.get_action().takes_values())
}

fn headings(command: &Command) -> Vec<&str> {
    let mut headings: Vec<&str> = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()) {
        if !headings.contains(&heading_of(arg)) {
            headings.push(heading_of(arg));
        }
    }
    headings
}

fn heading_of(arg: &Arg) -> &str {
    arg.get_help_heading().unwrap_or(OTHERS)
}

/// How the option is written: `-p, --port PORT`.
fn term(arg: &Arg) -> Vec<Inline> {
    let mut inlines = Vec::new();
    if let Some(short) = arg.get_short() {
        inlines.push(bold(format!("-{short}")));
    }
    if let Some(long) = arg.get_long() {
        if !inlines.is_empty() {
            inlines.push(roman(", "));
        }
        inlines.push(bold(format!("--{long}")));
    }
    if arg.get_action().takes_values() {
        let optional = arg.get_num_args().is_some_and(|count| count.min_values() == 0);
        let equals = arg.is_require_equals_set();
        inlines.push(roman(match (optional, equals) {
            (true, true) => "[=",
            (true, false) => " [",
            (false, true) => "=",
            (false, false) => " ",
        }));
        inlines.push(italic(value_name(arg)));
        inlines.extend(optional.then(|| roman("]")));
    }
    inlines
}

fn value_name(arg: &Arg) -> String {
    match arg.get_value_names() {
        Some(names) => names.join(" "),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

/// What the option means, with its default as the program's own help tells it.
fn help(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if arg.get_action().takes_values() && !arg.is_hide_default_value_set() && !defaults.is_empty() {
        text.push_str(&format!(" [default: {}]", defaults.join(" ")));
    }
    text
}
