//! [`Wide`]: larger send buffers for the Unix sockets that gain by them.
//!
//! A Unix socket takes 208 KiB by default, less than one part of a long read: client and server then take turns. TCP
//! sizes its buffers by itself. What a socket holds is the kernel's memory, and a client that takes nothing leaves it
//! full, so only some sockets are widened at a time.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::SockRef;

/// What is asked for; the system grants at most `net.core.wmem_max`. Twice as much gives nothing more: 1 MiB reads,
/// depth 4: 2.9 GB/s and 336 µs of CPU each with 512 KiB, 2.5 GB/s and 365 µs with the default.
const SEND_BYTES: usize = 512 << 10;

/// Sockets of the process that are wide at a time: what they add is at most 20 MiB.
const MOST: u32 = 64;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One socket's place among those that are wide; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Wide(());

impl Wide {
    /// Widens a Unix socket, if there is a place for it.
    pub(super) fn make(socket: &impl AsFd) -> Option<Wide> {
        COUNT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < MOST).then_some(count + 1))
            .ok()?;
        // Refused or cut by the system, the socket works as before.
        let _ = SockRef::from(socket).set_send_buffer_size(SEND_BYTES);
        Some(Wide(()))
    }
}

impl Drop for Wide {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn so_many_unix_sockets_are_wide_at_a_time() {
        let (one, _other) = UnixStream::pair().unwrap();
        let before = SockRef::from(&one).send_buffer_size().unwrap();
        let mut wide: Vec<Wide> = (0..).map_while(|_| Wide::make(&one)).collect();
        assert_eq!(wide.len(), MOST as usize);
        assert!(SockRef::from(&one).send_buffer_size().unwrap() >= before);
        wide.pop();
        assert!(Wide::make(&one).is_some(), "a place that was given back is free");
    }
}
