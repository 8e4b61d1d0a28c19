//! The driver's side of both rings against a device that does what the input says.
//!
//! The first byte decides whether the device keeps the rules. One that does loses nothing; one that does not may write
//! whatever it likes into the memory of the ring, and is still never believed what cannot be.

use drivers::testing::device_ring::{Chain, DeviceRing, Element, PackedDevice, SplitDevice};
use drivers::testing::rings::{DriverRing, RingMemory, Shape};

use crate::Seed;
use crate::knobs::Knobs;

/// The split ring: knobs are rules, size, chain length and features (1 byte each), then comes what both sides do.
pub fn split(data: &[u8]) {
    run(false, data);
}

/// The packed ring: knobs as for the split one.
pub fn packed(data: &[u8]) {
    run(true, data);
}

fn shape(packed: bool, knobs: &mut Knobs<'_>) -> Shape {
    let size = 1 + u16::from(knobs.u8()) % 64;
    let size = if packed { size } else { size.next_power_of_two() };
    let chain_max = 1 + u16::from(knobs.u8()) % 6;
    let features = knobs.u8();
    Shape {
        packed,
        size,
        chain_max: chain_max.min(size),
        indirect: features & 1 != 0,
        event_idx: features & 2 != 0,
    }
}

fn run(packed: bool, data: &[u8]) {
    let mut knobs = Knobs(data);
    let keeps_rules = knobs.u8() % 2 == 0;
    let shape = shape(packed, &mut knobs);
    let mut game = Game::new(shape);
    while !knobs.0.is_empty() {
        let what = knobs.u8();
        let went = match what % 16 {
            0..=9 => game.play(what % 16, keeps_rules, &mut knobs),
            _ if keeps_rules => true,
            _ => {
                game.scribble(what % 16, &mut knobs);
                true
            }
        };
        if !went {
            // After a lie the driver gives the ring up.
            assert!(!keeps_rules, "a device that keeps the rules was called a liar");
            return;
        }
    }
    if keeps_rules {
        game.finish();
    }
}

/// Both sides.
struct Game {
    shape: Shape,
    driver: DriverRing,
    device: Box<dyn DeviceRing>,
    memory: RingMemory,
    /// Per slot: bytes that may be written, while the chain is not back.
    out: Vec<Option<u32>>,
    popped: Vec<Chain>,
    /// Chains that an honest device has pushed and the driver has not seen.
    unseen: usize,
}

impl Game {
    fn new(shape: Shape) -> Game {
        let driver = DriverRing::new(shape).expect("memory for a ring");
        let (device, memory) = (driver.device(), driver.memory());
        let out = vec![None; driver.slots().into()];
        Game { shape, driver, device, memory, out, popped: Vec::new(), unseen: 0 }
    }

    /// What honest sides do. `false`: the driver has caught a lie.
    fn play(&mut self, what: u8, keeps_rules: bool, knobs: &mut Knobs<'_>) -> bool {
        match what {
            0 | 1 => self.add(knobs.u8(), knobs.u8()),
            2 => {
                self.driver.publish();
            }
            3 => {
                let is_there = self.driver.arm();
                assert!(!keeps_rules || is_there == (self.unseen > 0));
            }
            4 => self.driver.disarm(),
            5 | 6 => return self.reap(usize::from(knobs.u8() % 8)),
            7 => self.pop(keeps_rules),
            8 => self.push(knobs.u8(), knobs.u16()),
            _ => self.wish(knobs.u8(), keeps_rules),
        }
        true
    }

    fn add(&mut self, slot: u8, chain: u8) {
        let free = (0..self.out.len())
            .map(|index| (usize::from(slot) + index) % self.out.len())
            .find(|slot| self.out[*slot].is_none());
        let Some(slot) = free else { return };
        let count = 1 + u16::from(chain) % self.shape.chain_max;
        let readable = u16::from(chain >> 4) % (count + 1);
        let element = |index: u16| Element {
            address: 0x1000 * u64::from(index),
            len: 100 + u32::from(index),
            writable: index >= readable,
        };
        let chain: Vec<Element> = (0..count).map(element).collect();
        self.out[slot] = Some(chain.iter().filter(|it| it.writable).map(|it| it.len).sum());
        self.driver.add(slot as u16, &chain);
    }

    fn reap(&mut self, most: usize) -> bool {
        for _ in 0..most {
            match self.driver.next_used() {
                Err(_) => return false,
                Ok(None) => break,
                Ok(Some((slot, written))) => {
                    let room = self.out[usize::from(slot)].take().expect("a chain comes back once");
                    assert!(written <= room, "{written} bytes of {room}");
                    self.unseen = self.unseen.saturating_sub(1);
                }
            }
        }
        true
    }

    fn pop(&mut self, keeps_rules: bool) {
        match self.device.pop(&self.memory) {
            Ok(chain) => self.popped.extend(chain),
            // A ring that was written over makes no sense.
            Err(violation) => assert!(!keeps_rules, "{violation}"),
        }
    }

    fn push(&mut self, which: u8, written: u16) {
        if self.popped.is_empty() {
            return;
        }
        let chain = self.popped.swap_remove(usize::from(which) % self.popped.len());
        let written = u64::from(written) % (chain.writable_bytes() + 1);
        self.device.push(&self.memory, &chain, written as u32).expect("the ring is memory");
        self.unseen += 1;
    }

    fn wish(&mut self, what: u8, keeps_rules: bool) {
        let (device, memory) = (&mut self.device, &self.memory);
        let result = match what % 4 {
            0 => device.ask_kick(memory).map(|_| ()),
            1 if self.shape.event_idx => device.ask_kick_after(memory, u16::from(what) % self.shape.size),
            2 => device.refuse_kick(memory),
            _ => device.is_call_wanted(memory).map(|_| ()),
        };
        assert!(!keeps_rules || result.is_ok(), "{result:?}");
    }

    /// What no honest device does.
    fn scribble(&mut self, what: u8, knobs: &mut Knobs<'_>) {
        let (place, id, len) = (knobs.u8(), knobs.u8(), knobs.u16());
        let place = u16::from(place) % self.shape.size;
        let memory = &self.memory;
        let setup = self.driver.setup();
        let written = match what {
            10 => self.device.push_raw(memory, id.into(), len.into(), 1 + place),
            11 | 12 if self.shape.packed => {
                // Flags that would be believed, with anything else changed.
                let device = PackedDevice::at_base(setup, self.device.base());
                let flags = device.used_flags() ^ if what == 12 { knobs.u16() } else { 0 };
                device.write_descriptor(memory, place, id.into(), len.into(), flags)
            }
            11 => SplitDevice::new(setup).write_element(memory, place, id.into(), len.into()),
            12 => SplitDevice::new(setup).write_index(memory, len),
            13 if self.shape.packed => PackedDevice::new(setup).write_event(memory, len, id.into()),
            13 => SplitDevice::new(setup).write_event(memory, len),
            _ => {
                let all = memory.all();
                let at = (usize::from(place) << 8 | usize::from(id)) % (all.len() - 1);
                all.subslice(at, 2).expect("inside").copy_from(&len.to_le_bytes()[..]);
                Ok(())
            }
        };
        written.expect("the ring is memory");
    }

    /// An honest device ends all, and nothing is lost.
    fn finish(&mut self) {
        self.driver.publish();
        for _ in 0..self.out.len() {
            self.pop(true);
        }
        while !self.popped.is_empty() {
            self.push(0, u16::MAX);
        }
        assert!(self.reap(self.out.len()), "no lie");
        assert!(self.out.iter().all(Option::is_none), "a chain was lost");
        assert_eq!(self.driver.next_used(), Ok(None));
    }
}

/// First inputs: some rounds of work for each shape, with and without lies.
pub(crate) fn seeds() -> Vec<Seed> {
    let round = [0, 1, 2, 1, 5, 0x33, 2, 9, 0, 7, 7, 8, 1, 0, 50, 8, 0, 0, 9, 9, 3, 3, 5, 7];
    let lies = [
        ("honest", &[][..]),
        ("element", &[10, 0, 1, 0, 200, 5, 7]),
        ("again", &[10, 0, 0, 0, 0, 10, 0, 0, 0, 0, 5, 7]),
        ("anywhere", &[11, 3, 1, 0, 9, 12, 0, 1, 0, 9, 0, 2, 13, 2, 0, 0, 7, 15, 0, 14, 0, 0, 5, 7]),
    ];
    let mut seeds = Vec::new();
    for target in ["split_ring", "packed_ring"] {
        for features in 0..4 {
            for (name, lie) in lies {
                let start = [u8::from(!lie.is_empty()), 6, 2, features];
                let input = [&start[..], &round, &round, lie, &round].concat();
                seeds.push((target, format!("{name}-{features}"), input));
            }
        }
    }
    seeds
}
