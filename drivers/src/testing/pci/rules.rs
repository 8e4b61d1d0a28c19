//! Tests: the device notices what its driver must not do.

use std::sync::Arc;

use super::kind::Kind;
use super::state::State;
use super::structures::{BAR, BAR_BYTES, COMMON_BYTES, DEVICE_AT, NOTIFY_AT};
use crate::pci::config::set_bus_master;
use crate::pci::{Function, Registers};
use crate::sys::mmap::Mapping;
use crate::testing::bus;
use crate::testing::ram_disk::RamDisk;

type Held = bus::Held<State>;

/// The device after `act`, and what it noted.
fn noted(act: impl FnOnce(&Held, &dyn Registers)) -> Vec<String> {
    let kind = Kind::default();
    let model = Arc::new(bus::Model::new(State::new(kind, RamDisk::new(kind.capacity_bytes, false))));
    let held = bus::Held(model.clone());
    set_bus_master(&held, false).unwrap();
    let registers = held.registers(BAR, 0, BAR_BYTES).unwrap();
    registers.store8(0x14, 0);
    act(&held, &*registers);
    model.state().bus.violations.iter().map(ToString::to_string).collect()
}

/// What the device notes about accesses to its registers.
fn told(act: impl FnOnce(&dyn Registers)) -> String {
    noted(|_, registers| act(registers)).join(", ")
}

/// The status up to FEATURES_OK, with these features.
fn negotiate(registers: &dyn Registers, features: u64) {
    registers.store8(0x14, 1);
    registers.store8(0x14, 3);
    for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
        registers.store32(0x08, select);
        registers.store32(0x0c, half);
    }
    registers.store8(0x14, 0xb);
}

#[test]
fn the_steps_of_the_initialization_are_watched() {
    assert_eq!(told(|registers| negotiate(registers, Kind::default().features)), "");
    assert_eq!(told(|registers| registers.store8(0x14, 2)), "the status goes from 0x0 to 0x2");
    assert!(told(|registers| negotiate(registers, !0)).contains("not offered"));
    let late = told(|registers| {
        negotiate(registers, Kind::default().features);
        registers.store32(0x0c, 0);
        registers.store8(0x14, 3);
    });
    assert_eq!(late, "features are written at status 0xb, the status goes from 0xb to 0x3");
    let early = told(|registers| registers.store16(0x18, 4));
    assert_eq!(early, "queue 0 is set up at status 0x0");
    assert_eq!(told(|registers| registers.store16(NOTIFY_AT, 0)), "queue 0 is told of before DRIVER_OK");
}

#[test]
fn queues_are_watched() {
    let queue = |act: fn(&dyn Registers)| {
        told(|registers| {
            negotiate(registers, Kind::default().features);
            act(registers);
        })
    };
    assert_eq!(queue(|registers| registers.store16(0x18, 3)), "a queue of 3 entries");
    assert_eq!(queue(|registers| registers.store16(0x18, 512)), "a queue of 512 entries");
    let unaligned = queue(|registers| {
        registers.store32(0x20, 8);
        registers.store16(0x1c, 1);
    });
    assert_eq!(unaligned, "a queue at 0x8, 0x0, 0x0");
    let twice = queue(|registers| {
        registers.store16(0x1c, 1);
        registers.store16(0x18, 4);
    });
    assert_eq!(twice, "0x4 is written at 0x18 of an enabled queue");
    assert_eq!(queue(|registers| registers.store16(0x1c, 0)), "0x0 is written at 0x1c");
}

#[test]
fn widths_of_accesses_are_watched() {
    assert_eq!(told(|registers| _ = registers.load32(0x14)), "4 bytes are read at 0x14");
    assert_eq!(told(|registers| registers.store16(0x14, 0)), "2 bytes are written at 0x14");
    let at = DEVICE_AT + 24;
    assert_eq!(told(|registers| _ = registers.load32(at)), "4 bytes of the configuration are read at 24");
    assert!(told(|registers| _ = registers.load8(COMMON_BYTES)).contains("0x38 of the registers"));
}

#[test]
#[cfg_attr(miri, ignore = "needs a memory file")]
fn chains_without_bus_mastering_are_watched() {
    let run = |is_master: bool| {
        noted(|held, registers| {
            let memory = Mapping::memory(c"test", 1 << 16).unwrap();
            held.map(1 << 21, &memory).unwrap();
            negotiate(registers, Kind::default().features);
            for (at, area) in [(0x20, 0), (0x28, 0x2000), (0x30, 0x3000)] {
                registers.store32(at, (1 << 21) + area);
            }
            registers.store16(0x1c, 1);
            set_bus_master(held, is_master).unwrap();
            registers.store8(0x14, 0xf);
            registers.store16(NOTIFY_AT, 0);
            let queue = held.0.state().next_kicked().unwrap();
            held.0.state().serve(queue);
        })
    };
    assert_eq!(run(true), [""; 0]);
    assert!(run(false).join(", ").contains("is no memory"));
}

#[test]
#[cfg_attr(miri, ignore = "needs a memory file")]
fn memory_is_mapped_once_and_within_reach() {
    let memory = Mapping::memory(c"test", 1 << 16).unwrap();
    let map = |addresses: &[u64]| {
        noted(|held, _| addresses.iter().for_each(|address| held.map(*address, &memory).unwrap())).len()
    };
    assert_eq!(map(&[1 << 21, 1 << 22]), 0);
    assert_eq!(map(&[1 << 21, (1 << 21) + 4096]), 1, "they overlap");
    assert_eq!(map(&[(1 << 21) + 1]), 1, "no page begins there");
    assert_eq!(map(&[0xfee0_0000, 1 << 39]), 2, "out of reach");
}

#[test]
fn nothing_is_left_of_a_device_that_was_let_go() {
    let held = noted(|held, registers| {
        held.release();
        assert_eq!((registers.load8(0x14), registers.load32(DEVICE_AT)), (0xff, u32::MAX));
        registers.store16(NOTIFY_AT, 0);
        assert!(held.read_config(0, &mut [0; 4]).is_err() && held.registers(BAR, 0, 4).is_err());
    });
    assert_eq!(held, [""; 0]);
}
