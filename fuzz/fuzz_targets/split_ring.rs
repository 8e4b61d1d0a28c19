//! See [`fuzz::rings::split`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rings::split(data));
