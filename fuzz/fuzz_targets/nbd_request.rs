//! See [`fuzz::nbd::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::nbd::request(data));
