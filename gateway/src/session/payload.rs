//! The payload of a write: passed on as it arrives.
//!
//! For a driver that writes at once it goes from the receive buffer to the driver; for others it is received into
//! leases. When leases are scarce one is taken only for bytes that have arrived, so that no lease waits for a client.

use drivers::Now;

use super::input::{Filling, Payload, ReceiveBuffer, Received, Receiving};
use super::{Hangup, Session};
use crate::copies;
use crate::disk::{Disk, Ticket};

/// Parts that are written as they arrive end on multiples of this, so that no page is written twice.
const STREAM_ALIGNMENT_BYTES: u64 = 4 << 10;

impl Session {
    /// From now on payload arrives.
    pub(super) fn start_payload(&mut self, disk: &mut Disk, ticket: Ticket, fua: bool) {
        let operation = (fua || !disk.limits().immediate).then(|| {
            self.began(&ticket);
            disk.start_write(ticket, fua)
        });
        let (offset, left) = (ticket.offset, ticket.len);
        let payload = Payload { ticket, offset, left, operation, error: None, filling: None };
        self.input.state = Receiving::Payload(payload);
    }

    /// Passes on what has arrived.
    pub(super) fn payload(
        &mut self,
        disk: &mut Disk,
        buffer: &mut ReceiveBuffer,
    ) -> Result<Received, Hangup> {
        let Receiving::Payload(payload) = &mut self.input.state else { return Ok(Received::NeedMore) };
        if payload.filling.is_some() {
            return Ok(self.fill_lease(disk, buffer));
        }
        if payload.left == 0 {
            return self.end_payload(disk);
        }
        if payload.error.is_some() {
            let here = arrived(buffer, payload.left);
            buffer.consume(here);
            payload.left -= here as u64;
            return Ok(if here == 0 { Received::NeedMore } else { Received::Request });
        }
        let native_fua = payload.operation.is_some_and(|operation| disk.is_native_fua(operation));
        if disk.limits().immediate
            && !native_fua
            && let Some(received) = write_arrived(disk, buffer, payload)
        {
            return Ok(received);
        }
        Ok(self.take_lease(disk, buffer))
    }

    /// Takes a lease for the next part.
    fn take_lease(&mut self, disk: &mut Disk, buffer: &mut ReceiveBuffer) -> Received {
        let Receiving::Payload(payload) = &mut self.input.state else { return Received::NeedMore };
        if disk.is_dead() {
            // The rest is read away.
            payload.error = Some(drivers::Errno::IO);
            return Received::Request;
        }
        let mut want = payload.left;
        if disk.is_short_of_leases() {
            let in_socket = self.stream.available().unwrap_or(0) as u64;
            want = disk.whole_blocks(payload.offset, buffer.filled().len() as u64 + in_socket, payload.left);
            if want == 0 {
                return Received::NeedMore;
            }
        }
        let Some((lease, lead, len)) = disk.write_lease(payload.offset, want) else {
            return Received::Starved;
        };
        payload.left -= len as u64;
        payload.filling = Some(Filling { lease, lead, len, got: 0 });
        self.fill_lease(disk, buffer)
    }

    /// Moves what has arrived into the lease, and the lease to the driver when it is full.
    fn fill_lease(&mut self, disk: &mut Disk, buffer: &mut ReceiveBuffer) -> Received {
        let Receiving::Payload(payload) = &mut self.input.state else { return Received::NeedMore };
        let Some(filling) = &mut payload.filling else { return Received::NeedMore };
        let here = arrived(buffer, (filling.len - filling.got) as u64);
        copies::count(here);
        filling.lease.slice(filling.lead + filling.got, here).copy_from(&buffer.filled()[..here]);
        buffer.consume(here);
        filling.got += here;
        if filling.got < filling.len {
            return Received::NeedMore;
        }
        let Some(Filling { lease, lead, len, .. }) = payload.filling.take() else {
            return Received::NeedMore;
        };
        let (ticket, offset) = (payload.ticket, payload.offset);
        payload.offset += len as u64;
        let operation = match payload.operation {
            Some(operation) => operation,
            None => {
                let operation = disk.start_write(ticket, false);
                payload.operation = Some(operation);
                self.began(&ticket);
                operation
            }
        };
        disk.write_part(operation, lease, lead, offset, len);
        Received::Request
    }

    fn end_payload(&mut self, disk: &mut Disk) -> Result<Received, Hangup> {
        let state = std::mem::replace(&mut self.input.state, Receiving::Header);
        let Receiving::Payload(payload) = state else { return Ok(Received::NeedMore) };
        match (payload.operation, payload.error) {
            (Some(operation), error) => {
                if let Some(errno) = error {
                    disk.fail_write(operation, errno);
                }
                disk.end_write(operation);
                self.take_deliveries(disk)?;
            }
            (None, Some(errno)) => self.reply_error(&payload.ticket, errno),
            (None, None) => self.succeed(&payload.ticket),
        }
        Ok(Received::Request)
    }
}

/// How many of the next `left` payload bytes are in the buffer.
fn arrived(buffer: &ReceiveBuffer, left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(buffer.filled().len())
}

/// Writes what has arrived at once. `None`: the driver cannot, it takes a lease.
fn write_arrived(disk: &mut Disk, buffer: &mut ReceiveBuffer, payload: &mut Payload) -> Option<Received> {
    let mut len = arrived(buffer, payload.left);
    if (len as u64) < payload.left {
        let end = (payload.offset + len as u64) / STREAM_ALIGNMENT_BYTES * STREAM_ALIGNMENT_BYTES;
        len = usize::try_from(end.saturating_sub(payload.offset)).unwrap_or(0).min(len);
    }
    if len == 0 {
        return Some(Received::NeedMore);
    }
    match disk.write_now(payload.offset, &buffer.filled()[..len]) {
        Now::Done(()) => {}
        Now::Failed(errno) => payload.error = Some(errno),
        Now::Later => return None,
    }
    buffer.consume(len);
    payload.offset += len as u64;
    payload.left -= len as u64;
    Some(Received::Request)
}
