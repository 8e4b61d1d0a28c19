//! What a queue refuses.

use super::{Client, Fixture, PLAIN, client, expect_bytes, filled, unit};
use crate::error::Errno;
use crate::queue::Now;
use crate::request::{Operation, RequestFlags};
use crate::testing::Setup;

/// Sends one request of each kind for the range, by both ways, and expects `errno` from all of them.
fn all_refused(client: &mut Client, offset: u64, len: u64, errno: Errno) {
    let what = format!("{len} bytes at {offset}");
    let lease_len = usize::try_from(len).unwrap_or(usize::MAX).min(4096);
    for write in [false, true] {
        let lease = client.lease(lease_len);
        let operation = if write { Operation::Write(lease) } else { Operation::Read(lease) };
        let request = client.request(operation, offset, len, PLAIN);
        let completion = client.run(vec![request]).remove(0);
        assert_eq!(completion.result.err(), Some(errno), "{what}, write: {write}");
        assert!(completion.lease.is_some(), "{what}: a refused request gives its lease back");
    }
    let lease = client.lease(lease_len);
    let into = lease.slice(0, lease_len);
    let into_len = into.len() as u64;
    if into_len == len {
        refused_now(client.queue.read_now(offset, &into), errno, &what);
        refused_now(client.queue.view_now(offset, lease_len), errno, &what);
        refused_now(client.queue.write_now(offset, &vec![0; lease_len]), errno, &what);
    }
}

fn refused_now<T: std::fmt::Debug + PartialEq>(answer: Now<T>, errno: Errno, what: &str) {
    assert!(answer == Now::Later || answer == Now::Failed(errno), "{what}: {answer:?}");
}

pub(super) fn outside(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    let capacity = client.limits.capacity_bytes;
    let limits = client.limits;
    for (offset, len) in [
        (capacity, 4096),
        (capacity - 4096, 8192),
        (capacity + 4096, 4096),
        (u64::MAX - 4095, 4096),
        (i64::MAX as u64 - 4095, 4096),
        (u64::MAX / 4096 * 4096, 4096),
        (0, u64::MAX),
        (4096, u64::MAX - 4095),
    ] {
        all_refused(&mut client, offset, len, Errno::INVALID);
        if limits.discard.is_some() {
            assert_eq!(client.discard(offset, len), Err(Errno::INVALID), "discard {len} at {offset}");
            refused_now(client.queue.discard_now(offset, len), Errno::INVALID, "discard at once");
        }
        if limits.write_zeroes.is_some() {
            assert_eq!(client.zero(offset, len, PLAIN), Err(Errno::INVALID), "zeroes {len} at {offset}");
            refused_now(client.queue.write_zeroes_now(offset, len, PLAIN), Errno::INVALID, "zeroes at once");
        }
        if limits.block_status {
            let result = client.plain(Operation::BlockStatus, offset, len, PLAIN);
            assert_eq!(result.err(), Some(Errno::INVALID), "status of {len} at {offset}");
            refused_now(
                client.queue.block_status_now(offset, len, &mut Vec::new()),
                Errno::INVALID,
                "status at once",
            );
        }
    }
}

pub(super) fn misaligned(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    let unit = unit(&client);
    if unit > 1 {
        for (offset, len) in [(1, unit), (unit, unit - 1), (unit / 2, unit), (unit - 1, 1)] {
            all_refused(&mut client, offset, len, Errno::INVALID);
        }
        let mut lease = client.lease(8192);
        lease.skip(1);
        let request = client.request(Operation::Read(lease), 0, unit, PLAIN);
        let refused = client.run(vec![request]).remove(0).result.err();
        let expected = (client.limits.buffer_alignment_bytes > 1).then_some(Errno::INVALID);
        assert_eq!(refused, expected, "memory that is not aligned");
    }
    let discard_unit = client.limits.discard.map_or(1, |discard| discard.alignment_bytes);
    if discard_unit > 1 {
        assert_eq!(client.discard(1, discard_unit.into()), Err(Errno::INVALID));
    }
    let zeroes_unit = client.limits.write_zeroes.map_or(1, |zeroes| zeroes.alignment_bytes);
    if zeroes_unit > 1 {
        assert_eq!(client.zero(1, zeroes_unit.into(), PLAIN), Err(Errno::INVALID));
    }
}

pub(super) fn too_long(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    for write in [false, true] {
        let lease = client.lease(4096);
        let len = lease.len() as u64 + 4096;
        let operation = if write { Operation::Write(lease) } else { Operation::Read(lease) };
        let request = client.request(operation, 0, len, PLAIN);
        assert_eq!(
            client.run(vec![request]).remove(0).result.err(),
            Some(Errno::INVALID),
            "longer than its lease"
        );
    }
    let capacity = client.limits.capacity_bytes;
    if let Some(max) = client.limits.discard.map(|discard| discard.max_bytes)
        && max != 0
        && max + 4096 <= capacity
    {
        let result = client.plain(Operation::Discard, 0, max + 4096, PLAIN);
        assert_eq!(result.err(), Some(Errno::INVALID));
    }
    if let Some(max) = client.limits.write_zeroes.map(|zeroes| zeroes.max_bytes)
        && max != 0
        && max + 4096 <= capacity
    {
        let result = client.plain(Operation::WriteZeroes, 0, max + 4096, PLAIN);
        assert_eq!(result.err(), Some(Errno::INVALID));
    }
}

pub(super) fn empty(fixture: &dyn Fixture) {
    let (mut client, bytes) = filled(fixture);
    let capacity = client.limits.capacity_bytes;
    for offset in [0, 4096, capacity] {
        for write in [false, true] {
            let lease = client.lease(1);
            let operation = if write { Operation::Write(lease) } else { Operation::Read(lease) };
            let request = client.request(operation, offset, 0, PLAIN);
            let completion = client.run(vec![request]).remove(0);
            assert!(completion.result.is_ok(), "{:?} at {offset}", completion.result);
        }
        if client.limits.discard.is_some() {
            assert_eq!(client.discard(offset, 0), Ok(()));
        }
        if client.limits.write_zeroes.is_some() {
            assert_eq!(client.zero(offset, 0, PLAIN), Ok(()));
        }
        let status = client.plain(Operation::BlockStatus, offset, 0, PLAIN);
        assert!(status.is_err(), "no extent describes nothing");
    }
    expect_bytes(&mut client, 0, &bytes, "after requests of no length");
}

pub(super) fn flags(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    let all = RequestFlags { fua: true, no_unmap: true, fast: true };
    let lease = client.lease(4096);
    let read = client.request(Operation::Read(lease), 0, 4096, RequestFlags { fua: true, ..PLAIN });
    let lease = client.lease(4096);
    let write = client.request(Operation::Write(lease), 0, 4096, RequestFlags { fast: true, ..PLAIN });
    let flush = client.request(Operation::Flush, 0, 0, all);
    let discard = client.request(Operation::Discard, 0, 4096, RequestFlags { no_unmap: true, ..PLAIN });
    let status = client.request(Operation::BlockStatus, 0, 4096, RequestFlags { fast: true, ..PLAIN });
    for completion in client.run(vec![read, write, flush, discard, status]) {
        assert_eq!(completion.result.err(), Some(Errno::INVALID), "request {:?}", completion.id);
    }
}

pub(super) fn read_only(fixture: &dyn Fixture) {
    let setup = Setup { read_only: true, ..super::setup(fixture, 1) };
    let mut client = Client::new(&fixture.start(setup), 0);
    assert!(client.limits.read_only);
    assert_eq!(client.write(0, &[1; 4096], PLAIN), Err(Errno::READ_ONLY));
    assert_eq!(client.discard(0, 4096), Err(Errno::READ_ONLY));
    assert_eq!(client.zero(0, 4096, PLAIN), Err(Errno::READ_ONLY));
    refused_now(client.queue.write_now(0, &[1; 4096]), Errno::READ_ONLY, "write at once");
    refused_now(client.queue.discard_now(0, 4096), Errno::READ_ONLY, "discard at once");
    refused_now(client.queue.write_zeroes_now(0, 4096, PLAIN), Errno::READ_ONLY, "zeroes at once");
    client.flush().expect("a flush of a read-only disk");
    expect_bytes(&mut client, 0, &[0; 8192], "on a read-only disk");
}

pub(super) fn no_bytes(fixture: &dyn Fixture) {
    let is_fixed = fixture.fixed_capacity_bytes().is_some();
    if fixture.capacity_unit_bytes() > 4096 || is_fixed || !fixture.can_be_empty() {
        return;
    }
    let mut client = Client::new(&fixture.start(Setup { capacity_bytes: 0, ..super::setup(fixture, 1) }), 0);
    assert_eq!(client.limits.capacity_bytes, 0);
    all_refused(&mut client, 0, 4096, Errno::INVALID);
    client.flush().expect("a flush of nothing");
}
