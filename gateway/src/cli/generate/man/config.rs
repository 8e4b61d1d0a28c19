//! gateway.toml(5): the keys as the reader of the file knows them, the words as the options of the same name have them.

use clap::{Arg, Command};
use roff::{bold, italic, roman};

use super::page::Page;
use crate::config::{Key, known_keys};

/// What is no option, or has another meaning in a file: section, key, text.
const WORDS: &[(&str, &str, &str)] = &[
    (
        "[server]",
        "log-level",
        "What is logged, in the words of the environment variable GATEWAY_LOG; a reload changes it [default: \"info\"]",
    ),
    ("[[listen]]", "tcp", "Address or host name to listen on; \"0.0.0.0\" and \"::\" are all"),
    ("[[listen]]", "port", "TCP port, beside the key tcp; 0 takes a free one [default: 10809]"),
    (
        "[[listen]]",
        "unix",
        "Unix socket to listen on; \"-\" makes a private one that goes when the server ends",
    ),
    ("[[listen]]", "vsock", "Port for virtual machines and their host"),
    (
        "[[listen]]",
        "activation",
        "Sockets that systemd passes by this name (FileDescriptorName= of the unit)",
    ),
    ("[[export]]", "name", "Name of the export; must be given, and may be empty"),
    ("[[export]]", "driver", "How the disk is reached, as 'gateway drivers' lists them; must be given"),
    ("[[export]]", "properties", "Properties of the driver, as the page gateway-DRIVER(1) explains them"),
    (
        "[[export]]",
        "default",
        "For clients that ask for no name; else that is the export named \"\", or the first",
    ),
    ("[[export]]", "memory", "Payload memory of this disk [default: that of the server]"),
    ("[[export]]", "tls", "Only clients with TLS may see and open it"),
    ("[[export]]", "allow", "Who may see and open it; see [export.allow]"),
    ("[export.allow]", "address", "Addresses, and networks as ADDRESS/BITS"),
    (
        "[export.allow]",
        "certificate",
        "Names in the client's certificate; \"*.\" at the beginning stands for one label",
    ),
    ("[export.allow]", "psk", "Users of pre-shared keys"),
    ("[export.allow]", "uid", "Users of processes on Unix sockets, by number or name"),
    ("[export.allow]", "gid", "Groups that processes on Unix sockets run as, by number or name"),
];

/// What the sections are, in the order of the page.
const SECTIONS: &[(&str, &str)] = &[
    ("[server]", "What the server is told; may be left out. Options of the command line go before its keys."),
    (
        "[[listen]]",
        "A place to listen on, any number of them, each with one of the keys tcp, unix, vsock and activation. Without \
         any it is as on a command line without options, or as the service manager passes sockets.",
    ),
    ("[[export]]", "A disk and how it is offered; at least one."),
    (
        "[export.allow]",
        "Rules of the export above it. Of each key that is there, a client must match one value.",
    ),
];

const EXAMPLE: &str = "\
[server]
workers = 4

[[listen]]
tcp = \"0.0.0.0\"
[[listen]]
unix = \"/run/gateway/nbd.sock\"

[[export]]
name = \"disk1\"
driver = \"io_uring\"
properties = { path = \"/srv/disk1.img\", direct = true }

[[export]]
name = \"disk2\"
driver = \"io_uring\"
read-only = true
properties = { path = \"/dev/vg/disk2\" }
[export.allow]
address = [\"10.0.0.0/8\", \"::1\"]";

pub(super) fn page(command: &Command) -> Page {
    let mut page = Page::new("gateway.toml", 5, "configuration file of gateway");
    page.section("SYNOPSIS");
    page.verbatim(["gateway --config FILE", "gateway --check-config FILE"]);
    page.section("DESCRIPTION");
    page.paragraphs(
        "A file in the language TOML with any number of exports. Relative paths in it begin in its own folder. What is \
         wrong is told all at once, each with its line and column, and no device is touched before.",
    );
    page.paragraphs(
        "SIGHUP has a server read its file again: new exports and places to listen appear, those that are gone are \
         closed when their clients have their answers, certificates and keys are renewed. A file that is wrong changes \
         nothing.",
    );
    let keys = known_keys();
    for (section, about) in sections(&keys) {
        page.section(section);
        page.paragraphs(about);
        for key in keys.iter().filter(|key| key.section == section) {
            page.term(
                [bold(key.name), roman(" = "), italic(&key.values)],
                &words(command, key).unwrap_or_default(),
            );
        }
    }
    page.section("EXAMPLES");
    page.verbatim(EXAMPLE.lines());
    page.see_also(&[("gateway".into(), 1), ("gateway-drivers".into(), 1)]);
    page
}

/// The sections that there are: those of the table first.
fn sections(keys: &[Key]) -> Vec<(&str, &str)> {
    let mut sections = SECTIONS.to_vec();
    for key in keys {
        if sections.iter().all(|(section, _)| *section != key.section) {
            sections.push((key.section, ""));
        }
    }
    sections
}

/// What a key means.
fn words(command: &Command, key: &Key) -> Option<String> {
    let own = WORDS.iter().find(|(section, name, _)| *section == key.section && *name == key.name);
    own.map(|(.., text)| (*text).to_owned()).or_else(|| {
        let option = command.get_arguments().find(|arg| is_called(arg, key.name))?;
        option.get_help().map(ToString::to_string)
    })
}

fn is_called(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Arguments;
    use crate::config::Told;
    use clap::CommandFactory as _;

    #[test]
    fn every_key_is_explained_and_every_explanation_has_a_key() {
        let (command, keys) = (Arguments::command(), known_keys());
        for key in &keys {
            assert!(words(&command, key).is_some(), "{key:?} is no option: explain it in WORDS");
            assert!(SECTIONS.iter().any(|(section, _)| *section == key.section), "{key:?}");
        }
        for (section, name, _) in WORDS {
            assert!(keys.iter().any(|key| key.section == *section && key.name == *name), "{section} {name}");
        }
    }

    #[test]
    fn the_example_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, EXAMPLE).unwrap();
        assert_eq!(crate::config::load(&file, Told::default()).unwrap().exports.len(), 2);
    }
}
