//! fio with its nbd engine: every block is written with a checksum and read back.

use tests::requires;

use super::served::{client, on_each_disk};

/// Runs fio with these options on a disk of 64 MiB.
#[track_caller]
fn verified(options: &[&str]) {
    on_each_disk(64 << 20, |served| {
        let uri = format!("--uri={}", served.uri());
        let mut words = vec![
            "--name=verify",
            "--ioengine=nbd",
            &uri,
            "--size=64M",
            "--iodepth=64",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--randseed=1",
        ];
        words.extend(options);
        let output = client("fio", &words);
        let good = output.status.success() && output.stdout.contains("err= 0");
        assert!(good, "{}: {}{}", served.name, output.stdout, output.stderr);
    });
}

#[test]
fn fio_reads_what_it_wrote_at_random_in_blocks_of_4_kib() {
    requires!("fio");
    verified(&["--rw=randwrite", "--bs=4k"]);
}

#[test]
fn fio_reads_what_it_wrote_in_blocks_of_all_sizes() {
    requires!("fio");
    verified(&["--rw=randwrite", "--bsrange=512-256k", "--blockalign=512", "--norandommap=0"]);
}

#[test]
fn fio_reads_what_it_wrote_one_after_the_other_with_flushes() {
    requires!("fio");
    verified(&["--rw=write", "--bs=64k", "--fsync=16"]);
}

#[test]
fn fio_reads_and_writes_in_turns() {
    requires!("fio");
    verified(&["--rw=randrw", "--bsrange=4k-64k", "--blockalign=4k"]);
}
