//! What a controller says of itself (Base 2.0c, section 5.17.2; NVM 1.0c, section 4.1.5).

use super::kind::{Fault, Kind};

/// 2.0.
pub(super) const VERSION: u32 = 0x0002_0000;

const ANSWER_BYTES: usize = 4096;

/// The answer to an identify command, `None`: it cannot be asked for that.
pub(super) fn answer(kind: &Kind, what: u32, namespace: u32, blocks: u64) -> Option<Vec<u8>> {
    let is_there = (1..=kind.namespaces).contains(&namespace) && kind.fault != Fault::NoNamespace;
    let mut answer = vec![0; ANSWER_BYTES];
    match what {
        0 if is_there => describe(kind, blocks, &mut answer),
        // One that is not active is all zeroes.
        0 => {}
        1 => describe_controller(kind, &mut answer),
        2 => (1..=kind.namespaces)
            .filter(|_| kind.fault != Fault::NoNamespace)
            .filter(|number| *number > namespace)
            .zip(answer.chunks_exact_mut(4))
            .for_each(|(number, place)| place.copy_from_slice(&number.to_le_bytes())),
        3 if is_there => {
            let set = if let Fault::CommandSet(set) = kind.fault { set } else { 0 };
            // A unique identifier, then the command set.
            answer[..2].copy_from_slice(&[3, 16]);
            answer[20..25].copy_from_slice(&[4, 1, 0, 0, set]);
        }
        // No limits of the command set.
        6 => {}
        _ => return None,
    }
    Some(answer)
}

fn put(answer: &mut [u8], at: usize, bytes: &[u8]) {
    answer[at..at + bytes.len()].copy_from_slice(bytes);
}

fn describe_controller(kind: &Kind, answer: &mut [u8]) {
    let serial: &[u8] =
        if kind.fault == Fault::OtherSerial { b"another             " } else { b"model-1             " };
    put(answer, 4, serial);
    put(answer, 24, &[b' '; 48]);
    put(answer, 24, b"NVMe controller of a test");
    put(answer, 64, b"1");
    answer[77] = kind.mdts;
    put(answer, 80, &VERSION.to_le_bytes());
    // A controller of disks.
    answer[111] = 1;
    for (at, delay) in [128, 130, 132].into_iter().zip(kind.retry_delays) {
        put(answer, at, &delay.to_le_bytes());
    }
    put(answer, 256, &(u16::from(kind.shadow) << 8).to_le_bytes());
    put(answer, 512, &[0x66, 0x44]);
    put(answer, 516, &kind.namespaces.to_le_bytes());
    // Dataset management, write zeroes.
    answer[520] = 0b1100;
    // A volatile cache.
    answer[525] = 1;
}

fn describe(kind: &Kind, blocks: u64, answer: &mut [u8]) {
    for at in [0, 8, 16] {
        put(answer, at, &blocks.to_le_bytes());
    }
    // What is deallocated reads as zeroes, and write zeroes may deallocate.
    answer[33] = 1 | 1 << 3;
    if let Fault::Protection(protection) = kind.fault {
        answer[29] = protection;
    }
    answer[99] = u8::from(kind.read_only);
    if let Fault::Metadata(bytes) = kind.fault {
        answer[128] = bytes;
    }
    answer[130] = kind.block_exponent;
}
