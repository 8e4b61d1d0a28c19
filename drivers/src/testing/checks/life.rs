//! Facts, and how disks and queues begin, change and end.

use super::{Client, Fixture, PLAIN, expect_bytes, setup};
use crate::error::Errno;
use crate::property::{Kind, Value};
use crate::request::Operation;

pub(super) fn properties(fixture: &dyn Fixture) {
    let device = fixture.start(setup(fixture, 2));
    let Some(Value::Text(name)) = device.property("driver") else {
        panic!("the property 'driver' has a value")
    };
    let driver = crate::find(&name).expect("the property 'driver' names a driver");
    for property in driver.properties() {
        let value = device.property(property.name);
        let right = match (property.kind, &value) {
            (Kind::Bool, Some(Value::Bool(_))) | (Kind::Text | Kind::Path, Some(Value::Text(_))) => true,
            (Kind::Word(words), Some(Value::Text(word))) => words.contains(&word.as_str()),
            (Kind::Patience { max }, Some(Value::Patience(seconds))) => seconds.is_none_or(|it| it <= max),
            (Kind::Int { min, max }, Some(Value::Int(value))) => (min..=max).contains(value),
            (Kind::Size { min, max }, Some(Value::Size(value))) => (min..=max).contains(value),
            _ => false,
        };
        assert!(right, "{} has the value {value:?}", property.name);
    }
    assert_eq!(device.property("no-such-property"), None);
    assert_eq!(device.property("capacity"), Some(Value::Size(device.limits().capacity_bytes)));
    assert_eq!(device.property("num-queues"), Some(Value::Int(device.queues() as i64)));
}

pub(super) fn limits(fixture: &dyn Fixture) {
    let setup = setup(fixture, 2);
    let device = fixture.start(setup);
    let limits = device.limits().validate().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(limits.capacity_bytes, setup.capacity_bytes);
    assert!((1..=2).contains(&device.queues()), "{} queues for two workers", device.queues());
    let mut client = Client::new(&device, 0);
    client.write(0, &[1; 4096], PLAIN).expect("a write");
    client.flush().expect("a flush");
    assert_eq!(device.limits(), limits);
}

pub(super) fn dropped_in_flight(fixture: &dyn Fixture) {
    for round in 0..20 {
        let device = fixture.start(setup(fixture, 2));
        let mut client = Client::new(&device, 0);
        let requests: Vec<_> = (0..100)
            .map(|number| {
                let lease = client.lease(4096);
                let operation = match number % 5 {
                    0 => Operation::Read(lease),
                    1 => Operation::Flush,
                    2 if client.limits.block_status => Operation::BlockStatus,
                    3 if client.limits.discard.is_some() => Operation::Discard,
                    _ => Operation::Write(lease),
                };
                let is_flush = matches!(operation, Operation::Flush);
                let (offset, len) = if is_flush { (0, 0) } else { (number * 4096, 4096) };
                client.request(operation, offset, len, PLAIN)
            })
            .collect();
        let mut done = Vec::new();
        client.submit(requests, &mut done);
        if round % 2 == 1 {
            client.queue.reap(&mut done);
        }
        drop(done);
        let Client { queue, pool, .. } = client;
        drop(queue);
        assert_eq!(pool.lent_bytes(), 0, "a queue that ends gives every lease back");
        if device.queues() > 1 {
            let mut other = Client::new(&device, 1);
            other.read(0, 8192).expect("the other queue goes on");
        }
    }
}

pub(super) fn any_order(fixture: &dyn Fixture) {
    let device = fixture.start(setup(fixture, 2));
    let mut clients: Vec<_> = (0..device.queues()).map(|index| Client::new(&device, index)).collect();
    for client in &mut clients {
        client.write(0, &[1; 4096], PLAIN).expect("a write");
    }
    drop(device);
    while let Some(mut client) = clients.pop() {
        client.read(0, 4096).expect("a queue outlives the other handles of its disk");
    }
}

pub(super) fn growth(fixture: &dyn Fixture) {
    let device = fixture.start(setup(fixture, 1));
    let mut client = Client::new(&device, 0);
    let (old, new) = (client.limits.capacity_bytes, client.limits.capacity_bytes + (1 << 20));
    if !client.limits.can_grow || !fixture.resize(new) {
        assert!(
            fixture.tells_size() || !client.limits.can_grow,
            "a disk that can grow is made to grow by its fixture"
        );
        return;
    }
    assert_eq!(client.write(old, &[5; 4096], PLAIN), Err(Errno::INVALID), "not noticed yet");
    assert_eq!(device.limits().capacity_bytes, new);
    client.write(new - 4096, &[5; 4096], PLAIN).expect("a write at the new end");
    expect_bytes(&mut client, new - 4096, &[5; 4096], "at the new end");
    expect_bytes(&mut client, old, &[0; 4096], "behind the old end");
}

pub(super) fn shrinking(fixture: &dyn Fixture) {
    let device = fixture.start(setup(fixture, 1));
    let mut client = Client::new(&device, 0);
    let capacity = client.limits.capacity_bytes;
    client.write(0, &[6; 65_536], PLAIN).expect("a write");
    if !client.limits.can_grow || !fixture.resize((1 << 20) + 100) {
        return;
    }
    assert_eq!(device.limits().capacity_bytes, capacity, "clients were told this size");
    expect_bytes(&mut client, 0, &[6; 65_536], "before the new end");
    for offset in [1 << 20, (1 << 20) + 4096, capacity - 4096] {
        assert_eq!(client.read(offset, 4096).err(), Some(Errno::IO), "read at {offset}");
        let lease = client.lease(4096);
        let at_once = client.queue.read_now(offset, &lease.slice(0, 4096));
        assert_ne!(at_once, crate::Now::Done(()), "read at once at {offset}");
        let _ = client.status(offset, 4096);
    }
    client.flush().expect("a flush");
}
