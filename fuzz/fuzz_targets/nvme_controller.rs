//! See [`fuzz::nvme::controller`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::nvme::controller(data));
