//! What has reached the disk, seen at the file behind the export.
//!
//! Linux counts dirty pages of a file (cachestat(2), since 6.5): once a FLUSH or a command with FUA was answered, the
//! pages that it covers must not be dirty. That holds only for files on a file system with a disk below, so that the
//! file is named by whoever knows it ([`Target::with_image`]).
//!
//! The count can be too high for good: some pages keep their mark in the page cache after their data were punched out
//! (seen with Linux 6.18 on ext4). So each check begins with an fsync(2) of its own and counts from there.

use std::fs::File;

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, TransmissionFlags};

use crate::Rng;
use crate::cachestat::{NotKnown, unwritten_pages};
use crate::conformance::check::{Check, Level, Outcome, demand, failed, skip, transmission};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "durable/fua",
        Level::Must,
        "Command flags: WRITE with FUA is answered when its data are on stable storage",
        fua,
    ),
    transmission(
        "durable/fua-zeroes",
        Level::Must,
        "Command flags: WRITE_ZEROES with FUA is answered when its zeroes are on stable storage",
        fua_zeroes,
    ),
    transmission(
        "durable/flush",
        Level::Must,
        "Request types: FLUSH is answered when every write answered before it is on stable storage",
        flush,
    ),
    transmission(
        "durable/flush-covers-other-connections",
        Level::Must,
        "Transmission flags: FLUSH of a multi-conn export covers the writes of all connections",
        flush_of_others,
    ),
];

/// Pages of the image that are not written to the disk yet.
fn unwritten(target: &Target) -> Outcome<u64> {
    let Some(image) = &target.image else {
        return skip("the file behind the export is not known");
    };
    match unwritten_pages(image) {
        Ok(pages) => Ok(pages),
        Err(NotKnown::NotHere(why)) => skip(why),
        Err(NotKnown::Failed(error)) => failed(format!("{}: {error}", image.display())),
    }
}

/// A session, and what stays marked although nothing is unwritten.
fn open(target: &Target, mode: ReplyMode, flag: TransmissionFlags) -> Outcome<(Session, u64)> {
    let mut session = Session::open(target, mode)?;
    session.needs_flag(flag)?;
    session.needs_writable(8 << 20)?;
    session.needs_flag(TransmissionFlags::SEND_FLUSH)?;
    // Whatever earlier checks left.
    session.write(0, &[1; 4096])?;
    session.done(&Ask::flush())?;
    unwritten(target)?;
    if let Some(image) = &target.image {
        File::open(image)?.sync_all()?;
    }
    Ok((session, unwritten(target)?))
}

fn expect_written(target: &Target, marked: u64, what: &str) -> Outcome {
    let pages = unwritten(target)?.saturating_sub(marked);
    demand!(pages == 0, "{pages} pages are not on the disk after {what}");
    Ok(())
}

fn fua(target: &Target, mode: ReplyMode) -> Outcome {
    let (mut session, marked) = open(target, mode, TransmissionFlags::SEND_FUA)?;
    for (seed, (offset, len)) in (0..).zip([(65536, 4096), (8192, 512), (131_072, 1 << 20), (4000, 200)]) {
        let unit = session.facts.minimum();
        let (offset, len) = (offset / unit * unit, (len as u64).next_multiple_of(unit));
        let data = Rng::new(seed).bytes(len as usize);
        session.done(&Ask::write(offset, data).with(CommandFlags::FUA))?;
        expect_written(target, marked, &format!("WRITE with FUA of {offset}+{len}"))?;
    }
    session.close()
}

fn fua_zeroes(target: &Target, mode: ReplyMode) -> Outcome {
    let (mut session, marked) = open(target, mode, TransmissionFlags::SEND_FUA)?;
    session.needs_flag(TransmissionFlags::SEND_WRITE_ZEROES)?;
    for (offset, len) in [(65536, 4096), (131_072, 65536), (4000, 200), (1 << 20, 1 << 20)] {
        session.write(offset / 4096 * 4096, &vec![7; (len as usize).next_multiple_of(4096)])?;
        session.done(&Ask::flush())?;
        let unit = session.facts.minimum();
        let ask = Ask::zeroes(offset / unit * unit, (len as u64).next_multiple_of(unit));
        session.done(&ask.with(CommandFlags::FUA | CommandFlags::NO_HOLE))?;
        expect_written(target, marked, &format!("WRITE_ZEROES with FUA of {offset}+{len}"))?;
    }
    session.close()
}

fn flush(target: &Target, mode: ReplyMode) -> Outcome {
    let (mut session, marked) = open(target, mode, TransmissionFlags::SEND_FLUSH)?;
    for round in 0..8u64 {
        for index in 0..=round {
            session.write(index * 300_000 / 4096 * 4096, &Rng::new(round).bytes(65536))?;
        }
        session.done(&Ask::flush())?;
        expect_written(target, marked, "FLUSH")?;
    }
    session.close()
}

fn flush_of_others(target: &Target, mode: ReplyMode) -> Outcome {
    let (mut flusher, marked) = open(target, mode, TransmissionFlags::CAN_MULTI_CONN)?;
    let mut writers = Vec::new();
    for _ in 0..3 {
        writers.push(Session::open(target, mode)?);
    }
    for round in 0..4u64 {
        for (index, writer) in (0..).zip(&mut writers) {
            writer.write(index << 20, &Rng::new(round).bytes(8192))?;
            flusher.done(&Ask::flush())?;
            expect_written(target, marked, "FLUSH on another connection")?;
        }
    }
    flusher.close()?;
    writers.into_iter().try_for_each(Session::close)
}
