//! Wrong command lines and things in the way: one message that names the thing, the reason and the remedy, the right
//! exit code, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tests::{Gateway, Output, run};

use crate::raw::Raw;

const FAILURE: i32 = 1;
const USAGE: i32 = 2;

/// A folder in which gateways are started that shall not start.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tests::Server::folder();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Bench { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(Gateway::program());
        command.current_dir(self.folder.path()).env("TMPDIR", self.path("tmp")).env_remove("GATEWAY_LOG");
        command
    }

    /// Runs a command line that must fail, and returns what it said.
    fn refused(&self, code: i32, line: &[&str]) -> String {
        self.refused_command(code, self.command().args(line))
    }

    fn refused_command(&self, code: i32, command: &mut Command) -> String {
        let Output { status, stdout, stderr } = run(command);
        assert_eq!(status.code(), Some(code), "{command:?} said:\n{stderr}");
        assert_eq!(stdout, "", "{command:?} announced something");
        let said = stderr.strip_prefix("gateway: ");
        let said = said.unwrap_or_else(|| panic!("{command:?} said:\n{stderr}"));
        assert!(!said.contains("panicked"), "{said}");
        for left in ["sock", "pid", "tmp/gateway"] {
            let parent = self.path(left).parent().unwrap().to_owned();
            let prefix = Path::new(left).file_name().unwrap().to_str().unwrap();
            let found = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().file_name());
            let found: Vec<_> = found.filter(|name| name.to_str().unwrap().starts_with(prefix)).collect();
            assert!(found.is_empty(), "{command:?} left {found:?} behind");
        }
        said.to_owned()
    }
}

/// All of these words are in the message, which is one line.
#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    assert_eq!(said.trim_end().lines().count(), 1, "one line is enough:\n{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
}

/// The drivers' tables.
fn drivers() -> Vec<Value> {
    let text = run(Command::new(Gateway::program()).args(["drivers", "--json"])).success();
    serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
}

/// Every driver's properties: names of driver and property, and the row.
fn properties() -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for driver in drivers() {
        for property in driver["properties"].as_array().unwrap() {
            let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
            all.push((name(&driver), name(property), property.clone()));
        }
    }
    assert!(all.len() > 90, "three drivers have that many: {}", all.len());
    all
}

#[test]
fn every_property_refuses_what_is_not_of_its_type_or_range() {
    let bench = Bench::new();
    for (driver, name, row) in properties().iter().filter(|(_, _, row)| row["settable"] == true) {
        let bad: &[&str] = match row["type"].as_str().unwrap() {
            "bool" => &["", "maybe", "2"],
            "number" => &["", "x", "1.5", "0x10", "-1", "9999999999999", "99999999999999999999999"],
            "size" => &["", "x", "-1", "1.5G", "1P", "99999999T"],
            "path" => &[""],
            "word" => &["", "x", "kept|lost"],
            "patience" => &["", "x", "-1", "1.5", "10s", "99999999999"],
            other => panic!("{driver} {name}: no bad values are known for the type {other}"),
        };
        for value in bad {
            let word = format!("{name}={value}");
            let said = bench.refused(USAGE, &["-U", "sock", "-P", "pid", driver, &word]);
            assert_says(&said, &[name, driver, "cannot be", &format!("'{value}'"), "(", "="]);
        }
    }
}

#[test]
fn every_fact_refuses_to_be_set() {
    let bench = Bench::new();
    for (driver, name, _) in properties().iter().filter(|(_, _, row)| row["settable"] == false) {
        let said = bench.refused(USAGE, &["-U", "sock", driver, &format!("{name}=1")]);
        assert_says(&said, &[name, driver, "cannot be set", &format!("get={name}")]);
    }
}

#[test]
fn every_property_is_suggested_for_a_name_that_is_nearly_its_own() {
    let bench = Bench::new();
    for (driver, name, _) in properties() {
        // A word with a hyphen too many is nobody else's name.
        let said = bench.refused(USAGE, &["-U", "sock", &driver, &format!("{name}-=1")]);
        assert_says(&said, &[&driver, &format!("no property '{name}-'"), &format!("'{name}'?")]);
        let said = bench.refused(USAGE, &["-U", "sock", &driver, &format!("get={name}-")]);
        assert_says(&said, &[&driver, &format!("no property '{name}-'"), &format!("'{name}'?")]);
    }
}

#[test]
fn every_property_is_given_once_at_most() {
    let bench = Bench::new();
    for (driver, name, row) in properties().iter().filter(|(_, _, row)| row["settable"] == true) {
        // In the range of every number.
        let value = match row["type"].as_str().unwrap() {
            "bool" => "true",
            "word" => row["values"].as_str().unwrap().split('|').next().unwrap(),
            _ => "64",
        };
        let word = format!("{name}={value}");
        let said = bench.refused(USAGE, &["-U", "sock", driver, &word, &word]);
        assert_says(&said, &[name, driver, "twice"]);
    }
}

#[test]
fn every_driver_asks_for_what_it_cannot_do_without() {
    let bench = Bench::new();
    for driver in drivers() {
        let (name, magic) = (driver["name"].as_str().unwrap(), driver["magic"].as_str().unwrap());
        assert_says(&bench.refused(USAGE, &["-U", "sock", name]), &[name, magic, "for example"]);
    }
}

#[test]
fn words_that_contradict_each_other_are_refused() {
    let bench = Bench::new();
    fs::write(bench.path("image"), "x").unwrap();
    let said = bench.refused(USAGE, &["-r", "memory", "1M", "read-only=false"]);
    assert_says(&said, &["-r", "read-only=false", "contradicts"]);
    let said = bench.refused(USAGE, &["io_uring", "path=image", "fd=0"]);
    assert_says(&said, &["'path'", "'fd'", "both"]);
    let said = bench.refused(USAGE, &["io_uring", "path=image", "num-poll-queues=1"]);
    assert_says(&said, &["num-poll-queues", "direct=true"]);
    for option in ["-p1", "-i::1", "-Usock", "--vsock", "--run=true", "--print-uri", "--daemon"] {
        assert!(bench.refused(USAGE, &["-s", option, "memory", "1M"]).contains("--single"), "{option}");
    }
    for option in ["-f", "--run=true", "--exit-with-parent"] {
        assert!(bench.refused(USAGE, &["--daemon", option, "memory", "1M"]).contains("--daemon"), "{option}");
    }
    let said = bench.refused(USAGE, &["-s", "memory", "1M", "get=capacity"]);
    assert_says(&said, &["get=capacity", "-s"]);
    let said = bench.refused(USAGE, &["-U", "sock", "-U", "./sock", "memory", "1M"]);
    assert_says(&said, &["sock", "twice"]);
}

#[test]
fn options_refuse_what_makes_no_sense() {
    let bench = Bench::new();
    let cases: [(&[&str], &str); 18] = [
        (&["--vsock=4294967295"], "--vsock"),
        (&["--max-clients", "-1"], "--max-clients"),
        (&["--max-handshakes", "0"], "--max-handshakes"),
        (&["--handshake-timeout", "0"], "--handshake-timeout"),
        (&["--idle-timeout", "-1"], "--idle-timeout"),
        (&["--idle-timeout", "99999999"], "--idle-timeout"),
        (&["-p", "65536"], "--port"),
        (&["-p", "-1"], "--port"),
        (&["-p", "nbd"], "--port"),
        (&["--workers", "0"], "--workers"),
        (&["--workers", "1025"], "--workers"),
        (&["--memory", "1"], "--memory"),
        (&["--memory", "lots"], "--memory"),
        (&["--poll", "-1"], "--poll"),
        (&["--poll", "1000000"], "--poll"),
        (&["-U", ""], "--unix"),
        (&["--json"], "--json"),
        (&["--no-such-option"], "--no-such-option"),
    ];
    for (options, name) in cases {
        let line = [options, &["memory", "1M"]].concat();
        assert!(bench.refused(USAGE, &line).contains(name), "{options:?}");
    }
    let said = bench.refused(USAGE, &["-e", &"x".repeat(4097), "memory", "1M"]);
    assert_says(&said, &["--exportname", "4097", "4096"]);
    let said =
        bench.refused_command(USAGE, bench.command().env("GATEWAY_LOG", "a=b=c").args(["memory", "1M"]));
    assert_says(&said, &["GATEWAY_LOG", "for example"]);
}

#[test]
fn without_a_driver_there_is_a_way_to_go_on() {
    let bench = Bench::new();
    assert_says(&bench.refused(USAGE, &[]), &["no driver", "for example", "--help"]);
    assert_says(&bench.refused(USAGE, &["memroy", "1G"]), &["'memroy'", "did you mean 'memory'?"]);
    assert_says(&bench.refused(USAGE, &["zzzzzzzzz"]), &["'zzzzzzzzz'", "io_uring"]);
    assert_says(&bench.refused(USAGE, &["-r", "info", "memory", "1G"]), &["'info'", "gateway info"]);
    assert_says(&bench.refused(USAGE, &["info"]), &["no driver"]);
}

#[test]
fn paths_to_the_wrong_thing_are_refused_by_what_it_is() {
    let bench = Bench::new();
    fs::create_dir(bench.path("folder")).unwrap();
    let _listener = UnixListener::bind(bench.path("a-socket")).unwrap();
    let made = Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap();
    assert!(made.success());
    let cases = [
        ("missing", "No such file", "check the path"),
        ("folder", "directory", "give an image file"),
        ("a-socket", "socket", "give an image file"),
        ("pipe", "pipe", "give an image file"),
        ("/dev/null", "character device", "block device"),
        ("folder/missing/image", "No such file", "check the path"),
    ];
    for (path, reason, remedy) in cases {
        for line in [&["-U", "sock", "-P", "pid", "io_uring", path][..], &["info", "io_uring", path]] {
            let said = bench.refused(FAILURE, line);
            assert_says(&said, &[path, reason, remedy]);
        }
    }
}

#[test]
fn descriptors_to_the_wrong_thing_are_refused_by_what_it_is() {
    let bench = Bench::new();
    let said = bench.refused(FAILURE, &["-U", "sock", "io_uring", "fd=987"]);
    assert_says(&said, &["descriptor 987", "open it"]);
    // The standard input of these commands is a pipe.
    let said = bench.refused(FAILURE, &["-U", "sock", "io_uring", "fd=0"]);
    assert_says(&said, &["descriptor 0", "pipe"]);
}

#[test]
fn an_image_that_may_not_be_read_is_refused_by_its_permissions() {
    let bench = Bench::new();
    let (image, program) = (bench.path("image"), bench.path("program"));
    fs::write(&image, "x").unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    if nix::unistd::geteuid().is_root() {
        // Nothing is forbidden to root, and nobody may look into root's folders.
        fs::copy(Gateway::program(), &program).unwrap();
        command.uid(65534).gid(65534);
    } else {
        std::os::unix::fs::symlink(Gateway::program(), &program).unwrap();
    }
    let said = bench.refused_command(FAILURE, command.args(["-U", "-", "io_uring"]).arg(&image));
    assert_says(&said, &["image", "Permission denied", "check the permissions"]);
}

#[test]
fn what_is_listened_on_already_is_refused_with_a_way_out() {
    let bench = Bench::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let said = bench.refused(FAILURE, &["-p", &port, "-P", "pid", "memory", "1M"]);
    assert_says(&said, &[&port, "in use", "-p 0"]);

    let _live = UnixListener::bind(bench.path("live")).unwrap();
    let said = bench.refused(FAILURE, &["-U", "live", "-P", "pid", "memory", "1M"]);
    assert_says(&said, &["live", "another server", "choose another path"]);
    assert!(bench.path("live").exists());

    fs::write(bench.path("file"), "precious").unwrap();
    let said = bench.refused(FAILURE, &["-U", "file", "memory", "1M"]);
    assert_says(&said, &["file", "no socket", "choose another path"]);
    assert_eq!(fs::read_to_string(bench.path("file")).unwrap(), "precious");
}

#[test]
fn places_that_do_not_exist_are_refused() {
    let bench = Bench::new();
    let said = bench.refused(FAILURE, &["-U", "missing/sock", "memory", "1M"]);
    assert_says(&said, &["missing/sock", "folder"]);
    let long = format!("{}/sock", "x".repeat(120));
    assert_says(&bench.refused(FAILURE, &["-U", &long, "memory", "1M"]), &["107", "shorter"]);
    let said = bench.refused(FAILURE, &["-i", "no-such-host.invalid", "memory", "1M"]);
    assert_says(&said, &["no-such-host.invalid", "0.0.0.0"]);
    // An address for documentation (RFC 5737).
    let said = bench.refused(FAILURE, &["-i", "192.0.2.1", "-p", "0", "memory", "1M"]);
    assert_says(&said, &["192.0.2.1", "no address of this machine"]);
    // The socket is made before the pid file, and must go again.
    for listen in ["-", "sock"] {
        let said = bench.refused(FAILURE, &["-U", listen, "-P", "missing/pid", "memory", "1M"]);
        assert_says(&said, &["missing/pid", "folder"]);
    }
}

#[test]
fn a_machine_without_descriptors_is_told_so() {
    let bench = Bench::new();
    let mut command = Command::new("prlimit");
    command.current_dir(bench.folder.path()).arg("--nofile=6:6").arg(Gateway::program());
    let said = bench.refused_command(FAILURE, command.args(["-U", "sock", "memory", "1M"]));
    assert_says(&said, &["Too many open files", "ulimit -n"]);
}

#[test]
fn an_empty_file_is_a_disk_of_no_bytes() {
    let builder = Gateway::builder();
    let image = builder.path("empty");
    fs::write(&image, "").unwrap();
    let gateway = builder.start(&["io_uring", image.to_str().unwrap()]);
    assert_eq!(Raw::open(gateway.socket(), "").size_bytes, 0);
    gateway.stop();
}
