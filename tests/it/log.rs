//! The log: where it goes, what it says of clients and requests, and that nobody can forge it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Gateway, Output, Server, run, skip, wait_until};

use crate::raw::{FLUSH, FUA, READ, Raw, TRIM};

/// An export whose name would begin a line of its own, in red, in a file; and as clients ask for it.
const HOSTILE: (&str, &str) = ("\\n\\u001b[31mERROR forged", "\n\x1b[31mERROR forged");

/// A configuration with a disk of this name, and keys of `[server]`.
fn configuration(server: &str, name: &str) -> String {
    format!(
        "[server]\n{server}\n[[export]]\nname = \"{name}\"\ndriver = 'memory'\nmemory = '1M'\n\
         properties.size = '1M'\n"
    )
}

/// A gateway with such a configuration.
fn configured(server: &str, name: &str) -> Gateway {
    let builder = Gateway::builder();
    let file = builder.path("gateway.toml");
    fs::write(&file, configuration(server, name)).unwrap();
    builder.start(&["--config".into(), file.into_os_string()])
}

/// Opens an export, writes to it, and leaves.
fn visit(gateway: &Gateway, export: &str) {
    assert_eq!(Raw::open(gateway.socket(), export).write(FUA, 0, &[1; 512]), 0);
}

/// The lines with these words, when there are so many.
fn lines_with(gateway: &Gateway, words: &str, count: usize) -> Vec<String> {
    let found = || {
        let said = gateway.stderr();
        said.lines().filter(|line| line.contains(words)).map(str::to_owned).collect::<Vec<_>>()
    };
    wait_until(&format!("the log says {words:?}"), || found().len() >= count);
    found()
}

#[test]
fn a_client_comes_and_leaves_with_its_address_and_export() {
    let gateway = Gateway::start(&["-e", "a", "memory", "1M"]);
    visit(&gateway, "a");
    let lines = lines_with(&gateway, "leaves export", 1);
    let client = format!("process {} of user ", std::process::id());
    assert!(lines[0].contains(" INFO ") && lines[0].contains(&client), "{lines:?}");
    assert!(lines[0].contains("leaves export \"a\" after ") && lines[0].ends_with(" s"), "{lines:?}");
    let lines = lines_with(&gateway, "opens export \"a\"", 1);
    assert!(lines.len() == 1 && lines[0].contains(&client), "{lines:?}");
    gateway.stop();
}

#[test]
fn a_flood_of_clients_does_not_flood_the_log() {
    let gateway = Gateway::start(&["memory", "1M"]);
    for _ in 0..500 {
        drop(Raw::open(gateway.socket(), ""));
    }
    let lines = lines_with(&gateway, "leaves export", 20).len();
    // As many again for each ten seconds that this takes on a slow machine.
    assert!(lines <= 200, "{lines} lines of 500 clients");
    gateway.stop();
}

#[test]
fn a_name_cannot_forge_or_colour_a_line() {
    for format in ["text", "json"] {
        let gateway = configured(&format!("log-format = '{format}'"), HOSTILE.0);
        visit(&gateway, HOSTILE.1);
        lines_with(&gateway, "leaves export", 1);
        let said = gateway.stderr();
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
        assert!(said.contains("31mERROR forged") && !said.contains("\nERROR"), "{said:?}");
        gateway.stop();
    }
}

#[test]
fn lines_of_json_are_objects_with_fields() {
    let gateway = configured("log-format = 'json'", HOSTILE.0);
    visit(&gateway, HOSTILE.1);
    lines_with(&gateway, "leaves export", 1);
    let objects: Vec<Value> =
        gateway.stderr().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let leaving = objects.iter().find(|object| text(object, "message").contains("leaves export")).unwrap();
    assert_eq!((text(leaving, "level"), text(leaving, "export")), ("INFO".into(), HOSTILE.1.into()));
    assert!(text(leaving, "client").starts_with(&format!("process {} of", std::process::id())));
    assert!(text(leaving, "timestamp").ends_with('Z'));
    gateway.stop();
}

/// Lines about requests.
fn traces(gateway: &Gateway) -> Vec<String> {
    gateway.stderr().lines().filter(|line| line.contains(" operation=")).map(str::to_owned).collect()
}

/// Reads, writes, writes at once, and asks for what there is not.
fn requests(client: &mut Raw) {
    client.read(0, 4096).unwrap();
    assert_eq!(client.write(FUA, 512, &[7; 1024]), 0);
    assert_eq!(client.write(0, 0, &[7; 128 << 10]), 0);
    assert_eq!(client.ask(FLUSH, 0, 0, 0), 0);
    assert_eq!(client.ask(TRIM, 0, 0, 4096), 0);
    assert_ne!(client.ask(READ, 0, 1 << 40, 512), 0);
}

const REQUESTS: [(&str, u64, u64, &str, &str); 6] = [
    ("read", 0, 4096, "none", "success"),
    ("write", 512, 1024, "FUA", "success"),
    ("write", 0, 128 << 10, "none", "success"),
    ("flush", 0, 0, "none", "success"),
    ("trim", 0, 4096, "none", "success"),
    ("read", 1 << 40, 512, "none", "invalid argument"),
];

#[test]
fn requests_are_traced_when_that_is_asked_for_while_the_server_runs() {
    let mut gateway = configured("", "a");
    let file = gateway.path("gateway.toml");
    let mut client = Raw::open(gateway.socket(), "a");
    let mut reload = |level: &str, count: usize| {
        fs::write(&file, configuration(&format!("log-level = '{level}'"), "a")).unwrap();
        gateway.signal(Signal::SIGHUP);
        lines_with(&gateway, "the configuration is reloaded", count);
        traces(&gateway).len()
    };
    requests(&mut client);
    assert_eq!(reload("info,request=trace", 1), 0, "nobody has asked for them");
    requests(&mut client);
    let twice = 2 * REQUESTS.len();
    assert_eq!(reload("info", 2), twice);
    requests(&mut client);
    assert_eq!(reload("info", 3), twice, "nobody asks for them any more");
    let traces = traces(&gateway);
    for (pair, expected) in traces.chunks(2).zip(REQUESTS) {
        let (operation, offset, length, flags, result) = expected;
        let words = format!("operation={operation} offset={offset} length={length} flags={flags}");
        let [begin, end] = pair else { panic!("{pair:?}") };
        assert!(begin.contains(", export \"a\": begin ") && begin.ends_with(&words), "{begin}: {words}");
        let words = format!("{words} result={result} micros=");
        assert!(end.contains(", export \"a\": end ") && end.contains(&words), "{end}: {words}");
    }
    drop(client);
    gateway.stop();
}

#[test]
fn a_level_that_makes_no_sense_changes_nothing() {
    let mut gateway = configured("", "a");
    let file = gateway.path("gateway.toml");
    fs::write(file, configuration("log-level = 'gateway=loud'", "a")).unwrap();
    gateway.signal(Signal::SIGHUP);
    let lines = lines_with(&gateway, "cannot be 'gateway=loud'", 1);
    assert!(lines[0].contains("gateway.toml:2:"), "{lines:?}");
    visit(&gateway, "a");
    lines_with(&gateway, "leaves export", 1);
    gateway.stop();
}

/// A machine whose journal and system's log are this test's.
struct Machine {
    folder: tempfile::TempDir,
    journal: UnixDatagram,
    syslog: UnixDatagram,
}

impl Machine {
    fn new() -> Machine {
        let folder = Server::folder();
        let listen = |name: &str| {
            let socket = UnixDatagram::bind(folder.path().join(name)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            socket
        };
        let (journal, syslog) = (listen("socket"), listen("log"));
        Machine { folder, journal, syslog }
    }

    /// A command in whose place a program runs with these instead of the host's. `None`: not on this host.
    fn wrapper(&self) -> Option<Vec<String>> {
        let mut words = vec!["unshare", "--mount"];
        if !nix::unistd::geteuid().is_root() {
            words.push("--map-root-user");
        }
        let script = format!(
            "mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/dev && \
             mount --bind {0} /run/systemd/journal && mount --rbind /dev /run/dev && \
             mount -t tmpfs none /dev && for node in null zero random urandom; do \
             touch /dev/$node && mount --bind /run/dev/$node /dev/$node || exit; done && \
             ln -s {0}/log /dev/log && exec \"$0\" \"$@\"",
            self.folder.path().display()
        );
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.extend(["sh".into(), "-c".into(), script]);
        let mut probe = Command::new(&words[0]);
        run(probe.args(&words[1..]).arg("true")).status.success().then_some(words)
    }

    /// The next entry of the journal whose text has these words.
    fn entry(&self, words: &str) -> BTreeMap<String, String> {
        loop {
            let text = receive(&self.journal);
            let fields = text.lines().filter_map(|line| line.split_once('='));
            let entry: BTreeMap<_, _> =
                fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            if entry["MESSAGE"].contains(words) {
                return entry;
            }
        }
    }

    /// The next message of the system's log with these words.
    fn message(&self, words: &str) -> String {
        loop {
            let text = receive(&self.syslog);
            if text.contains(words) {
                return text;
            }
        }
    }
}

fn receive(socket: &UnixDatagram) -> String {
    let mut bytes = vec![0; 64 << 10];
    let got = socket.recv(&mut bytes).expect("the log goes there");
    String::from_utf8(bytes[..got].to_vec()).unwrap()
}

/// A machine, and how to run something there; leaves the test where there can be none.
macro_rules! machine {
    () => {{
        let machine = Machine::new();
        let Some(wrapper) = machine.wrapper() else { skip!("mounts in a namespace are not allowed here") };
        (machine, wrapper)
    }};
}

#[test]
fn the_journal_gets_entries_with_fields() {
    let (machine, wrapper) = machine!();
    let gateway =
        Gateway::builder().wrapped_in(&wrapper).start(&["--log", "journald", "-e", "a", "memory", "1M"]);
    let serving = machine.entry("serving memory");
    assert_eq!((&serving["PRIORITY"][..], &serving["SYSLOG_IDENTIFIER"][..]), ("6", "gateway"));
    assert_eq!(serving["EXPORT"], "a");
    visit(&gateway, "a");
    let leaving = machine.entry("leaves export \"a\"");
    assert!(leaving["CLIENT"].starts_with("process ") && leaving["EXPORT"] == "a", "{leaving:?}");
    assert_eq!(gateway.stderr(), "");
    gateway.stop();
}

#[test]
fn standard_error_that_is_the_journals_is_noticed() {
    let (machine, wrapper) = machine!();
    for is_the_journals in [true, false] {
        let builder = Gateway::builder();
        let stderr = builder.path("stderr");
        fs::write(&stderr, "").unwrap();
        let facts = fs::metadata(&stderr).unwrap();
        let inode = facts.ino() + u64::from(!is_the_journals);
        let builder = builder.env("JOURNAL_STREAM", format!("{}:{inode}", facts.dev()));
        let gateway = builder.wrapped_in(&wrapper).start(&["memory", "1M"]);
        if is_the_journals {
            machine.entry("serving memory");
        }
        assert_eq!(gateway.stderr().contains("serving memory"), !is_the_journals, "{}", gateway.stderr());
        gateway.stop();
    }
}

/// The number of a process, from a file.
fn process(file: &Path) -> Pid {
    Pid::from_raw(fs::read_to_string(file).unwrap().trim_end().parse().unwrap())
}

#[test]
fn a_daemon_logs_to_the_systems_log_unless_told_otherwise() {
    let (machine, wrapper) = machine!();
    for log in ["auto", "syslog", "journald", "stderr"] {
        let folder = Server::folder();
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(Gateway::program()).args(["--daemon", "-P"]).arg(path("pid"));
        command.args(["--log", log, "-U"]).arg(path("sock")).args(["memory", "1M"]);
        command.stderr(fs::File::create(path("stderr")).unwrap());
        assert!(command.status().unwrap().success(), "{log}");
        let daemon = process(&path("pid"));
        drop(Raw::open(&path("sock"), ""));
        let stderr = || fs::read_to_string(path("stderr")).unwrap();
        match log {
            "auto" | "syslog" => {
                let message = machine.message("serving memory");
                assert!(message.contains("nbd+unix:"), "{message}");
                let message = machine.message("leaves export");
                assert!(message.starts_with(&format!("<30>gateway[{daemon}]: ")), "{message}");
                assert_eq!(
                    stderr().contains("serving memory"),
                    log == "auto",
                    "before it is in the background"
                );
            }
            "journald" => assert_eq!(machine.entry("leaves export")["PRIORITY"], "6"),
            _ => wait_until("it goes on", || stderr().contains("leaves export")),
        }
        kill(daemon, Signal::SIGTERM).unwrap();
        wait_until("the daemon ends", || !path("sock").exists());
    }
}

#[test]
fn a_log_that_is_not_there_is_told() {
    for place in ["journald", "syslog"] {
        let (machine, wrapper) = machine!();
        // Nobody listens there any more.
        drop((machine.journal, machine.syslog));
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(Gateway::program());
        let Output { status, stderr, .. } = run(command.args(["--log", place, "-U", "-", "memory", "1M"]));
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with("gateway: cannot reach the ") && stderr.contains("--log"), "{stderr}");
    }
}
