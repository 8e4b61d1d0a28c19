//! Whole images through real clients, byte for byte, and a file system that is clean afterwards.

use std::path::Path;
use std::process::Command;

use tests::{Gateway, Image, Place, Rng, requires, run, tool};

/// Ways to serve an image file.
const WAYS: [&[&str]; 2] = [&["io_uring"], &["io_uring", "direct=true"]];

fn serve(way: &[&str], image: &Image) -> Gateway {
    let property = image.property();
    let mut words = way.to_vec();
    words.push(&property);
    Gateway::start(&words)
}

fn command<'a>(name: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let mut command = Command::new(tool(name).unwrap());
    run(command.args(words)).success()
}

fn same(left: &Path, right: &Path) {
    let _ = run(Command::new("cmp").arg(left).arg(right)).success();
}

#[test]
fn nbdcopy_carries_an_image_in_and_out_unchanged() {
    requires!("nbdcopy");
    let content = Rng::new(1).bytes(9 << 20);
    for way in WAYS {
        let (original, served) = (Image::with(Place::Disk, &content), Image::sparse(Place::Disk, 9 << 20));
        let gateway = serve(way, &served);
        let uri = gateway.uri();
        command("nbdcopy", ["--flush", original.path().to_str().unwrap(), &uri]);
        let back = original.beside("back");
        command("nbdcopy", [uri.as_str(), back.to_str().unwrap()]);
        same(original.path(), &back);
        gateway.stop();
        same(original.path(), served.path());
    }
}

#[test]
fn qemu_img_finds_the_served_image_identical() {
    requires!("qemu-img");
    let mut content = Rng::new(2).bytes(4 << 20);
    content[1 << 20..3 << 20].fill(0);
    for way in WAYS {
        let (original, served) = (Image::with(Place::Disk, &content), Image::sparse(Place::Disk, 4 << 20));
        let gateway = serve(way, &served);
        let (file, uri) = (original.path().to_str().unwrap(), gateway.uri());
        command("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", file, &uri]);
        let verdict = command("qemu-img", ["compare", "-f", "raw", "-F", "raw", file, &uri]);
        assert!(verdict.contains("identical"), "{verdict}");
    }
}

#[test]
fn qemu_io_reads_back_what_it_wrote_at_any_alignment() {
    requires!("qemu-io");
    for way in WAYS {
        let served = Image::sparse(Place::Disk, 8 << 20);
        let gateway = serve(way, &served);
        let uri = gateway.uri();
        let script = [
            "write -P 1 0 1M",
            "write -P 2 1000 3000",
            "write -f -P 3 511 2",
            "write -z 4096 8192",
            "write -z -u 2M 1M",
            "discard 3M 1M",
            "flush",
            "read -P 1 0 511",
            "read -P 3 511 2",
            "read -P 1 513 487",
            "read -P 2 1000 3000",
            "read -P 1 4000 96",
            "read -P 0 4096 8192",
            "read -P 1 12288 4096",
            "read -P 0 2M 1M",
        ];
        let mut words = vec!["-f", "raw"];
        script.iter().for_each(|line| words.extend(["-c", *line]));
        words.push(&uri);
        let output = command("qemu-io", words);
        assert!(!output.contains("failed") && !output.contains("error"), "{output}");
    }
}

#[test]
fn fio_verifies_what_it_wrote_at_depth_64() {
    requires!("fio");
    for way in WAYS {
        let served = Image::sparse(Place::Disk, 32 << 20);
        let gateway = serve(way, &served);
        let uri = format!("--uri={}", gateway.uri());
        let words = [
            "--name=verify",
            "--ioengine=nbd",
            &uri,
            "--rw=randwrite",
            "--bsrange=512-64k",
            "--blockalign=512",
            "--iodepth=64",
            "--size=32M",
            "--verify=crc32c",
            "--verify_state_save=0",
            "--randrepeat=1",
        ];
        command("fio", words);
    }
}

#[test]
fn a_real_disk_is_changed_through_the_gateway_and_its_file_system_stays_clean() {
    requires!("nbdcopy", "e2fsck", "qemu-io");
    let original = tests::bootable_image().unwrap();
    let served = Image::copy_of(Place::Disk, &original);
    let gateway = serve(&["io_uring"], &served);
    let uri = gateway.uri();
    let copy = served.beside("copy");
    command("nbdcopy", [uri.as_str(), copy.to_str().unwrap()]);
    same(&original, &copy);
    // What qemu-io changes the last copy changes back: the image ends as it began.
    let pattern = ["-f", "raw", "-c", "write -P 0x5a 1024 3000", "-c", "read -P 0x5a 1024 3000", &uri];
    command("qemu-io", pattern);
    command("nbdcopy", ["--flush", original.to_str().unwrap(), &uri]);
    gateway.stop();
    same(&original, served.path());
    // The root partition begins at sector 133,120 (xtask's image layout) and is 684,032 sectors long.
    let root = served.beside("root");
    let input = format!("if={}", served.path().display());
    let output = format!("of={}", root.display());
    let _ =
        run(Command::new("dd").args([&input, &output, "bs=512", "skip=133120", "count=684032"])).success();
    command("e2fsck", ["-f", "-n", root.to_str().unwrap()]);
}
