//! The configuration file: what is told about wrong ones, and what a right one does.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tests::{Gateway, Output, Server, run};

/// What is told of each wrong file; its first lines say how it is written.
const MALFORMED: &str = include_str!("malformed.txt");

/// The longest name that the protocol allows, and one more.
const LONG: usize = 4097;

/// What '+' stands for.
const EXPORT: &str = "[[export]]\nname = \"another\"\ndriver = \"null\"\nproperties.size = 1\n";

/// One wrong file.
struct Case {
    title: String,
    text: String,
    told: String,
}

fn cases() -> Vec<Case> {
    MALFORMED.split("\n### ").skip(1).map(case).collect()
}

fn case(block: &str) -> Case {
    let (title, body) = block.split_once('\n').unwrap();
    let mut case = Case { title: title.to_owned(), text: String::new(), told: String::new() };
    for line in body.trim_end().lines().map(|line| line.replace("@LONG@", &"x".repeat(LONG))) {
        match line.strip_prefix("! ") {
            Some(told) => writeln!(case.told, "{told}").unwrap(),
            None if line == "+" => case.text.push_str(EXPORT),
            None => writeln!(case.text, "{line}").unwrap(),
        }
    }
    case
}

/// A file in a folder of its own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(Server::folder())
    }

    fn write(&self, text: &str) -> PathBuf {
        let file = self.0.path().join("gateway.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// The gateway started in the folder.
    fn gateway(&self, line: &[&str]) -> Output {
        run(Command::new(Gateway::program()).args(line).current_dir(self.0.path()))
    }

    fn check(&self) -> Output {
        self.gateway(&["--check-config", "gateway.toml"])
    }
}

#[test]
fn every_malformed_file_is_told_its_places_and_reasons() {
    let cases = cases();
    assert!(cases.len() >= 40, "{} files", cases.len());
    let folder = Folder::new();
    for Case { title, text, told } in cases {
        folder.write(&text);
        let output = folder.check();
        assert_eq!(output.status.code(), Some(2), "{title}: {output:?}");
        let said: String = output.stderr.lines().fold(String::new(), |mut said, line| {
            let place = line.strip_prefix("gateway.toml:").unwrap_or(line);
            writeln!(said, "{place}").unwrap();
            said
        });
        assert_eq!(said, told, "{title}");
        assert_eq!(output.stdout, "", "{title}");
    }
}

#[test]
fn two_hundred_exports_are_fine() {
    let mut text = String::new();
    for number in 0..200 {
        let (name, path) = (format!("disk{number}"), format!("images/{number}.img"));
        writeln!(text, "[[export]]\nname = \"{name}\"\ndriver = \"io_uring\"\nproperties.path = \"{path}\"")
            .unwrap();
    }
    let folder = Folder::new();
    folder.write(&text);
    assert_eq!(folder.check().success(), "gateway.toml: 200 exports, fine\n");
    folder.write(EXPORT);
    assert_eq!(folder.check().success(), "gateway.toml: 1 export, fine\n");
}

#[test]
fn a_file_that_cannot_be_read_is_no_wrong_usage() {
    let folder = Folder::new();
    for option in ["--check-config", "--config"] {
        let output = folder.gateway(&[option, "gateway.toml"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.failure().starts_with("gateway.toml: cannot read the configuration: No such file"));
    }
}

#[test]
fn a_wrong_file_is_not_served() {
    let folder = Folder::new();
    folder.write("[[export]]\nname = 1\ndriver = \"null\"\nproperties.size = 1\n");
    let output = folder.gateway(&["--config", "gateway.toml", "--run", "true"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.failure().starts_with("gateway.toml:2:8: "));
}

#[test]
fn an_export_of_a_file_is_served_with_paths_relative_to_the_file() {
    let folder = Folder::new();
    fs::write(folder.0.path().join("disk.img"), vec![0; 3 << 20]).unwrap();
    let file = folder.write(
        "[server]\nworkers = 1\n[[listen]]\nunix = \"sock\"\n[[export]]\nname = \"a b\"\nread-only = true\n\
         driver = \"io_uring\"\nproperties = { path = \"disk.img\" }\n",
    );
    let script = r#"echo "$unixsocket|$exportname"; grep -l '^worker-' /proc/$PPID/task/*/comm | wc -l"#;
    let line = ["--config", file.to_str().unwrap(), "--run", script];
    let said = run(Command::new(Gateway::program()).args(line).current_dir("/")).success();
    let socket = folder.0.path().join("sock");
    assert_eq!(said, format!("{}|a b\n1\n", socket.display()));
    let said =
        folder.gateway(&["--config", "gateway.toml", "-U", "-", "--run", "echo $unixsocket"]).success();
    assert_ne!(said.trim(), socket.to_str().unwrap(), "an option goes before what the file says");
}

#[test]
fn a_file_and_exports_of_the_line_exclude_each_other() {
    let folder = Folder::new();
    folder.write(EXPORT);
    for more in [&["null", "1"][..], &["-e", "a"], &["-r"], &["--description", "d"], &["--", "null", "1"]] {
        let output = folder.gateway(&[&["--config", "gateway.toml"], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}: {output:?}");
    }
    for more in [&["null", "1"][..], &["--workers", "1"], &["--", "null", "1"]] {
        let output = folder.gateway(&[&["--check-config", "gateway.toml"], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}: {output:?}");
    }
}

#[test]
fn drivers_between_dashes_are_checked_each() {
    let wrong = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let output = Folder::new().gateway(&words);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        output.failure()
    };
    assert!(wrong("null 1 -- null 1").contains("put -e NAME before each driver"));
    assert!(wrong("-e a null 1 -- -e a null 1").contains("several exports have the name 'a'"));
    assert!(wrong("-e a null 1 -- -e b nul 1").contains("did you mean 'null'?"));
    assert!(wrong("-e a null 1 --").contains("no driver is given"));
    assert!(wrong("-e a null 1 -- -e b null 1 --workers 2").contains("before the first driver"));
    assert!(wrong("info null 1 -- null 1").contains("'--' separates drivers"));
}

#[test]
fn help_behind_dashes_is_about_that_driver() {
    let said = Folder::new().gateway(&["null", "1", "--", "memory", "--help"]).success();
    assert!(said.starts_with("memory: "), "{said}");
}
