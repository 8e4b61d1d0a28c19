//! [`Stream`]: a connected byte stream, read and written without ever waiting, encrypted or not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, SockRef};
use vm_memory::VolatileSlice;

use super::gather::Gather;
use super::socket;
use super::wide::Wide;
use crate::tls::{TlsStream, kernel};

/// A connected stream socket. Every call returns at once; `WouldBlock` means: wait for readiness on the data ring.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: OwnedFd,
    cover: Cover,
    /// What is sent is copied into pages that the other end reads: a Unix socket, not encrypted.
    is_local: bool,
    wide: Option<Wide>,
    /// Goodbye was said where there is a word for it.
    has_said_goodbye: bool,
}

/// Who encrypts.
#[derive(Debug)]
pub(crate) enum Cover {
    /// Nobody.
    None,
    /// This process.
    Here(Box<TlsStream>),
    /// The kernel: the socket takes and gives plaintext.
    Kernel,
}

impl Stream {
    /// Takes over a connected stream socket, blocking or not.
    pub(crate) fn new(socket: OwnedFd) -> Stream {
        Stream::covered(socket, Cover::None)
    }

    /// Takes over a connected stream socket with its encryption.
    pub(crate) fn covered(socket: OwnedFd, cover: Cover) -> Stream {
        let is_unix = SockRef::from(&socket).domain().is_ok_and(|domain| domain == Domain::UNIX);
        let is_local = is_unix && matches!(cover, Cover::None);
        Stream { socket, is_local, cover, wide: None, has_said_goodbye: false }
    }

    /// Whether it is a Unix socket that takes plaintext.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Receives into private memory. 0 is the end of the stream.
    pub(crate) fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.receive_volatile(&VolatileSlice::from(into))
    }

    /// Receives straight into a lease. 0 is the end of the stream.
    pub(crate) fn receive_volatile(&mut self, into: &VolatileSlice<'_>) -> io::Result<usize> {
        let fd = self.socket.as_fd();
        match &mut self.cover {
            Cover::None => socket::receive(fd, into),
            Cover::Here(tls) => tls.receive(fd, into),
            Cover::Kernel => kernel::receive(fd, into),
        }
    }

    /// Sends what was gathered, or the first part of it. What was accepted may still wait: see
    /// [`Stream::has_unsent`].
    pub(crate) fn send(&mut self, gather: &Gather<'_>) -> io::Result<usize> {
        let fd = self.socket.as_fd();
        match &mut self.cover {
            Cover::None | Cover::Kernel => socket::send_gathered(fd, gather),
            Cover::Here(tls) => tls.send(fd, gather),
        }
    }

    /// Whether bytes that were accepted wait for the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        matches!(&self.cover, Cover::Here(tls) if tls.has_unsent())
    }

    /// Sends bytes that wait. Returns whether all are gone.
    pub(crate) fn flush_unsent(&mut self) -> io::Result<bool> {
        match &mut self.cover {
            Cover::None | Cover::Kernel => Ok(true),
            Cover::Here(tls) => tls.flush(self.socket.as_fd()),
        }
    }

    /// Long replies come: lets the socket take more at a time, if it may.
    pub(crate) fn widen(&mut self) {
        if self.is_local && self.wide.is_none() {
            self.wide = Wide::make(&self.socket);
        }
    }

    /// How many bytes a receive would give at once, at least: what is still encrypted is not counted.
    pub(crate) fn available(&self) -> io::Result<usize> {
        match &self.cover {
            Cover::None => socket::available(self.socket.as_fd()),
            Cover::Here(tls) => Ok(tls.available()),
            Cover::Kernel => Ok(0),
        }
    }

    /// Gives memory back that only a busy session needs.
    pub(crate) fn rest(&mut self) {
        if let Cover::Here(tls) = &mut self.cover {
            tls.rest();
        }
    }

    /// Says goodbye behind all that was sent. `false`: not yet, the socket takes nothing more now.
    pub(crate) fn says_goodbye(&mut self) -> bool {
        let fd = self.socket.as_fd();
        self.has_said_goodbye = self.has_said_goodbye
            || match &mut self.cover {
                Cover::None => true,
                Cover::Here(tls) => tls.close(fd),
                Cover::Kernel => kernel::close(fd),
            };
        self.has_said_goodbye
    }

    /// Ends the stream in both directions, so that the peer notices and every wait on it ends. Goodbye is said if the
    /// socket takes it.
    pub(crate) fn shutdown(&mut self) {
        self.says_goodbye();
        socket::shutdown(self.socket.as_fd());
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
