//! Two workers on one device of 512-byte blocks whose requests finish late and in any order.
//!
//! Everything runs on one thread, and chance decides who is next, so a failure repeats with its seed.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use drivers::{
    Completion, Errno, Error, Lease, Limits, Operation, Outcome, Queue, QueueDead, Region, Request, Started,
    Value,
};

use super::{Body, Clear, Disk, DiskShared, Order, Pumped, Ticket, Verb, What};
use crate::metrics::Moment;
use crate::slab::{Key, Slab};
use crate::worker::mailbox::{Mailbox, Message};

const BLOCK: u64 = 512;
/// Not a multiple of the block: the last one is cut off.
const CAPACITY: u64 = 16 * BLOCK + 100;

/// A generator of numbers that is good enough to pick the next step (xorshift64*).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What the device does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// Every flush fails.
    Flush,
    /// Write zeroes is not supported after all.
    Zeroes,
}

struct Device {
    content: Arc<Mutex<Vec<u8>>>,
    chance: Arc<Mutex<Chance>>,
    region: Arc<Region>,
    fault: Fault,
    /// Nothing goes any more.
    gone: Arc<AtomicBool>,
}

impl Started for Device {
    fn limits(&self) -> Limits {
        Limits {
            capacity_bytes: CAPACITY,
            read_only: false,
            can_grow: false,
            request_alignment_bytes: BLOCK as u32,
            buffer_alignment_bytes: 1,
            optimal_io_alignment_bytes: BLOCK as u32,
            optimal_io_bytes: 0,
            max_transfer_bytes: 4 * BLOCK as u32,
            discard: Some(drivers::DiscardLimits { max_bytes: 2 * BLOCK, alignment_bytes: BLOCK as u32 }),
            write_zeroes: Some(drivers::ZeroesLimits {
                max_bytes: 3 * BLOCK,
                alignment_bytes: BLOCK as u32,
                fast_unmap: true,
                fast_no_unmap: false,
            }),
            fua: false,
            flush_needed: true,
            block_status: false,
            rotational: false,
            immediate: false,
        }
    }

    fn property(&self, _name: &str) -> Option<Value> {
        None
    }

    fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn queues(&self) -> usize {
        2
    }

    fn queue(&self, _index: usize) -> Result<Box<dyn Queue>, Error> {
        let (content, chance, fault) = (self.content.clone(), self.chance.clone(), self.fault);
        Ok(Box::new(Late { content, chance, fault, gone: self.gone.clone(), held: Vec::new() }))
    }
}

/// A queue that takes effect and answers late.
struct Late {
    content: Arc<Mutex<Vec<u8>>>,
    chance: Arc<Mutex<Chance>>,
    fault: Fault,
    gone: Arc<AtomicBool>,
    held: Vec<Request>,
}

impl Late {
    fn perform(&self, request: &Request) -> Result<Outcome, Errno> {
        let mut content = self.content.lock().unwrap();
        let (start, end) = (request.offset as usize, (request.offset + request.len) as usize);
        let whole = request.len.is_multiple_of(BLOCK) || end as u64 == CAPACITY;
        let aligned = request.offset.is_multiple_of(BLOCK) && whole;
        assert!(aligned && end <= content.len(), "the device was asked for {start}..{end}");
        match &request.operation {
            Operation::Read(lease) => lease.slice(0, end - start).copy_from(&content[start..end]),
            Operation::Write(lease) => {
                lease.slice(0, end - start).copy_to(&mut content[start..end]);
            }
            Operation::WriteZeroes if self.fault == Fault::Zeroes => return Err(Errno::NOT_SUPPORTED),
            Operation::WriteZeroes => content[start..end].fill(0),
            Operation::Discard => content[start..end].fill(0xdd),
            Operation::Flush if self.fault == Fault::Flush => return Err(Errno::IO),
            Operation::Flush | Operation::BlockStatus => {}
        }
        Ok(Outcome::Done)
    }
}

fn lease_of(operation: Operation) -> Option<Lease> {
    match operation {
        Operation::Read(lease) | Operation::Write(lease) => Some(lease),
        _ => None,
    }
}

impl Queue for Late {
    fn submit(&mut self, todo: &mut VecDeque<Request>) -> Result<(), QueueDead> {
        if self.is_dead() {
            return Err(QueueDead { reason: "it is gone".into() });
        }
        self.held.extend(todo.drain(..));
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        if self.is_dead() {
            let failed = |request: Request| request.complete(Err(Errno::IO));
            return done.extend(self.held.drain(..).map(failed));
        }
        while !self.held.is_empty() {
            let (stop, at) = {
                let mut chance = self.chance.lock().unwrap();
                (chance.below(3) == 0, chance.below(self.held.len() as u64) as usize)
            };
            if stop {
                return;
            }
            let request = self.held.swap_remove(at);
            let result = self.perform(&request);
            done.push(Completion { id: request.id, result, lease: lease_of(request.operation) });
        }
    }

    fn in_flight(&self) -> usize {
        self.held.len()
    }

    fn is_dead(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn arm(&mut self) -> bool {
        true
    }
}

/// Two workers' views of one device, or one's, and what their clients have been told.
struct Pair {
    disks: Vec<Disk>,
    gone: Arc<AtomicBool>,
    mailboxes: Vec<Arc<Mailbox>>,
    session: Key,
    next_tag: u64,
    /// Parts of reads, by tag.
    data: BTreeMap<u64, Vec<(u64, Vec<u8>)>>,
    /// Ended operations, by tag.
    ended: BTreeMap<u64, Result<(), Errno>>,
    reads: Vec<(usize, Key)>,
}

impl Pair {
    fn new(seed: u64, fault: Fault) -> Pair {
        Pair::of(2, seed, fault)
    }

    fn of(workers: usize, seed: u64, fault: Fault) -> Pair {
        let gone = Arc::new(AtomicBool::new(false));
        let device = Arc::new(Device {
            content: Arc::new(Mutex::new(vec![0; CAPACITY as usize])),
            chance: Arc::new(Mutex::new(Chance(seed | 1))),
            region: Arc::new(Region::new(1 << 20, 2).unwrap()),
            fault,
            gone: gone.clone(),
        });
        let mailboxes: Vec<_> = (0..workers).map(|_| Arc::new(Mailbox::new().unwrap())).collect();
        let shared = Arc::new(DiskShared::new(device, 0, mailboxes.clone()));
        let disks = (0..workers).map(|worker| Disk::open(shared.clone(), worker).unwrap()).collect();
        let session = Slab::new().insert(());
        let (data, ended, reads) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Pair { disks, gone, mailboxes, session, next_tag: 0, data, ended, reads }
    }

    fn ticket(&mut self, offset: u64, len: u64, verb: Verb) -> Ticket {
        self.next_tag += 1;
        Ticket { session: self.session, tag: self.next_tag, offset, len, verb, since: Moment::now() }
    }

    fn write(&mut self, worker: usize, offset: u64, bytes: &[u8], fua: bool) -> u64 {
        let ticket = self.ticket(offset, bytes.len() as u64, Verb::Write { fua });
        let disk = &mut self.disks[worker];
        let key = disk.start_write(ticket, fua);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (lease, lead, len) = disk.write_lease(at, (bytes.len() - done) as u64).unwrap();
            lease.slice(lead, len).copy_from(&bytes[done..done + len]);
            disk.write_part(key, lease, lead, at, len);
            done += len;
        }
        disk.end_write(key);
        ticket.tag
    }

    fn read(&mut self, worker: usize, offset: u64, len: u64, order: Order) -> u64 {
        let ticket = self.ticket(offset, len, Verb::Read { whole_chunk: false });
        let key = self.disks[worker].start_read(ticket, order, false);
        self.reads.push((worker, key));
        ticket.tag
    }

    fn clear(&mut self, worker: usize, offset: u64, len: u64, what: Clear) -> u64 {
        let ticket = self.ticket(offset, len, Verb::Zero { fua: false, fast: false });
        self.disks[worker].clear(ticket, what, false);
        ticket.tag
    }

    /// One turn of one worker.
    fn turn(&mut self, worker: usize) {
        let disk = &mut self.disks[worker];
        for message in self.mailboxes[worker].take() {
            let Message::Disk { message, .. } = message else { panic!("only disks talk here") };
            disk.receive(message);
        }
        disk.turn();
        self.reads.retain(|(owner, key)| *owner != worker || disk.pump_read(*key) != Pumped::Exhausted);
        while let Some(delivery) = disk.next_delivery() {
            let tag = delivery.ticket.tag;
            match delivery.what {
                What::Data { offset, body, last } => {
                    let Body::Lease { lease, start, len, .. } = body else {
                        panic!("the device has only leases")
                    };
                    let mut bytes = vec![0; len];
                    lease.slice(start, len).copy_to(&mut bytes);
                    self.data.entry(tag).or_default().push((offset, bytes));
                    if last {
                        assert_eq!(self.ended.insert(tag, Ok(())), None, "told twice");
                    }
                }
                What::Done(result) => assert_eq!(self.ended.insert(tag, result), None, "told twice"),
                What::More => {}
                What::Extents(_) => panic!("nobody asked"),
            }
        }
    }

    /// Lets both workers work until `tags` have ended.
    fn finish(&mut self, tags: &[u64]) {
        for round in 0..100_000 {
            if tags.iter().all(|tag| self.ended.contains_key(tag)) {
                return;
            }
            self.turn(round % self.disks.len());
        }
        panic!(
            "{} of {} operations never ended",
            tags.iter().filter(|t| !self.ended.contains_key(t)).count(),
            tags.len()
        );
    }

    fn content(&mut self, offset: u64, len: u64, order: Order) -> Vec<u8> {
        let tag = self.read(0, offset, len, order);
        self.finish(&[tag]);
        assert_eq!(self.ended[&tag], Ok(()));
        let mut parts = self.data.remove(&tag).unwrap_or_default();
        if order != Order::Any {
            assert!(parts.is_sorted_by_key(|(offset, _)| *offset), "parts in order");
        }
        parts.sort();
        assert_eq!(parts.first().map(|(offset, _)| *offset), Some(offset));
        parts.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }
}

#[test]
fn neighbours_inside_one_block_never_lose_an_update() {
    for seed in 1..200 {
        let mut chance = Chance(seed * 7919);
        let mut pair = Pair::new(seed, Fault::None);
        let mut model = vec![0; CAPACITY as usize];
        for _ in 0..10 {
            // Ranges that do not overlap but share blocks, all at once, on both workers.
            let mut tags = Vec::new();
            let mut at = chance.below(300);
            while at < CAPACITY {
                let len = (1 + chance.below(1500)).min(CAPACITY - at);
                let worker = chance.below(2) as usize;
                let range = at as usize..(at + len) as usize;
                if chance.below(4) == 0 {
                    model[range].fill(0);
                    let no_unmap = chance.below(2) == 0;
                    tags.push(pair.clear(worker, at, len, Clear::Zero { no_unmap, fast: false }));
                } else {
                    let bytes: Vec<u8> = range.clone().map(|_| chance.below(256) as u8).collect();
                    model[range].copy_from_slice(&bytes);
                    tags.push(pair.write(worker, at, &bytes, chance.below(4) == 0));
                }
                at += len + chance.below(3) * chance.below(400);
            }
            pair.finish(&tags);
            assert!(tags.iter().all(|tag| pair.ended[tag] == Ok(())), "seed {seed}");
            assert!(pair.content(0, CAPACITY, Order::Any) == model, "seed {seed}: an update was lost");
        }
        assert!(
            pair.disks.iter().all(|disk| disk.flights.is_empty() && disk.ops.is_empty()),
            "seed {seed}: leftovers"
        );
    }
}

/// They end one after the other, not inside of each other: the stack has room for a few hundred.
#[test]
fn thousands_of_pieces_of_a_block_end_when_the_device_is_gone() {
    let mut alone = Pair::of(1, 1, Fault::None);
    let tags: Vec<u64> = (0..20_000).map(|_| alone.write(0, 100, &[7], false)).collect();
    alone.gone.store(true, Ordering::Relaxed);
    alone.finish(&tags);
    assert!(tags.iter().all(|tag| alone.ended[tag] == Err(Errno::IO)));
    assert!(alone.disks[0].flights.is_empty() && alone.disks[0].ops.is_empty(), "leftovers");
}

#[test]
fn a_whole_block_written_while_a_piece_of_it_is_changed_is_not_lost() {
    for seed in 1..400 {
        let mut chance = Chance(seed * 104_729);
        let mut pair = Pair::new(seed, Fault::None);
        for round in 0..8u8 {
            // On each worker a piece of the same block is written while all of it is: whoever comes last wins where
            // they overlap, but what only the whole write covers must be its own.
            let (whole, piece) = (2 * round + 1, 2 * round + 2);
            let block = chance.below(CAPACITY / BLOCK) * BLOCK;
            let (at, len) = (1 + chance.below(300), 1 + chance.below(200));
            let mut tags = Vec::new();
            let mut order = [0, 1, 2];
            order.swap(chance.below(3) as usize, chance.below(3) as usize);
            for what in order {
                let worker = chance.below(2) as usize;
                tags.push(match what {
                    0 => pair.write(worker, block, &[whole; BLOCK as usize], false),
                    _ => pair.write(worker, block + at, &vec![piece; len as usize], false),
                });
                (0..chance.below(3)).for_each(|turn| pair.turn(turn as usize % 2));
            }
            pair.finish(&tags);
            let content = pair.content(block, BLOCK, Order::Any);
            for (offset, byte) in (0..).zip(&content) {
                let shared = (at..at + len).contains(&offset);
                assert!(*byte == whole || shared && *byte == piece, "seed {seed}, {block}+{offset}: {byte}");
            }
        }
    }
}

#[test]
fn reads_of_any_alignment_give_exactly_their_range_in_the_order_asked_for() {
    let mut pair = Pair::new(3, Fault::None);
    let bytes: Vec<u8> = (0..CAPACITY).map(|at| (at * 31 % 251) as u8).collect();
    let tag = pair.write(1, 0, &bytes, false);
    pair.finish(&[tag]);
    for (offset, len) in [(0, 1), (511, 2), (512, 512), (100, 7000), (CAPACITY - 1, 1), (CAPACITY - 700, 700)]
    {
        for order in [Order::Any, Order::Sequence, Order::Careful] {
            let got = pair.content(offset, len, order);
            assert_eq!(got, bytes[offset as usize..(offset + len) as usize], "{offset}+{len} {order:?}");
        }
    }
}

#[test]
fn a_trim_touches_whole_blocks_only() {
    let mut pair = Pair::new(5, Fault::None);
    let tag = pair.write(0, 0, &[1; CAPACITY as usize], false);
    pair.finish(&[tag]);
    let tag = pair.clear(1, 100, 2000, Clear::Trim);
    pair.finish(&[tag]);
    let content = pair.content(0, CAPACITY, Order::Any);
    let trimmed: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 1).collect();
    assert_eq!((trimmed.first(), trimmed.last(), trimmed.len()), (Some(&512), Some(&2047), 1536));
}

#[test]
fn zeroes_a_device_refuses_are_written() {
    let mut pair = Pair::new(9, Fault::Zeroes);
    let tags = [pair.write(0, 0, &[1; CAPACITY as usize], false)];
    pair.finish(&tags);
    let tag = pair.clear(0, 77, 5000, Clear::Zero { no_unmap: false, fast: false });
    pair.finish(&[tag]);
    let content = pair.content(0, CAPACITY, Order::Any);
    assert!(content.iter().enumerate().all(|(at, byte)| (*byte == 0) == (77..5077).contains(&at)));
}

#[test]
fn fast_zeroes_are_refused_without_touching_anything() {
    let mut pair = Pair::new(9, Fault::Zeroes);
    let tags = [pair.write(0, 0, &[1; CAPACITY as usize], false)];
    pair.finish(&tags);
    for no_unmap in [false, true] {
        let tag = pair.clear(0, 512, 512, Clear::Zero { no_unmap, fast: true });
        pair.finish(&[tag]);
        assert_eq!(pair.ended[&tag], Err(Errno::NOT_SUPPORTED));
    }
    assert_eq!(pair.content(0, CAPACITY, Order::Any), vec![1; CAPACITY as usize]);
}

#[test]
fn a_failed_flush_fails_what_needed_it_and_is_counted() {
    let mut pair = Pair::new(11, Fault::Flush);
    let plain = pair.write(0, 10, &[1; 10], false);
    let fua = pair.write(1, 1000, &[1; 10], true);
    pair.finish(&[plain, fua]);
    assert_eq!((pair.ended[&plain], pair.ended[&fua]), (Ok(()), Err(Errno::IO)));
    let ticket = pair.ticket(0, 0, Verb::Flush);
    pair.disks[0].flush(ticket);
    pair.finish(&[ticket.tag]);
    assert_eq!(pair.ended[&ticket.tag], Err(Errno::IO));
    assert_eq!(pair.disks[0].shared().flush_failures(), 2);
}
