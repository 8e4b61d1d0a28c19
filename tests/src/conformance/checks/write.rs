//! WRITE.

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, TransmissionFlags};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::reply::{BEYOND, EINVAL};
use crate::conformance::session::{Ask, Session, header_bytes};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "write/lengths",
        Level::Must,
        "Request types: what WRITE of any length up to the maximum payload stored is what READ gives",
        lengths,
    ),
    transmission(
        "write/unaligned-keeps-neighbours",
        Level::Must,
        "Request types: WRITE changes its own range and no byte beside it",
        keeps_neighbours,
    ),
    transmission(
        "write/refused-changes-nothing",
        Level::Must,
        "Request types: a WRITE that reaches beyond the end is refused as a whole",
        refused_changes_nothing,
    ),
    transmission(
        "write/error-keeps-the-stream-in-step",
        Level::Must,
        "Request types: the payload of a refused WRITE is read away, and the next request is understood",
        error_keeps_step,
    ),
    transmission(
        "write/longer-than-the-maximum",
        Level::Chosen,
        "Block size constraints: a WRITE a little above the maximum payload gets EINVAL, its payload is read away",
        too_long,
    ),
    transmission(
        "write/absurdly-long",
        Level::Must,
        "Terminating the transmission phase: a WRITE of 4 GiB that never comes may end its connection, not the server",
        absurdly_long,
    ),
    transmission(
        "write/fua",
        Level::Must,
        "Command flags: WRITE with FUA stores its data as one without",
        fua,
    ),
];

fn lengths(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(4 << 20)?;
    let most = session.facts.payload_max().min(session.size()).min(64 << 20);
    let unit = session.facts.minimum();
    let wanted =
        [1, 511, 512, 513, 4096, 65535, 65536, 65537, 262_143, 262_145, 1 << 20, (1 << 20) + 1, most];
    for (seed, len) in (100..).zip(wanted) {
        let len = len.next_multiple_of(unit).min(most);
        let data = Rng::new(seed).bytes(len as usize);
        session.write(0, &data)?;
        session.expect_data("READ after WRITE", 0, &data)?;
    }
    session.close()
}

fn keeps_neighbours(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let unit = session.facts.minimum();
    let mut rng = Rng::new(3);
    let mut model = rng.bytes(256 << 10);
    session.write(0, &model)?;
    for (offset, len) in
        [(1, 1), (511, 2), (513, 511), (4095, 2), (4097, 4095), (5000, 10_000), (65535, 65538)]
    {
        let (offset, len) = (offset * unit, len * unit);
        if offset + len > model.len() as u64 {
            continue;
        }
        let data = rng.bytes(len as usize);
        session.write(offset, &data)?;
        model[offset as usize..(offset + len) as usize].copy_from_slice(&data);
        session.expect_data("all around a WRITE", 0, &model)?;
    }
    session.close()
}

fn refused_changes_nothing(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let (size, unit) = (session.size(), session.facts.minimum());
    let tail = Rng::new(4).bytes(8192);
    session.write(size - 8192, &tail)?;
    for (back, len) in [(unit, 2 * unit), (4096, 8192), (8192, 65536)] {
        session.ask(&Ask::write(size - back, vec![0xbb; len as usize]))?.error_in(&BEYOND)?;
    }
    session.expect_data("the end of the export", size - 8192, &tail)?;
    session.close()
}

fn error_keeps_step(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let size = session.size();
    let head = Rng::new(5).bytes(65536);
    session.write(0, &head)?;
    // A payload that looks like requests, so that a server that does not read it away does what it says.
    let trap = Ask::write(0, vec![0xaa; 512]);
    let mut trap_bytes = header_bytes(mode, &trap, 0xbad);
    trap_bytes.extend_from_slice(&trap.payload);
    for len in [512, 4096, 65536, 1 << 20] {
        let payload: Vec<u8> = trap_bytes.iter().copied().cycle().take(len).collect();
        session.ask(&Ask::write(size, payload.clone()))?.error_in(&BEYOND)?;
        session.ask(&Ask::write(0, payload.clone()).with_bits(1 << 14))?.error_in(&[EINVAL])?;
        session.ask(&Ask::write(0, payload).with(CommandFlags::NO_HOLE))?.error_in(&[EINVAL])?;
        session.expect_data("after a refused WRITE", 0, &head)?;
    }
    session.close()
}

fn too_long(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let most = session.facts.payload_max();
    needs!(most <= 64 << 20, "the server has no limit within reach");
    session.needs_writable(most + 65536)?;
    let head = Rng::new(6).bytes(4096);
    session.write(0, &head)?;
    session.ask(&Ask::write(0, vec![0xcc; most as usize + 1]))?.error_in(&[EINVAL])?;
    session.expect_data("after a WRITE that is too long", 0, &head)?;
    session.close()
}

fn absurdly_long(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let ask = Ask { len: 0xffff_f000, ..Ask::write(0, Vec::new()) };
    session.send(&ask)?;
    // The server may have closed already.
    let _ = session.wire.send(&vec![0xdd; 1 << 20]);
    target.serves()
}

fn fua(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_FUA)?;
    session.needs_writable(1 << 20)?;
    for (seed, len) in (10..).zip([512, 4096, 65536, 1 << 19]) {
        let data = Rng::new(seed).bytes(len);
        session.done(&Ask::write(8192, data.clone()).with(CommandFlags::FUA))?;
        session.expect_data("after WRITE with FUA", 8192, &data)?;
    }
    demand!(session.size() > 0, "the export was there a moment ago");
    session.close()
}
