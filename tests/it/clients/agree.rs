//! Two servers, one image: what nbdinfo says about the gateway and about qemu-nbd.

use serde_json::Value;
use tests::{Gateway, Image, Peer, Place, Rng, requires};

use super::served::client;

/// An image with data and holes of many lengths.
fn patchwork() -> Image {
    let mut contents = vec![0; 24 << 20];
    let mut rng = Rng::new(4);
    let mut at = 0;
    while at < contents.len() {
        let len = ((1 + rng.below(40)) as usize * 4096 * 4).min(contents.len() - at);
        if rng.one_in(2) {
            contents[at..at + len].copy_from_slice(&rng.bytes(len));
        }
        at += len;
    }
    let solid = Image::with(Place::Memory, &contents);
    Image::copy_of(Place::Disk, solid.path())
}

fn json(words: &[&str]) -> Value {
    serde_json::from_str(&client("nbdinfo", words).success()).unwrap()
}

/// Offset, length and type of each extent; neighbours of one type are one extent.
fn map(uri: &str) -> Vec<(u64, u64, u64)> {
    let mut extents: Vec<(u64, u64, u64)> = Vec::new();
    for extent in json(&["--map", "--json", uri]).as_array().unwrap() {
        let number = |name: &str| extent[name].as_u64().unwrap();
        let (offset, len, kind) = (number("offset"), number("length"), number("type"));
        match extents.last_mut() {
            Some(last) if last.2 == kind => last.1 += len,
            _ => extents.push((offset, len, kind)),
        }
    }
    extents
}

#[track_caller]
fn agree(gateway: &[&str], qemu: &[&str], image: &Image) {
    let ours = Gateway::start(gateway);
    let theirs = Peer::qemu_nbd(image.path(), qemu).unwrap();
    assert_eq!(map(&ours.uri()), map(&theirs.uri()));
    let (our, their) = (json(&["--json", &ours.uri()]), json(&["--json", &theirs.uri()]));
    for fact in ["protocol", "TLS", "structured", "extended"] {
        assert_eq!(our[fact], their[fact], "{fact}");
    }
    let (our, their) = (&our["exports"][0], &their["exports"][0]);
    for fact in ["export-size", "is_read_only", "contexts", "block_size_maximum"] {
        assert_eq!(our[fact], their[fact], "{fact}");
    }
    // A feature may be ours alone, but none that a client has with qemu may be missing.
    let optional =
        ["can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero", "can_fast_zero"];
    let read_only = their["is_read_only"] == true;
    for feature in optional {
        // qemu also announces commands that it then refuses.
        let refused = read_only && ["can_trim", "can_zero", "can_fast_zero"].contains(&feature);
        assert!(refused || their[feature] == false || our[feature] == true, "{feature} is missing");
    }
    ours.stop();
}

#[test]
fn nbdinfo_says_the_same_about_the_gateway_and_qemu_nbd() {
    requires!("nbdinfo", "qemu-nbd");
    let image = patchwork();
    agree(&["io_uring", &image.property()], &[], &image);
    agree(&["io_uring", &image.property(), "direct=true"], &["--cache=none"], &image);
    agree(&["io_uring", &image.property(), "read-only=true"], &["--read-only"], &image);
}

#[test]
fn qemu_img_finds_no_difference_between_the_gateway_and_qemu_nbd() {
    requires!("qemu-img", "qemu-nbd");
    let image = patchwork();
    let ours = Gateway::start(&["io_uring", &image.property(), "read-only=true"]);
    let theirs = Peer::qemu_nbd(image.path(), &["--read-only"]).unwrap();
    let words = ["compare", "-f", "raw", "-F", "raw", &ours.uri(), &theirs.uri()];
    assert!(client("qemu-img", &words).success().contains("identical"));
    ours.stop();
}
