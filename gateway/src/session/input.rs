//! Receiving: a buffer shared by all sessions of a worker, and what a session keeps while it waits.

use nbd::{Cookie, HeaderFormat};

use crate::copies;
use crate::disk::{Disk, Ticket};
use crate::slab::Key;
use drivers::{Errno, Lease};

/// Size of the buffer a worker receives into.
const BUFFER_BYTES: usize = 256 << 10;

/// A write this long or longer is not collected but passed on as it arrives.
pub(crate) const STREAM_BYTES: u64 = 64 << 10;

/// Bytes all sessions of a worker may keep while they wait. What comes near it receives in smaller pieces.
const PARKED_BYTES: usize = 16 << 20;

/// Least that is received at a time.
const WINDOW_MIN_BYTES: usize = 4 << 10;

/// Memory is copied fastest where source and destination lie alike in their pages.
const PAGE_BYTES: usize = 4 << 10;

/// The buffer a worker receives into. It belongs to one session at a time, for the length of its turn.
#[derive(Debug)]
pub(crate) struct ReceiveBuffer {
    bytes: Box<[u8]>,
    /// Where the first page begins.
    first_page: usize,
    start: usize,
    end: usize,
    /// Bytes that sessions keep elsewhere.
    parked: usize,
}

impl ReceiveBuffer {
    pub(crate) fn new() -> ReceiveBuffer {
        // Room for what lies before the first page, and for a place in it.
        let bytes = vec![0; BUFFER_BYTES + 2 * PAGE_BYTES].into_boxed_slice();
        let first_page = bytes.as_ptr().align_offset(PAGE_BYTES);
        ReceiveBuffer { bytes, first_page, start: 0, end: 0, parked: 0 }
    }

    /// What was received and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start, "only what is there can be consumed");
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room of at most `window` bytes behind what is filled. The first filled byte comes to lie where a byte at
    /// `offset` lies in its page: what is written from there to a file is copied page by page, which takes a fifth
    /// less time than across them.
    pub(crate) fn room(&mut self, window: usize, offset: u64) -> &mut [u8] {
        let start = self.first_page + (offset % PAGE_BYTES as u64) as usize;
        if self.start != start {
            self.bytes.copy_within(self.start..self.end, start);
            (self.start, self.end) = (start, start + self.end - self.start);
        }
        let end = (self.end + window).min(start + BUFFER_BYTES);
        &mut self.bytes[self.end..end]
    }

    /// `count` bytes of the room are filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.end += count;
    }

    /// A new session keeps bytes that came with its handshake.
    pub(crate) fn count_parked(&mut self, count: usize) {
        self.parked += count;
    }

    /// Most that should be received at a time while other sessions keep so much.
    pub(crate) fn window(&self) -> usize {
        (PARKED_BYTES.saturating_sub(self.parked) / 8).clamp(WINDOW_MIN_BYTES, BUFFER_BYTES)
    }

    /// Whether sessions keep so much that even short writes are passed on as they arrive.
    pub(crate) fn is_scarce(&self) -> bool {
        self.parked > PARKED_BYTES / 2
    }
}

/// What came of looking for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// One was dealt with.
    Request,
    /// More bytes are needed.
    NeedMore,
    /// There is no lease for it.
    Starved,
}

/// Where a session is in its client's stream.
#[derive(Debug)]
pub(super) enum Receiving {
    /// A request header comes next.
    Header,
    /// The payload of a refused request comes; then the refusal is sent.
    Skip { left: u64, refusal: Refusal },
    /// The payload of a write comes and is passed on as it arrives.
    Payload(Payload),
}

/// The answer to a refused request.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) cookie: Cookie,
    pub(super) offset: u64,
    pub(super) errno: nbd::Errno,
    pub(super) message: &'static str,
}

/// A write whose payload is arriving.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) ticket: Ticket,
    /// Where the next byte goes.
    pub(super) offset: u64,
    pub(super) left: u64,
    /// The operation, once one is needed: parts that were written at once leave no trace in it.
    pub(super) operation: Option<Key>,
    /// The first part that failed at once; the rest is read away.
    pub(super) error: Option<Errno>,
    /// A lease that is being filled.
    pub(super) filling: Option<Filling>,
}

/// A lease that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) lease: Lease,
    /// Bytes of the lease before the payload.
    pub(super) lead: usize,
    pub(super) len: usize,
    pub(super) got: usize,
}

/// A session's place in its client's stream.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) state: Receiving,
    pub(super) format: HeaderFormat,
    /// Received bytes that wait with the session.
    parked: Vec<u8>,
    /// Most to receive at a time where a header comes next: small while large payloads come, which should go
    /// straight into leases or lie in the buffer as they will in a file.
    window: usize,
    /// Payloads never go straight into leases: receive as much as there is.
    pub(super) immediate: bool,
}

impl Input {
    pub(super) fn new(received: Vec<u8>, format: HeaderFormat, immediate: bool) -> Input {
        let window = if immediate { BUFFER_BYTES } else { format.len() };
        Input { state: Receiving::Header, format, parked: received, window, immediate }
    }

    /// Puts what was kept into the worker's buffer.
    pub(super) fn resume(&mut self, buffer: &mut ReceiveBuffer) {
        (buffer.start, buffer.end) = (0, 0);
        if !self.parked.is_empty() {
            buffer.parked -= self.parked.len();
            let parked = std::mem::take(&mut self.parked);
            buffer.room(parked.len(), 0)[..parked.len()].copy_from_slice(&parked);
            buffer.fill(parked.len());
        }
    }

    /// Keeps what is left in the worker's buffer.
    pub(super) fn pause(&mut self, buffer: &mut ReceiveBuffer) {
        debug_assert!(self.parked.is_empty(), "resumed before");
        if !buffer.filled().is_empty() {
            if let Receiving::Payload(_) = self.state {
                copies::count(buffer.filled().len());
            }
            self.parked = buffer.filled().to_vec();
            buffer.parked += self.parked.len();
            buffer.consume(self.parked.len());
        }
    }

    /// Room for what should be received next.
    pub(super) fn room<'a>(&self, buffer: &'a mut ReceiveBuffer) -> &'a mut [u8] {
        let (wanted, offset) = match &self.state {
            Receiving::Skip { left, .. } => (*left, 0),
            Receiving::Payload(payload) if self.immediate || payload.error.is_some() => {
                (payload.left.saturating_sub(buffer.filled().len() as u64), payload.offset)
            }
            Receiving::Header | Receiving::Payload(_) => (self.window as u64, 0),
        };
        let window = buffer.window();
        buffer.room(usize::try_from(wanted).unwrap_or(window).clamp(1, window), offset)
    }

    /// Learns from what came: a full window asks for a larger one.
    pub(super) fn filled_window(&mut self, asked: usize, got: usize) {
        let is_windowed = !self.immediate || matches!(self.state, Receiving::Header);
        if got == asked && is_windowed {
            self.window = (self.window * 8).min(BUFFER_BYTES);
        }
    }

    /// A long write came, or a long read where payloads go into leases: receive no more than the next header, since a
    /// long payload may follow it.
    pub(super) fn saw_long_request(&mut self) {
        self.window = self.format.len();
    }

    /// Bytes a closed session no longer keeps.
    pub(super) fn forget_parked(&mut self, buffer: &mut ReceiveBuffer) {
        buffer.parked -= self.parked.len();
        self.parked = Vec::new();
    }

    /// Ends a write whose payload will never be complete.
    pub(super) fn close(&mut self, disk: &mut Disk) {
        if let Receiving::Payload(payload) = std::mem::replace(&mut self.state, Receiving::Header)
            && let Some(operation) = payload.operation
        {
            disk.fail_write(operation, Errno::IO);
            disk.end_write(operation);
        }
    }
}
