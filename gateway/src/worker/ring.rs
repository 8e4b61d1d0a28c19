//! [`DataRing`]: where a worker waits for sockets and device queues.
#![expect(unsafe_code, reason = "io_uring submission is unsafe by signature")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, opcode, types};

use super::wake::Wake;

/// Entries of the submission queue; a full queue is submitted on the way, so this bounds a batch, not the sessions.
const ENTRIES: u32 = 1024;

/// Entries of the completion queue; the kernel keeps what does not fit (`IORING_FEAT_NODROP`).
const COMPLETIONS: u32 = 8192;

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes to receive, or the end of the stream.
    Readable,
    /// Room to send.
    Writable,
}

/// A raw ring on the worker's own thread. It carries one-shot poll requests only: no memory is ever lent to it, so
/// forgetting a wait is harmless. Operations run when the worker enters the kernel (`DEFER_TASKRUN`), and an eventfd
/// tells the runtime when that is worth it.
pub(crate) struct DataRing {
    ring: IoUring,
    unsubmitted: usize,
    /// How often the kernel was entered.
    submissions: u64,
}

/// The token of completions nobody waits for (cancellations).
const NO_TOKEN: u64 = u64::MAX;

impl DataRing {
    /// Makes the ring. Call on the thread that will use it (`SINGLE_ISSUER`), and report completions to `eventfd`.
    ///
    /// Kernels before 6.1 do not have `DEFER_TASKRUN`, and some later ones lose its signals; there the ring works
    /// without it.
    pub(crate) fn new(eventfd: BorrowedFd<'_>) -> io::Result<DataRing> {
        let ring = match DataRing::deferring() {
            Ok(ring) => ring.if_it_signals_at_once()?,
            Err(_) => None,
        };
        let ring = ring.map_or_else(DataRing::plain, Ok)?;
        ring.register(eventfd)?;
        Ok(ring)
    }

    /// A ring that runs operations only when this thread enters the kernel for it.
    fn deferring() -> io::Result<DataRing> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(COMPLETIONS);
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        Ok(DataRing { ring: builder.build(ENTRIES)?, unsubmitted: 0, submissions: 0 })
    }

    /// A ring whose operations interrupt this thread.
    fn plain() -> io::Result<DataRing> {
        let ring = IoUring::builder().setup_clamp().setup_cqsize(COMPLETIONS).build(ENTRIES)?;
        Ok(DataRing { ring, unsubmitted: 0, submissions: 0 })
    }

    fn register(&self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.ring.submitter().register_eventfd(eventfd.as_raw_fd())
    }

    /// The ring, if each socket that becomes readable signals the eventfd before the sender's call returns.
    ///
    /// Debian's 6.12.117 puts the signal off until a grace period of RCU has passed, but does so only once in the
    /// life of a ring: a mark of what is pending is never taken back, and all later signals are lost. Sessions then
    /// stand still after their first request. What is not put off is not lost.
    fn if_it_signals_at_once(mut self) -> io::Result<Option<DataRing>> {
        const ROUNDS: usize = 3;
        let wake = Wake::new()?;
        let mut counter = File::from(wake.as_fd().try_clone_to_owned()?);
        let (mut sender, mut receiver) = UnixStream::pair()?;
        self.register(wake.as_fd())?;
        let mut signalled = true;
        for _ in 0..ROUNDS {
            self.wait(receiver.as_fd(), Interest::Readable, 0)?;
            self.enter()?;
            sender.write_all(&[0])?;
            signalled &= counter.read_exact(&mut [0; 8]).is_ok();
            receiver.read_exact(&mut [0])?;
            self.enter()?;
            self.ring.completion().for_each(drop);
            // The completion itself is signalled too; the eventfd does not block.
            let _ = counter.read(&mut [0; 8]);
        }
        self.ring.submitter().unregister_eventfd()?;
        Ok(signalled.then_some(self))
    }

    /// Waits once for `interest` on `fd`; `token` comes back from [`DataRing::turn`]. The kernel holds its own
    /// reference to the file, so closing the descriptor first is safe.
    pub(crate) fn wait(&mut self, fd: BorrowedFd<'_>, interest: Interest, token: u64) -> io::Result<()> {
        let mask = match interest {
            Interest::Readable => libc::POLLIN | libc::POLLRDHUP,
            Interest::Writable => libc::POLLOUT,
        };
        #[expect(clippy::cast_sign_loss, reason = "poll masks are bit sets")]
        let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), mask as u32).build().user_data(token);
        self.push(&entry)
    }

    /// Ends the wait with `token`; it may still complete once.
    pub(crate) fn forget(&mut self, token: u64) -> io::Result<()> {
        self.push(&opcode::PollRemove::new(token).build().user_data(NO_TOKEN))
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: poll requests refer to no memory of ours.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.unsubmitted += 1;
                return Ok(());
            }
            self.enter()?;
        }
    }

    /// Submits what is new, runs deferred work, and appends the tokens of finished waits to `finished`. Returns
    /// whether there were any. Enters the kernel only if there is a reason to.
    pub(crate) fn turn(&mut self, finished: &mut Vec<u64>) -> io::Result<bool> {
        if self.unsubmitted > 0 || self.ring.submission().taskrun() || self.ring.submission().cq_overflow() {
            self.enter()?;
        }
        let before = finished.len();
        let tokens = self.ring.completion().map(|completion| completion.user_data());
        finished.extend(tokens.filter(|&token| token != NO_TOKEN));
        Ok(finished.len() > before)
    }

    /// How often the kernel was entered.
    pub(crate) fn submissions(&self) -> u64 {
        self.submissions
    }

    /// Submits and runs deferred work.
    fn enter(&mut self) -> io::Result<()> {
        const GETEVENTS: u32 = 1;
        self.submissions += 1;
        let count = self.ring.submission().len();
        let count = u32::try_from(count).unwrap_or(ENTRIES);
        loop {
            // SAFETY: no argument structure is passed, and the submitted entries refer to no memory.
            match unsafe { self.ring.submitter().enter::<libc::sigset_t>(count, 0, GETEVENTS, None) } {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The completion queue is full: the caller drains it and comes back.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => break,
                Err(error) => return Err(error),
            }
        }
        self.unsubmitted = self.ring.submission().len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Kernels that lose signals lose them from the second on.
    #[test]
    fn each_wait_that_ends_is_signalled() {
        let wake = Wake::new().unwrap();
        let mut counter = File::from(wake.as_fd().try_clone_to_owned().unwrap());
        let mut ring = DataRing::new(wake.as_fd()).unwrap();
        let (mut sender, mut receiver) = UnixStream::pair().unwrap();
        for token in 0..5 {
            ring.wait(receiver.as_fd(), Interest::Readable, token).unwrap();
            assert!(!ring.turn(&mut Vec::new()).unwrap());
            sender.write_all(&[0]).unwrap();
            let start = Instant::now();
            while counter.read_exact(&mut [0; 8]).is_err() {
                assert!(start.elapsed() < Duration::from_secs(5), "signal {token} is lost");
            }
            let mut finished = Vec::new();
            ring.turn(&mut finished).unwrap();
            assert_eq!(finished, [token]);
            receiver.read_exact(&mut [0]).unwrap();
            let _ = counter.read(&mut [0; 8]);
        }
    }
}
