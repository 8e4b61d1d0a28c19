//! Reads, writes, flushes, and the way answers come back.

use vm_memory::VolatileSlice;

use super::{Client, Fixture, PLAIN, client, expect_bytes, filled, unit};
use crate::queue::{Now, View};
use crate::request::{Operation, Outcome, Request, RequestFlags};
use crate::sys::poll;
use crate::testing::Random;

pub(super) fn written_is_read(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    let (unit, capacity) = (unit(&client), client.limits.capacity_bytes);
    let mut random = Random::new(1);
    for len in [unit, 512.max(unit), 4096, 5 * 4096, 64 << 10, 256 << 10] {
        for offset in [0, unit, 4096, capacity / 2 / 4096 * 4096, capacity - len] {
            let mut bytes = random.bytes(len as usize);
            client
                .write(offset, &bytes, PLAIN)
                .unwrap_or_else(|errno| panic!("write {len} at {offset}: {errno}"));
            if !fixture.keeps_data() {
                bytes.fill(0);
            }
            expect_bytes(&mut client, offset, &bytes, "after a write");
        }
    }
}

pub(super) fn neighbours_stay(fixture: &dyn Fixture) {
    let (mut client, mut bytes) = filled(fixture);
    let unit = unit(&client);
    for (offset, len) in [(4096 - unit, unit), (4096, unit), (9 * unit, 3 * unit), (65_536 - unit, 2 * unit)]
    {
        let new = Random::new(offset).bytes(len as usize);
        client.write(offset, &new, PLAIN).expect("an aligned write");
        if fixture.keeps_data() {
            bytes[offset as usize..(offset + len) as usize].copy_from_slice(&new);
        }
    }
    expect_bytes(&mut client, 0, &bytes, "after small writes");
}

/// Reads by the store, if the disk has one and says so.
fn view(device: &dyn crate::Started, client: &mut Client, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let (at, left) = (offset + bytes.len() as u64, len - bytes.len());
        match client.queue.view_now(at, left) {
            Now::Done(View::Zero(count)) => {
                assert!((1..=left).contains(&count), "a view has between 1 and {left} bytes, not {count}");
                bytes.extend(std::iter::repeat_n(0, count));
            }
            Now::Done(View::Store(count)) => {
                assert!((1..=left).contains(&count), "a view has between 1 and {left} bytes, not {count}");
                let store = device.store().expect("a disk that answers by its store has one");
                let mut part = vec![0; count];
                store
                    .view(at, count)
                    .expect("what was said to be in the store is there")
                    .copy_to(&mut part[..]);
                bytes.extend(part);
            }
            Now::Later => return None,
            Now::Failed(errno) => panic!("view {left} at {at}: {errno}"),
        }
    }
    Some(bytes)
}

pub(super) fn now_agrees(fixture: &dyn Fixture) {
    let device = fixture.start(super::setup(fixture, 1));
    let mut client = Client::new(&device, 0);
    let unit = unit(&client);
    for (round, (offset, len)) in [(0, 4096), (4096 * 3, unit), (1 << 20, 100 << 10)].into_iter().enumerate()
    {
        let mut bytes = Random::new(round as u64).bytes(len as usize);
        match client.queue.write_now(offset, &bytes) {
            Now::Done(()) => {}
            Now::Later => {
                client.write(offset, &bytes, PLAIN).expect("what cannot be done at once is done later")
            }
            Now::Failed(errno) => panic!("write {len} at {offset}: {errno}"),
        }
        if !fixture.keeps_data() {
            bytes.fill(0);
        }
        expect_bytes(&mut client, offset, &bytes, "after a write at once");
        let lease = client.lease(bytes.len());
        let into: VolatileSlice<'_> = lease.slice(0, bytes.len());
        if client.queue.read_now(offset, &into) == Now::Done(()) {
            let mut found = vec![0; bytes.len()];
            into.copy_to(&mut found[..]);
            assert!(found == bytes, "a read at once agrees with one that is not");
        }
        if let Some(found) = view(&*device, &mut client, offset, bytes.len()) {
            assert!(found == bytes, "a view agrees with a read");
        }
        if let Now::Failed(errno) = client.queue.flush_now() {
            panic!("flush: {errno}");
        }
    }
}

pub(super) fn fua_writes(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    let bytes = Random::new(3).bytes(8192);
    let flags = RequestFlags { fua: true, ..PLAIN };
    let result = client.write(4096, &bytes, flags);
    if !client.limits.fua {
        assert_eq!(
            result.map_err(|errno| errno.raw()),
            Err(libc::EINVAL),
            "FUA is refused where it is not offered"
        );
        return;
    }
    result.expect("a write with FUA");
    let expected = if fixture.keeps_data() { bytes } else { vec![0; 8192] };
    expect_bytes(&mut client, 4096, &expected, "after a write with FUA");
}

pub(super) fn flush_succeeds(fixture: &dyn Fixture) {
    let (mut client, bytes) = filled(fixture);
    for _ in 0..3 {
        client.flush().expect("a flush");
    }
    expect_bytes(&mut client, 0, &bytes, "after a flush");
}

/// A batch of reads, writes and flushes that keep out of each other's way.
fn batch(client: &mut Client, count: u64) -> Vec<Request> {
    (0..count)
        .map(|number| match number % 8 {
            7 => client.request(Operation::Flush, 0, 0, PLAIN),
            kind => {
                let lease = client.lease(4096);
                lease.slice(0, 4096).copy_from(&[1u8; 4096]);
                let operation = if kind < 4 { Operation::Read(lease) } else { Operation::Write(lease) };
                client.request(operation, number % 1000 * 4096, 4096, PLAIN)
            }
        })
        .collect()
}

pub(super) fn every_request_comes_back(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    for count in [1, 2, 127, 128, 129, 700] {
        let requests = batch(&mut client, count);
        let done = client.run(requests);
        assert_eq!(done.len() as u64, count);
        for completion in &done {
            assert!(matches!(completion.result, Ok(Outcome::Done)), "{completion:?}");
        }
        let leases = done.iter().filter(|completion| completion.lease.is_some()).count() as u64;
        assert_eq!(leases, count - count / 8, "reads and writes carry their leases back");
        drop(done);
        assert_eq!(client.pool.lent_bytes(), 0, "nobody keeps a lease");
    }
}

pub(super) fn wakes_again(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    for round in 0..200 {
        let requests = batch(&mut client, if round % 2 == 0 { 3 } else { 64 });
        client.run(requests);
    }
}

pub(super) fn silence(fixture: &dyn Fixture) {
    let mut client = client(fixture);
    let requests = batch(&mut client, 50);
    client.run(requests);
    // The last work may have signalled before it was fetched, so only the second look counts.
    let mut done = Vec::new();
    while client.queue.arm() {
        client.queue.reap(&mut done);
    }
    assert!(done.is_empty() && client.queue.in_flight() == 0);
    if let Some(event) = client.queue.event() {
        assert!(!poll::readable(event, 50).expect("an event can be waited for"), "an idle queue signals");
    }
}
