//! [`Pipe`]: ciphertext in memory, on its way between OpenSSL and a socket.
//!
//! OpenSSL reads records header by header and writes them one by one; with memory between it and the socket one system
//! call moves many. The memory belongs to the thread: a session has some only while there is something in it.

use std::cell::RefCell;
use std::io::{self, Read, Write};

/// Size of a buffer. Its ciphertext is a part of the cache of one core.
pub(super) const BUFFER_BYTES: usize = 128 << 10;

/// Buffers a thread keeps for its next session.
const SPARE_MAX: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that wait, in a buffer that is there only while some do.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What waits.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Room behind it.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            let spare = SPARE.with_borrow_mut(Vec::pop);
            self.bytes = spare.unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        }
        &mut self.bytes[self.end..]
    }

    /// How much room there is.
    pub(super) fn room_bytes(&self) -> usize {
        BUFFER_BYTES - self.end
    }

    /// `count` bytes of the room are filled.
    pub(super) fn fill(&mut self, count: usize) {
        debug_assert!(count <= self.room_bytes(), "only what is there can be filled");
        self.end += count;
    }

    /// `count` bytes are done with.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start, "only what is there can be consumed");
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the memory back if nothing is in it.
    pub(super) fn settle(&mut self) {
        if !self.is_empty() || self.bytes.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(bytes);
            }
        });
    }
}

/// What was received and OpenSSL has not read; what it has written and is not sent.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) inbound: Buffer,
    pub(super) outbound: Buffer,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.inbound.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let filled = self.inbound.filled();
        let count = filled.len().min(into.len());
        into[..count].copy_from_slice(&filled[..count]);
        self.inbound.consume(count);
        Ok(count)
    }
}

impl Write for Pipe {
    /// All or nothing. Whoever makes records looks for room first; what OpenSSL says by itself (alerts) has no right
    /// to more: a client that provokes it and does not read it loses its connection.
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let Some(room) = self.outbound.room().get_mut(..from.len()) else {
            return Err(io::Error::other("too much waits to be sent"));
        };
        room.copy_from_slice(from);
        self.outbound.fill(from.len());
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_memory_goes_back() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        pipe.inbound.room()[..3].copy_from_slice(b"abc");
        pipe.inbound.fill(3);
        let mut two = [0; 2];
        assert_eq!((pipe.read(&mut two).unwrap(), &two), (2, b"ab"));
        pipe.inbound.settle();
        assert_eq!(pipe.inbound.filled(), b"c", "what waits stays");
        assert_eq!(pipe.read(&mut two).unwrap(), 1);
        pipe.inbound.settle();
        assert!(pipe.inbound.bytes.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_as_a_whole() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.write(&vec![1; BUFFER_BYTES - 1]).unwrap(), BUFFER_BYTES - 1);
        assert!(pipe.write(&[2; 2]).is_err());
        assert_eq!(pipe.write(&[3]).unwrap(), 1);
        assert_eq!(pipe.outbound.filled()[BUFFER_BYTES - 2..], [1, 3]);
    }
}
