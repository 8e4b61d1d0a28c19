//! Waiting for descriptors, as `poll(2)` does.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until `file` is readable, at most for `timeout_ms`. `false`: it is not.
///
/// # Errors
/// What `poll(2)` answered.
pub fn readable(file: BorrowedFd<'_>, timeout_ms: i32) -> io::Result<bool> {
    let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    Ok(first(&[file], timeout)?.is_some())
}

/// A descriptor that has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which one of those waited for.
    pub index: usize,
    /// Its other end is closed: nothing more will come.
    pub hung_up: bool,
}

/// Waits until one of the descriptors is readable or hung up, at most for `timeout`; the first one of them goes first.
/// `None`: the time is over, or a signal came.
///
/// # Errors
/// What `poll(2)` answered.
pub fn first(files: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Option<Ready>> {
    let mut entries: Vec<PollFd<'_>> =
        files.iter().map(|file| PollFd::new(*file, PollFlags::POLLIN)).collect();
    // Rounded up, so that nobody asks again and again in the last millisecond.
    let timeout = match timeout.map(|most| most.as_micros().div_ceil(1000)) {
        None => PollTimeout::NONE,
        Some(most) => {
            i32::try_from(most).ok().and_then(|most| most.try_into().ok()).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut entries, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let ends = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    // What there is no name for counts as an end, so that nobody looks away from it.
    let seen = entries.iter().map(|entry| entry.revents().unwrap_or(ends));
    let mut ready = seen.enumerate().filter(|(_, events)| !events.is_empty());
    Ok(ready.next().map(|(index, events)| Ready { index, hung_up: events.intersects(ends) }))
}
