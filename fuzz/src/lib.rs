//! Bodies of the fuzz targets: functions from bytes to nothing that panic when something is wrong.
//!
//! The programs in `fuzz_targets/` hand them what the fuzzer thinks of; `tests/corpus.rs` replays the corpora with
//! an ordinary `cargo test`. A body checks more than that nothing panics: that cutting the input into pieces changes
//! nothing, that what is printed is parsed, that what is accepted keeps the rules.

mod knobs;
pub mod nbd;
pub mod nvme;
pub mod rings;

/// A target: reads any bytes, panics if something is wrong.
pub type Body = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Body); 8] = [
    ("nbd_server_handshake", nbd::server_handshake),
    ("nbd_request", nbd::request),
    ("nbd_client_handshake", nbd::client_handshake),
    ("nbd_reply", nbd::reply),
    ("nbd_uri", nbd::uri),
    ("split_ring", rings::split),
    ("packed_ring", rings::packed),
    ("nvme_controller", nvme::controller),
];

/// One first input: target, name, bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// The first inputs of all targets; `cargo run --example seeds` writes them.
pub fn seeds() -> Vec<Seed> {
    [nbd::seeds::all(), nvme::seeds::all(), rings::seeds()].concat()
}
