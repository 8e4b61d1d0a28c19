//! The load generator against a small server of this process, sound and defective.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;

use nbd::server::{Exports, Handshake, ListAnswer, Policy, State};
use nbd::wire::cmd;
use nbd::{ExportFacts, RequestHeader, Transmission};

use super::*;

const SIZE_BYTES: usize = 4 << 20;
const SEED: u64 = 5;

/// What a server does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    /// Writes are answered and dropped.
    LostWrites,
    /// Reads return the next page.
    WrongPage,
    /// The second request is never answered.
    LostReply,
    /// The connection ends at the second request.
    EarlyEnd,
}

struct OneDisk;

impl Exports for OneDisk {
    fn list(&self) -> ListAnswer {
        ListAnswer::Forbidden
    }

    fn find(&self, name: &str) -> Option<ExportFacts> {
        name.is_empty().then(|| ExportFacts::new("", SIZE_BYTES as u64))
    }
}

type Store = Arc<Mutex<Vec<u8>>>;

/// One connection: as many replies in one send as there were requests in one receive.
struct Session {
    stream: UnixStream,
    received: Vec<u8>,
    store: Store,
    defect: Defect,
    requests: u64,
}

impl Session {
    /// `None` when the client has left.
    fn receive(&mut self) -> Option<()> {
        let mut part = [0; 65536];
        let len = self.stream.read(&mut part).ok().filter(|&len| len > 0)?;
        self.received.extend(&part[..len]);
        Some(())
    }

    fn handshake(&mut self) -> Option<Box<Transmission>> {
        let mut handshake = Handshake::new(Policy::default());
        self.stream.write_all(&handshake.greeting()).ok()?;
        loop {
            self.receive()?;
            let mut out = Vec::new();
            let advance = handshake.advance(&self.received, &OneDisk, &mut out);
            self.received.drain(..advance.consumed);
            self.stream.write_all(&out).ok()?;
            if let State::Transmission(session) = advance.state {
                return Some(session);
            }
        }
    }

    fn serve(mut self) -> Option<()> {
        let session = self.handshake()?;
        loop {
            let mut out = Vec::new();
            while self.one_request(&session, &mut out)?.is_some() {}
            self.stream.write_all(&out).ok()?;
            self.receive()?;
        }
    }

    /// Answers the request at the front of what was received; `Some(None)` when it is not complete.
    fn one_request(&mut self, session: &Transmission, out: &mut Vec<u8>) -> Option<Option<()>> {
        let format = session.header_format();
        if self.received.len() < format.len() {
            return Some(None);
        }
        let header = RequestHeader::decode(format, &self.received).unwrap();
        let (offset, len) = (header.offset as usize, header.len as usize);
        let payload = if header.kind == cmd::WRITE { len } else { 0 };
        if self.received.len() < format.len() + payload {
            return Some(None);
        }
        let data: Vec<u8> = self.received.drain(..format.len() + payload).skip(format.len()).collect();
        self.requests += 1;
        match (header.kind, self.defect) {
            (_, Defect::LostReply) if self.requests == 2 => return Some(Some(())),
            (_, Defect::EarlyEnd) if self.requests == 2 => return None,
            (cmd::READ, defect) => {
                let offset = if defect == Defect::WrongPage { (offset + 4096) % SIZE_BYTES } else { offset };
                let head =
                    session.replies.data(header.cookie, header.offset, header.offset, len as u32, true);
                out.extend(head.as_bytes());
                out.extend(&self.store.lock().unwrap()[offset..][..len]);
            }
            (cmd::WRITE, defect) => {
                if defect != Defect::LostWrites {
                    self.store.lock().unwrap()[offset..][..len].copy_from_slice(&data);
                }
                out.extend(session.replies.success(header.cookie, header.offset).as_bytes());
            }
            _ => return None,
        }
        Some(Some(()))
    }
}

/// Starts a server on `content`; the folder holds its socket. Its threads end with the test process.
fn start(defect: Defect, content: Vec<u8>) -> (tempfile::TempDir, Target, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let store = Arc::new(Mutex::new(content));
    let shared = Arc::clone(&store);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, store) = (stream.unwrap(), Arc::clone(&shared));
            let session = Session { stream, received: Vec::new(), store, defect, requests: 0 };
            thread::spawn(|| session.serve());
        }
    });
    (folder, Target { address: Address::Unix(path), export: String::new() }, store)
}

/// Runs `job` against a server with `defect`; gives the result and what the disk holds then.
fn against(defect: Defect, job: &Job) -> (anyhow::Result<Outcome>, Vec<u8>) {
    let mut content = vec![0; SIZE_BYTES];
    Pattern::new(SEED).fill(0, &mut content);
    let (_folder, target, store) = start(defect, content);
    let result = run(&target, job, None);
    let content = store.lock().unwrap().clone();
    (result, content)
}

fn job(access: Access) -> Job {
    let times = Duration::from_millis(20);
    Job {
        depth: 8,
        block_bytes: 4096,
        check: Check::Full,
        warm_up: times,
        duration: times,
        ..Job::new(access, SEED)
    }
}

fn failure(defect: Defect, job: &Job) -> String {
    format!("{:#}", against(defect, job).0.unwrap_err())
}

#[test]
fn every_access_block_size_and_form_of_reply_works() {
    for access in [Access::RandRead, Access::Read, Access::RandWrite, Access::Write] {
        for (block_bytes, connections) in [(512, 1), (4096, 2), (1 << 20, 2)] {
            for replies in [Replies::Simple, Replies::Structured, Replies::Extended] {
                let job = Job { block_bytes, connections, replies, ..job(access) };
                let outcome = against(Defect::None, &job).0.unwrap();
                assert!(outcome.requests > 0, "{job:?}");
                assert!(outcome.latency.is_none(), "latencies are noted at depth 1 only");
            }
        }
    }
}

#[test]
fn depth_1_has_latencies() {
    let outcome = against(Defect::None, &Job { depth: 1, ..job(Access::RandRead) }).0.unwrap();
    let latency = outcome.latency.unwrap();
    assert!(latency.p50_ns > 0 && latency.p50_ns <= latency.p99_ns);
}

#[test]
fn writes_write_the_pattern_of_their_seed() {
    let job = Job { seed: 9, ..job(Access::RandWrite) };
    let (outcome, content) = against(Defect::None, &job);
    outcome.unwrap();
    let (old, new) = (Pattern::new(SEED), Pattern::new(9));
    let pages = (0..).step_by(4096).zip(content.chunks(4096));
    let (written, others): (Vec<_>, Vec<_>) =
        pages.partition(|(offset, page)| new.check(Check::Full, *offset, page).is_ok());
    assert!(!written.is_empty());
    for (offset, page) in others {
        assert_eq!(old.check(Check::Full, offset, page), Ok(()));
    }
}

#[test]
fn a_fill_writes_the_whole_export() {
    let (_folder, target, store) = start(Defect::None, vec![0; SIZE_BYTES]);
    fill(&target, 77).unwrap();
    assert_eq!(Pattern::new(77).check(Check::Full, 0, &store.lock().unwrap()), Ok(()));
}

#[test]
fn a_lost_write_is_found_by_reading_back() {
    let error = failure(Defect::LostWrites, &Job { seed: 9, ..job(Access::RandWrite) });
    assert!(error.contains("reading back") && error.contains("wrong data"), "{error}");
}

#[test]
fn wrong_data_ends_the_run_even_when_only_some_words_are_compared() {
    let error = failure(Defect::WrongPage, &Job { check: Check::Some, ..job(Access::RandRead) });
    assert!(error.contains("wrong data"), "{error}");
}

#[test]
fn a_reply_that_never_comes_is_an_error() {
    let job = Job { reply_max: Duration::from_millis(100), ..job(Access::RandRead) };
    let error = failure(Defect::LostReply, &job);
    assert!(error.contains("has not answered everything"), "{error}");
}

#[test]
fn a_connection_that_ends_is_an_error() {
    let error = failure(Defect::EarlyEnd, &job(Access::RandRead));
    assert!(error.contains("closed the connection"), "{error}");
}

#[test]
fn an_unknown_export_is_an_error() {
    let (_folder, target, _) = start(Defect::None, vec![0; SIZE_BYTES]);
    let error = format!("{:#}", probe(&Target { export: "other".into(), ..target }).unwrap_err());
    assert!(error.contains("no export has this name"), "{error}");
}
