//! Pages of the manual: one for the program, each subcommand, each driver, and the configuration file.

mod config;
mod driver;
mod options;
mod page;
mod program;

use clap::{Command, CommandFactory as _};
use drivers::DRIVERS;

use super::super::args::Arguments;

/// All pages: names of files, and their texts. `date` is that of the pages, and may be empty.
pub(super) fn pages(date: &str) -> Vec<(String, String)> {
    let mut command = Arguments::command();
    // Makes the subcommands know of the options that all have.
    command.build();
    let mut pages = vec![program::page(&command), config::page(&command)];
    pages.extend(subcommands(&command).map(|subcommand| program::subcommand_page(&command, subcommand)));
    pages.extend(DRIVERS.iter().map(|driver| driver::page(*driver)));
    pages.into_iter().map(|page| (page.file_name(), page.render(date))).collect()
}

/// Subcommands that are for people.
fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a page as a reader sees it, nearly: without escapes and fonts.
    fn text(name: &str) -> String {
        let page = pages("2026-01-02").into_iter().find(|(file, _)| file == name);
        let (_, text) = page.unwrap_or_else(|| panic!("no page {name}"));
        let fonts = ["\\fB", "\\fI", "\\fR", "\\&"];
        let text = fonts.iter().fold(text, |text, font| text.replace(font, ""));
        text.replace("\\-", "-").replace("\\*(Aq", "'")
    }

    #[test]
    fn every_driver_has_a_page_with_all_its_properties() {
        for driver in DRIVERS {
            let text = text(&format!("gateway-{}.1", driver.name()));
            assert!(text.contains(driver.summary()));
            for property in driver.properties() {
                assert!(text.contains(property.name) && text.contains(property.help), "{}", property.name);
                assert!(text.contains(property.default), "{}", property.name);
            }
        }
    }

    #[test]
    fn every_option_is_on_the_page_of_its_command() {
        let mut command = Arguments::command();
        command.build();
        let pages = subcommands(&command).map(|sub| (format!("gateway-{}.1", sub.get_name()), sub));
        for (name, command) in pages.chain([("gateway.1".to_owned(), &command)]) {
            let text = text(&name);
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains(&help), "{name}: {help}");
                let long = arg.get_long().map(|long| format!("--{long}"));
                assert!(long.is_none_or(|long| text.contains(&long)), "{name}: {}", arg.get_id());
            }
        }
    }

    #[test]
    fn the_page_of_the_program_leads_to_all_others() {
        let first = text("gateway.1");
        for (file, _) in pages("") {
            let (name, section) = file.rsplit_once('.').unwrap();
            assert!(file == "gateway.1" || first.contains(&format!("{name}({section})")), "{file}");
        }
    }

    #[test]
    fn the_page_of_the_file_has_every_key() {
        let text = text("gateway.toml.5");
        for key in crate::config::known_keys() {
            assert!(text.contains(&format!("\n{} = ", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn hidden_commands_have_no_page() {
        let names: Vec<String> = pages("").into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| !name.contains("generate") && !name.contains("help")), "{names:?}");
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }
}
