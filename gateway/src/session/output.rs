//! [`Output`]: replies on their way to the client, gathered and sent a few at a time.

use std::collections::VecDeque;
use std::io;

use drivers::{Lease, Store};
use nbd::{ErrorReply, Head};

use crate::disk::Ticket;
use crate::metrics::{Answered, Moment};
use crate::net::gather::Gather;
use crate::net::stream::Stream;

/// Replies are sent when this many wait. Client and server take turns if every reply of a batch goes out in one send;
/// sent one by one they cost a system call and a wake-up each.
const FLUSH_REPLIES: usize = 16;

/// Replies are sent when this many bytes wait.
const FLUSH_BYTES: usize = 64 << 10;

/// On a Unix socket payloads this long or longer begin a send of their own. The kernel copies them into pages: behind
/// a header they would lie across those, which takes a sixth more time in all (1 MiB reads: 326 µs of CPU each behind
/// their headers, 271 µs by themselves). TCP fills its pages otherwise, and there the send is wasted.
const LONG_BODY_BYTES: usize = 128 << 10;

/// Zeroes to send from.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Entries an idle session keeps room for.
const IDLE_ENTRIES: usize = 16;

/// The payload of a reply, wherever it lies.
#[derive(Debug)]
pub(crate) enum Body {
    /// No payload.
    Empty,
    /// `len` bytes from `start` of a lease; they are what is at `offset` on the disk.
    Lease { lease: Lease, start: usize, len: usize, offset: u64 },
    /// The driver's own memory of this range of the disk.
    Store { offset: u64, len: usize },
    /// Zeroes.
    Zero { len: usize },
    /// Was read already and is to be read again when the client takes it: its lease was needed elsewhere.
    Again { offset: u64, len: usize },
}

impl Body {
    pub(crate) fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Lease { len, .. }
            | Body::Store { len, .. }
            | Body::Zero { len }
            | Body::Again { len, .. } => *len,
        }
    }

    /// Gives a lease back; what it held is read again later.
    pub(crate) fn shed_lease(&mut self) {
        if let Body::Lease { len, offset, .. } = *self {
            *self = Body::Again { offset, len };
        }
    }

    /// Drops the first `count` bytes.
    fn advance(&mut self, count: usize) {
        match self {
            Body::Empty => {}
            Body::Lease { start, len, offset, .. } => {
                *start += count;
                *len -= count;
                *offset += count as u64;
            }
            Body::Store { offset, len } | Body::Again { offset, len } => {
                *offset += count as u64;
                *len -= count;
            }
            Body::Zero { len } => *len -= count,
        }
    }
}

/// What goes before the payload.
#[derive(Debug)]
enum Front {
    Nothing,
    Head(Head),
    Text(Box<ErrorReply>),
    Bytes(Vec<u8>),
}

impl Front {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Front::Nothing => &[],
            Front::Head(head) => head.as_bytes(),
            Front::Text(reply) => reply.as_bytes(),
            Front::Bytes(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
struct Entry {
    front: Front,
    body: Body,
    /// What is answered when this is sent.
    answered: Option<Answered>,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything is sent.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// What comes next has to be read again first: this range of the disk.
    ReadAgain { offset: u64, len: usize },
}

/// Replies on their way to one client, in order.
#[derive(Debug, Default)]
pub(crate) struct Output {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry's front that are sent already.
    front_sent: usize,
    /// Bytes that wait.
    waiting_bytes: usize,
    /// The socket was full, and nobody has said since that it takes more.
    blocked: bool,
    /// What the stream has accepted is not all sent: it waits as ciphertext.
    unsent: bool,
}

impl Output {
    /// Adds a reply or a chunk of one.
    pub(crate) fn push(&mut self, head: Head, body: Body) {
        self.push_entry(Front::Head(head), body);
    }

    /// Adds an error reply.
    pub(crate) fn push_error(&mut self, reply: ErrorReply) {
        self.push_entry(Front::Text(Box::new(reply)), Body::Empty);
    }

    /// Adds bytes that are complete in themselves.
    pub(crate) fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.push_entry(Front::Bytes(bytes), Body::Empty);
    }

    /// Adds payload behind the payload added last.
    pub(crate) fn push_body(&mut self, body: Body) {
        self.push_entry(Front::Nothing, body);
    }

    fn push_entry(&mut self, front: Front, body: Body) {
        self.waiting_bytes += front.as_bytes().len() + body.len();
        self.entries.push_back(Entry { front, body, answered: None });
    }

    /// What was added last is the end of the reply to a request.
    pub(crate) fn ends(&mut self, ticket: &Ticket, failed: bool) {
        if let Some(last) = self.entries.back_mut() {
            last.answered = Answered::of(ticket, failed);
        }
    }

    /// Whether the socket takes nothing until it says so.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The socket takes more.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.unsent
    }

    /// Whether enough waits for a send to be worth its system call.
    pub(crate) fn is_due(&self) -> bool {
        self.entries.len() >= FLUSH_REPLIES || self.waiting_bytes >= FLUSH_BYTES
    }

    /// Sends what the socket takes, and says of which requests that was the end of the reply, and when.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn flush(
        &mut self,
        stream: &mut Stream,
        store: Option<&dyn Store>,
        mut answered: impl FnMut(&Answered, Moment),
    ) -> io::Result<Flushed> {
        // Trying again before the socket says so would be in vain, and what was given up would be read for nothing.
        if self.blocked {
            return Ok(Flushed::Blocked);
        }
        if stream.has_unsent() && !stream.flush_unsent()? {
            (self.unsent, self.blocked) = (true, true);
            return Ok(Flushed::Blocked);
        }
        self.unsent = false;
        while let Some(first) = self.entries.front() {
            if let (Body::Again { offset, len }, true) =
                (&first.body, self.front_sent == first.front.as_bytes().len())
            {
                return Ok(Flushed::ReadAgain { offset: *offset, len: *len });
            }
            let gather = self.gather(store, stream.is_local())?;
            let wanted = gather.len_bytes();
            let sent = match stream.send(&gather) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            let now = Moment::now();
            self.advance(sent, |request| answered(request, now));
            self.unsent = stream.has_unsent();
            if sent < wanted || self.unsent {
                self.blocked = true;
                return Ok(Flushed::Blocked);
            }
        }
        Ok(Flushed::All)
    }

    /// The next pieces to send: up to the end, to what must be read again, or to what fits. `by_pages`: to where a
    /// long payload begins.
    fn gather<'a>(&'a self, store: Option<&'a dyn Store>, by_pages: bool) -> io::Result<Gather<'a>> {
        let mut gather = Gather::new();
        let mut skip = self.front_sent;
        for entry in &self.entries {
            if gather.is_full() {
                break;
            }
            let front = &entry.front.as_bytes()[skip..];
            gather.push(front);
            skip = 0;
            if by_pages && !front.is_empty() && entry.body.len() >= LONG_BODY_BYTES {
                break;
            }
            if gather.is_full() && entry.body.len() > 0 {
                break;
            }
            match &entry.body {
                Body::Empty => {}
                Body::Lease { lease, start, len, .. } => gather.push_volatile(&lease.slice(*start, *len)),
                Body::Store { offset, len } => {
                    let view = store.and_then(|store| store.view(*offset, *len));
                    gather.push_volatile(&view.ok_or(io::ErrorKind::InvalidData)?);
                }
                Body::Zero { len } => {
                    let mut left = *len;
                    while left > 0 && !gather.is_full() {
                        let piece = left.min(ZEROES.len());
                        gather.push(&ZEROES[..piece]);
                        left -= piece;
                    }
                    if left > 0 {
                        break;
                    }
                }
                Body::Again { .. } => break,
            }
        }
        Ok(gather)
    }

    /// Takes `sent` bytes off the front.
    fn advance(&mut self, mut sent: usize, mut answered: impl FnMut(&Answered)) {
        self.waiting_bytes -= sent;
        while let Some(first) = self.entries.front_mut() {
            let front_left = first.front.as_bytes().len() - self.front_sent;
            if sent < front_left {
                self.front_sent += sent;
                return;
            }
            sent -= front_left;
            let body = first.body.len();
            if sent < body {
                self.front_sent = first.front.as_bytes().len();
                first.body.advance(sent);
                return;
            }
            sent -= body;
            self.front_sent = 0;
            if let Some(Entry { answered: Some(request), .. }) = self.entries.pop_front() {
                answered(&request);
            }
            if sent == 0 && self.entries.is_empty() {
                return;
            }
        }
    }

    /// Puts the beginning of what had to be read again in its place: `body` is what is at `from` on the disk. Anything
    /// but what comes next is dropped.
    pub(crate) fn refill(&mut self, from: u64, body: Body) {
        let Some(first) = self.entries.front_mut() else { return };
        let Body::Again { offset, len } = first.body else { return };
        let got = body.len();
        if from != offset || got > len {
            return;
        }
        first.body = body;
        if got < len {
            // The rest is asked for when this part is sent.
            let rest = Body::Again { offset: offset + got as u64, len: len - got };
            let answered = first.answered.take();
            self.entries.insert(1, Entry { front: Front::Nothing, body: rest, answered });
        }
    }

    /// Gives all leases back; what they held is read again when the client takes it.
    pub(crate) fn shed_leases(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.body.shed_lease());
    }

    /// Gives memory back that only a busy session needs.
    pub(crate) fn rest(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > IDLE_ENTRIES {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn zero(len: usize) -> Body {
        Body::Zero { len }
    }

    #[test]
    fn what_is_read_again_goes_where_it_belongs_and_nowhere_else() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(one.into());
        let mut output = Output::default();
        output.push_body(Body::Again { offset: 100, len: 50 });
        output.push_body(zero(7));
        output.refill(90, zero(50));
        output.refill(100, zero(51));
        let expected = Flushed::ReadAgain { offset: 100, len: 50 };
        assert_eq!(
            output.flush(&mut stream, None, |_, _| ()).unwrap(),
            expected,
            "another range, or more than is missing"
        );
        output.refill(100, zero(20));
        assert_eq!(
            output.flush(&mut stream, None, |_, _| ()).unwrap(),
            Flushed::ReadAgain { offset: 120, len: 30 },
            "the beginning is sent, the rest is still missing"
        );
        output.refill(120, zero(30));
        assert_eq!(output.flush(&mut stream, None, |_, _| ()).unwrap(), Flushed::All);
        assert_eq!(output.waiting_bytes, 0);
        drop(stream);
        let mut sent = Vec::new();
        other.read_to_end(&mut sent).unwrap();
        assert_eq!(sent.len(), 57);
    }
}
