//! [`Ring`]: one io_uring, made and used by one thread, with the rules of deferred work kept in one place.
//!
//! Newer kernels run completion work only when the owner asks for it (`DEFER_TASKRUN`, Linux 6.1): an empty
//! completion queue does not mean that nothing is done, and only `io_uring_enter(GETEVENTS)` brings the rest. The
//! `TASKRUN` flag of the submission queue tells when to ask. Older kernels get the same flag with `COOP_TASKRUN`
//! (5.19), still older ones neither.
#![expect(unsafe_code, reason = "entries name memory that the kernel uses until their completion")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use vm_memory::VolatileSlice;

use super::eventfd::EventFd;
use super::mmap::Mapping;
use crate::error::Error;

/// How completions are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By interrupt; the ring's event tells.
    Interrupt,
    /// By asking the device (`IOPOLL`); there is no event.
    Poll,
}

/// What completions of either size tell.
pub(crate) trait Ended: cqueue::EntryMarker {
    /// The entry's `user_data`, and the result.
    fn ended(&self) -> (u64, i32);
}

impl Ended for cqueue::Entry {
    fn ended(&self) -> (u64, i32) {
        (self.user_data(), self.result())
    }
}

impl Ended for cqueue::Entry32 {
    fn ended(&self) -> (u64, i32) {
        (self.user_data(), self.result())
    }
}

/// One ring. It must be made, or woken, on the thread that uses it.
pub(crate) struct Ring<S: squeue::EntryMarker = squeue::Entry, C: Ended = cqueue::Entry> {
    uring: IoUring<S, C>,
    mode: Mode,
}

impl<S: squeue::EntryMarker, C: Ended> Ring<S, C> {
    /// Makes a ring for `entries` operations at a time with the best set-up the kernel knows.
    ///
    /// # Errors
    /// What `io_uring_setup(2)` answered to the plainest set-up.
    pub(crate) fn new(entries: u32, mode: Mode) -> io::Result<Ring<S, C>> {
        Ring::make(entries, mode, |_| {})
    }

    /// As [`Ring::new`], but the ring takes nothing before [`Ring::wake`]: it may be made on another thread.
    ///
    /// # Errors
    /// As of [`Ring::new`].
    pub(crate) fn asleep(entries: u32, mode: Mode) -> io::Result<Ring<S, C>> {
        // Since Linux 5.10. The thread that wakes the ring is its single issuer.
        Ring::make(entries, mode, |builder| {
            builder.setup_r_disabled();
        })
    }

    fn make(entries: u32, mode: Mode, also: impl Fn(&mut io_uring::Builder<S, C>)) -> io::Result<Ring<S, C>> {
        let build = |level: u32| {
            let mut builder = IoUring::<S, C>::builder();
            also(builder.dontfork());
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

    /// Lets a ring that was made asleep take entries, from the calling thread.
    ///
    /// # Errors
    /// What `io_uring_register(2)` answered.
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.uring.submitter().register_enable_rings()
    }

    /// Lets completions signal `event` while the ring is armed.
    pub(crate) fn register_event(&mut self, event: &EventFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(event.as_raw_fd())?;
        self.uring.completion().disable_eventfd();
        Ok(())
    }

    /// Registers the files of the disk: an entry names them by their place in the list.
    pub(crate) fn register_files(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        self.uring.submitter().register_files(&numbers)
    }

    /// Registers memory as buffer 0, which locks it into RAM.
    ///
    /// # Errors
    /// `ENOMEM` when that exceeds RLIMIT_MEMLOCK.
    pub(crate) fn register_buffer(&self, memory: &VolatileSlice<'_>) -> io::Result<()> {
        let buffer = libc::iovec { iov_base: memory.ptr_guard_mut().as_ptr().cast(), iov_len: memory.len() };
        // SAFETY: the memory is mapped now; afterwards the kernel holds on to the pages themselves, not to the mapping.
        unsafe { self.uring.submitter().register_buffers(&[buffer]) }
    }

    /// Queues an entry. `false` when the submission queue is full.
    ///
    /// # Safety
    /// All memory the entry names stays valid, and is read or written by nobody who minds, until the completion with
    /// the entry's `user_data` has been taken by [`Ring::next`].
    pub(crate) unsafe fn push(&mut self, entry: &S) -> bool {
        // SAFETY: the caller vouches for the entry.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    /// Whether entries wait to be submitted.
    pub(crate) fn has_unsubmitted(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Hands queued entries to the kernel. What it does not take now (it is short of memory, or completions must be
    /// fetched first) stays queued.
    ///
    /// # Errors
    /// When the ring is of no use any more.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
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
    pub(crate) fn next(&mut self) -> Option<(u64, i32)> {
        Some(self.uring.completion().next()?.ended())
    }

    /// Whether the kernel has completions that are not in the queue yet.
    pub(crate) fn has_deferred(&mut self) -> bool {
        let queue = self.uring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Lets the kernel finish deferred work; on a polled ring, asks the device once. Does not wait.
    pub(crate) fn fetch_deferred(&mut self) {
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
    pub(crate) fn arm(&mut self) -> bool {
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
    pub(crate) fn disarm(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Runs one entry in a ring that has no other, and gives the result.
    ///
    /// # Errors
    /// When the ring does not even take that, or the result does not come.
    ///
    /// # Safety
    /// The entry names no memory but that of the mapping.
    pub(crate) unsafe fn run_once(&mut self, entry: &S, memory: Mapping) -> io::Result<i32> {
        // SAFETY: the memory is given up below rather than unmapped when the completion does not come.
        unsafe { self.push(entry) };
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

    /// Asks which operations the kernel knows.
    ///
    /// # Errors
    /// What `io_uring_register(2)` answered.
    pub(crate) fn probe(&self, known: &mut io_uring::Probe) -> io::Result<()> {
        self.uring.submitter().register_probe(known)
    }

    /// Asks the kernel to give up whatever it can of the operations in flight.
    pub(crate) fn cancel_all(&mut self) {
        // Since Linux 6.0; without it the operations end by themselves.
        let _ = self.uring.submitter().register_sync_cancel(Some(Timespec::new()), CancelBuilder::any());
    }

    /// Submits what is queued and waits for a completion, at most for `most`.
    pub(crate) fn wait(&mut self, most: Duration) {
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

impl Ring {
    /// Reads the first `len` bytes of registered file 0 into `memory`, and gives the result.
    ///
    /// # Errors
    /// As of [`Ring::run_once`].
    pub(crate) fn read_once(&mut self, memory: Mapping, len: u32) -> io::Result<i32> {
        let slice = memory.slice(0, len as usize).ok_or(io::ErrorKind::InvalidInput)?;
        let entry = opcode::Read::new(Fixed(0), slice.ptr_guard_mut().as_ptr(), len).build();
        // SAFETY: the entry names the mapping and no other memory.
        unsafe { self.run_once(&entry, memory) }
    }
}

impl<S: squeue::EntryMarker, C: Ended> Drop for Ring<S, C> {
    /// The kernel takes a ring down in its own time, so what others may wait for is let go here: the file (whose
    /// file system somebody may want to unmount) and the locked memory.
    fn drop(&mut self) {
        let submitter = self.uring.submitter();
        // The only error is that nothing is registered.
        let _ = submitter.unregister_files();
        let _ = submitter.unregister_buffers();
    }
}

/// A ring could not be made or used for `name`.
pub(crate) fn ring_error(what: &str, name: &str, cause: &io::Error) -> Error {
    let error = Error::system(format!("{what} for {name}"), cause);
    match cause.raw_os_error() {
        Some(libc::ENOSYS) => error.hint("the kernel is built without io_uring, or a sandbox hides it"),
        Some(libc::EPERM | libc::EACCES) => error.hint(
            "io_uring is forbidden here: see sysctl kernel.io_uring_disabled and the sandbox's seccomp rules",
        ),
        Some(libc::ENOMEM) => error.hint("raise the limit of locked memory: ulimit -l"),
        Some(libc::EMFILE | libc::ENFILE) => error.hint("raise the limit of open files: ulimit -n"),
        _ => error,
    }
}
