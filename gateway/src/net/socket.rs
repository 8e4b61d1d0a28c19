//! Plain calls on connected sockets that return at once, whatever the mode of the descriptor.
//!
//! Two of them go past glibc: its recv(3) and send(3) keep something else in the frame pointer, and stacks in profiles
//! would end there.
#![expect(unsafe_code, reason = "memory that may change at any time is no slice for the standard library")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use vm_memory::VolatileSlice;

use super::gather::Gather;

/// Receives into memory that may change at any time. 0 is the end of the stream.
pub(crate) fn receive(fd: BorrowedFd<'_>, into: &VolatileSlice<'_>) -> io::Result<usize> {
    let guard = into.ptr_guard_mut();
    let (fd, flags) = (fd.as_raw_fd(), libc::MSG_DONTWAIT);
    let (address, len) = (null_mut::<libc::sockaddr>(), null_mut::<libc::socklen_t>());
    // SAFETY: the slice describes mapped, writable memory that outlives the call; only the kernel touches it, so
    // concurrent changes by a device cannot break a Rust reference. The address of the sender is not asked for.
    let got =
        unsafe { libc::syscall(libc::SYS_recvfrom, fd, guard.as_ptr(), into.len(), flags, address, len) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Sends private memory, or the first part of it.
pub(crate) fn send(fd: BorrowedFd<'_>, from: &[u8]) -> io::Result<usize> {
    let (fd, flags) = (fd.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let (address, len) = (null_mut::<libc::sockaddr>(), 0_usize);
    // SAFETY: the pointer and length describe `from`, which the kernel only reads. The receiver is the connected one.
    let sent = unsafe { libc::syscall(libc::SYS_sendto, fd, from.as_ptr(), from.len(), flags, address, len) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends what was gathered, or the first part of it.
pub(crate) fn send_gathered(fd: BorrowedFd<'_>, gather: &Gather<'_>) -> io::Result<usize> {
    // SAFETY: all-zero bytes are a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    let (pieces, count) = gather.as_raw();
    message.msg_iov = pieces.cast_mut();
    message.msg_iovlen = count;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` pieces are initialised and describe memory that is borrowed for the lifetime of
    // `gather`; the kernel only reads it.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// How many bytes a receive would give at once.
pub(crate) fn available(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the address it is given.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) } < 0 {
        return peek(fd);
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// As [`available`], up to a few blocks of any disk: vsock does not count (before Linux 6.17).
fn peek(fd: BorrowedFd<'_>) -> io::Result<usize> {
    const PEEK_BYTES: usize = 16 << 10;
    let mut bytes = [0_u8; PEEK_BYTES];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the pointer and length describe `bytes`.
    let got = unsafe { libc::recv(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Ends the stream in both directions, so that the peer notices and every wait on it ends.
pub(crate) fn shutdown(fd: BorrowedFd<'_>) {
    // SAFETY: plain call on an open descriptor; a failure means that the peer is gone already.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}
