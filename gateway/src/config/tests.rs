//! Whole files. What each kind of mistake is told is in the table of the end-to-end tests.

use std::fmt::Write as _;

use nbd::server::TlsMode;
use proptest::prelude::*;

use super::*;
use crate::log;
use crate::rules::Client;

fn read(text: &str) -> Result<Config, String> {
    parse(Path::new("f"), text, "/folder", Told::default()).map_err(|report| report.to_string())
}

const FULL: &str = r#"
[server]
workers = 4
poll = 0
memory = "8M"
tls = "require"
tls-certificates = "pki"
tls-psk = "/keys.psk"
tls-verify-peer = true
pidfile = "run/pid"
metrics = "unix:run/metrics"
control = "run/control"
log = "journald"
log-format = "json"
log-level = "info,drivers=debug"
max-clients = 1_000
max-handshakes = 100
handshake-timeout = 30
idle-timeout = 0

[[listen]]
tcp = "[::1]"
[[listen]]
tcp = "0.0.0.0"
port = 0
[[listen]]
unix = "sock"
[[listen]]
unix = "-"
[[listen]]
vsock = 10809
[[listen]]
activation = "nbd"

[[export]]
name = "one"
driver = "io_uring"
properties = { path = "disk.img", direct = true, num-queues = 2 }

[[export]]
name = "two"
description = "the second"
default = true
driver = "memory"
read-only = true
memory = 2_097_152
tls = "require"
[export.properties]
size = "1G"
[export.allow]
uid = [1000, "root"]
gid = [0]

[[export]]
name = "three"
driver = "null"
properties.size = 0x1000
allow = { address = ["10.0.0.0/8", "::1"], certificate = ["client1", "*.example.org"] }
"#;

#[test]
fn everything_has_a_place_in_the_result() {
    let config = read(FULL).unwrap();
    let server = ServerConfig {
        workers: Some(4),
        poll_microseconds: Some(0),
        memory_bytes: Some(8 << 20),
        tls: Some(TlsMode::Require),
        tls_certificates: Some("/folder/pki".into()),
        tls_psk: Some("/keys.psk".into()),
        tls_verify_peer: Some(true),
        pidfile: Some("/folder/run/pid".into()),
        metrics: Some(MetricsPlace::Unix("/folder/run/metrics".into())),
        control: Some("/folder/run/control".into()),
        log: Some(log::Place::Journald),
        log_format: Some(log::Format::Json),
        log_level: Some("info,drivers=debug".into()),
        max_clients: Some(1000),
        max_handshakes: Some(100),
        handshake_timeout_seconds: Some(30),
        idle_timeout_seconds: Some(0),
    };
    assert_eq!(config.server, server);
    let listen = [
        Listen::Tcp { hosts: vec!["::1".into()], port: 10809 },
        Listen::Tcp { hosts: vec!["0.0.0.0".into()], port: 0 },
        Listen::Unix("/folder/sock".into()),
        Listen::Private,
        Listen::Vsock { port: 10809 },
        Listen::Activated { name: Some("nbd".into()) },
    ];
    assert_eq!(config.listen, listen);
    let [two, one, three] = &config.exports[..] else { panic!("{:?}", config.exports) };
    assert_eq!([&one.offer.name, &two.offer.name, &three.offer.name], ["one", "two", "three"]);
    assert_eq!(one.settings.path("path"), Some(Path::new("/folder/disk.img")));
    assert_eq!((one.settings.bool("direct"), one.settings.count("num-queues")), (Some(true), Some(2)));
    assert_eq!(two.offer.description.as_deref(), Some("the second"));
    assert_eq!((two.settings.size("size"), two.settings.bool("read-only")), (Some(1 << 30), Some(true)));
    assert_eq!((two.memory_bytes, one.memory_bytes), (Some(2 << 20), None));
    assert_eq!([one, two, three].map(|export| export.offer.is_default), [false, true, false]);
    assert_eq!([one, two, three].map(|export| export.offer.needs_tls), [false, true, true]);
    assert_eq!((three.driver.name(), three.settings.size("size")), ("null", Some(4096)));
    let root = Client { uid: Some(0), gid: Some(0), ..Client::default() };
    assert_eq!(two.offer.rules.admits(&root), Ok(()));
    assert!(three.offer.rules.admits(&root).is_err());
}

#[test]
fn the_example_of_the_readme_is_right() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let config = read(example).unwrap();
    assert_eq!((config.listen.len(), config.exports.len()), (4, 2));
    assert_eq!(config.exports[0].offer.name, "disk2");
}

#[test]
fn the_default_is_the_unnamed_export_or_the_first() {
    let names = |names: [&str; 2]| {
        let text: String = names
            .iter()
            .map(|name| format!("[[export]]\nname = '{name}'\ndriver = 'null'\nproperties.size = 1\n"))
            .collect();
        read(&text).unwrap().exports.iter().map(|export| export.offer.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(["a", "b"]), ["a", "b"]);
    assert_eq!(names(["a", ""]), ["", "a"]);
}

#[test]
fn a_file_may_have_two_hundred_exports() {
    let mut text = String::new();
    for number in 0..200 {
        writeln!(
            text,
            "[[export]]\nname = 'disk{number}'\ndriver = 'null'\nproperties.size = {}",
            number + 1
        )
        .unwrap();
    }
    let config = read(&text).unwrap();
    assert_eq!(config.exports.len(), 200);
    assert_eq!(config.exports[199].offer.name, "disk199");
    assert_eq!(config.exports[199].settings.size("size"), Some(200));
}

#[test]
fn every_mistake_is_told_in_the_order_of_the_file() {
    let text = "[server]\nworkers = 0\npol = 1\n[[export]]\ndriver = 'nul'\nname = 1\n";
    let report = read(text).unwrap_err();
    let places: Vec<&str> = report.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["f:2:11", "f:3:1", "f:5:10", "f:6:8"], "{report}");
}

#[test]
fn the_same_file_is_the_same_configuration() {
    let (one, other) = (read(FULL).unwrap(), read(FULL).unwrap());
    for (one, other) in one.exports.iter().zip(&other.exports) {
        assert_eq!((&one.offer, &one.settings), (&other.offer, &other.settings));
    }
}

#[test]
fn a_byte_order_mark_is_no_text() {
    assert!(read("\u{feff}[server]\npol = 1").unwrap_err().starts_with("f:2:1:"));
}

#[test]
fn a_file_is_found_relative_to_the_working_folder_and_its_paths_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "[[export]]\nname = ''\ndriver = 'io_uring'\nproperties.path = 'x/disk.img'\n")
        .unwrap();
    let config = load(&file, Told::default()).unwrap();
    assert_eq!(config.exports[0].settings.path("path"), Some(folder.path().join("x/disk.img").as_path()));
    assert!(!load(&folder.path().join("none"), Told::default()).unwrap_err().is_about_words());
    std::fs::write(&file, b"[server]\nworkers = \xff").unwrap();
    let report = load(&file, Told::default()).unwrap_err().to_string();
    assert!(report.contains("c.toml:2:11: the text is not UTF-8"), "{report}");
}

/// Pieces of files, right and wrong, to be put together in any order.
const PIECES: &[&str] = &[
    "[server]\n",
    "[[listen]]\n",
    "[[export]]\n",
    "[export.allow]\n",
    "[export.properties]\n",
    "[export]\n",
    "[a.b]\n",
    "[[a]]\n",
    "name",
    "driver",
    "properties",
    "allow",
    "tcp",
    "unix",
    "uid",
    "certificate",
    " = ",
    ".",
    ",",
    "\n",
    "[",
    "]",
    "{ ",
    " }",
    "\"io_uring\"",
    "'memory'",
    "'*'",
    "\"1G\"",
    "\"\"",
    "\"",
    "'",
    "'''",
    "\\u0000",
    "1",
    "-1",
    "0x",
    "1e9",
    "99999999999999999999",
    "true",
    "1979-05-27",
    "# é\n",
    "\u{0}",
    "é",
];

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = read(&text);
    }

    #[test]
    fn no_mixture_of_pieces_makes_it_panic(pieces in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = pieces.into_iter().map(|index| PIECES[index]).collect();
        let _ = read(&text);
    }

    #[test]
    fn no_cut_or_change_of_a_file_makes_it_panic(from in 0..FULL.len(), to in 0..FULL.len(), put in 0..PIECES.len()) {
        let (from, to) = (from.min(to), from.max(to));
        let _ = read(&format!("{}{}{}", &FULL[..from], PIECES[put], &FULL[to..]));
    }
}
