//! [`Inline`]: reads and writes by a plain system call on the worker's thread, while that is a good bet.
//!
//! A page-cache hit costs a system call and a copy; through the ring it costs the same and a completion besides, and
//! a buffered write through the ring even costs a hand-over to a kernel thread on file systems that cannot write
//! without waiting. But a call that waits holds up everybody on the thread. So:
//!
//! * where the file system has `RWF_NOWAIT`, the call never waits, and what it refuses goes through the ring;
//! * elsewhere (reads of tmpfs; writes of ext4 and tmpfs) each call is measured, and slow ones lose the bet: the
//!   ring takes the next requests, then the bet is tried again.

use std::io;
use std::os::fd::BorrowedFd;

use vm_memory::VolatileSlice;

use crate::error::Errno;
use crate::queue::Now;
use crate::sys::file;

/// A call of up to [`LONG_CALL_BYTES`] that takes longer than this is slow. Longer calls have as much for each part.
const SLOW_NS: u64 = 200_000;
const LONG_CALL_BYTES: usize = 256 << 10;

/// A call that takes longer than this has certainly waited for a disk; anything shorter may have been another thread
/// that got the processor.
const STUCK_NS: u64 = 10_000_000;

/// A lost bet weighs as much as this many won ones.
const LOSS_WEIGHT: u32 = 8;
/// The weight at which the ring takes over.
const LIMIT: u32 = 3 * LOSS_WEIGHT;
/// How many requests the ring takes at first, and at most.
const FIRST_PAUSE: u32 = 32;
const LONGEST_PAUSE: u32 = 4096;

/// How calls of one kind (reads, writes) are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// With `RWF_NOWAIT`.
    NoWait,
    /// Plain, with a look at the clock before and after; while the bet is going well, at some of the calls only.
    Measured,
}

/// Of calls that go well one in this many is measured; a look at the clock costs 2 % of a cached read.
const SAMPLE: u32 = 8;

/// Whether to try the next call of one kind.
#[derive(Debug)]
struct Bet {
    mode: Mode,
    /// Recent losses, less recent gains.
    weight: u32,
    /// Requests that still go to the ring before the next try.
    pause: u32,
    next_pause: u32,
    /// Calls since the last measured one.
    unmeasured: u32,
}

impl Bet {
    fn new() -> Bet {
        Bet { mode: Mode::NoWait, weight: 0, pause: 0, next_pause: FIRST_PAUSE, unmeasured: 0 }
    }

    fn is_on(&mut self) -> bool {
        if self.pause == 0 {
            return true;
        }
        self.pause -= 1;
        false
    }

    #[inline]
    fn won(&mut self) {
        if self.weight > 0 {
            self.weight -= 1;
            if self.weight == 0 {
                self.next_pause = FIRST_PAUSE;
            }
        }
    }

    fn lost(&mut self, weight: u32) {
        self.weight += weight;
        if self.weight >= LIMIT {
            // One loss after the pause is enough for the next one, which is longer.
            self.weight = LIMIT - LOSS_WEIGHT;
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The time before a call, if it is to be measured: every one while there is doubt, some otherwise.
    #[inline]
    fn start(&mut self) -> Option<u64> {
        self.unmeasured += 1;
        if self.weight == 0 && self.unmeasured < SAMPLE {
            return None;
        }
        self.unmeasured = 0;
        Some(file::monotonic_ns())
    }

    /// Judges a call that may have been measured.
    #[inline]
    fn end(&mut self, started: Option<u64>, len: usize) {
        if let Some(started) = started {
            self.took(file::monotonic_ns() - started, len);
        }
    }

    /// Judges a measured call.
    fn took(&mut self, ns: u64, len: usize) {
        let parts = len.div_ceil(LONG_CALL_BYTES).max(1) as u64;
        if ns > STUCK_NS * parts {
            self.lost(LIMIT);
        } else if ns > SLOW_NS * parts {
            self.lost(LOSS_WEIGHT);
        } else {
            self.won();
        }
    }
}

/// The inline path of one queue.
#[derive(Debug)]
pub(super) struct Inline {
    reads: Bet,
    writes: Bet,
}

impl Inline {
    pub(super) fn new() -> Inline {
        Inline { reads: Bet::new(), writes: Bet::new() }
    }

    /// Reads the whole of `into`, or nothing that counts.
    #[inline]
    pub(super) fn read(&mut self, file: BorrowedFd<'_>, offset: u64, into: &VolatileSlice<'_>) -> Now<()> {
        if !self.reads.is_on() {
            return Now::Later;
        }
        if self.reads.mode == Mode::NoWait {
            match file::read_at(file, offset, into, libc::RWF_NOWAIT) {
                Ok(count) if count == into.len() => {
                    self.reads.won();
                    return Now::Done(());
                }
                // A part of it is in the cache, or the file ends here: the ring finds out which.
                Ok(_) => return self.refused_read(),
                Err(error) => match judge(&error) {
                    Refusal::Wait => return self.refused_read(),
                    Refusal::Unknown => self.reads.mode = Mode::Measured,
                    Refusal::Error(errno) => return Now::Failed(errno),
                },
            }
        }
        let started = self.reads.start();
        let result = file::read_at(file, offset, into, 0);
        self.reads.end(started, into.len());
        match result {
            Ok(count) if count == into.len() => Now::Done(()),
            Ok(_) => Now::Later,
            Err(error) => match judge(&error) {
                Refusal::Error(errno) => Now::Failed(errno),
                _ => Now::Later,
            },
        }
    }

    fn refused_read(&mut self) -> Now<()> {
        // A miss costs a needless call, not a wait, so it weighs little.
        self.reads.lost(2);
        Now::Later
    }

    /// Writes the whole of `from`. A part that was written before the answer [`Now::Later`] is written again.
    #[inline]
    pub(super) fn write(&mut self, file: BorrowedFd<'_>, offset: u64, from: &[u8]) -> Now<()> {
        if !self.writes.is_on() {
            return Now::Later;
        }
        if self.writes.mode == Mode::NoWait {
            match file::write_at(file, offset, from, libc::RWF_NOWAIT) {
                Ok(count) if count == from.len() => {
                    self.writes.won();
                    return Now::Done(());
                }
                Ok(_) => {
                    self.writes.lost(2);
                    return Now::Later;
                }
                Err(error) => match judge(&error) {
                    Refusal::Wait => {
                        self.writes.lost(2);
                        return Now::Later;
                    }
                    Refusal::Unknown => self.writes.mode = Mode::Measured,
                    Refusal::Error(errno) => return Now::Failed(errno),
                },
            }
        }
        let started = file::monotonic_ns();
        let result = write_whole(file, offset, from);
        self.writes.took(file::monotonic_ns() - started, from.len());
        result
    }
}

/// What an error of a call without waiting means.
enum Refusal {
    /// It would have to wait.
    Wait,
    /// The file system does not know the flag.
    Unknown,
    Error(Errno),
}

fn judge(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Refusal::Wait,
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => Refusal::Unknown,
        other => Refusal::Error(Errno::from_raw(other.unwrap_or(libc::EIO))),
    }
}

fn write_whole(file: BorrowedFd<'_>, offset: u64, from: &[u8]) -> Now<()> {
    let mut done = 0;
    while done < from.len() {
        match file::write_at(file, offset + done as u64, &from[done..], 0) {
            Ok(0) => return Now::Failed(Errno::NO_SPACE),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Now::Failed(error.into()),
        }
    }
    Now::Done(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_slow_call_does_not_lose_the_bet() {
        let mut bet = Bet::new();
        bet.took(SLOW_NS + 1, 4096);
        assert!(bet.is_on());
    }

    #[test]
    fn slow_calls_in_a_row_hand_over_to_the_ring_for_a_bounded_time() {
        let mut bet = Bet::new();
        (0..3).for_each(|_| bet.took(SLOW_NS + 1, 4096));
        assert_eq!((0..100).take_while(|_| !bet.is_on()).count(), FIRST_PAUSE as usize);
        bet.took(SLOW_NS + 1, 4096);
        assert_eq!((0..100).take_while(|_| !bet.is_on()).count(), 2 * FIRST_PAUSE as usize);
        for _ in 0..20 {
            bet.took(SLOW_NS + 1, 4096);
            bet.pause = 0;
        }
        assert_eq!(bet.next_pause, LONGEST_PAUSE);
    }

    #[test]
    fn fast_calls_win_the_trust_back() {
        let mut bet = Bet::new();
        (0..3).for_each(|_| bet.took(SLOW_NS + 1, 4096));
        bet.pause = 0;
        (0..LIMIT).for_each(|_| bet.took(1000, 4096));
        assert_eq!((bet.weight, bet.next_pause), (0, FIRST_PAUSE));
    }

    #[test]
    fn a_call_that_waited_for_a_disk_hands_over_at_once() {
        let mut bet = Bet::new();
        bet.took(STUCK_NS + 1, 4096);
        assert!(!bet.is_on());
    }

    #[test]
    fn long_calls_have_more_time() {
        let mut bet = Bet::new();
        (0..10).for_each(|_| bet.took(3 * SLOW_NS, 4 * LONG_CALL_BYTES));
        assert!(bet.is_on());
    }
}
