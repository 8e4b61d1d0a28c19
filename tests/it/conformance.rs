//! The conformance suite against the gateway, and against servers of other projects to show that the suite is right.

use tests::conformance::{Level, Selection, Target, run};
use tests::{Gateway, Image, Peer, Place, Server, requires};

/// Large enough to have something on both sides of 2^32.
const SIZE: u64 = (4 << 30) + (64 << 20);

/// A check that a server may fail, and why.
type Known = (&'static str, &'static str);

/// SEEK_HOLE takes blocks that are allocated and not yet written for holes, so that status says HOLE for them.
const UNWRITTEN_LOOKS_LIKE_A_HOLE: [Known; 2] = [
    ("zeroes/no-hole-stays-allocated", "SEEK_HOLE tells preallocated blocks as holes"),
    ("zeroes/no-hole-allocates", "SEEK_HOLE tells preallocated blocks as holes"),
];

/// Runs the suite up to a level; only the known checks may fail.
#[track_caller]
fn conforms(server: &Server, image: Option<&Image>, level: Level, except: &[Known], known: &[Known]) {
    let mut target = Target::probe(&server.uri()).expect("the server takes a plain handshake");
    if let Some(image) = image {
        target = target.with_image(image.path());
    }
    let except = except.iter().map(|(name, _)| (*name).to_owned()).collect();
    let report = run(&target, &Selection { level, filters: Vec::new(), except }, |_| {});
    let new: Vec<String> = report
        .failures()
        .filter(|finding| !known.iter().any(|(name, _)| *name == finding.check))
        .map(ToString::to_string)
        .collect();
    assert!(new.is_empty() && !report.server_is_gone, "{}\n{report}", new.join("\n"));
    assert!(report.passed() > 150, "suspiciously little was checked: {report}");
}

/// What nbdkit 1.42 does not do as the specification says.
const NBDKIT: [Known; 3] = [
    ("meta/lengths-must-match", "bytes behind the last query are ignored"),
    ("zeroes/no-hole-stays-allocated", "the plugins file and memory make holes all the same"),
    ("zeroes/no-hole-allocates", "the plugins file and memory make holes all the same"),
];

/// What cannot be checked with nbdkit 1.42.
const NBDKIT_EXCEPT: [Known; 2] = [
    ("flags/fast-zero-not-announced", "an assertion fails and the server is gone"),
    ("leave/server-closes-after-disconnect", "a thread waits for more requests until the client closes"),
];

/// What qemu-nbd 10.0 does not do as the specification says.
const QEMU: [Known; 8] = [
    ("meta/lengths-must-match", "bytes behind the last query are ignored"),
    ("bounds/error-numbers", "EINVAL for all"),
    ("flush/with-a-range", "the range is ignored"),
    ("zeroes/no-hole-stays-allocated", "SEEK_HOLE tells preallocated blocks as holes"),
    ("zeroes/no-hole-allocates", "SEEK_HOLE tells preallocated blocks as holes"),
    ("durable/fua", "a write of one piece is done with pwrite and no fdatasync"),
    ("leave/disconnect-completes-requests", "the socket is closed before all replies are sent"),
    ("leave/half-closed", "the socket is closed before all replies are sent"),
];

/// What cannot be checked with qemu-nbd 10.0.
const QEMU_EXCEPT: [Known; 1] = [("status-query/not-announced", "an assertion fails and the server is gone")];

#[test]
fn nbdkit_memory_passes_the_suite_but_for_what_is_known() {
    requires!("nbdkit");
    let server = Peer::nbdkit(&["memory", &SIZE.to_string()]).unwrap();
    conforms(&server, None, Level::Should, &NBDKIT_EXCEPT, &NBDKIT);
}

#[test]
fn nbdkit_file_passes_the_suite_but_for_what_is_known() {
    requires!("nbdkit");
    let image = Image::sparse(Place::Disk, SIZE);
    let server = Peer::nbdkit(&["file", image.path().to_str().unwrap()]).unwrap();
    conforms(&server, Some(&image), Level::Should, &NBDKIT_EXCEPT, &NBDKIT);
}

#[test]
fn qemu_nbd_passes_the_suite_but_for_what_is_known() {
    requires!("qemu-nbd");
    let image = Image::sparse(Place::Disk, SIZE);
    let server = Peer::qemu_nbd(image.path(), &[]).unwrap();
    conforms(&server, Some(&image), Level::Should, &QEMU_EXCEPT, &QEMU);
}

#[test]
fn gateway_memory_passes_the_suite() {
    let server = Gateway::start(&["memory", &SIZE.to_string()]);
    conforms(&server, None, Level::Chosen, &[], &[]);
    server.stop();
}

#[test]
fn gateway_with_one_worker_passes_the_suite() {
    let server = Gateway::builder().workers(1).start(&["memory", &SIZE.to_string()]);
    conforms(&server, None, Level::Chosen, &[], &[]);
    server.stop();
}

#[track_caller]
fn gateway_file(place: Place, direct: &str, known: &[Known]) {
    let image = Image::sparse(place, SIZE);
    let server = Gateway::start(&["io_uring", &image.property(), direct]);
    conforms(&server, Some(&image), Level::Chosen, &[], known);
    server.stop();
}

#[test]
fn gateway_io_uring_on_a_disk_passes_the_suite() {
    gateway_file(Place::Disk, "direct=false", &UNWRITTEN_LOOKS_LIKE_A_HOLE);
}

#[test]
fn gateway_io_uring_on_a_disk_past_the_page_cache_passes_the_suite() {
    gateway_file(Place::Disk, "direct=true", &UNWRITTEN_LOOKS_LIKE_A_HOLE);
}

#[test]
fn gateway_io_uring_in_memory_passes_the_suite() {
    gateway_file(Place::Memory, "direct=false", &[]);
}

#[test]
fn gateway_io_uring_in_memory_past_the_page_cache_passes_the_suite() {
    gateway_file(Place::Memory, "direct=true", &[]);
}

#[test]
fn gateway_read_only_passes_the_suite() {
    let image = Image::with(Place::Memory, &tests::Rng::new(1).bytes(16 << 20));
    let server = Gateway::start(&["io_uring", &image.property(), "read-only=true"]);
    let target = Target::probe(&server.uri()).unwrap();
    let report = run(&target, &Selection::default(), |_| {});
    assert!(report.failures().next().is_none() && report.passed() > 90, "{report}");
    server.stop();
}

/// With so few leases that data is read again which a slow client had not taken.
#[test]
fn gateway_with_little_memory_passes_the_suite() {
    let image = Image::sparse(Place::Memory, SIZE);
    let server = Gateway::start(&["--memory", "1M", "io_uring", &image.property(), "direct=true"]);
    conforms(&server, Some(&image), Level::Chosen, &[], &[]);
    server.stop();
}

#[test]
fn gateway_null_passes_what_needs_no_memory() {
    let server = Gateway::start(&["null", &SIZE.to_string()]);
    let target = Target::probe(&server.uri()).unwrap();
    let filters =
        ["greeting/", "options/", "tls/", "list/", "names/", "info/", "export-name/", "meta/", "flags/"];
    let filters = filters.iter().map(ToString::to_string).collect();
    let report = run(&target, &Selection { filters, ..Selection::default() }, |_| {});
    assert!(report.failures().next().is_none() && report.passed() > 60, "{report}");
    server.stop();
}
