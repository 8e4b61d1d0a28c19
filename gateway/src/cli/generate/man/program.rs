//! gateway(1), and the pages of its subcommands.

use clap::Command;
use drivers::DRIVERS;
use roff::{bold, roman};

use super::page::{Page, one_line};
use super::{options, subcommands};

/// What the command lines of the program are called.
const NAME: &str = "gateway";

/// The page of the program.
pub(super) fn page(command: &Command) -> Page {
    let about = text(command.get_about());
    // The first line says what it is, the rest how it is told what to do.
    let (summary, rest) = about.split_once("\n\n").unwrap_or((&about, ""));
    let mut page = Page::new(NAME, 1, &lower(summary));
    synopsis(&mut page, command);
    page.section("DESCRIPTION");
    page.paragraphs(rest);
    page.section("DRIVERS");
    for driver in DRIVERS {
        let name = driver.name();
        let page_of = [bold(format!("{NAME}-{name}")), roman(format!("(1): {}", driver.summary()))];
        page.paragraph(page_of);
    }
    page.section("COMMANDS");
    for subcommand in subcommands(command) {
        let about = lower(&text(subcommand.get_about()));
        page.paragraph([bold(page_name(subcommand)), roman(format!("(1): {about}"))]);
    }
    options::add(&mut page, command);
    after_help(&mut page, command);
    let drivers = DRIVERS.iter().map(|driver| format!("{NAME}-{}", driver.name()));
    let mut pages: Vec<(String, u8)> =
        subcommands(command).map(page_name).chain(drivers).map(|name| (name, 1)).collect();
    pages.sort();
    pages.push((format!("{NAME}.toml"), 5));
    page.see_also(&pages);
    page
}

/// The page of a subcommand, with those below it.
pub(super) fn subcommand_page(program: &Command, command: &Command) -> Page {
    let about = text(command.get_about());
    let mut page = Page::new(&page_name(command), 1, &lower(&about));
    synopsis(&mut page, command);
    if let Some(long) = command.get_long_about() {
        page.section("DESCRIPTION");
        page.paragraphs(&long.to_string());
    }
    options::add(&mut page, command);
    for below in subcommands(command) {
        page.section(&format!("THE COMMAND {}", below.get_name().to_uppercase()));
        page.paragraphs(&text(below.get_about()));
        usage(&mut page, below);
        options::add(&mut page, below);
        after_help(&mut page, below);
    }
    after_help(&mut page, command);
    let others = subcommands(program).filter(|other| other.get_name() != command.get_name()).map(page_name);
    let pages: Vec<(String, u8)> =
        [NAME.to_owned()].into_iter().chain(others).map(|name| (name, 1)).collect();
    page.see_also(&pages);
    page
}

fn page_name(command: &Command) -> String {
    format!("{NAME}-{}", command.get_name())
}

fn synopsis(page: &mut Page, command: &Command) {
    page.section("SYNOPSIS");
    usage(page, command);
}

fn usage(page: &mut Page, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    let lines = usage.lines().map(|line| line.trim().trim_start_matches("Usage:").trim());
    page.verbatim(lines);
}

fn text(help: Option<&clap::builder::StyledStr>) -> String {
    help.map(ToString::to_string).unwrap_or_default()
}

/// What begins a sentence as the rest of a line: with a small letter, and without the point at its end.
fn lower(text: &str) -> String {
    let text = one_line(text);
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// What the help of a command says at its end: examples, and paragraphs.
fn after_help(page: &mut Page, command: &Command) {
    let text = text(command.get_after_help());
    let mut notes = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        match paragraph.split_once(":\n") {
            Some((heading, lines)) if lines.starts_with("  ") => {
                page.section(&heading.to_uppercase());
                page.commands(lines.lines().map(command_line));
            }
            _ => notes.push(paragraph),
        }
    }
    if !notes.is_empty() {
        page.section("NOTES");
        notes.iter().for_each(|note| page.paragraphs(note));
    }
}

/// A line of examples: a command line, and what is said of it behind two blanks or more.
fn command_line(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once("  ").map_or((line, ""), |(command, about)| (command, about.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_have_comments_or_none() {
        assert_eq!(command_line("  gateway memory 1G    a RAM disk"), ("gateway memory 1G", "a RAM disk"));
        assert_eq!(command_line("  gateway memory 1G"), ("gateway memory 1G", ""));
    }

    #[test]
    fn a_summary_is_no_sentence() {
        assert_eq!(lower("Serves disks\nover NBD."), "serves disks over NBD");
        assert_eq!(lower(""), "");
    }
}
