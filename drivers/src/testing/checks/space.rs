//! Zeroes, discards, and what is known of the blocks.

use super::{Client, Fixture, PLAIN, client, expect_bytes, filled};
use crate::error::Errno;
use crate::queue::Now;
use crate::request::{Extent, RequestFlags};

/// Every combination of flags that write zeroes takes.
fn zeroes_flags(client: &Client) -> Vec<RequestFlags> {
    let mut all = Vec::new();
    for bits in 0..8 {
        let flags = RequestFlags { fua: bits & 1 != 0, no_unmap: bits & 2 != 0, fast: bits & 4 != 0 };
        if client.limits.fua || !flags.fua {
            all.push(flags);
        }
    }
    all
}

/// Ranges on multiples of `unit`: inside a page, across pages, whole pages, at both ends of the disk.
fn ranges(unit: u64, capacity: u64) -> Vec<(u64, u64)> {
    let end = capacity / unit * unit;
    vec![
        (unit, unit),
        (4096, 4096),
        (8192 - unit, 8192 + 2 * unit),
        (1 << 20, 512 << 10),
        (0, unit),
        (end - unit, unit),
    ]
}

pub(super) fn zeroes_are_zero(fixture: &dyn Fixture) {
    let (mut client, mut bytes) = filled(fixture);
    let Some(zeroes) = client.limits.write_zeroes else {
        let result = client.zero(0, 4096, PLAIN);
        assert_eq!(result, Err(Errno::NOT_SUPPORTED));
        return;
    };
    for flags in zeroes_flags(&client) {
        for (offset, len) in ranges(zeroes.alignment_bytes.max(512).into(), bytes.len() as u64) {
            let refill = vec![0xee; len as usize];
            client.write(offset, &refill, PLAIN).expect("an aligned write");
            let range = offset as usize..(offset + len) as usize;
            match client.zero(offset, len, flags) {
                Ok(()) => bytes[range].fill(0),
                Err(Errno::NOT_SUPPORTED) => {
                    if fixture.keeps_data() {
                        bytes[range].copy_from_slice(&refill);
                    }
                }
                Err(errno) => panic!("zeroes {len} at {offset} with {flags:?}: {errno}"),
            }
        }
        expect_bytes(&mut client, 0, &bytes, "after zeroes");
    }
}

pub(super) fn zeroes_keep_size(fixture: &dyn Fixture) {
    let device = fixture.start(super::setup(fixture, 1));
    let mut client = Client::new(&device, 0);
    let capacity = client.limits.capacity_bytes;
    let Some(zeroes) = client.limits.write_zeroes else { return };
    let len = u64::from(zeroes.alignment_bytes.max(512));
    for flags in zeroes_flags(&client) {
        let _ = client.zero(capacity - len, len, flags);
        let _ = client.discard(capacity - len, len);
        assert_eq!(device.limits().capacity_bytes, capacity);
    }
}

pub(super) fn fast_is_honest(fixture: &dyn Fixture) {
    let (mut client, _) = filled(fixture);
    let Some(zeroes) = client.limits.write_zeroes else { return };
    for no_unmap in [false, true] {
        let promised = if no_unmap { zeroes.fast_no_unmap } else { zeroes.fast_unmap };
        let result = client.zero(1 << 20, 64 << 10, RequestFlags { no_unmap, fast: true, fua: false });
        match result {
            Ok(()) => {}
            Err(Errno::NOT_SUPPORTED) => {
                assert!(!promised, "the limits promise fast zeroes, no_unmap: {no_unmap}")
            }
            Err(errno) => panic!("fast zeroes, no_unmap: {no_unmap}: {errno}"),
        }
    }
}

pub(super) fn discard_discards(fixture: &dyn Fixture) {
    let (mut client, bytes) = filled(fixture);
    if client.limits.discard.is_none() {
        assert_eq!(client.discard(0, 4096), Err(Errno::NOT_SUPPORTED));
        return;
    }
    client.flush().expect("a flush");
    let before = fixture.allocated_bytes();
    let (offset, len) = (1 << 20, 2 << 20);
    client.discard(offset, len).expect("a discard");
    client.flush().expect("a flush");
    if let (Some(before), Some(after)) = (before, fixture.allocated_bytes()) {
        assert!(
            after + len <= before,
            "discarding {len} bytes freed only {} of {before}",
            before - after.min(before)
        );
    }
    if client.limits.block_status && fixture.keeps_data() {
        let extents = client.status(offset, len).expect("block status");
        assert!(extents.iter().all(|extent| extent.hole), "what is discarded is a hole: {extents:?}");
    }
    expect_bytes(&mut client, 0, &bytes[..offset as usize], "before a discard");
    let end = offset + len;
    expect_bytes(&mut client, end, &bytes[end as usize..], "behind a discard");
    client.read(offset, len as usize).expect("what was discarded can be read");
    client.write(offset, &bytes[..8192], PLAIN).expect("what was discarded can be written");
    expect_bytes(&mut client, offset, &bytes[..8192], "after a discard and a write");
}

/// The extents of the whole disk, by both ways of asking.
fn status(client: &mut Client) -> Vec<Extent> {
    let capacity = client.limits.capacity_bytes;
    let extents = client.status(0, capacity).expect("block status");
    let mut at_once = Vec::new();
    match client.queue.block_status_now(0, capacity, &mut at_once) {
        Now::Done(()) => {
            assert!(!at_once.is_empty() && at_once.iter().all(|extent| extent.len > 0));
            assert!(at_once.iter().map(|extent| extent.len).sum::<u64>() <= capacity);
        }
        Now::Failed(errno) => panic!("block status at once: {errno}"),
        Now::Later => {}
    }
    extents
}

pub(super) fn status_is_true(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    if !client.limits.block_status {
        assert_eq!(client.status(0, 4096), Err(Errno::NOT_SUPPORTED));
        return;
    }
    for offset in [0, 40 << 10, 1 << 20, (1 << 20) + 4096, client.limits.capacity_bytes - 4096] {
        client.write(offset, &[9; 4096], PLAIN).expect("an aligned write");
    }
    let mut at = 0;
    for extent in status(&mut client) {
        if extent.zero {
            let zeroes = vec![0; extent.len as usize];
            expect_bytes(&mut client, at, &zeroes, "where block status says zero");
        }
        at += extent.len;
    }
    assert_eq!(at, client.limits.capacity_bytes);
}

pub(super) fn status_follows(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    if !client.limits.block_status || !fixture.keeps_data() {
        return;
    }
    let capacity = client.limits.capacity_bytes;
    let holes = status(&mut client);
    assert!(holes.iter().all(|extent| extent.zero && extent.hole), "a fresh disk is one hole: {holes:?}");
    client.write(1 << 20, &vec![1; 1 << 20], PLAIN).expect("a write");
    let is_data = |extents: &[Extent]| {
        let mut at = 0;
        extents.iter().any(|extent| {
            at += extent.len;
            !extent.zero && at > 1 << 20
        })
    };
    assert!(is_data(&status(&mut client)), "what is written is data");
    let zeroed = client.zero(1 << 20, 1 << 20, PLAIN);
    if zeroed.is_ok() && client.limits.write_zeroes.is_some_and(|zeroes| zeroes.fast_unmap) {
        let after = client.status(0, capacity).expect("block status");
        assert!(after.iter().all(|extent| extent.zero), "what is punched is zero: {after:?}");
    }
}
