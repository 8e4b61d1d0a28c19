//! Each command, while clients work.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Image, Operator, Output, Place, requires, run, tool, wait_until};

use super::{Controlled, what};
use crate::raw::{ESHUTDOWN, FLUSH, READ, Raw, WRITE};
use crate::reconnect::Spot;

const MIB: u64 = 1 << 20;

/// Long enough for an answer that must not come to come all the same, were there one.
const MOMENT: Duration = Duration::from_millis(300);

/// fio that writes 64 MiB again and again and reads them back, for some seconds.
fn verifying(uri: &str, seconds: u32) -> JoinHandle<Output> {
    let words = [
        "--name=verify",
        "--ioengine=nbd",
        &format!("--uri={uri}"),
        "--rw=randwrite",
        "--bsrange=4k-64k",
        "--blockalign=4k",
        "--size=64M",
        "--iodepth=64",
        "--fsync=64",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_backlog=200",
        "--verify_state_save=0",
        "--randseed=1",
        "--loops=1000",
        "--time_based",
        &format!("--runtime={seconds}"),
    ]
    .map(str::to_owned);
    thread::spawn(move || run(std::process::Command::new(tool("fio").unwrap()).args(words)))
}

fn succeeded(load: JoinHandle<Output>) {
    let output = load.join().unwrap();
    let good = output.status.success() && output.stdout.contains("err= 0");
    assert!(good, "{}{}", output.stdout, output.stderr);
}

/// Clients that write without a rest until they are sent away. Each ends with its last error.
struct Writers {
    all: Vec<JoinHandle<u32>>,
    over: Arc<AtomicBool>,
}

impl Writers {
    fn start(socket: &Path, export: &'static str, count: usize) -> Writers {
        let over = Arc::new(AtomicBool::new(false));
        let one = |_| {
            let (socket, over) = (socket.to_owned(), over.clone());
            thread::spawn(move || write_until_sent_away(&mut Raw::open(&socket, export), &over))
        };
        let all = (0..count).map(one).collect();
        Writers { all, over }
    }

    /// The last error of each: 0 if it was cut off, or ended because it was told to.
    fn join(self) -> Vec<u32> {
        self.all.into_iter().map(|writer| writer.join().unwrap()).collect()
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        let errors = self.join();
        assert!(errors.iter().all(|error| *error == 0), "{errors:?}");
    }
}

fn write_until_sent_away(client: &mut Raw, over: &AtomicBool) -> u32 {
    let payload = [7; 4096];
    while !over.load(Ordering::Relaxed) {
        let bytes = [&crate::raw::header(WRITE, 1, 0, 4096)[..], &payload].concat();
        if client.stream.write_all(&bytes).is_err() {
            return 0;
        }
        match client.reply() {
            Some(reply) if reply.error == 0 => {}
            Some(reply) => return reply.error,
            None => return 0,
        }
    }
    0
}

/// Whether nothing comes for a moment.
fn hears_nothing(client: &mut Raw) -> bool {
    client.stream.set_read_timeout(Some(MOMENT)).unwrap();
    let heard = client.stream.read(&mut [0]);
    client.stream.set_read_timeout(None).unwrap();
    heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn clients(operator: &mut Operator) -> Vec<Value> {
    let clients = operator.run("clients");
    assert_eq!(clients["silent-workers"], json!([]), "{clients}");
    clients["clients"].as_array().unwrap().clone()
}

#[test]
fn fio_verifies_through_every_command() {
    requires!("fio");
    let image = Image::sparse(Place::Memory, 64 * MIB);
    let controlled = Controlled::start(&["-e", "disk", "io_uring", &image.property()]);
    let load = verifying(&controlled.gateway.uri_of("disk"), 10);
    let mut operator = controlled.operator();
    wait_until("fio is there", || !clients(&mut operator).is_empty());
    let mut rounds = 0;
    while !load.is_finished() {
        rounds += 1;
        assert_eq!(operator.about("pause", "disk"), Ok(json!({})));
        if rounds == 3 {
            let before = std::fs::read(image.path()).unwrap();
            thread::sleep(MOMENT);
            assert!(std::fs::read(image.path()).unwrap() == before, "the disk changes while it is paused");
        }
        assert_eq!(operator.about("resume", "disk"), Ok(json!({})));
        assert_eq!(operator.run("status")["exports"], 1);
        let other = json!({ "name": "other", "driver": "memory", "properties": { "size": "1M" } });
        assert_eq!(operator.ask(&json!({ "command": "add", "export": other })), Ok(json!({})));
        let mut client = Raw::open(controlled.socket(), "other");
        assert_eq!(client.write(0, 0, &[1; 512]), 0);
        let id = clients(&mut operator).into_iter().find(|client| client["export"] == "other").unwrap();
        let disconnect = json!({ "command": "disconnect", "client": id["id"], "now": rounds % 2 == 0 });
        assert!(operator.ask(&disconnect).is_ok());
        assert_eq!(client.reply(), None, "it was sent away");
        assert!(operator.about("drain", "other").is_ok());
        assert!(operator.about("remove", "other").is_ok());
        assert!(operator.ask(&json!({ "command": "log-level", "filter": "info" })).is_ok());
        assert_eq!(operator.run("exports")["exports"].as_array().unwrap().len(), 1);
        // Now and then there is some work to disturb.
        thread::sleep(Duration::from_millis(50));
    }
    succeeded(load);
    assert!(rounds >= 10, "{rounds} rounds");
    controlled.gateway.stop();
}

#[test]
fn a_copy_through_pauses_is_complete() {
    requires!("nbdcopy");
    let contents = tests::Rng::new(7).bytes(48 << 20);
    let (source, target) = (Image::with(Place::Memory, &contents), Image::sparse(Place::Memory, 48 * MIB));
    let controlled = Controlled::start(&["-e", "disk", "io_uring", &target.property()]);
    let (from, to) = (source.path().to_owned(), controlled.gateway.uri_of("disk"));
    let copy = thread::spawn(move || {
        let mut command = std::process::Command::new(tool("nbdcopy").unwrap());
        run(command
            .args(["--connections=4", "--requests=16", "--request-size=65536", "--flush"])
            .arg(from)
            .arg(to))
    });
    let mut operator = controlled.operator();
    let mut paused = 0;
    while !copy.is_finished() {
        assert_eq!(operator.about("pause", "disk"), Ok(json!({})));
        paused += 1;
        thread::sleep(Duration::from_millis(10));
        assert_eq!(operator.about("resume", "disk"), Ok(json!({})));
        thread::sleep(Duration::from_millis(5));
    }
    let _ = copy.join().unwrap().success();
    assert!(paused > 1, "the copy was never paused");
    assert!(std::fs::read(target.path()).unwrap() == contents, "the copy differs");
    controlled.gateway.stop();
}

#[test]
fn status_and_lists_tell_what_there_is() {
    let controlled = Controlled::start(&[
        "-e",
        "one",
        "--description",
        "d",
        "memory",
        "1M",
        "--",
        "-e",
        "two",
        "-r",
        "null",
        "2M",
    ]);
    let mut operator = controlled.operator();
    let _client = Raw::open(controlled.socket(), "two");
    wait_until("the client is there", || clients(&mut operator).len() == 1);
    wait_until("who only looked is gone", || operator.run("status")["connections"] == 1);
    let status = operator.run("status");
    assert_eq!(status["pid"], controlled.gateway.pid());
    assert_eq!(
        (&status["workers"], &status["exports"], &status["connections"]),
        (&json!(2), &json!(2), &json!(1))
    );
    assert!(status["places"][0].as_str().unwrap().contains(controlled.socket().to_str().unwrap()));
    let exports = operator.run("exports");
    let [one, two] = &exports["exports"].as_array().unwrap()[..] else { panic!("{exports}") };
    assert_eq!(
        (&one["name"], &one["description"], &one["default"]),
        (&json!("one"), &json!("d"), &json!(true))
    );
    assert_eq!((&one["capacity"], &one["properties"]), (&json!(MIB), &json!({ "size": MIB })));
    assert_eq!(
        (&two["driver"], &two["read-only"], &two["clients"]),
        (&json!("null"), &json!(true), &json!(1))
    );
    let client = &clients(&mut operator)[0];
    assert_eq!(
        (&client["export"], &client["state"], &client["in-flight"]),
        (&json!("two"), &json!("idle"), &json!(0))
    );
    let peer = format!("process {} of user {}", std::process::id(), nix::unistd::geteuid());
    assert_eq!((&client["peer"], &client["tls"]), (&json!(peer), &json!(null)));
    controlled.gateway.stop();
}

#[test]
fn a_paused_export_takes_no_request_and_goes_on_where_it_was() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let mut operator = controlled.operator();
    let (mut before, writers) =
        (Raw::open(controlled.socket(), ""), Writers::start(controlled.socket(), "", 4));
    assert_eq!(before.write(0, 8192, &[3; 512]), 0);
    for _ in 0..2 {
        assert_eq!(operator.about("pause", ""), Ok(json!({})), "twice is fine");
    }
    assert_eq!(operator.state("").as_deref(), Some("paused"));
    let mut later = Raw::open(controlled.socket(), "");
    before.request(READ, 1, 8192, 512);
    later.request(FLUSH, 2, 0, 0);
    assert!(hears_nothing(&mut before) && hears_nothing(&mut later));
    let all = clients(&mut operator);
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|client| client["state"] == "paused" && client["in-flight"] == 0), "{all:?}");
    assert_eq!(operator.about("resume", ""), Ok(json!({})));
    assert_eq!(before.reply().map(|reply| reply.error), Some(0));
    let mut data = [0; 512];
    before.stream.read_exact(&mut data).unwrap();
    assert_eq!((data, later.reply().map(|reply| reply.error)), ([3; 512], Some(0)));
    writers.end();
    controlled.gateway.stop();
}

#[test]
fn a_request_that_has_begun_is_completed_in_a_pause() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let mut operator = controlled.operator();
    let mut client = Raw::open(controlled.socket(), "");
    client.request(WRITE, 1, 0, 128 << 10);
    client.stream.write_all(&[1; 64 << 10]).unwrap();
    wait_until("its beginning was taken", || {
        clients(&mut operator).iter().any(|client| client["state"] == "busy")
    });
    let mut other = controlled.operator();
    let pause = thread::spawn(move || other.about("pause", ""));
    wait_until("the pause has begun", || operator.state("").as_deref() == Some("pausing"));
    thread::sleep(MOMENT);
    assert!(!pause.is_finished());
    client.stream.write_all(&[1; 64 << 10]).unwrap();
    assert_eq!(client.reply().map(|reply| reply.error), Some(0));
    assert_eq!(pause.join().unwrap(), Ok(json!({})));
    controlled.gateway.stop();
}

#[test]
fn a_pause_waits_for_the_device_and_says_when_that_takes_too_long() {
    requires!("qemu-storage-daemon");
    let (spot, image) = (Spot::new(""), Image::sparse(Place::Disk, MIB));
    let mut back_end = spot.start(image.path());
    let path = format!("path={}", spot.socket().display());
    let controlled = Controlled::start(&["virtio-blk-vhost-user", &path]);
    let (mut operator, mut client) = (controlled.operator(), Raw::open(controlled.socket(), ""));
    back_end.signal(Signal::SIGSTOP);
    client.request(READ, 1, 0, 4096);
    wait_until("it is in flight", || clients(&mut operator).iter().any(|client| client["in-flight"] == 1));
    let error = operator.about("pause", "").unwrap_err();
    assert!(what(&error).contains("not all that it has taken are done"), "{error}");
    assert_eq!(operator.state("").as_deref(), Some("pausing"));
    back_end.signal(Signal::SIGCONT);
    assert_eq!(operator.about("pause", ""), Ok(json!({})));
    assert_eq!(operator.state("").as_deref(), Some("paused"));
    assert_eq!(client.reply().map(|reply| reply.error), Some(0));
    // The end needs no resumption.
    drop(client);
    controlled.gateway.stop();
}

#[test]
fn a_drained_export_keeps_its_data_and_has_no_clients() {
    let controlled = Controlled::start(&["-e", "disk", "memory", "1M", "--", "-e", "other", "memory", "1M"]);
    let mut operator = controlled.operator();
    let mut other = Raw::open(controlled.socket(), "other");
    assert_eq!(Raw::open(controlled.socket(), "disk").write(0, 8192, &[5; 512]), 0);
    let writers = Writers::start(controlled.socket(), "disk", 4);
    wait_until("all are there", || clients(&mut operator).len() == 5);
    for _ in 0..2 {
        assert_eq!(operator.about("drain", "disk"), Ok(json!({ "cut-off": 0 })), "twice is fine");
        assert_eq!(operator.state("disk").as_deref(), Some("drained"));
    }
    let errors = writers.join();
    assert!(errors.iter().all(|error| [0, ESHUTDOWN].contains(error)), "{errors:?}");
    assert!(operator.about("pause", "disk").is_err());
    assert_eq!(other.read(0, 512), Ok(vec![0; 512]), "others notice nothing");
    assert!(is_refused(controlled.socket(), "disk"));
    assert_eq!(operator.about("resume", "disk"), Ok(json!({})));
    assert_eq!(Raw::open(controlled.socket(), "disk").read(8192, 512), Ok(vec![5; 512]));
    controlled.gateway.stop();
}

/// Whether the server ends the handshake of somebody who asks for this export.
fn is_refused(socket: &Path, export: &str) -> bool {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.write_all(&crate::raw::hello(export)).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    said.len() == 18
}

#[test]
fn a_client_that_takes_no_answers_is_cut_off_from_a_drained_export() {
    let controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    let mut operator = controlled.operator();
    let mut glutton = Raw::open(controlled.socket(), "disk");
    for cookie in 0..64 {
        glutton.request(READ, cookie, 0, 1 << 20);
    }
    assert_eq!(glutton.reply().map(|reply| reply.error), Some(0));
    assert_eq!(operator.about("drain", "disk"), Ok(json!({ "cut-off": 1 })));
    controlled.gateway.stop();
}

#[test]
fn an_export_is_removed_under_its_clients_and_another_takes_its_name() {
    let controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    let mut operator = controlled.operator();
    for paused_before in [false, true] {
        let writers = Writers::start(controlled.socket(), "disk", 4);
        wait_until("all are there", || clients(&mut operator).len() == 4);
        if paused_before {
            assert!(operator.about("pause", "disk").is_ok());
        }
        assert_eq!(operator.about("remove", "disk"), Ok(json!({})));
        let errors = writers.join();
        assert!(errors.iter().all(|error| [0, ESHUTDOWN].contains(error)), "{errors:?}");
        assert_eq!((operator.state("disk"), clients(&mut operator).len()), (None, 0));
        assert!(is_refused(controlled.socket(), "disk"));
        let error = operator.about("remove", "disk").unwrap_err();
        assert!(what(&error).contains("there is no export 'disk'"), "{error}");
        let export = json!({ "name": "disk", "driver": "memory", "properties": { "size": "2M" } });
        assert_eq!(operator.ask(&json!({ "command": "add", "export": export })), Ok(json!({})));
        let mut client = Raw::open(controlled.socket(), "disk");
        assert_eq!((client.size_bytes, client.read(0, 1)), (2 * MIB, Ok(vec![0])), "it is another disk");
    }
    controlled.gateway.stop();
}

#[test]
fn an_export_that_cannot_be_added_changes_nothing() {
    let controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    let mut operator = controlled.operator();
    let writers = Writers::start(controlled.socket(), "disk", 2);
    let before = operator.run("exports")["exports"][0]["name"].clone();
    let mut refused = |export: Value, wanted: &str, place: Value| {
        let error = operator.ask(&json!({ "command": "add", "export": export })).unwrap_err();
        assert!(what(&error).contains(wanted), "{error}");
        assert_eq!(error["where"], place, "{error}");
    };
    let file = |path: &str| json!({ "name": "a", "driver": "io_uring", "properties": { "path": path } });
    refused(file("/nonexistent"), "/nonexistent", Value::Null);
    refused(file("/usr"), "/usr", Value::Null);
    let memory = |name: &str, more: Value| {
        let mut export = json!({ "name": name, "driver": "memory", "properties": { "size": "1M" } });
        export.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        export
    };
    refused(memory("disk", json!({})), "there is an export 'disk' already", Value::Null);
    refused(memory("a", json!({ "default": true })), "for clients that ask for no name", Value::Null);
    refused(memory("a", json!({ "tls": "require" })), "there is no TLS", Value::Null);
    refused(memory("a", json!({ "memory": "1" })), "cannot be '1'", json!("memory"));
    refused(memory("a", json!({ "allow": { "uid": "x" } })), "a list in brackets", json!("allow.uid"));
    refused(memory("a", json!({ "zzz": 1 })), "unknown key 'zzz'", json!("zzz"));
    refused(json!({ "name": "a", "driver": "memory" }), "needs the property 'size'", Value::Null);
    let exports = operator.run("exports");
    assert_eq!((exports["exports"].as_array().unwrap().len(), &exports["exports"][0]["name"]), (1, &before));
    writers.end();
    controlled.gateway.stop();
}

#[test]
fn a_client_is_sent_away_with_its_answers_or_at_once() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let mut operator = controlled.operator();
    let mut leave = |now: bool| {
        let mut client = Raw::open(controlled.socket(), "");
        client.request(WRITE, 1, 0, 128 << 10);
        client.stream.write_all(&[1; 64 << 10]).unwrap();
        wait_until("it is busy", || clients(&mut operator).iter().any(|client| client["state"] == "busy"));
        let id = clients(&mut operator)[0]["id"].clone();
        let mut other = controlled.operator();
        let request = json!({ "command": "disconnect", "client": id, "now": now });
        let disconnect = thread::spawn(move || other.ask(&request));
        if !now {
            wait_until("it is leaving", || {
                clients(&mut operator).iter().any(|client| client["state"] == "leaving")
            });
            assert!(!disconnect.is_finished());
            client.stream.write_all(&[1; 64 << 10]).unwrap();
            assert_eq!(client.reply().map(|reply| reply.error), Some(0));
        }
        assert_eq!(disconnect.join().unwrap(), Ok(json!({ "cut-off": now })));
        assert_eq!(client.reply(), None);
        let error = operator.ask(&json!({ "command": "disconnect", "client": id })).unwrap_err();
        assert!(what(&error).contains("there is no client"), "{error}");
    };
    leave(false);
    leave(true);
    controlled.gateway.stop();
}

#[test]
fn the_log_says_more_when_it_is_told_to() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let mut operator = controlled.operator();
    let mut open = |filter: &str| {
        assert_eq!(operator.ask(&json!({ "command": "log-level", "filter": filter })), Ok(json!({})));
        drop(Raw::open(controlled.socket(), ""));
    };
    let told = |count: usize| {
        let opened = || controlled.gateway.stderr().matches("opens export").count();
        wait_until("the log tells of it", || opened() == count);
    };
    open("warn");
    open("gateway=debug");
    told(1);
    open("error");
    open("debug");
    told(2);
    let error = operator.ask(&json!({ "command": "log-level", "filter": "gateway=loud" })).unwrap_err();
    assert_eq!((&error["kind"], &error["where"]), (&json!("usage"), &json!("filter")), "{error}");
    controlled.gateway.stop();
}

#[test]
fn the_server_stops_with_its_clients_answered_and_its_socket_gone() {
    let mut controlled = Controlled::start(&["memory", "1M"]);
    let mut operator = controlled.operator();
    let mut idle = controlled.operator();
    let writers = Writers::start(controlled.socket(), "", 4);
    wait_until("all are there", || clients(&mut operator).len() == 4);
    assert_eq!(operator.run("stop"), json!({}));
    assert_eq!((operator.answer(), idle.answer()), (None, None));
    let errors = writers.join();
    assert!(errors.iter().all(|error| [0, ESHUTDOWN].contains(error)), "{errors:?}");
    assert_eq!(controlled.gateway.wait().code(), Some(0));
    assert!(!controlled.path.exists() && !controlled.socket().exists());
}
