//! See [`fuzz::rings::packed`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rings::packed(data));
