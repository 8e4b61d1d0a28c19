//! See [`fuzz::nbd::client_handshake`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::nbd::client_handshake(data));
