//! Every driver under the conformance suite, on everything this machine can put under it.

mod fixtures;

use drivers::testing::conformance;
use fixtures::{FilePlace, Files, Loop, Words};

#[test]
fn null_conforms() {
    conformance(&Words { name: "null", words: "null {size}", keeps_data: false });
}

#[test]
fn memory_conforms() {
    conformance(&Words { name: "memory", words: "memory {size}", keeps_data: true });
}

#[test]
fn a_filter_that_makes_no_fault_conforms() {
    conformance(&Words { name: "faulty", words: "faulty inner=memory_size={size}", keeps_data: true });
}

#[test]
fn a_filter_that_delays_conforms() {
    conformance(&Words {
        name: "faulty delay",
        words: "faulty delay-ms=1 inner=memory_size={size}",
        keeps_data: true,
    });
}

#[test]
fn files_in_ram_conform() {
    conformance(&Files::new(FilePlace::Ram, &[]));
}

#[test]
fn files_on_disk_conform() {
    conformance(&Files::new(FilePlace::Disk, &[]));
}

#[test]
fn files_past_the_page_cache_conform() {
    conformance(&Files::new(FilePlace::Disk, &["direct=true"]));
}

#[test]
fn files_past_the_page_cache_with_few_entries_conform() {
    conformance(&Files::new(FilePlace::Disk, &["direct=true", "num-entries=3"]));
}

#[test]
fn files_with_one_queue_conform() {
    conformance(&Files::new(FilePlace::Ram, &["num-queues=1"]));
}

#[test]
fn block_devices_conform() {
    if let Some(fixture) = Loop::new(&[]) {
        conformance(&fixture);
    }
}

#[test]
fn block_devices_past_the_page_cache_conform() {
    if let Some(fixture) = Loop::new(&["direct=true"]) {
        conformance(&fixture);
    }
}
