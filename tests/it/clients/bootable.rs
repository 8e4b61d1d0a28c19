//! A disk with a real partition table and real file systems.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use tests::{Gateway, Image, Place, bootable_image, requires, skip};

use super::served::{client, text};

/// Where the ext4 partition lies, as `xtask/src/image/mod.rs` lays the disk out.
const ROOT_OFFSET: u64 = 133_120 * 512;
const ROOT_LEN: u64 = 684_032 * 512;
/// Between the partition table and the first partition nothing is stored.
const GAP_OFFSET: u64 = 64 << 10;
const GAP_LEN: u64 = 512 << 10;

/// Whether two files are the same, byte for byte, where `differs` does not say otherwise.
fn assert_same(one: &Path, other: &Path, differs: std::ops::Range<u64>) {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    assert_eq!(one.metadata().unwrap().len(), other.metadata().unwrap().len());
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    loop {
        let got = one.read(&mut a).unwrap();
        other.read_exact(&mut b[..got]).unwrap();
        let same = a[..got] == b[..got] || differs.contains(&at);
        assert!(same, "they differ between {at:#x} and {:#x}", at + got as u64);
        if got == 0 {
            return;
        }
        at += got as u64;
    }
}

/// The partition with the root file system is clean.
fn fsck(disk: &Image, path: &Path) {
    let partition = disk.beside("partition");
    let mut from = File::open(path).unwrap();
    from.seek(SeekFrom::Start(ROOT_OFFSET)).unwrap();
    let mut to = File::create(&partition).unwrap();
    std::io::copy(&mut from.take(ROOT_LEN), &mut to).unwrap();
    let said = client("e2fsck", &["-f", "-n", text(&partition)]).success();
    assert!(said.contains("files"), "{said}");
    std::fs::remove_file(&partition).unwrap();
}

/// Copies the disk to the gateway, writes beside its partitions, and copies it back.
fn there_and_back(direct: &str) {
    let original = bootable_image().unwrap();
    let len = original.metadata().unwrap().len();
    let image = Image::sparse(Place::Disk, len);
    let gateway = Gateway::start(&["io_uring", &image.property(), direct]);
    let uri = gateway.uri();
    let _ = client("nbdcopy", &["--flush", text(&original), &uri]).success();

    let write = format!("write -P 0x5a {GAP_OFFSET} {GAP_LEN}");
    let read = format!("read -P 0x5a {GAP_OFFSET} {GAP_LEN}");
    let said = client("qemu-io", &["--format=raw", "-c", &write, "-c", "flush", "-c", &read, &uri]).success();
    assert!(!said.contains("failed"), "{said}");

    let back = image.beside("back");
    let _ = client("nbdcopy", &[&uri, text(&back)]).success();
    gateway.stop();
    let gap = GAP_OFFSET..GAP_OFFSET + GAP_LEN;
    assert_same(&original, &back, gap.clone());
    assert_same(&original, image.path(), gap.clone());
    assert_same(&back, image.path(), 0..0);
    let mut written = vec![0; GAP_LEN as usize];
    let mut file = File::open(&back).unwrap();
    file.seek(SeekFrom::Start(gap.start)).unwrap();
    file.read_exact(&mut written).unwrap();
    assert!(written.iter().all(|byte| *byte == 0x5a), "what qemu-io wrote is not in the image");
    fsck(&image, &back);
}

#[test]
fn a_bootable_disk_goes_through_the_gateway_and_back() {
    requires!("nbdcopy", "qemu-io", "e2fsck");
    if let Err(error) = bootable_image() {
        skip!("{error:#}");
    }
    there_and_back("direct=false");
    there_and_back("direct=true");
}

#[test]
fn a_file_system_changed_through_the_gateway_is_clean_afterwards() {
    requires!("nbdcopy", "debugfs", "e2fsck", "qemu-img");
    let Ok(original) = bootable_image() else { skip!("the test bed has no bootable image") };
    let image = Image::copy_of(Place::Disk, &original);
    let gateway = Gateway::start(&["io_uring", &image.property()]);
    let uri = gateway.uri();

    // The root partition comes out through the gateway, gets a file, and goes back in through it.
    let partition = image.beside("partition");
    let range = format!(
        "driver=raw,offset={ROOT_OFFSET},size={ROOT_LEN},file.driver=nbd,file.server.type=unix,file.server.path={}",
        text(gateway.socket())
    );
    let _ = client("qemu-img", &["convert", "--image-opts", "-O", "raw", &range, text(&partition)]).success();
    let file = image.beside("letter");
    let letter = tests::Rng::new(5).bytes(300_000);
    std::fs::write(&file, &letter).unwrap();
    let write = format!("write {} /letter", text(&file));
    let _ = client("debugfs", &["-w", "-R", &write, text(&partition)]).success();
    let words = ["convert", "-n", "--target-image-opts", "-f", "raw", text(&partition), &range];
    let _ = client("qemu-img", &words).success();
    std::fs::remove_file(&partition).unwrap();

    let back = image.beside("back");
    let _ = client("nbdcopy", &[&uri, text(&back)]).success();
    gateway.stop();
    assert_same(image.path(), &back, 0..0);
    fsck(&image, &back);

    let dump = image.beside("dump");
    let at = format!("{}?offset={ROOT_OFFSET}", text(&back));
    let command = format!("dump /letter {}", text(&dump));
    let _ = client("debugfs", &["-R", &command, &at]).success();
    assert!(std::fs::read(&dump).unwrap() == letter, "the file came back changed");
}
