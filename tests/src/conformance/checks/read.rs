//! READ.

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, TransmissionFlags};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::reply::{EINVAL, EOVERFLOW};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "read/lengths",
        Level::Must,
        "Request types: READ of any length up to the maximum payload gives what was written",
        lengths,
    ),
    transmission(
        "read/unaligned",
        Level::Must,
        "Block size constraints: any multiple of the minimum block size is served",
        unaligned,
    ),
    transmission(
        "read/not-a-multiple-of-the-minimum",
        Level::Should,
        "Block size constraints: a request that is no multiple of the announced minimum gets EINVAL",
        misaligned,
    ),
    transmission(
        "read/longer-than-the-maximum",
        Level::Should,
        "Block size constraints: a READ above the maximum payload succeeds or gets EINVAL or EOVERFLOW; no disconnect",
        too_long,
    ),
    transmission(
        "read/between-holes",
        Level::Must,
        "Structured reply types: data and holes together cover the request exactly; holes are zeroes",
        between_holes,
    ),
    transmission(
        "read/df-in-one-chunk",
        Level::Must,
        "Command flags: DF gives at most one content chunk, holes filled in, and is honoured up to 65,536 bytes",
        df,
    ),
    transmission(
        "read/df-longer",
        Level::Must,
        "Command flags: a longer READ with DF comes in one chunk or gets EOVERFLOW",
        df_longer,
    ),
];

/// Where data and holes take turns, at the start of the export.
fn sparse(session: &mut Session, block: u64, blocks: u64) -> Outcome<Vec<u8>> {
    let mut rng = Rng::new(block);
    let mut model = vec![0; (block * blocks) as usize];
    if session.has(TransmissionFlags::SEND_WRITE_ZEROES) {
        session.done(&Ask::zeroes(0, block * blocks))?;
    } else {
        session.write(0, &model)?;
    }
    for index in (0..blocks).filter(|index| index % 3 == 1) {
        let at = (index * block) as usize;
        let data = rng.bytes(block as usize);
        session.write(at as u64, &data)?;
        model[at..at + data.len()].copy_from_slice(&data);
    }
    Ok(model)
}

fn lengths(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let most = session.facts.payload_max().min(session.size()).min(64 << 20);
    let unit = session.facts.minimum();
    let wanted =
        [1, 2, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 262_144, 1 << 20, 3 << 20, most];
    let mut lens: Vec<u64> = wanted.iter().map(|len| len.next_multiple_of(unit).min(most)).collect();
    lens.dedup();
    let written = session.is_writable().then(|| Rng::new(1).bytes(most as usize));
    if let Some(data) = &written {
        session.write(0, data)?;
    }
    for len in lens {
        let got = session.read(0, len)?;
        if let Some(data) = &written {
            demand!(got[..] == data[..len as usize], "READ of {len} bytes gave other data than were written");
        }
    }
    session.close()
}

fn unaligned(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let unit = session.facts.minimum();
    let data = Rng::new(2).bytes(128 << 10);
    session.write(0, &data)?;
    for offset in [1, 3, 511, 513, 4095, 4097, 5000, 65535] {
        for len in [1, 2, 510, 1000, 4096, 9999, 60_000] {
            let (offset, len) = (offset * unit, len * unit);
            if offset + len <= data.len() as u64 {
                let range = offset as usize..(offset + len) as usize;
                session.expect_data("unaligned READ", offset, &data[range])?;
            }
        }
    }
    session.close()
}

fn misaligned(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let unit = session.facts.minimum();
    needs!(unit > 1, "the server takes single bytes");
    for (offset, len) in [(1, unit), (0, 1), (unit - 1, unit), (0, unit + 1)] {
        session.ask(&Ask::read(offset, len))?.error_in(&[EINVAL])?;
    }
    session.close()
}

fn too_long(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let (most, unit) = (session.facts.payload_max(), session.facts.minimum());
    needs!(most < 128 << 20, "the server has no limit within reach");
    needs!(session.size() >= most + unit, "the export is not longer than the maximum payload");
    for len in [most + unit, most + 4096] {
        if len <= session.size() {
            session.ask(&Ask::read(0, len))?.error_in(&[0, EINVAL, EOVERFLOW])?;
        }
    }
    session.close()
}

fn between_holes(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(2 << 20)?;
    for block in [4096, 65536] {
        let model = sparse(&mut session, block, 24)?;
        session.expect_data("data between holes", 0, &model)?;
        let (start, end) = (block / 2, model.len() as u64 - block / 2);
        session.expect_data("from middle to middle", start, &model[start as usize..end as usize])?;
        for index in 0..24 {
            let range = (index * block) as usize..((index + 1) * block) as usize;
            session.expect_data("one block", index * block, &model[range])?;
        }
    }
    session.close()
}

fn df(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_DF)?;
    session.needs_writable(2 << 20)?;
    let model = sparse(&mut session, 4096, 64)?;
    for (offset, len) in [(0, 512), (0, 65536), (2048, 65536), (4096, 4096), (8192, 32768), (100_000, 65536)]
    {
        let unit = session.facts.minimum();
        let (offset, len) = (offset / unit * unit, len.max(unit));
        let reply = session.ask(&Ask::read(offset, len).with(CommandFlags::DF))?.success()?;
        let range = offset as usize..(offset + len) as usize;
        demand!(reply.data[..] == model[range], "{} gave wrong data", reply.asked);
    }
    session.close()
}

fn df_longer(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_DF)?;
    session.needs_writable(8 << 20)?;
    let model = sparse(&mut session, 65536, 64)?;
    for len in [65536 * 2, 1 << 20, 4 << 20] {
        let reply = session.ask(&Ask::read(0, len).with(CommandFlags::DF))?;
        if reply.error == 0 {
            demand!(reply.data[..] == model[..len as usize], "{} gave wrong data", reply.asked);
        } else {
            reply.error_in(&[EOVERFLOW])?;
        }
    }
    session.close()
}
