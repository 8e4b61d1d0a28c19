//! Both ring formats, driver's side against device's side: what either is told is what the other said, and no wish to
//! be notified is forgotten.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use drivers::testing::device_ring::{Chain, DeviceMemory as _, DeviceRing, Element};
use drivers::testing::rings::{DriverRing, RingMemory, Shape};
use proptest::prelude::*;

/// One thing that either side does. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Add { slot: u16, readable: u16, writable: u16 },
    Publish,
    Reap { most: u8 },
    Arm,
    Disarm,
    Pop { most: u8 },
    Push { which: u16, written: u32 },
    IsCallWanted,
    AskKick,
    AskKickAfter { more: u16 },
    RefuseKick,
}

fn step() -> impl Strategy<Value = Step> {
    let number = any::<u16>;
    prop_oneof![
        6 => (number(), number(), number())
            .prop_map(|(slot, readable, writable)| Step::Add { slot, readable, writable }),
        3 => Just(Step::Publish),
        2 => (1..8_u8).prop_map(|most| Step::Reap { most }),
        1 => Just(Step::Arm),
        1 => Just(Step::Disarm),
        4 => (1..8_u8).prop_map(|most| Step::Pop { most }),
        6 => (number(), any::<u32>()).prop_map(|(which, written)| Step::Push { which, written }),
        2 => Just(Step::IsCallWanted),
        1 => Just(Step::AskKick),
        1 => number().prop_map(|more| Step::AskKickAfter { more }),
        1 => Just(Step::RefuseKick),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    (any::<bool>(), 1..=64_u16, 1..=8_u16, any::<bool>(), any::<bool>()).prop_map(
        |(packed, size, chain_max, indirect, event_idx)| {
            let size = if packed { size } else { size.next_power_of_two() };
            Shape { packed, size, chain_max: chain_max.min(size), indirect, event_idx }
        },
    )
}

/// What one side wants to be notified of. Positions count chains in a split ring and descriptors in a packed one.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Nothing,
    Everything,
    Position(u64),
}

impl Wish {
    /// Whether it is to be notified after going over `news`; `None`: it may be, since a position of another lap cannot
    /// be told from this one.
    fn wants(self, news: &Range<u64>, size: u16) -> Option<bool> {
        match self {
            _ if news.is_empty() => Some(false),
            Wish::Nothing => Some(false),
            Wish::Everything => Some(true),
            Wish::Position(at) if news.contains(&at) => Some(true),
            Wish::Position(at) if at + u64::from(size) < news.end => None,
            Wish::Position(_) if news.end - news.start > u64::from(size) => None,
            Wish::Position(_) => Some(false),
        }
    }

    fn check(self, news: &Range<u64>, size: u16, answer: bool, what: &str) {
        if let Some(wanted) = self.wants(news, size) {
            assert_eq!(answer, wanted, "{what}: {self:?}, {news:?}");
        }
    }
}

/// Both sides, and what each of them is to know.
struct Game {
    shape: Shape,
    driver: DriverRing,
    device: Box<dyn DeviceRing>,
    memory: RingMemory,
    /// Per slot: the chain that was added and has not come back.
    added: Vec<Option<Vec<Element>>>,
    /// Slots that were added, then published, in order.
    batch: Vec<u16>,
    visible: VecDeque<u16>,
    /// What was popped: the slot goes with it.
    popped: Vec<(u16, Chain)>,
    /// What was pushed: slot, length, position behind it.
    pushed: VecDeque<(u16, u32, u64)>,
    /// Positions: added, published, popped, pushed, told, reaped.
    add_at: u64,
    publish_at: u64,
    pop_at: u64,
    push_at: u64,
    told_at: u64,
    reap_at: u64,
    kick: Wish,
    call: Wish,
    next_address: u64,
}

impl Game {
    fn new(shape: Shape) -> Game {
        let driver = DriverRing::new(shape).unwrap();
        let (device, memory, slots) = (driver.device(), driver.memory(), driver.slots());
        // A split ring with the event index begins with the wish for the first chain, since both are 0.
        let kick = if shape.event_idx && !shape.packed { Wish::Position(0) } else { Wish::Everything };
        Game {
            shape,
            driver,
            device,
            memory,
            added: vec![None; slots.into()],
            batch: Vec::new(),
            visible: VecDeque::new(),
            popped: Vec::new(),
            pushed: VecDeque::new(),
            add_at: 0,
            publish_at: 0,
            pop_at: 0,
            push_at: 0,
            told_at: 0,
            reap_at: 0,
            kick,
            call: Wish::Nothing,
            next_address: 1,
        }
    }

    /// How far a chain moves a position.
    fn len(&self, chain: &[Element]) -> u64 {
        if self.shape.packed && !self.shape.indirect { chain.len() as u64 } else { 1 }
    }

    fn add(&mut self, slot: u16, readable: u16, writable: u16) {
        let slots = self.added.len() as u16;
        let free = |slot: &u16| self.added[usize::from(*slot)].is_none();
        let Some(slot) = (0..slots).map(|index| (slot % slots + index) % slots).find(free) else { return };
        let writable = writable % (self.shape.chain_max + 1);
        let readable = readable % (self.shape.chain_max - writable + 1) + u16::from(writable == 0);
        let count = (readable + writable).min(self.shape.chain_max);
        let element = |index: u16| Element {
            address: self.next_address.wrapping_add(u64::from(index)),
            len: 1 + u32::from(index) * 77,
            writable: index >= readable,
        };
        let chain: Vec<Element> = (0..count).map(element).collect();
        self.next_address = self.next_address.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.driver.add(slot, &chain);
        self.add_at += self.len(&chain);
        self.added[usize::from(slot)] = Some(chain);
        self.batch.push(slot);
    }

    fn publish(&mut self) {
        let news = self.publish_at..self.add_at;
        let kick = self.driver.publish();
        self.kick.check(&news, self.shape.size, kick, "kick");
        self.publish_at = self.add_at;
        self.visible.extend(self.batch.drain(..));
    }

    fn reap(&mut self, most: u8) {
        for _ in 0..most {
            let used = self.driver.next_used().unwrap();
            let Some((slot, written, position)) = self.pushed.pop_front() else {
                assert_eq!(used, None);
                return;
            };
            assert_eq!(used, Some((slot, written)));
            self.reap_at = position;
            self.added[usize::from(slot)] = None;
        }
    }

    fn arm(&mut self) {
        assert_eq!(self.driver.arm(), !self.pushed.is_empty());
        self.call = if self.shape.event_idx { Wish::Position(self.reap_at) } else { Wish::Everything };
    }

    fn disarm(&mut self) {
        self.driver.disarm();
        // A split ring with the event index has no way to refuse: a chain that was reaped is named, which a device that
        // has not looked since takes for a wish.
        self.call = match self.reap_at.checked_sub(1) {
            Some(before) if self.shape.event_idx && !self.shape.packed => Wish::Position(before),
            _ => Wish::Nothing,
        };
    }

    fn pop(&mut self, most: u8) {
        for _ in 0..most {
            let chain = self.device.pop(&self.memory).unwrap();
            let Some(slot) = self.visible.pop_front() else {
                assert_eq!(chain, None);
                return;
            };
            let chain = chain.unwrap();
            assert_eq!(Some(&chain.elements), self.added[usize::from(slot)].as_ref());
            self.pop_at += self.len(&chain.elements);
            self.popped.push((slot, chain));
        }
    }

    fn push(&mut self, which: u16, written: u32) {
        if self.popped.is_empty() {
            return;
        }
        let (slot, chain) = self.popped.swap_remove(usize::from(which) % self.popped.len());
        let written = (u64::from(written) % (chain.writable_bytes() + 1)) as u32;
        self.device.push(&self.memory, &chain, written).unwrap();
        self.push_at += self.len(&chain.elements);
        self.pushed.push_back((slot, written, self.push_at));
    }

    fn is_call_wanted(&mut self) {
        let wanted = self.device.is_call_wanted(&self.memory).unwrap();
        self.call.check(&(self.told_at..self.push_at), self.shape.size, wanted, "call");
        self.told_at = self.push_at;
    }

    fn ask_kick(&mut self) {
        assert_eq!(self.device.ask_kick(&self.memory).unwrap(), !self.visible.is_empty());
        self.kick = if self.shape.event_idx { Wish::Position(self.pop_at) } else { Wish::Everything };
    }

    fn ask_kick_after(&mut self, more: u16) {
        if self.shape.event_idx {
            let more = more % self.shape.size;
            self.device.ask_kick_after(&self.memory, more).unwrap();
            self.kick = Wish::Position(self.pop_at + u64::from(more));
        }
    }

    fn refuse_kick(&mut self) {
        self.device.refuse_kick(&self.memory).unwrap();
        self.kick = Wish::Nothing;
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Add { slot, readable, writable } => self.add(slot, readable, writable),
            Step::Publish => self.publish(),
            Step::Reap { most } => self.reap(most),
            Step::Arm => self.arm(),
            Step::Disarm => self.disarm(),
            Step::Pop { most } => self.pop(most),
            Step::Push { which, written } => self.push(which, written),
            Step::IsCallWanted => self.is_call_wanted(),
            Step::AskKick => self.ask_kick(),
            Step::AskKickAfter { more } => self.ask_kick_after(more),
            Step::RefuseKick => self.refuse_kick(),
        }
    }

    /// All that is under way ends, and nothing else comes.
    fn finish(&mut self) {
        self.publish();
        while !self.visible.is_empty() || !self.popped.is_empty() {
            self.pop(u8::MAX);
            self.push(0, 0);
        }
        while !self.pushed.is_empty() {
            self.reap(u8::MAX);
        }
        assert!(self.added.iter().all(Option::is_none), "every chain came back");
        assert_eq!(self.driver.next_used(), Ok(None));
        assert_eq!(self.device.pop(&self.memory), Ok(None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_agree_whatever_is_done(
        shape in shape(),
        steps in prop::collection::vec(step(), 1..600),
    ) {
        let mut game = Game::new(shape);
        for step in &steps {
            game.step(step);
        }
        game.finish();
    }
}

#[test]
fn many_laps_with_every_slot_in_use() {
    for packed in [false, true] {
        for indirect in [false, true] {
            let size = if packed { 7 } else { 8 };
            let mut game = Game::new(Shape { packed, size, chain_max: 2, indirect, event_idx: true });
            // More chains than the indices of a split ring count.
            for round in 0..20_000_u16 {
                (0..game.driver.slots()).for_each(|slot| game.add(slot, round, slot));
                game.publish();
                game.pop(u8::MAX);
                (0..u16::from(u8::MAX)).for_each(|index| game.push(round ^ index, index.into()));
                game.reap(u8::MAX);
            }
            game.finish();
        }
    }
}

#[test]
fn rings_of_the_largest_size_go_around() {
    for packed in [false, true] {
        for indirect in [false, true] {
            let mut game = Game::new(Shape { packed, size: 32768, chain_max: 1, indirect, event_idx: true });
            for _ in 0..3 {
                (0..32768).for_each(|slot| game.add(slot, 0, 1));
                game.publish();
                (0..200).for_each(|_| game.pop(u8::MAX));
                (0..32768).for_each(|_| game.push(0, 1));
                game.is_call_wanted();
                game.ask_kick();
                (0..200).for_each(|_| game.reap(u8::MAX));
                game.arm();
            }
            game.finish();
        }
    }
}

/// How long a side waits for a notification before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a notification. As with an eventfd, one that was not taken yet swallows the next.
struct Bell {
    ring: SyncSender<()>,
    rung: Receiver<()>,
}

impl Bell {
    fn pair() -> (Bell, Bell) {
        let ((one, two), (three, four)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
        (Bell { ring: one, rung: four }, Bell { ring: three, rung: two })
    }

    fn ring(&self) {
        // It is full, or the other side has left after the last chain.
        let _ = self.ring.try_send(());
    }

    fn reset(&self) {
        let _ = self.rung.try_recv();
    }

    fn wait(&self) {
        self.rung.recv_timeout(PATIENCE).expect("a notification was lost");
    }
}

/// Serves `total` chains; sleeps until it is kicked whenever there is none.
fn serve(mut device: Box<dyn DeviceRing>, memory: &RingMemory, total: u32, bell: &Bell) {
    let mut served = 0;
    while served < total {
        device.refuse_kick(memory).unwrap();
        while let Some(chain) = device.pop(memory).unwrap() {
            served += 1;
            device.push(memory, &chain, served % 9).unwrap();
            if device.is_call_wanted(memory).unwrap() {
                bell.ring();
            }
        }
        bell.reset();
        if served < total && !device.ask_kick(memory).unwrap() {
            bell.wait();
        }
    }
}

/// Both sides on threads of their own, each sleeping whenever it has nothing to do.
fn race(shape: Shape, total: u32) {
    let mut driver = DriverRing::new(shape).unwrap();
    let (device, memory) = (driver.device(), driver.memory());
    let (bell, other) = Bell::pair();
    let server = thread::spawn(move || serve(device, &memory, total, &other));
    let chain = [Element { address: 8, len: 8, writable: true }];
    let mut free: Vec<u16> = (0..driver.slots()).collect();
    let (mut added, mut ended) = (0, 0);
    while ended < total {
        // Batches of changing length, so that the sides overtake each other in many ways.
        let batch = 1 + (added as usize * 7) % 5;
        while added < total && !free.is_empty() && free.len() + batch > usize::from(driver.slots()) / 2 {
            driver.add(free.pop().unwrap(), &chain);
            added += 1;
        }
        if driver.publish() {
            bell.ring();
        }
        let before = ended;
        while let Some((slot, written)) = driver.next_used().unwrap() {
            ended += 1;
            assert_eq!(written, ended % 9);
            free.push(slot);
        }
        bell.reset();
        if before == ended && !driver.arm() {
            bell.wait();
            driver.disarm();
        }
    }
    server.join().unwrap();
}

#[test]
fn no_notification_is_lost_between_threads() {
    for packed in [false, true] {
        for event_idx in [false, true] {
            for size in [1, 2, 16] {
                race(Shape { packed, size, chain_max: 1, indirect: false, event_idx }, 30_000);
            }
        }
    }
}

/// Two threads that go on only together.
#[derive(Default)]
struct Meeting(AtomicU32);

impl Meeting {
    fn meet(&self, round: &mut u32) {
        *round += 1;
        self.0.fetch_add(1, Ordering::AcqRel);
        let (started, mut looks) = (Instant::now(), 0);
        while self.0.load(Ordering::Acquire) < 2 * *round {
            looks += 1;
            std::hint::spin_loop();
            if looks % 1000 == 0 {
                // Where there is one core only, the other thread has to come by.
                thread::yield_now();
                assert!(started.elapsed() < PATIENCE, "the other thread is gone");
            }
        }
    }
}

/// A little time, which changes from round to round.
fn linger(round: u32, step: u32) {
    (0..round / step % 32).for_each(|_| std::hint::spin_loop());
}

/// Both sides look at each other at the same moment, again and again: one of them must see what the other did. Before
/// each time both read what the other is going to write, so that no write is done at once.
fn collide(shape: Shape, rounds: u32) {
    let mut driver = DriverRing::new(shape).unwrap();
    let (mut device, memory, areas) = (driver.device(), driver.memory(), driver.setup().areas);
    let read = |address| memory.slice(address, 4).unwrap().copy_to(&mut [0_u8; 4][..]);
    let (meeting, seen) = (Meeting::default(), AtomicBool::new(false));
    let mut missed = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            for turn in 0..rounds {
                device.refuse_kick(&memory).unwrap();
                meeting.meet(&mut round);
                assert_eq!(device.pop(&memory), Ok(None));
                meeting.meet(&mut round);
                linger(turn, 1);
                seen.store(device.ask_kick(&memory).unwrap(), Ordering::Relaxed);
                meeting.meet(&mut round);
                let chain = device.pop(&memory).unwrap().unwrap();
                read(areas.driver);
                meeting.meet(&mut round);
                linger(turn, 1);
                device.push(&memory, &chain, 1).unwrap();
                seen.store(device.is_call_wanted(&memory).unwrap(), Ordering::Relaxed);
                meeting.meet(&mut round);
            }
        });
        let mut round = 0;
        for turn in 0..rounds {
            driver.add(0, &[Element { address: 8, len: 8, writable: true }]);
            meeting.meet(&mut round);
            read(areas.device);
            meeting.meet(&mut round);
            linger(turn, 32);
            let kicked = driver.publish();
            meeting.meet(&mut round);
            let kicked = kicked || seen.load(Ordering::Relaxed);
            assert_eq!(driver.next_used(), Ok(None));
            meeting.meet(&mut round);
            linger(turn, 32);
            let is_there = driver.arm();
            meeting.meet(&mut round);
            let called = is_there || seen.load(Ordering::Relaxed);
            missed += u32::from(!kicked) + u32::from(!called);
            assert_eq!(driver.next_used(), Ok(Some((0, 1))));
            driver.disarm();
        }
    });
    assert_eq!(missed, 0, "of {rounds} rounds, {shape:?}");
}

#[test]
fn of_two_sides_that_look_at_the_same_moment_one_sees_the_other() {
    for packed in [false, true] {
        for event_idx in [false, true] {
            collide(Shape { packed, size: 4, chain_max: 1, indirect: false, event_idx }, 100_000);
        }
    }
}
