//! Numbers for Prometheus.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::{Gateway, Image, Place, requires, run, run_with_input, tool, wait_until};

use crate::raw::{FLUSH, READ, Raw, WRITE};
use crate::reconnect::Spot;

/// A gateway that tells its metrics on a Unix socket.
struct Measured {
    gateway: Gateway,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Measured {
    fn start(words: &[&str]) -> Measured {
        let folder = tests::Server::folder();
        let socket = folder.path().join("metrics");
        let place = format!("unix:{}", socket.display());
        let gateway = Gateway::start(&[&["--metrics", &place], words].concat());
        Measured { gateway, socket, _folder: folder }
    }

    /// Status line and body of the answer to a request.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        answer(&mut stream, request)
    }

    fn page(&self) -> String {
        let (status, body) = self.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(status, "HTTP/1.1 200 OK");
        body
    }

    /// The value of a line that begins like this.
    #[track_caller]
    fn value(&self, line: &str) -> f64 {
        let page = self.page();
        let found = page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {line} in\n{page}")).parse().unwrap()
    }

    #[track_caller]
    fn expect(&self, line: &str, value: f64) {
        wait_until(&format!("{line} is {value}"), || self.value(line) == value);
    }
}

fn answer(stream: &mut (impl std::io::Read + std::io::Write), request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Prometheus's own parser takes the page, and finds what was sent.
#[test]
fn a_parser_of_prometheus_finds_everything() {
    requires!("nbdsh");
    let measured = Measured::start(&["-e", "a \"name\"\\\n", "memory", "1M", "--", "-e", "b", "null", "2M"]);
    let mut client = Raw::open(measured.gateway.socket(), "a \"name\"\\\n");
    assert_eq!(client.write(0, 0, &[1; 4096]), 0);
    assert_eq!(client.read(0, 512), Ok(vec![1; 512]));
    let script = r#"
import sys
from prometheus_client.parser import text_string_to_metric_families
families = {family.name: family for family in text_string_to_metric_families(sys.argv[-1])}
def value(family, **labels):
    found = [s.value for s in families[family].samples if labels.items() <= s.labels.items()]
    assert len(found) == 1, (family, labels, found)
    return found[0]
name = "a \"name\"\\\n"
assert value("gateway_requests", export=name, operation="read") == 1
assert value("gateway_request_bytes", export=name, operation="write") == 4096
assert value("gateway_export_capacity_bytes", export="b") == 2 << 20
assert families["gateway_requests"].type == "counter"
durations = families["gateway_request_duration_seconds"]
assert durations.type == "histogram"
counts = [s for s in durations.samples if s.name.endswith("_count")]
assert len(counts) == 2 and all(s.value == 1 for s in counts), counts
buckets = [s for s in durations.samples if s.name.endswith("_bucket") and s.labels["operation"] == "read"]
values = [s.value for s in buckets]
assert values == sorted(values) and values[-1] == 1 and buckets[-1].labels["le"] == "+Inf", buckets
for family in families.values():
    assert family.documentation, family
    assert family.samples or family.name.endswith("duration_seconds"), family
for family in ["process_cpu_seconds", "process_resident_memory_bytes", "gateway_worker_wakeups"]:
    assert family in families, family
"#;
    let script_in_file = measured.socket.with_extension("py");
    std::fs::write(&script_in_file, script).unwrap();
    let mut nbdsh = Command::new(tool("nbdsh").unwrap());
    let source = format!("exec(open({:?}).read())", script_in_file.display().to_string());
    nbdsh.args(["-c", "import sys; sys.argv.append(sys.stdin.read())", "-c", &source]);
    let output = run_with_input(&mut nbdsh, &measured.page());
    assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
    drop(client);
    measured.gateway.stop();
    assert!(!measured.socket.exists());
}

/// What fio says it did is what the counters say, and each request is in a histogram.
#[test]
fn the_numbers_are_those_of_fio() {
    requires!("fio");
    let image = Image::sparse(Place::Memory, 64 << 20);
    let path = format!("path={}", image.path().display());
    let measured = Measured::start(&["io_uring", &path]);
    let uri = format!("--uri={}", measured.gateway.uri());
    let words =
        ["--name=load", "--ioengine=nbd", &uri, "--rw=randrw", "--bs=4k", "--size=64M", "--iodepth=32"];
    let more = ["--io_size=32M", "--fsync=100", "--output-format=json", "--numjobs=2", "--group_reporting"];
    let said = run(Command::new(tool("fio").unwrap()).args(words).args(more)).success();
    let said: serde_json::Value = serde_json::from_str(&said[said.find('{').unwrap()..]).unwrap();
    let job = &said["jobs"][0];
    for (operation, name) in [("read", "read"), ("write", "write")] {
        let of = |what: &str| job[name][what].as_f64().unwrap();
        let labels = format!("{{export=\"\",operation=\"{operation}\"}}");
        let value = |metric: &str| measured.value(&format!("{metric}{labels}"));
        assert_eq!(value("gateway_requests_total"), of("total_ios"), "{operation}");
        assert_eq!(value("gateway_request_bytes_total"), of("io_bytes"), "{operation}");
        assert_eq!(value("gateway_request_duration_seconds_count"), of("total_ios"), "{operation}");
        assert_eq!(value("gateway_requests_in_flight"), 0.0);
        assert_eq!(value("gateway_request_errors_total") + value("gateway_requests_abandoned_total"), 0.0);
    }
    let flushes = job["sync"]["total_ios"].as_f64().unwrap();
    let labels = "{export=\"\",operation=\"flush\"}";
    assert!(flushes > 10.0 && measured.value(&format!("gateway_requests_total{labels}")) >= flushes);
    measured.expect("gateway_export_clients{export=\"\"}", 0.0);
    let sessions = measured.value("gateway_export_sessions_total{export=\"\"}");
    assert!(sessions >= 2.0, "{sessions}");
    measured.gateway.stop();
}

/// A device that stands still, and a client that does not wait for it.
#[test]
fn requests_are_in_flight_until_they_are_answered_or_their_client_leaves() {
    requires!("qemu-storage-daemon");
    let spot = Spot::new("");
    let image = Image::sparse(Place::Disk, 1 << 20);
    let mut back_end = spot.start(image.path());
    let path = format!("path={}", spot.socket().display());
    let measured = Measured::start(&["virtio-blk-vhost-user", &path]);
    let (mut stays, mut leaves) =
        (Raw::open(measured.gateway.socket(), ""), Raw::open(measured.gateway.socket(), ""));
    back_end.signal(Signal::SIGSTOP);
    for cookie in 0..3 {
        stays.request(READ, cookie, 0, 4096);
        leaves.request(FLUSH, cookie, 0, 0);
    }
    measured.expect("gateway_requests_in_flight{export=\"\",operation=\"read\"}", 3.0);
    measured.expect("gateway_requests_in_flight{export=\"\",operation=\"flush\"}", 3.0);
    assert!(measured.value("gateway_device_queue_depth{export=\"\"}") >= 3.0);
    drop(leaves);
    measured.expect("gateway_requests_in_flight{export=\"\",operation=\"flush\"}", 0.0);
    measured.expect("gateway_requests_abandoned_total{export=\"\",operation=\"flush\"}", 3.0);
    back_end.signal(Signal::SIGKILL);
    let _ = back_end.wait();
    let _other = spot.start(image.path());
    for _ in 0..3 {
        assert_eq!(stays.reply().map(|reply| reply.error), Some(0));
        stays.stream.read_exact(&mut [0; 4096]).unwrap();
    }
    measured.expect("gateway_requests_in_flight{export=\"\",operation=\"read\"}", 0.0);
    measured.expect("gateway_device_reconnects_total{export=\"\"}", 1.0);
    assert!(measured.value("gateway_device_resubmissions_total{export=\"\"}") >= 3.0);
    assert_eq!(measured.value("gateway_request_duration_seconds_count{export=\"\",operation=\"read\"}"), 3.0);
    drop(stays);
    measured.gateway.stop();
}

#[test]
fn errors_and_refusals_are_told_apart() {
    let image = Image::sparse(Place::Memory, 1 << 20);
    let path = format!("path={}", image.path().display());
    let measured = Measured::start(&["-r", "io_uring", &path]);
    let mut client = Raw::open(measured.gateway.socket(), "");
    client.send(WRITE, 0, 1, 0, &[0; 512]);
    assert_ne!(client.reply().map(|reply| reply.error), Some(0), "it is read-only");
    measured.expect("gateway_requests_refused_total{export=\"\"}", 1.0);
    assert_eq!(measured.value("gateway_requests_total{export=\"\",operation=\"write\"}"), 0.0);
    // The file is shorter than it was.
    assert_eq!(client.read(0, 512), Ok(vec![0; 512]));
    std::fs::File::options().write(true).open(image.path()).unwrap().set_len(0).unwrap();
    assert!(client.read(4096, 512).is_err());
    measured.expect("gateway_request_errors_total{export=\"\",operation=\"read\"}", 1.0);
    measured.expect("gateway_request_bytes_total{export=\"\",operation=\"read\"}", 512.0);
    measured.expect("gateway_requests_total{export=\"\",operation=\"read\"}", 2.0);
    drop(client);
    measured.gateway.stop();
}

#[test]
fn other_requests_are_refused_and_bad_ones_harm_nobody() {
    let measured = Measured::start(&["memory", "1M"]);
    let status = |request: &str| measured.ask(request).0;
    assert!(status("GET / HTTP/1.1\r\nHost: x\r\n\r\n").contains("404"));
    assert!(status("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").contains("405"));
    assert_eq!(measured.ask("HEAD /metrics HTTP/1.0\r\n\r\n").1, "");
    for garbage in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\r\n\r\n", &[b'x'; 100_000]] {
        let mut stream = UnixStream::connect(&measured.socket).unwrap();
        // The server may close before it has everything.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // More of those who say nothing than there may be; the oldest make room.
    let silent: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&measured.socket).unwrap()).collect();
    assert!(measured.page().contains("gateway_build_info"));
    let mut client = Raw::open(measured.gateway.socket(), "");
    assert_eq!(client.write(0, 0, &[1; 512]), 0);
    drop((silent, client));
    measured.gateway.stop();
}

#[test]
fn a_free_port_is_told_and_a_taken_one_refused() {
    let gateway = Gateway::start(&["--metrics=127.0.0.1:0", "memory", "1M"]);
    let said = gateway.stderr();
    let (_, port) = said.split_once("metrics are told on TCP 127.0.0.1:").expect("the log tells the port");
    let port: u16 = port.lines().next().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (status, body) = answer(&mut stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(status.contains("200") && body.contains("process_start_time_seconds"), "{status}");
    let place = format!("--metrics=127.0.0.1:{port}");
    let output = run(Command::new(Gateway::program()).args(["-U", "-", &place, "memory", "1M"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains(&port.to_string()), "{}", output.stderr);
    gateway.stop();
}
