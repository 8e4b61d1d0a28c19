//! What the controller does and says that none should.

use drivers::testing::nvme::{Act, Fault, Mishap, NvmeDevice, Topic, opcode};

use crate::knobs::Knobs;

/// How much of what the driver does a wrong excuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Excuse {
    /// The controller lied about itself, so the driver may use it as what it is not.
    pub(super) rules: bool,
    /// It ended commands that it had not done, so it may use memory that the driver takes for free.
    pub(super) data: bool,
}

const OPCODES: [u8; 5] =
    [opcode::READ, opcode::WRITE, opcode::FLUSH, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT];

/// Create submission queue, log, create completion queue, identify, set features, doorbells in memory.
const ADMIN_OPCODES: [u8; 6] = [1, 2, 5, 6, 9, 0x7c];

/// Capabilities, configuration, status.
const REGISTERS: [usize; 4] = [0, 4, 0x14, 0x1c];

/// Does one of them, which takes up to 8 bytes.
pub(super) fn commit(controller: &NvmeDevice, knobs: &mut Knobs<'_>, excuse: &mut Excuse) {
    match knobs.u8() % 12 {
        0..=2 => {
            let opcode = OPCODES[usize::from(knobs.u8()) % OPCODES.len()];
            controller.mishap(mishap(opcode, knobs, excuse));
        }
        3 | 4 => {
            let opcode = ADMIN_OPCODES[usize::from(knobs.u8()) % ADMIN_OPCODES.len()];
            let mut own = Excuse::default();
            let mishap = mishap(opcode, knobs, &mut own);
            // One that says that it has done what it has not is another one than the driver knows.
            excuse.rules |= matches!(mishap.act, Act::Status(_)) && own.data;
            controller.admin_mishap(mishap);
        }
        5 => controller.fault(fault(knobs)),
        6 => {
            excuse.rules = true;
            let register = REGISTERS[usize::from(knobs.u8()) % REGISTERS.len()];
            controller.show(register, knobs.u32(), 1 + u32::from(knobs.u8()));
        }
        7 | 8 => {
            excuse.rules = true;
            let topic = match knobs.u8() % 6 {
                5 => Topic::Health,
                4 => Topic::Identity(6),
                what => Topic::Identity(what),
            };
            controller.say(topic, usize::from(knobs.u16() % 4096), knobs.u8());
        }
        9 => controller.grant(knobs.u32()),
        10 => {
            excuse.data = true;
            let held = controller.held();
            let id = knobs.u16();
            let known = held.get(usize::from(id) % (held.len() + 1)).copied();
            controller.forge(known.unwrap_or(id), knobs.u16());
        }
        _ => {
            excuse.data = true;
            controller.scribble(usize::from(knobs.u8()), knobs.u32());
        }
    }
}

fn mishap(opcode: u8, knobs: &mut Knobs<'_>, excuse: &mut Excuse) -> Mishap {
    let act = match knobs.u8() % 8 {
        0..=2 => {
            let status = knobs.u16();
            // Type and code.
            excuse.data |= status & 0x7ff == 0;
            Act::Status(status & 0x7fff)
        }
        3 | 4 => Act::Hold,
        5 => Act::Twice,
        6 => Act::Stranger,
        _ => Act::Status(0x4006),
    };
    Mishap { opcode, block: None, times: 1 + u32::from(knobs.u8() % 16), act }
}

fn fault(knobs: &mut Knobs<'_>) -> Fault {
    let detail = knobs.u8();
    match knobs.u8() % 15 {
        0 => Fault::NoRegisters,
        1 => Fault::OtherCommandSet,
        2 => Fault::NeverReady,
        3 => Fault::FatalStart,
        4 => Fault::NeverStops,
        5 => Fault::StopsByReset,
        6 => Fault::NeverShutsDown,
        7 => Fault::AdminFails(ADMIN_OPCODES[usize::from(detail) % ADMIN_OPCODES.len()]),
        8 => Fault::AdminHangs,
        9 => Fault::CommandSet(detail),
        10 => Fault::Metadata(detail),
        11 => Fault::Protection(detail),
        12 => Fault::NoNamespace,
        13 => Fault::OtherSerial,
        _ => Fault::None,
    }
}
