//! The filter makes the faults it is asked for, and no others.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use std::sync::Arc;

use drivers::testing::Client;
use drivers::testing::client::PLAIN;
use drivers::{Errno, ErrorKind, Now, Started, Value};
use fixtures::start;

fn disk(settings: &[&str]) -> Arc<dyn Started> {
    let words = ["faulty", "memory 1M"].iter().chain(settings).map(ToString::to_string).collect::<Vec<_>>();
    start(&words, 2).unwrap()
}

#[test]
fn one_flush_fails_on_whichever_queue_it_comes() {
    let device = disk(&["fail-flush=3"]);
    let (mut one, mut two) = (Client::new(&device, 0), Client::new(&device, 1));
    assert_eq!((one.flush(), two.flush()), (Ok(()), Ok(())));
    assert_eq!(one.queue.flush_now(), Now::Failed(Errno::IO));
    assert_eq!((one.flush(), two.flush()), (Ok(()), Ok(())));
}

#[test]
fn a_disk_fills_up() {
    let mut client = Client::new(&disk(&["full-after=8K"]), 0);
    assert_eq!(client.write(0, &[1; 4096], PLAIN), Ok(()));
    assert_eq!(client.queue.write_now(4096, &[1; 4096]), Now::Done(()));
    assert_eq!(client.write(8192, &[1; 512], PLAIN), Err(Errno::NO_SPACE));
    assert_eq!(client.queue.write_now(8192, &[1; 512]), Now::Failed(Errno::NO_SPACE));
    assert_eq!(client.read(0, 8192).unwrap(), [1; 8192]);
}

#[test]
fn one_byte_is_bad() {
    let mut client = Client::new(&disk(&["fail-offset=5000"]), 0);
    assert_eq!(client.read(4096, 4096).err(), Some(Errno::IO));
    assert_eq!(client.write(5000, &[1], PLAIN), Err(Errno::IO));
    assert_eq!(client.queue.write_now(4999, &[1, 1]), Now::Failed(Errno::IO));
    assert!(client.read(0, 4096).is_ok() && client.read(5001, 100).is_ok() && client.read(4990, 10).is_ok());
}

#[test]
fn nothing_finishes_at_once_when_that_is_switched_off() {
    for setting in ["at-once=false", "delay-ms=1"] {
        let mut client = Client::new(&disk(&[setting]), 0);
        assert_eq!(client.queue.write_now(0, &[1; 512]), Now::Later);
        assert_eq!(client.queue.flush_now(), Now::Later);
        client.write(0, &[1; 512], PLAIN).unwrap();
        assert_eq!(client.read(0, 512).unwrap(), [1; 512]);
    }
}

#[test]
fn errors_of_the_driver_behind_come_through() {
    let error =
        |words: &[&str]| start(&words.iter().map(ToString::to_string).collect::<Vec<_>>(), 1).err().unwrap();
    for words in [&["faulty"][..], &["faulty", "memori 1M"], &["faulty", "memory 1X"], &["faulty", "memory"]]
    {
        assert_eq!(error(words).kind, ErrorKind::Usage, "{words:?}");
    }
    assert!(error(&["faulty", "memori 1M"]).to_string().contains("did you mean 'memory'"));
    assert_eq!(disk(&[]).property("capacity"), Some(Value::Size(1 << 20)));
}
