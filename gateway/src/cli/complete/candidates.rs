//! What a word of the command line may become, by the tables of options and properties.

use clap::{Arg, Command, CommandFactory as _, ValueHint};
use drivers::property::Kind;
use drivers::{DRIVERS, DriverType, Property};

use super::super::args::Arguments;
use super::super::parts::Another;

/// What a bare word of a command line is when it names drivers and properties.
const DRIVER_WORDS: [&str; 2] = ["words", "word"];

/// What may stand in the place of the word that is being typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Candidates(Vec<Candidate>),
    /// The name of a file, behind the last `=` if there is one.
    Files,
    /// Likewise of a folder.
    Folders,
}

/// A word, or the beginning of one if it ends with `=`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) text: String,
    pub(super) help: String,
}

/// What `current` may become behind the words before it, the first of which is behind the program's name.
pub(super) fn answer(before: &[String], current: &str) -> Answer {
    let start = before.iter().rposition(|word| word == "--").map_or(0, |index| index + 1);
    let mut command = if start == 0 { Arguments::command() } else { Another::command() };
    command.build();
    let mut place = Place { command: &command, words: Vec::new(), waiting: None, may_be_command: start == 0 };
    for word in &before[start..] {
        place.step(word);
    }
    match place.answer(current) {
        Answer::Candidates(mut candidates) => {
            candidates.retain(|candidate| candidate.text.starts_with(current));
            Answer::Candidates(candidates)
        }
        files => files,
    }
}

/// How far the words have come.
struct Place<'a> {
    command: &'a Command,
    /// Words that are neither options nor their values.
    words: Vec<&'a str>,
    /// The option whose value comes next.
    waiting: Option<&'a Arg>,
    /// Whether the next word may be a subcommand.
    may_be_command: bool,
}

impl<'a> Place<'a> {
    fn step(&mut self, word: &'a str) {
        if self.waiting.take().is_some() {
            return;
        }
        let may_be_command = std::mem::replace(&mut self.may_be_command, false);
        if let Some(long) = word.strip_prefix("--") {
            self.waiting = long_option(self.command, long).filter(|_| !long.contains('='));
            self.waiting = self.waiting.filter(|option| wants_word(option));
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            self.waiting = waiting_letter(self.command, letters);
        } else if let Some(command) = self.command.find_subcommand(word).filter(|_| may_be_command) {
            self.command = command;
            self.may_be_command = true;
        } else {
            self.words.push(word);
        }
    }

    fn answer(&self, current: &str) -> Answer {
        if let Some(option) = self.waiting {
            return values(option, "");
        }
        if let Some((name, _)) = current.split_once('=').filter(|(name, _)| name.starts_with("--")) {
            let option = long_option(self.command, &name[2..]);
            return option
                .map_or(Answer::Candidates(Vec::new()), |option| values(option, &format!("{name}=")));
        }
        if current.starts_with('-') {
            return Answer::Candidates(options(self.command));
        }
        let mut candidates = if self.may_be_command { subcommands(self.command) } else { Vec::new() };
        let positional: Vec<&Arg> = self.command.get_positionals().collect();
        match positional.get(self.words.len()).or(positional.last()) {
            Some(arg) if DRIVER_WORDS.contains(&arg.get_id().as_str()) => match self.words.first() {
                None => {
                    candidates.extend(DRIVERS.iter().map(|driver| named(driver.name(), driver.summary())))
                }
                Some(driver) => return self.properties(driver, current),
            },
            Some(arg) => match values(arg, "") {
                Answer::Candidates(more) => candidates.extend(more),
                files => return files,
            },
            None => {}
        }
        Answer::Candidates(candidates)
    }

    /// What may stand behind a driver.
    fn properties(&self, driver: &str, current: &str) -> Answer {
        let Ok(driver) = drivers::find(driver) else { return Answer::Candidates(Vec::new()) };
        if let Some(name) = current.split_once('=').map(|(name, _)| name) {
            return if name == "get" { gets(driver) } else { property_values(driver, name) };
        }
        let is_set = |name: &str| {
            self.words.iter().any(|word| word.split_once('=').is_some_and(|(set, _)| set == name))
        };
        let free =
            driver.properties().iter().filter(|property| property.settable() && !is_set(property.name));
        let mut candidates: Vec<Candidate> =
            free.map(|property| named(&format!("{}=", property.name), property.help)).collect();
        // Only who serves can print a property after the start.
        if self.command.get_name() == "gateway" {
            candidates.push(named("get=", "Print a property after the start"));
        }
        // A bare word is the driver's most important property.
        let bare =
            property(driver, driver.magic_property()).is_some_and(|property| property.kind == Kind::Path);
        let fits = candidates.iter().any(|candidate| candidate.text.starts_with(current));
        if bare && !fits { Answer::Files } else { Answer::Candidates(candidates) }
    }
}

fn named(text: &str, help: &str) -> Candidate {
    Candidate { text: text.to_owned(), help: help.to_owned() }
}

fn property(driver: &dyn DriverType, name: &str) -> Option<&'static Property> {
    driver.properties().iter().find(|property| property.name == name)
}

/// Words `get=PROPERTY`.
fn gets(driver: &dyn DriverType) -> Answer {
    let get = |property: &Property| named(&format!("get={}", property.name), property.help);
    Answer::Candidates(driver.properties().iter().map(get).collect())
}

/// Words `PROPERTY=VALUE`.
fn property_values(driver: &dyn DriverType, name: &str) -> Answer {
    let values: &[&str] = match property(driver, name).filter(|property| property.settable()) {
        None => &[],
        Some(property) => match property.kind {
            Kind::Bool => &["true", "false"],
            Kind::Word(words) => words,
            Kind::Patience { .. } => &["forever"],
            Kind::Path => return Answer::Files,
            Kind::Int { .. } | Kind::Size { .. } | Kind::Text => &[],
        },
    };
    Answer::Candidates(values.iter().map(|value| named(&format!("{name}={value}"), "")).collect())
}

/// The option of this name, which may have a value behind it.
fn long_option<'a>(command: &'a Command, text: &str) -> Option<&'a Arg> {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// Of letters behind one dash, the option that takes its value from the next word.
fn waiting_letter<'a>(command: &'a Command, letters: &str) -> Option<&'a Arg> {
    for (index, letter) in letters.char_indices() {
        let option = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        if option.get_action().takes_values() {
            let is_last = index + letter.len_utf8() == letters.len();
            return Some(option).filter(|option| is_last && wants_word(option));
        }
    }
    None
}

/// Whether an option's value stands in the next word.
fn wants_word(option: &Arg) -> bool {
    let least = option.get_num_args().map_or(1, |count| count.min_values());
    option.get_action().takes_values() && !option.is_require_equals_set() && least > 0
}

/// Options for people, long and short.
fn options(command: &Command) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        candidates.extend(arg.get_long().map(|long| named(&format!("--{long}"), &help)));
        candidates.extend(arg.get_short().map(|short| named(&format!("-{short}"), &help)));
    }
    candidates
}

fn subcommands(command: &Command) -> Vec<Candidate> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    shown.map(|command| named(command.get_name(), &about(command))).collect()
}

/// What the value of an option, or a bare word, may be. `prefix` stands before it in the same word.
fn values(arg: &Arg, prefix: &str) -> Answer {
    let named_value = |value: clap::builder::PossibleValue| {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        named(&format!("{prefix}{}", value.get_name()), &help)
    };
    let listed: Vec<Candidate> = arg.get_possible_values().into_iter().map(named_value).collect();
    match arg.get_value_hint() {
        ValueHint::AnyPath | ValueHint::FilePath => Answer::Files,
        ValueHint::DirPath => Answer::Folders,
        _ => Answer::Candidates(listed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts for the last word of a line; `None` for files.
    fn texts(line: &str) -> Option<Vec<String>> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (current, before) = words.split_last().unwrap();
        match answer(before, current) {
            Answer::Candidates(candidates) => {
                Some(candidates.into_iter().map(|candidate| candidate.text).collect())
            }
            _ => None,
        }
    }

    fn all(line: &str) -> Vec<String> {
        texts(line).unwrap()
    }

    #[test]
    fn every_driver_property_and_option_is_known() {
        let (first, options) = (all(""), all("-"));
        for driver in DRIVERS {
            assert!(first.iter().any(|text| text == driver.name()), "{}", driver.name());
            let (set, get) = (all(&format!("{} ", driver.name())), all(&format!("{} get=", driver.name())));
            for property in driver.properties() {
                let name = property.name;
                assert_eq!(set.contains(&format!("{name}=")), property.settable(), "{name}");
                assert!(get.contains(&format!("get={name}")), "{name}");
            }
        }
        let mut command = Arguments::command();
        command.build();
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let long = arg.get_long().map(|long| format!("--{long}"));
            assert!(long.is_none_or(|long| options.contains(&long)), "{}", arg.get_id());
        }
        for subcommand in command.get_subcommands() {
            assert_eq!(first.iter().any(|text| text == subcommand.get_name()), !subcommand.is_hide_set());
        }
    }

    #[test]
    fn properties_are_completed_with_their_values() {
        assert_eq!(all("io_uring dir"), ["direct="]);
        assert_eq!(all("io_uring path=a -r direct="), ["direct=true", "direct=false"]);
        assert_eq!(all("io_uring direct=t"), ["direct=true"]);
        assert_eq!(all("virtio-blk-vhost-user reconnect-cache=l"), ["reconnect-cache=lost"]);
        assert_eq!(all("virtio-blk-vhost-user reconnect="), ["reconnect=forever"]);
        assert!(all("io_uring num-queues=").is_empty() && all("io_uring capacity=").is_empty());
    }

    #[test]
    fn what_is_set_is_not_offered_again() {
        assert!(all("io_uring path=a dir").contains(&"direct=".to_owned()));
        assert!(!all("io_uring direct=true ").contains(&"direct=".to_owned()));
    }

    #[test]
    fn paths_are_left_to_the_shell() {
        for line in [
            "io_uring path=",
            "io_uring ./d",
            "info io_uring path=x",
            "-P ",
            "--pidfile ",
            "--config=",
            "-vP ",
            "pki ",
            "memory 1G --tls-psk ",
            "pki --days 3 ",
        ] {
            assert_eq!(texts(line), None, "{line}");
        }
    }

    #[test]
    fn values_of_options_are_no_words() {
        assert_eq!(all("--tls "), ["off", "on", "require"]);
        assert_eq!(all("--tls=o"), ["--tls=off", "--tls=on"]);
        assert_eq!(all("-p 1 io_uring dir"), ["direct="]);
        assert_eq!(all("-p1 --exportname info io_uring dir"), ["direct="]);
        assert_eq!(all("--vsock io_uring dir"), ["direct="], "its value would stand behind '='");
        assert!(all("-p ").is_empty());
    }

    #[test]
    fn subcommands_have_words_of_their_own() {
        assert!(all("in").contains(&"info".to_owned()) && !all("-v in").contains(&"info".to_owned()));
        assert_eq!(all("info io_uring dir"), ["direct="]);
        assert!(all("info io_uring ").iter().all(|text| text != "get="));
        assert!(
            all("drivers --").contains(&"--json".to_owned())
                && !all("drivers --").contains(&"--port".to_owned())
        );
        assert_eq!(all("help io"), ["io_uring"]);
        assert_eq!(all("generate m"), ["man"]);
    }

    #[test]
    fn each_part_of_the_line_has_a_driver() {
        assert_eq!(all("-e a memory 1G -- -e b io_uring dir"), ["direct="]);
        assert!(all("memory 1G -- -").contains(&"--exportname".to_owned()));
        assert!(!all("memory 1G -- -").contains(&"--port".to_owned()), "it is for the whole server");
        assert_eq!(all("memory 1G -- inf"), [""; 0]);
    }
}
