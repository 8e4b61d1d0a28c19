//! See [`fuzz::nbd::reply`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::nbd::reply(data));
