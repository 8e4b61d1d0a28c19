//! [`Ring`]: one io_uring, made and used by one thread, with the rules of deferred work kept in one place.
//!
//! Newer kernels run completion work only when the owner asks for it (`DEFER_TASKRUN`, Linux 6.1): an empty
//! completion queue does not mean that nothing is done, and only `io_uring_enter(GETEVENTS)` brings the rest. The
//! `TASKRUN` flag of the submission queue tells when to ask. Older kernels get the same flag with `COOP_TASKRUN`
//! (5.19), still older ones neither.
#![expect(unsafe_code, reason = "entries name memory that the kernel uses until their completion")]

mod flights;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};

pub(super) use flights::{Flight, Flights, Stage};

use crate::mem::Region;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;

/// How completions are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// By interrupt; the ring's event tells.
    Interrupt,
    /// By asking the device (`IOPOLL`); there is no event.
    Poll,
}

/// One ring. It must be made on the thread that uses it.
pub(super) struct Ring {
    uring: IoUring,
    mode: Mode,
}

impl Ring {
    /// Makes a ring for `entries` operations at a time with the best set-up the kernel knows.
    ///
    /// # Errors
    /// What `io_uring_setup(2)` answered to the plainest set-up.
    pub(super) fn new(entries: u32, mode: Mode) -> io::Result<Ring> {
        let build = |level: u32| {
            let mut builder = IoUring::builder();
            builder.dontfork();
            if mode == Mode::Poll {
                builder.setup_iopoll();
            }
            if level == 2 {
                builder.setup_single_issuer().setup_defer_taskrun();
            } else if level == 1 {
                builder.setup_coop_taskrun();
            }
            if level > 0 {
                builder.setup_taskrun_flag().setup_submit_all();
            }
            builder.build(entries)
        };
        // A kernel answers EINVAL to flags it does not know.
        let uring = build(2).or_else(|_| build(1)).or_else(|_| build(0))?;
        Ok(Ring { uring, mode })
    }

    /// Lets completions signal `event` while the ring is armed.
    pub(super) fn register_event(&mut self, event: &EventFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(event.as_raw_fd())?;
        self.uring.completion().disable_eventfd();
        Ok(())
    }

    /// Registers the files of the disk: an entry names them by their place in the list.
    pub(super) fn register_files(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        self.uring.submitter().register_files(&numbers)
    }

    /// Registers share `share` of `region` as buffer 0, which locks it into RAM.
    ///
    /// # Errors
    /// `ENOMEM` when that exceeds RLIMIT_MEMLOCK.
    fn register_share(&self, region: &Region, share: usize) -> io::Result<()> {
        let (offset, len) = region.share(share);
        let Some(slice) = region.slice(offset, len) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let buffer = libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: len };
        // SAFETY: the buffer is memory of the region, which `Flights` keeps alive as long as this ring; the kernel
        // holds on to the pages themselves, not to the mapping.
        unsafe { self.uring.submitter().register_buffers(&[buffer]) }
    }

    /// Queues an entry. `false` when the submission queue is full.
    ///
    /// # Safety
    /// All memory the entry names stays valid, and is read or written by nobody who minds, until the completion with
    /// the entry's `user_data` has been taken by [`Ring::next`].
    unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller vouches for the entry.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    /// Whether entries wait to be submitted.
    pub(super) fn has_unsubmitted(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Hands queued entries to the kernel. What it does not take now (it is short of memory, or completions must be
    /// fetched first) stays queued.
    ///
    /// # Errors
    /// When the ring is of no use any more.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while self.has_unsubmitted() {
            match self.uring.submit() {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// The next completion that is in the queue: `user_data` and result.
    pub(super) fn next(&mut self) -> Option<(u64, i32)> {
        let entry = self.uring.completion().next()?;
        Some((entry.user_data(), entry.result()))
    }

    /// Whether the kernel has completions that are not in the queue yet.
    pub(super) fn has_deferred(&mut self) -> bool {
        let queue = self.uring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Lets the kernel finish deferred work; on a polled ring, asks the device once. Does not wait.
    pub(super) fn fetch_deferred(&mut self) {
        self.enter(0);
    }

    fn enter(&mut self, wait_for: u32) {
        // SAFETY: no argument structure is passed, and nothing is submitted.
        let result = unsafe {
            self.uring.submitter().enter::<libc::sigset_t>(0, wait_for, EnterFlags::GETEVENTS.bits(), None)
        };
        // Whatever went wrong, the completions that exist are still found by looking; the next submit tells.
        let _ = result;
    }

    /// Lets completions signal the event from now on. `true` when there already is something to take.
    pub(super) fn arm(&mut self) -> bool {
        self.uring.completion().enable_eventfd();
        // The kernel announces work and then looks at the flag; we set the flag and then look for work. With a full
        // fence on both sides at least one of the two sees the other.
        fence(Ordering::SeqCst);
        let work = !self.uring.completion().is_empty() || self.has_deferred();
        if work {
            self.disarm();
        }
        work
    }

    /// Completions signal nobody: the owner is awake and looks by itself.
    pub(super) fn disarm(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Reads the first `len` bytes of registered file 0 into `memory`, and gives the result.
    ///
    /// # Errors
    /// When the ring does not even take that, or the result does not come.
    pub(super) fn read_once(&mut self, memory: Mapping, len: u32) -> io::Result<i32> {
        let slice = memory.slice(0, len as usize).ok_or(io::ErrorKind::InvalidInput)?;
        let entry = opcode::Read::new(Fixed(0), slice.ptr_guard_mut().as_ptr(), len).build();
        // SAFETY: the memory is given up below rather than unmapped when the completion does not come.
        unsafe { self.push(&entry) };
        let submitted = self.submit();
        let started = Instant::now();
        while submitted.is_ok() && started.elapsed() < Duration::from_secs(10) {
            if let Some((_, result)) = self.next() {
                return Ok(result);
            }
            self.fetch_deferred();
        }
        std::mem::forget(memory);
        submitted.and(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Asks the kernel to give up whatever it can of the operations in flight.
    fn cancel_all(&mut self) {
        // Since Linux 6.0; without it the operations end by themselves.
        let _ = self.uring.submitter().register_sync_cancel(Some(Timespec::new()), CancelBuilder::any());
    }

    /// Submits what is queued and waits for a completion, at most for `most`.
    fn wait(&mut self, most: Duration) {
        if self.mode == Mode::Poll {
            let _ = self.submit();
            self.fetch_deferred();
            std::thread::yield_now();
            return;
        }
        let time = Timespec::from(most);
        let args = SubmitArgs::new().timespec(&time);
        // A timeout, a signal or a refusal all mean: look what is there, and judge by the clock.
        let _ = self.uring.submitter().submit_with_args(1, &args);
    }
}

impl Drop for Ring {
    /// The kernel takes a ring down in its own time, so what others may wait for is let go here: the file (whose
    /// file system somebody may want to unmount) and the locked memory.
    fn drop(&mut self) {
        let submitter = self.uring.submitter();
        // The only error is that nothing is registered.
        let _ = submitter.unregister_files();
        let _ = submitter.unregister_buffers();
    }
}
