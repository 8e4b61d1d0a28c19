//! [`DataRing`]: where a worker waits for sockets and device queues.
#![expect(unsafe_code, reason = "io_uring submission is unsafe by signature")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};

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
}

/// The token of completions nobody waits for (cancellations).
const NO_TOKEN: u64 = u64::MAX;

impl DataRing {
    /// Makes the ring. Call on the thread that will use it (`SINGLE_ISSUER`), and report completions to `eventfd`.
    ///
    /// Kernels before 6.1 do not have `DEFER_TASKRUN`; there the ring works without it.
    pub(crate) fn new(eventfd: BorrowedFd<'_>) -> io::Result<DataRing> {
        let ring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)
            .or_else(|_| IoUring::builder().setup_clamp().setup_cqsize(COMPLETIONS).build(ENTRIES))?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        Ok(DataRing { ring, unsubmitted: 0 })
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

    /// Submits and runs deferred work.
    fn enter(&mut self) -> io::Result<()> {
        const GETEVENTS: u32 = 1;
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
