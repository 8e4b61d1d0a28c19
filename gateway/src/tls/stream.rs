//! [`TlsStream`]: a connection whose records are made in this process, a batch at a time.
//!
//! One receive takes what the socket has, and as many records as are complete are decrypted from it; one send carries
//! many records. Short pieces share records; long ones are encrypted where they lie.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, Ssl, SslStream};
use vm_memory::VolatileSlice;

use super::pipe::{Buffer, Pipe};
use super::{raw, reason};
use crate::net::gather::Gather;
use crate::net::socket;

/// Plaintext of a full record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// Ciphertext of a full record, with all that may go around it (RFC 5246, section 6.2.3), and something for alerts.
const RECORD_ROOM_BYTES: usize = RECORD_BYTES + 2048 + 5 + 64;

/// Most receives of one call, so that a client that sends without a pause does not keep the thread.
const RECEIVES_MAX: u32 = 4;

/// Most records without data (each may change keys, which takes its time) for so many bytes of data.
const WITHOUT_DATA_MAX: u32 = 64;
const DATA_BYTES: usize = 1 << 20;

thread_local! {
    /// Where short pieces become a record.
    static STAGE: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORD_BYTES]);
}

/// The encryption of one connection.
#[derive(Debug)]
pub(crate) struct TlsStream {
    ssl: SslStream<Pipe>,
    /// What went wrong behind data that was given out first.
    failed: Option<io::Error>,
    /// Records without data since so many bytes of it were decrypted.
    without_data: u32,
    decrypted: usize,
}

/// What came of looking for plaintext.
enum Found {
    Bytes(usize),
    /// A record that was about something else: other keys.
    Nothing,
    /// No complete record is there.
    NeedMore,
    /// The client has said goodbye.
    End,
}

impl TlsStream {
    /// Takes over a connection whose handshake is done. OpenSSL has read no further than to its end.
    pub(super) fn new(ssl: Ssl) -> Result<TlsStream, ErrorStack> {
        let ssl = SslStream::new(ssl, Pipe::default())?;
        Ok(TlsStream { ssl, failed: None, without_data: 0, decrypted: 0 })
    }

    /// Receives and decrypts. 0 is the end of the stream; `WouldBlock` means that neither the socket nor OpenSSL has a
    /// complete record.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, into: &VolatileSlice<'_>) -> io::Result<usize> {
        let result = self.fill(fd, into);
        self.ssl.get_mut().inbound.settle();
        if !self.ssl.get_ref().outbound.is_empty() {
            // An alert. If the socket is full it waits for the next reply; if it is gone, the client is too.
            let _ = self.flush(fd);
        }
        result
    }

    fn fill(&mut self, fd: BorrowedFd<'_>, into: &VolatileSlice<'_>) -> io::Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut got = 0;
        // A receive that gives less than there is room for has emptied the socket.
        let mut may_receive = true;
        let mut receives = 0;
        while got < into.len() {
            let rest = into.offset(got).map_err(io::Error::other)?;
            match self.decrypt(&rest) {
                Ok(Found::Bytes(count)) => got += count,
                Ok(Found::Nothing) => {}
                Ok(Found::NeedMore) if may_receive => {
                    let inbound = &mut self.ssl.get_mut().inbound;
                    match receive_into(fd, inbound) {
                        Ok(0) => break,
                        Ok(_) => {
                            receives += 1;
                            may_receive = inbound.room_bytes() == 0 && receives < RECEIVES_MAX;
                        }
                        Err(_) if got > 0 => break,
                        Err(error) => return Err(error),
                    }
                    continue;
                }
                Ok(Found::NeedMore) if got == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                Ok(Found::NeedMore | Found::End) => break,
                // First what was decrypted before it.
                Err(error) if got > 0 => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    fn decrypt(&mut self, into: &VolatileSlice<'_>) -> io::Result<Found> {
        match raw::read(&mut self.ssl, into) {
            Ok(count) => {
                self.decrypted += count;
                if self.decrypted >= DATA_BYTES {
                    (self.decrypted, self.without_data) = (0, 0);
                }
                Ok(Found::Bytes(count))
            }
            Err(ErrorCode::WANT_READ) if self.ssl.get_ref().inbound.is_empty() => Ok(Found::NeedMore),
            Err(ErrorCode::WANT_READ) => {
                self.without_data += 1;
                match self.without_data <= WITHOUT_DATA_MAX {
                    true => Ok(Found::Nothing),
                    false => Err(io::Error::other("it sends records without data, one after the other")),
                }
            }
            Err(ErrorCode::ZERO_RETURN) => Ok(Found::End),
            Err(_) => Err(self.failure()),
        }
    }

    /// Encrypts and sends what was gathered, or the first part of it. What was accepted may still wait as ciphertext:
    /// see [`TlsStream::has_unsent`].
    pub(crate) fn send(&mut self, fd: BorrowedFd<'_>, gather: &Gather<'_>) -> io::Result<usize> {
        if !self.flush(fd)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let accepted = STAGE.with_borrow_mut(|stage| self.encrypt_all(fd, gather, stage))?;
        self.flush(fd)?;
        Ok(accepted)
    }

    fn encrypt_all(
        &mut self,
        fd: BorrowedFd<'_>,
        gather: &Gather<'_>,
        stage: &mut [u8],
    ) -> io::Result<usize> {
        let (mut accepted, mut staged) = (0, 0);
        for mut piece in gather.pieces() {
            while !piece.is_empty() {
                let count = piece.len().min(RECORD_BYTES - staged);
                let now = piece.subslice(0, count).map_err(io::Error::other)?;
                piece = piece.offset(count).map_err(io::Error::other)?;
                if count == RECORD_BYTES {
                    if !self.encrypt(fd, &now)? {
                        return Ok(accepted);
                    }
                    accepted += count;
                    continue;
                }
                now.copy_to(&mut stage[staged..]);
                staged += count;
                if staged == RECORD_BYTES {
                    if !self.encrypt(fd, &VolatileSlice::from(&mut *stage))? {
                        return Ok(accepted);
                    }
                    (accepted, staged) = (accepted + staged, 0);
                }
            }
        }
        if staged > 0 && self.encrypt(fd, &VolatileSlice::from(&mut stage[..staged]))? {
            accepted += staged;
        }
        Ok(accepted)
    }

    /// Makes a record of at most [`RECORD_BYTES`]. `false`: there is no room for it.
    fn encrypt(&mut self, fd: BorrowedFd<'_>, from: &VolatileSlice<'_>) -> io::Result<bool> {
        if self.ssl.get_ref().outbound.room_bytes() < RECORD_ROOM_BYTES && !self.flush(fd)? {
            return Ok(false);
        }
        let mut rest = *from;
        loop {
            match raw::write(&mut self.ssl, &rest) {
                Ok(count) if count == rest.len() => return Ok(true),
                // The client asked for shorter records (RFC 6066, section 4).
                Ok(count) => rest = rest.offset(count).map_err(io::Error::other)?,
                Err(_) => return Err(self.failure()),
            }
        }
    }

    /// Whether ciphertext waits for the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.ssl.get_ref().outbound.is_empty()
    }

    /// Sends ciphertext that waits. Returns whether all is gone.
    pub(crate) fn flush(&mut self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let outbound = &mut self.ssl.get_mut().outbound;
        while !outbound.is_empty() {
            match socket::send(fd, outbound.filled()) {
                Ok(sent) => outbound.consume(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        outbound.settle();
        Ok(true)
    }

    /// How many decrypted bytes a receive would give without the socket.
    pub(crate) fn available(&self) -> usize {
        self.ssl.ssl().pending()
    }

    /// Gives memory back that only a busy session needs.
    pub(crate) fn rest(&mut self) {
        raw::release_buffers(&mut self.ssl);
    }

    /// Says goodbye behind all that was sent. `false`: the socket takes nothing more now.
    pub(crate) fn close(&mut self, fd: BorrowedFd<'_>) -> bool {
        // It fails when something went wrong before, and when the goodbye is on its way already.
        let _ = self.ssl.shutdown();
        // Whoever is gone needs none.
        self.flush(fd).unwrap_or(true)
    }

    /// What OpenSSL says about the failure of its last call.
    fn failure(&self) -> io::Error {
        let reason = reason::of(&ErrorStack::get(), self.ssl.ssl());
        io::Error::other(reason.unwrap_or_else(|| "OpenSSL does not say why".into()))
    }
}

fn receive_into(fd: BorrowedFd<'_>, inbound: &mut Buffer) -> io::Result<usize> {
    let got = socket::receive(fd, &VolatileSlice::from(inbound.room()))?;
    inbound.fill(got);
    Ok(got)
}
