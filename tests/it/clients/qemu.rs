//! qemu-img and qemu-io.

use serde_json::Value;
use tests::{Image, Place, Rng, requires};

use super::served::{Served, client, on_each_disk, text};

const SIZE: usize = 32 << 20;

/// Runs commands of qemu-io, one after the other.
#[track_caller]
fn qemu_io(served: &Served, commands: &[&str]) -> String {
    let uri = served.uri();
    let mut words = vec!["--format=raw"];
    words.extend(commands.iter().flat_map(|command| ["-c", *command]));
    words.push(&uri);
    let said = client("qemu-io", &words).success();
    assert!(!said.contains("verification failed"), "{}: {said}", served.name);
    said
}

#[test]
fn qemu_img_converts_to_the_gateway_and_back() {
    requires!("qemu-img");
    let mut contents = vec![0; SIZE];
    let mut rng = Rng::new(3);
    for index in [0, 5, 6, 17, 31] {
        contents[index << 20..(index + 1) << 20].copy_from_slice(&rng.bytes(1 << 20));
    }
    let original = Image::with(Place::Memory, &contents);
    on_each_disk(SIZE as u64, |served| {
        let uri = served.uri();
        let convert = ["convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw"];
        let _ = client("qemu-img", &[&convert[..], &[text(original.path()), &uri]].concat()).success();
        let _ =
            client("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(original.path()), &uri]).success();
        let back = original.beside("back.qcow2");
        let _ = client("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, text(&back)]).success();
        let same = ["compare", "-f", "raw", "-F", "qcow2", text(original.path()), text(&back)];
        let _ = client("qemu-img", &same).success();
        std::fs::remove_file(&back).unwrap();
    });
}

#[test]
fn qemu_img_sees_size_and_holes() {
    requires!("qemu-img", "qemu-io");
    on_each_disk(SIZE as u64, |served| {
        let uri = served.uri();
        let info: Value = serde_json::from_str(
            &client("qemu-img", &["info", "-f", "raw", "--output=json", &uri]).success(),
        )
        .unwrap();
        assert_eq!(info["virtual-size"], SIZE);
        qemu_io(served, &["write -P 5 4M 1M", "flush"]);
        let map: Value =
            serde_json::from_str(&client("qemu-img", &["map", "-f", "raw", "--output=json", &uri]).success())
                .unwrap();
        let extents: Vec<(u64, u64, bool)> = map
            .as_array()
            .unwrap()
            .iter()
            .map(|extent| {
                let number = |name: &str| extent[name].as_u64().unwrap() >> 20;
                (number("start"), number("length"), extent["data"].as_bool().unwrap())
            })
            .collect();
        assert_eq!(extents, [(0, 4, false), (4, 1, true), (5, 27, false)], "{}", served.name);
    });
}

#[test]
fn qemu_io_finds_the_patterns_that_it_wrote() {
    requires!("qemu-io");
    on_each_disk(SIZE as u64, |served| {
        qemu_io(
            served,
            &[
                "write -P 0x11 0 1M",
                "write -P 0x22 1000 5000",
                "write -P 0x33 -f 8191 2",
                "write -z 64k 64k",
                "write -z -u 256k 128k",
                "write -z 512k 4k",
                "discard 768k 64k",
                "flush",
                "read -P 0x11 0 1000",
                "read -P 0x22 1000 5000",
                "read -P 0x11 6000 2191",
                "read -P 0x33 8191 2",
                "read -P 0x11 8193 57343",
                "read -P 0 64k 64k",
                "read -P 0x11 128k 128k",
                "read -P 0 256k 128k",
                "read -P 0x11 384k 128k",
                "read -P 0x11 516k 252k",
                "read -P 0x11 832k 192k",
            ],
        );
    });
}

#[test]
fn qemu_io_reaches_the_last_byte_and_no_further() {
    requires!("qemu-io");
    on_each_disk(SIZE as u64 - 512, |served| {
        let end = SIZE - 512;
        let last = format!("write -P 0x44 {} 1", end - 1);
        let read = format!("read -P 0x44 {} 1", end - 1);
        qemu_io(served, &[&last, &read]);
        let beyond = format!("write -P 0x55 {} 2", end - 1);
        let uri = served.uri();
        let output = client("qemu-io", &["--format=raw", "-c", &beyond, &uri]);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(
            !output.status.success() || said.contains("failed"),
            "a write beyond the end succeeded: {said}"
        );
    });
}

#[test]
fn requests_in_flight_together_are_all_done() {
    requires!("qemu-io");
    on_each_disk(SIZE as u64, |served| {
        let writes: Vec<String> =
            (0..64).map(|index| format!("aio_write -P {} {}k 64k", index + 1, index * 100)).collect();
        let reads: Vec<String> =
            (0..64).map(|index| format!("read -P {} {}k 64k", index + 1, index * 100)).collect();
        let mut commands: Vec<&str> = writes.iter().map(String::as_str).collect();
        commands.push("aio_flush");
        commands.extend(reads.iter().map(String::as_str));
        qemu_io(served, &commands);
    });
}
