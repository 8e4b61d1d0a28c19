//! Tests: the controller notices what its driver must not do.

use super::kind::{Fault, Kind};
use super::state::State;
use crate::pci::config::set_bus_master;
use crate::pci::{Function, Registers};
use crate::sys::mmap::Mapping;
use crate::testing::bus::{Chip, Held, Running, Work};

const ADDRESS: u64 = 1 << 21;
const ENABLE: u32 = 6 << 16 | 4 << 20 | 1;

/// What the controller notes about accesses to its registers, after it was stopped.
fn told(act: impl FnOnce(&Held<State>, &dyn Registers)) -> String {
    let running = Running::start(State::new(Kind::default()));
    let held = Held(running.model.clone());
    set_bus_master(&held, false).unwrap();
    let registers = held.registers(0, 0, State::BAR_BYTES).unwrap();
    registers.store32(0x14, 0);
    while registers.load32(0x1c) & 1 != 0 {}
    act(&held, &*registers);
    // The thread has done what there is to do, or this does it.
    while let Work::Done = running.model.state().work() {}
    let violations: Vec<String> =
        running.model.state().bus.violations.iter().map(ToString::to_string).collect();
    violations.join(", ")
}

/// Starts it with queues of administration of 4 entries in fresh memory, which the caller keeps.
fn start(held: &Held<State>, registers: &dyn Registers) -> Mapping {
    let memory = Mapping::memory(c"test", 1 << 16).unwrap();
    held.map(ADDRESS, &memory).unwrap();
    registers.store32(0x24, 3 | 3 << 16);
    registers.store32(0x28, ADDRESS as u32);
    registers.store32(0x30, ADDRESS as u32 + 4096);
    registers.store32(0x14, ENABLE);
    while registers.load32(0x1c) & 1 == 0 {}
    memory
}

#[test]
#[cfg_attr(miri, ignore = "needs a memory file")]
fn the_steps_of_the_initialization_are_watched() {
    assert_eq!(told(|held, registers| drop(start(held, registers))), "");
    let no_queues = told(|_, registers| registers.store32(0x14, ENABLE));
    assert_eq!(no_queues, "a queue of 1 entries at 0x0");
    let late = told(|held, registers| {
        start(held, registers);
        registers.store32(0x24, 0);
    });
    assert_eq!(late, "0x24 of the registers is written before the controller stopped");
    let hasty = told(|held, registers| {
        start(held, registers);
        registers.store32(0x14, 0);
        registers.store32(0x14, ENABLE);
    });
    assert!(hasty.contains("it has not stopped yet"), "{hasty}");
    assert!(told(|_, registers| registers.store32(0x14, 1)).contains("it does not have these sizes"));
    assert!(told(|_, registers| _ = registers.load8(0x14)).contains("1 bytes of the registers are read"));
}

#[test]
#[cfg_attr(miri, ignore = "needs a memory file")]
fn doorbells_are_watched() {
    assert!(told(|_, registers| registers.store32(0x1000, 1)).contains("when the controller is stopped"));
    let rung = |at: usize, value: u32| {
        told(|held, registers| {
            let _memory = start(held, registers);
            registers.store32(at, value);
        })
    };
    assert_eq!(rung(0x1008, 1), "queue 1 has no doorbells, as it is not there");
    assert_eq!(rung(0x1000, 4), "the tail of queue 0 is set to 4");
    assert_eq!(rung(0x1004, 1), "the head of queue 0 is set to 1");
    assert!(rung(0x1000, 1).contains("is no memory"), "bus mastering is off");
}

#[test]
#[cfg_attr(miri, ignore = "needs a memory file")]
fn commands_are_watched() {
    let sent = |edit: fn(&mut [u32; 16])| {
        told(|held, registers| {
            let memory = start(held, registers);
            set_bus_master(held, true).unwrap();
            // Identify controller, to the third page.
            let mut dwords = [0_u32; 16];
            (dwords[0], dwords[6], dwords[10]) = (6 | 7 << 16, ADDRESS as u32 + 8192, 1);
            edit(&mut dwords);
            for (index, dword) in dwords.into_iter().enumerate() {
                memory.slice(index * 4, 4).unwrap().copy_from(&dword.to_le_bytes()[..]);
            }
            registers.store32(0x1000, 1);
        })
    };
    assert_eq!(sent(|_| {}), "");
    assert!(sent(|dwords| dwords[6] += 2).contains("the first one is not aligned"));
    assert!(sent(|dwords| dwords[8] = 4096).contains("is not needed"));
    assert!(sent(|dwords| dwords[6] = 4096).contains("are no memory"));
    assert!(sent(|dwords| dwords[4] = 1).contains("has fields that are not 0"));
    // A queue of 257 entries.
    let long = sent(|dwords| (dwords[0], dwords[10], dwords[11]) = (5, 256 << 16 | 1, 1));
    assert!(long.contains("queue 1 of 257 entries"), "{long}");
}

#[test]
fn nothing_is_left_of_a_controller_that_was_let_go() {
    let noted = told(|held, registers| {
        held.release();
        assert_eq!(registers.load32(0x1c), u32::MAX);
        registers.store32(0x1000, 1);
        assert!(held.read_config(0, &mut [0; 4]).is_err() && held.registers(0, 0, 4).is_err());
    });
    assert_eq!(noted, "");
    let nobody = Running::start(State::new(Kind { fault: Fault::NotThere, ..Kind::default() }));
    let mut class = [0; 4];
    Held(nobody.model.clone()).read_config(8, &mut class).unwrap();
    assert_eq!(class, [0xff; 4]);
}
