//! What is particular to files and block devices: finding out what they are, and saying what is wrong.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;

use drivers::testing::Client;
use drivers::testing::client::PLAIN;
use drivers::{Errno, Error, ErrorKind, RequestFlags, Started, Value};
use fixtures::{FilePlace, LoopDevice, start};
use tempfile::TempPath;

fn words(words: &[&str]) -> Vec<String> {
    std::iter::once("io_uring").chain(words.iter().copied()).map(str::to_owned).collect()
}

fn disk(properties: &[&str]) -> Arc<dyn Started> {
    start(&words(properties), 1).unwrap_or_else(|error| panic!("{properties:?}: {error}"))
}

/// The error that `properties` give, which must contain all of `parts`.
fn error(properties: &[&str], kind: ErrorKind, parts: &[&str]) -> Error {
    let Err(error) = start(&words(properties), 1) else { panic!("{properties:?} did not fail") };
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    assert!(error.hint.is_some(), "it says what to do: {text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    error
}

fn file(place: FilePlace, len: u64) -> TempPath {
    let file = place.file();
    file.as_file().set_len(len).unwrap();
    file.into_temp_path()
}

fn path_word(path: &TempPath) -> String {
    format!("path={}", path.display())
}

#[test]
fn what_is_no_disk_is_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    UnixListener::bind(at("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let device = ErrorKind::Device;
    error(&[&at("missing")], device, &["missing'", "No such file", "check the path"]);
    error(&[&at(".")], device, &["image file"]);
    error(&[&at("."), "read-only=true"], device, &["is a directory"]);
    error(&[&at("socket")], device, &["socket'", "image file"]);
    error(&[&at("pipe")], device, &["is a pipe"]);
    error(&["/dev/null"], device, &["'/dev/null' is a character device", "block device"]);
}

#[test]
fn combinations_that_mean_nothing_are_usage_errors() {
    let path = file(FilePlace::Ram, 4096);
    error(&[], ErrorKind::Usage, &["needs the property 'path' or 'fd'"]);
    error(&[&path_word(&path), "fd=3"], ErrorKind::Usage, &["both 'path' and 'fd'"]);
    error(&[&path_word(&path), "num-poll-queues=1"], ErrorKind::Usage, &["needs direct=true"]);
    error(&[&path_word(&path), "num-entries=0"], ErrorKind::Usage, &["num-entries", "between 1 and 32768"]);
    error(&["fd=99999"], ErrorKind::Device, &["descriptor 99999", "leave it open"]);
}

#[test]
fn a_descriptor_stays_its_owners_and_keeps_its_flags() {
    let path = file(FilePlace::Disk, 8192);
    let open = |write: bool, flags: i32| {
        std::fs::File::options().read(true).write(write).custom_flags(flags).open(&path).unwrap()
    };
    let file = open(true, 0);
    let word = format!("fd={}", file.as_raw_fd());
    let mut client = Client::new(&disk(&[&word]), 0);
    client.write(0, &[7; 4096], PLAIN).unwrap();
    drop(client);
    let mut bytes = [0; 10];
    file.read_exact_at(&mut bytes, 100).unwrap();
    assert_eq!(bytes, [7; 10], "the owner's descriptor still works");
    error(&[&word, "direct=true"], ErrorKind::Usage, &["without O_DIRECT"]);

    let reading = open(false, 0);
    let word = format!("fd={}", reading.as_raw_fd());
    assert!(disk(&[&word]).limits().read_only);
    error(&[&word, "read-only=false"], ErrorKind::Device, &["reading only"]);

    let direct = open(true, libc_o_direct());
    let device = disk(&[&format!("fd={}", direct.as_raw_fd())]);
    assert_eq!(device.property("direct"), Some(Value::Bool(true)));

    let writing = std::fs::File::options().write(true).open(&path).unwrap();
    error(&[&format!("fd={}", writing.as_raw_fd())], ErrorKind::Device, &["not open for reading"]);
}

/// `O_DIRECT`, out of the open flags of a descriptor that has it, so that this program needs no libc.
fn libc_o_direct() -> i32 {
    match std::env::consts::ARCH {
        "aarch64" | "arm" => 0o200_000,
        "powerpc64" => 0o400_000,
        _ => 0o40_000,
    }
}

#[test]
fn a_file_that_cannot_be_written_is_read_only_unless_that_was_excluded() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("running");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut child = Command::new(&program).arg("60").spawn().unwrap();
    // A program that runs cannot be opened for writing (ETXTBSY), not even by root.
    let path = program.display().to_string();
    let device = disk(&[&path]);
    assert!(device.limits().read_only);
    assert_eq!(Client::new(&device, 0).write(0, &[0; 512], PLAIN), Err(Errno::READ_ONLY));
    error(&[&path, "read-only=false"], ErrorKind::Device, &["for reading and writing", "read-only=false"]);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!disk(&[&path]).limits().read_only);
}

#[test]
fn an_empty_file_is_a_disk_of_no_bytes() {
    for direct in ["direct=false", "direct=true"] {
        let path = file(FilePlace::Disk, 0);
        assert_eq!(disk(&[&path_word(&path), direct]).limits().capacity_bytes, 0);
    }
}

#[test]
fn the_unaligned_end_of_a_direct_disk_is_read_and_written() {
    for capacity in [1000, 512 * 9 + 1, 65_536 + 700, 1_000_001] {
        let path = file(FilePlace::Disk, capacity);
        let device = disk(&[&path_word(&path), "direct=true"]);
        let limits = device.limits();
        assert_eq!(limits.capacity_bytes, capacity);
        let unit = u64::from(limits.request_alignment_bytes);
        assert!(unit > 1);
        let mut client = Client::new(&device, 0);
        let bytes: Vec<u8> = (0..capacity).map(|n| (n % 251) as u8 + 1).collect();
        client.write(0, &bytes, PLAIN).unwrap();
        assert_eq!(client.read(0, bytes.len()).unwrap(), bytes);
        let tail = capacity / unit * unit;
        let flags = RequestFlags { fua: true, ..PLAIN };
        client.write(tail, &bytes[..(capacity - tail) as usize], flags).unwrap();
        assert_eq!(
            client.read(tail, (capacity - tail) as usize).unwrap(),
            bytes[..(capacity - tail) as usize]
        );
        client.flush().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), capacity, "the file does not grow");
        assert_eq!(client.write(tail, &vec![1; unit as usize], PLAIN), Err(Errno::INVALID), "beyond the end");
    }
}

#[test]
fn the_kernel_and_the_driver_agree_on_the_bytes() {
    let path = file(FilePlace::Disk, 1 << 20);
    let mut client = Client::new(&disk(&[&path_word(&path)]), 0);
    client.write(12_345, b"some bytes", PLAIN).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().write_all(b"others").unwrap();
    assert_eq!(client.read(0, 6).unwrap(), b"others");
    assert_eq!(&std::fs::read(&path).unwrap()[12_345..12_355], b"some bytes");
}

#[test]
fn a_full_file_system_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1M", "none"]).arg(folder.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a full file system: this needs root to mount one");
        return;
    }
    let path = folder.path().join("disk");
    std::fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
    let mut client = Client::new(&disk(&[&path.display().to_string()]), 0);
    let result = client.write(0, &vec![1; 2 << 20], PLAIN);
    let answers: Vec<_> = (0..600).map(|n| client.queue.write_now(n * 4096, &[1; 4096])).collect();
    drop(client);
    // A child that another test is starting has the file open, too, for a moment.
    let unmount = || Command::new("umount").arg(folder.path()).status().unwrap().success();
    let pause = || std::thread::sleep(std::time::Duration::from_millis(10));
    assert!(
        (0..500).any(|_| unmount() || {
            pause();
            false
        }),
        "somebody keeps the file open"
    );
    assert_eq!(result, Err(Errno::NO_SPACE));
    assert!(answers.contains(&drivers::Now::Failed(Errno::NO_SPACE)));
}

#[test]
fn a_read_only_device_is_found_out() {
    let Some(device) = loop_device(1 << 20, &["--read-only"]) else { return };
    assert!(disk(&[&device.path]).limits().read_only);
    error(&[&device.path, "read-only=false"], ErrorKind::Device, &["read-only=false"]);
}

#[test]
fn large_blocks_of_a_device_are_found_out() {
    let Some(device) = loop_device(1 << 20, &["--sector-size", "4096"]) else { return };
    let limits = disk(&[&device.path, "direct=true"]).limits();
    assert_eq!(limits.request_alignment_bytes, 4096);
    let buffered = disk(&[&device.path]);
    assert_eq!(buffered.limits().request_alignment_bytes, 1);
    assert_eq!(buffered.limits().discard.map(|discard| discard.alignment_bytes), Some(4096));
    let mut client = Client::new(&buffered, 0);
    client.write(4000, &[3; 1000], PLAIN).unwrap();
    assert_eq!(client.read(4000, 1000).unwrap(), [3; 1000]);
    assert_eq!(client.discard(512, 4096), Err(Errno::INVALID));
}

#[test]
fn a_partition_has_the_facts_of_its_disk() {
    let Some(device) = loop_device(4 << 20, &["--sector-size", "4096"]) else { return };
    // In sectors of 512 bytes, whatever the device's blocks are.
    match Command::new("addpart").args([&device.path, "1", "2048", "4096"]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return eprintln!("SKIPPED: partitions: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Err(error) => return eprintln!("SKIPPED: partitions: addpart: {error}"),
    }
    let name = format!("{}p1", device.path.trim_start_matches("/dev/"));
    let Ok(numbers) = std::fs::read_to_string(format!("/sys/class/block/{name}/dev")) else {
        return eprintln!("SKIPPED: partitions: the kernel does not show {name}");
    };
    // Not every machine has somebody who makes nodes for new devices.
    let folder = tempfile::tempdir().unwrap();
    let partition = folder.path().join("partition").display().to_string();
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    assert!(Command::new("mknod").args([&partition, "b", major, minor]).status().unwrap().success());
    let limits = disk(&[&partition, "direct=true"]).limits();
    assert_eq!(limits.capacity_bytes, 4096 * 512);
    assert_eq!(limits.request_alignment_bytes, 4096);
    assert!(limits.discard.is_some());
}

#[test]
fn polling_a_device_that_cannot_be_polled_is_refused_by_name() {
    let path = file(FilePlace::Disk, 4 << 20);
    let word = path_word(&path);
    if disk(&[&word, "direct=true"]).property("supports-poll-queues") == Some(Value::Bool(true)) {
        return eprintln!("SKIPPED: refusing to poll: the disk under this folder can be polled");
    }
    error(&[&word, "direct=true", "num-poll-queues=1"], ErrorKind::Device, &["does not support polling"]);
}

fn loop_device(capacity_bytes: u64, options: &[&str]) -> Option<LoopDevice> {
    LoopDevice::new(capacity_bytes, options)
        .inspect_err(|reason| eprintln!("SKIPPED: loop device {options:?}: {reason}"))
        .ok()
}
