//! See [`fuzz::nbd::server_handshake`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::nbd::server_handshake(data));
