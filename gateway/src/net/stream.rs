//! [`Stream`]: a connected byte stream, read and written without ever waiting.
#![expect(
    unsafe_code,
    reason = "payload memory may change at any time, so it cannot be an IoSlice of the standard library"
)]

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use socket2::{Domain, SockRef};
use vm_memory::VolatileSlice;

use super::wide::Wide;

/// Most pieces of memory one send takes.
pub(crate) const GATHER_MAX: usize = 64;

/// A connected stream socket. Every call returns at once; `WouldBlock` means: wait for readiness on the data ring.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: OwnedFd,
    /// A Unix socket: what is sent is copied into pages that the other end reads.
    is_local: bool,
    wide: Option<Wide>,
}

impl Stream {
    /// Takes over a connected stream socket, blocking or not.
    pub(crate) fn new(socket: OwnedFd) -> Stream {
        let is_local = SockRef::from(&socket).domain().is_ok_and(|domain| domain == Domain::UNIX);
        Stream { socket, is_local, wide: None }
    }

    /// Whether it is a Unix socket.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Receives into private memory. 0 is the end of the stream.
    pub(crate) fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length describe `into`, which is exclusively borrowed during the call.
        let got = unsafe {
            libc::recv(self.socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT)
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Receives straight into a lease. 0 is the end of the stream.
    pub(crate) fn receive_volatile(&self, into: &VolatileSlice<'_>) -> io::Result<usize> {
        let guard = into.ptr_guard_mut();
        // SAFETY: the slice describes mapped, writable memory that outlives the call; only the kernel touches it, so
        // concurrent changes by a device cannot break a Rust reference.
        let got = unsafe {
            libc::recv(self.socket.as_raw_fd(), guard.as_ptr().cast(), into.len(), libc::MSG_DONTWAIT)
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Sends what was gathered, or the first part of it.
    pub(crate) fn send(&self, gather: &Gather<'_>) -> io::Result<usize> {
        // SAFETY: all-zero bytes are a valid msghdr (null pointers, zero lengths).
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = gather.pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = gather.count;
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the first `count` pieces are initialised and describe memory that is borrowed for the lifetime of
        // `gather`; the kernel only reads it.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Long replies come: lets the socket take more at a time, if it may.
    pub(crate) fn widen(&mut self) {
        if self.is_local && self.wide.is_none() {
            self.wide = Wide::make(&self.socket);
        }
    }

    /// How many bytes a receive would give at once.
    pub(crate) fn available(&self) -> io::Result<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int to the address it is given.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) } < 0 {
            return self.peek();
        }
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// As [`Stream::available`], up to a few blocks of any disk: vsock does not count (before Linux 6.17).
    fn peek(&self) -> io::Result<usize> {
        const PEEK_BYTES: usize = 16 << 10;
        let mut bytes = [0_u8; PEEK_BYTES];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the pointer and length describe `bytes`.
        let got =
            unsafe { libc::recv(self.socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Ends the stream in both directions, so that the peer notices and every wait on it ends.
    pub(crate) fn shutdown(&self) {
        // SAFETY: plain call on an owned descriptor; a failure means that the peer is gone already.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Pieces of memory to be sent one after the other.
pub(crate) struct Gather<'a> {
    pieces: [MaybeUninit<libc::iovec>; GATHER_MAX],
    count: usize,
    len_bytes: usize,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> Gather<'a> {
    /// Nothing yet.
    pub(crate) fn new() -> Gather<'a> {
        Gather { pieces: [MaybeUninit::uninit(); GATHER_MAX], count: 0, len_bytes: 0, memory: PhantomData }
    }

    /// Whether no further piece fits.
    pub(crate) fn is_full(&self) -> bool {
        self.count == GATHER_MAX
    }

    /// Bytes gathered so far.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Adds private memory. An empty piece adds nothing.
    pub(crate) fn push(&mut self, bytes: &'a [u8]) {
        self.push_raw(bytes.as_ptr().cast_mut(), bytes.len());
    }

    /// Adds memory that may change at any time.
    pub(crate) fn push_volatile(&mut self, slice: &VolatileSlice<'a>) {
        self.push_raw(slice.ptr_guard().as_ptr().cast_mut(), slice.len());
    }

    fn push_raw(&mut self, start: *mut u8, len: usize) {
        if len == 0 {
            return;
        }
        self.pieces[self.count].write(libc::iovec { iov_base: start.cast(), iov_len: len });
        self.count += 1;
        self.len_bytes += len;
    }
}
