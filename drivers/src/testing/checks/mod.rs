//! The checks, by subject.

mod bounds;
mod data;
mod life;
mod model;
mod space;

use super::client::{Client, PLAIN};
use super::{Check, Fixture, Setup};

/// Every check, in the order they run.
pub static CHECKS: &[Check] = &[
    ("what is written is read, up to both ends", data::written_is_read),
    ("neighbours of a write stay as they are", data::neighbours_stay),
    ("requests that finish at once agree with those that do not", data::now_agrees),
    ("a write with FUA is a write", data::fua_writes),
    ("a flush succeeds and changes nothing", data::flush_succeeds),
    ("many requests at once come back once each, with their leases", data::every_request_comes_back),
    ("a short batch after a full one still wakes the owner", data::wakes_again),
    ("nothing signals while nothing happens", data::silence),
    ("zeroes read as zeroes, however they are written", space::zeroes_are_zero),
    ("zeroes never change the size", space::zeroes_keep_size),
    ("a fast request is done without writing, or refused", space::fast_is_honest),
    ("a discard discards, and nothing else", space::discard_discards),
    ("block status calls no data zero", space::status_is_true),
    ("block status sees what is written and what is punched", space::status_follows),
    ("requests outside the disk are refused", bounds::outside),
    ("misaligned requests are refused", bounds::misaligned),
    ("requests longer than their memory or the limits are refused", bounds::too_long),
    ("requests of no length do nothing", bounds::empty),
    ("flags that an operation does not know are refused", bounds::flags),
    ("a read-only disk refuses every change and serves the rest", bounds::read_only),
    ("a disk of no bytes can be served", bounds::no_bytes),
    ("every property has a value of its type", life::properties),
    ("limits are possible and stay the same", life::limits),
    ("a queue dropped in the middle gives its memory back", life::dropped_in_flight),
    ("queues end in any order", life::any_order),
    ("growth is noticed", life::growth),
    ("what a shrunk disk lost fails, and the rest is served", life::shrinking),
    ("random operations agree with a model", model::one_queue),
    ("random operations on several threads agree with a model", model::several_queues),
];

/// The size most checks use: more than a lease, no power of two, a multiple of every common block.
const CAPACITY_BYTES: u64 = (4 << 20) + (64 << 10);

/// The capacity to ask for, and how much of a larger disk is looked at.
fn usual_bytes(fixture: &dyn Fixture) -> u64 {
    CAPACITY_BYTES.next_multiple_of(fixture.capacity_unit_bytes())
}

fn setup(fixture: &dyn Fixture, workers: usize) -> Setup {
    let capacity_bytes = fixture.fixed_capacity_bytes().unwrap_or(usual_bytes(fixture));
    Setup { capacity_bytes, workers, read_only: false }
}

/// A fresh disk with one queue.
fn client(fixture: &dyn Fixture) -> Client {
    Client::new(&fixture.start(setup(fixture, 1)), 0)
}

/// A fresh disk filled with numbers from a fixed seed, and the bytes on it. A larger disk is filled from its beginning.
fn filled(fixture: &dyn Fixture) -> (Client, Vec<u8>) {
    let mut client = client(fixture);
    let len = client.limits.capacity_bytes.min(usual_bytes(fixture));
    let mut bytes = super::Random::new(7).bytes(len as usize);
    client.write(0, &bytes, PLAIN).expect("the disk can be filled");
    if !fixture.keeps_data() {
        bytes.fill(0);
    }
    (client, bytes)
}

/// The unit of transfers on this disk, as a `u64`.
fn unit(client: &Client) -> u64 {
    client.limits.request_alignment_bytes.into()
}

/// Fails when the disk does not hold `expected` from `offset` on.
fn expect_bytes(client: &mut Client, offset: u64, expected: &[u8], what: &str) {
    let found = client
        .read(offset, expected.len())
        .unwrap_or_else(|errno| panic!("{what}: reading {offset}: {errno}"));
    if let Some(at) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
        panic!("{what}: byte {} is {:#04x}, not {:#04x}", offset + at as u64, found[at], expected[at]);
    }
}
