//! The quick way: a device that keeps nothing and does nothing wrong.
//!
//! It is there to show what a driver reaches when its device costs next to nothing. Only the headers of requests are
//! read, only the status is written; payload is never touched, and a read says that it wrote its data without doing
//! so. All queues are looked at in turns, and again for a moment before the thread sleeps; calls are per batch.

use std::io;
use std::time::{Duration, Instant};

use vhost_user_backend::{VringRwLock, VringT};
use virtio_queue::QueueT;
use vm_memory::{Address, GuestMemoryMmap};

use super::kind::{Kind, SERIAL};
use super::ring::{Chain, HotMemory, serve_queue};
use super::serve::{request, status};

/// Requests that are answered with one look whether the driver wants a call.
const BATCH: u16 = 32;

/// The serial number as it is written: twenty bytes (VIRTIO 1.2, section 5.2.6).
const SERIAL_BYTES: [u8; 20] = serial_bytes();

/// How long it looks at empty queues before it asks to be kicked.
const SPIN: Duration = Duration::from_micros(10);

const fn serial_bytes() -> [u8; 20] {
    match SERIAL.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => [0; 20],
    }
}

/// Serves all queues until they have been empty for a while.
///
/// # Errors
/// A ring that lies in no memory, or a driver that cannot be called.
pub(super) fn serve_all(kind: &Kind, memory: &GuestMemoryMmap, vrings: &[VringRwLock]) -> io::Result<()> {
    set_kicks(memory, vrings, false)?;
    let hot = HotMemory::new(memory);
    let mut busy_at = Instant::now();
    loop {
        let mut was_busy = false;
        for vring in vrings {
            was_busy |= serve_batch(kind, &hot, vring)?;
        }
        if was_busy {
            busy_at = Instant::now();
        } else if busy_at.elapsed() < SPIN {
            std::hint::spin_loop();
        } else if set_kicks(memory, vrings, true)? {
            // Something came between the last look and the wish to be kicked.
            set_kicks(memory, vrings, false)?;
        } else {
            return Ok(());
        }
    }
}

/// Asks to be kicked, or not to be. Tells whether there is something in a queue that may be kicked.
fn set_kicks(memory: &GuestMemoryMmap, vrings: &[VringRwLock], wanted: bool) -> io::Result<bool> {
    let mut has_more = false;
    for vring in vrings {
        let mut state = vring.get_mut();
        if !state.is_enabled() || !state.get_queue().ready() {
            continue;
        }
        let queue = state.get_queue_mut();
        if wanted {
            has_more |= queue.enable_notification(memory).map_err(io::Error::other)?;
        } else {
            queue.disable_notification(memory).map_err(io::Error::other)?;
        }
    }
    Ok(has_more)
}

/// Answers what is in one queue, up to a bound; tells whether there was something.
fn serve_batch(kind: &Kind, memory: &HotMemory<'_>, vring: &VringRwLock) -> io::Result<bool> {
    let mut state = vring.get_mut();
    if !state.is_enabled() || !state.get_queue().ready() {
        return Ok(false);
    }
    let (count, calls) =
        serve_queue(memory, state.get_queue_mut(), BATCH, |chain| answer(kind, memory, chain))?;
    if calls {
        state.signal_used_queue()?;
    }
    Ok(count > 0)
}

/// What a chain consists of.
#[derive(Default)]
struct Shape {
    header: Option<u64>,
    /// The first buffer for the device to write.
    data: Option<u64>,
    status: Option<u64>,
    readable_bytes: u64,
    writable_bytes: u32,
}

fn shape(mut chain: Chain<'_, '_>) -> io::Result<Shape> {
    let mut shape = Shape::default();
    while let Some(descriptor) = chain.next()? {
        let (address, len) = (descriptor.addr().raw_value(), descriptor.len());
        if descriptor.is_write_only() {
            shape.data.get_or_insert(address);
            // The status is the last byte.
            shape.status = len.checked_sub(1).and_then(|last| address.checked_add(last.into()));
            shape.writable_bytes = shape.writable_bytes.saturating_add(len);
        } else {
            shape.header.get_or_insert(address);
            shape.readable_bytes += u64::from(len);
        }
    }
    Ok(shape)
}

/// Answers a request; returns how many bytes that wrote by its own account.
///
/// # Errors
/// The chain has no header or no status, or one of them lies in no memory.
fn answer(kind: &Kind, memory: &HotMemory<'_>, chain: Chain<'_, '_>) -> io::Result<u32> {
    let shape = shape(chain)?;
    let (Some(header), Some(status_at)) = (shape.header, shape.status) else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    let [operation, sector]: [u64; 2] = memory.read(header)?;
    let operation = u64::from_le(operation) as u32;
    let data_bytes = match operation {
        request::IN => u64::from(shape.writable_bytes) - 1,
        // Without the header.
        request::OUT => shape.readable_bytes.saturating_sub(16),
        _ => 0,
    };
    let end = u64::from_le(sector).checked_mul(512).and_then(|start| start.checked_add(data_bytes));
    let status = match operation {
        request::IN | request::OUT if end.is_none_or(|end| end > kind.capacity_bytes) => status::IOERR,
        request::GET_ID => {
            memory.write(shape.data.unwrap_or(status_at), SERIAL_BYTES)?;
            status::OK
        }
        request::IN | request::OUT | request::FLUSH | request::DISCARD | request::WRITE_ZEROES => status::OK,
        _ => status::UNSUPP,
    };
    memory.write(status_at, status)?;
    Ok(if status == status::OK { shape.writable_bytes } else { 1 })
}
