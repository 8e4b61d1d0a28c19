//! System calls that neither the standard library nor the runtime has.
#![expect(
    unsafe_code,
    reason = "getrlimit(2), sigaction(2), kill(2), getsockopt(2), what runs before exec(3) and two of the runtimes' \
              types have no safe face"
)]

use std::fs::File;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{SockAddr, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_uring::net::UnixStream;

/// The soft limit of open descriptors that this process began with, once it was raised.
static FORMER_LIMIT: AtomicU64 = AtomicU64::new(0);

/// Raises the soft limit of open descriptors to the hard one, and returns what it is now.
///
/// Every client takes a descriptor; the soft limit is low only for the sake of programs that use select(2).
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to one rlimit structure, which the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    FORMER_LIMIT.store(limit.rlim_cur, Ordering::Relaxed);
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to one rlimit structure, which the call only reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Lets a command begin with the soft limit of open descriptors that this process began with.
pub(crate) fn with_former_descriptor_limit(command: &mut Command) {
    let soft = FORMER_LIMIT.load(Ordering::Relaxed);
    if soft == 0 {
        return;
    }
    let lower = move || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
    };
    // SAFETY: between fork and exec the closure makes two system calls and touches no memory but its own stack.
    unsafe { command.pre_exec(lower) };
}

/// Puts nothing in the place of standard input and output, and of standard error if told so: who reads finds the end,
/// and what is written is gone.
pub(crate) fn empty_standard_streams(errors: bool) -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing)?;
    nix::unistd::dup2_stdout(&nothing)?;
    if errors {
        nix::unistd::dup2_stderr(&nothing)?;
    }
    Ok(())
}

/// Waits for connections on a listening socket with the runtime of this thread.
pub(crate) fn watch_listener(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    socket.set_nonblocking(true)?;
    // SAFETY: a `Socket` owns its descriptor and never replaces it, and the `AsyncFd` owns the `Socket` while the
    // descriptor is registered.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Waits for the next connection.
///
/// # Errors
/// As accept(2), of one connection or of all.
pub(crate) async fn accept(listener: &AsyncFd<Socket>) -> io::Result<(Socket, SockAddr)> {
    loop {
        // Takes the readiness back if there is no connection after all.
        if let Ok(accepted) = listener.readable().await?.try_io(|listener| listener.get_ref().accept()) {
            return accepted;
        }
    }
}

/// Tells with the runtime of this thread when a stream that does not block is worth another try.
#[derive(Debug)]
pub(crate) struct Readiness<'a>(AsyncFd<BorrowedFd<'a>>);

impl Readiness<'_> {
    /// Waits until there may be something to receive. Call after a try that found nothing.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        // Cleared before the next try, so that nothing that comes after it is missed.
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// Waits until there may be room to send. Call after a try that found none.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.0.writable().await?.clear_ready();
        Ok(())
    }
}

/// Watches a connected stream with the runtime of this thread.
pub(crate) fn watch_stream(stream: BorrowedFd<'_>) -> io::Result<Readiness<'_>> {
    // SAFETY: the descriptor stays open and the same while it is borrowed, which is at least as long as the `AsyncFd`
    // is there.
    let watched = unsafe { AsyncFd::register(stream) };
    Ok(Readiness(watched.map_err(io::Error::from)?))
}

/// The descriptor of a stream of the runtime.
pub(crate) fn descriptor_of(stream: &UnixStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and closes it when it is dropped, after the borrow.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Whether whoever started this program wants it to ignore the signal, as nohup(1) does with SIGHUP.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no action is set, and the pointer is to one structure, which the call fills.
    if unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } < 0 {
        return false;
    }
    // SAFETY: all-zero bytes are a valid structure, and the call has filled it.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Sends a signal to a child that has not been waited for.
pub(crate) fn send_signal(child: u32, signal: i32) -> io::Result<()> {
    let Ok(child) = libc::pid_t::try_from(child) else { return Err(io::ErrorKind::InvalidInput.into()) };
    // SAFETY: plain call with integer arguments.
    if unsafe { libc::kill(child, signal) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Process, user and group id of the other end of a Unix socket (unix(7), `SO_PEERCRED`). What is outside of this
/// process's namespaces has the process id 0, and the user and group id that stand for all such.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Option<libc::ucred> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the pointers are to one ucred structure and to its length; the call fills both.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = peer_credentials(one.as_fd()).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
    }

    #[test]
    fn a_raised_limit_stays() {
        assert_eq!(raise_descriptor_limit().unwrap(), raise_descriptor_limit().unwrap());
    }
}
