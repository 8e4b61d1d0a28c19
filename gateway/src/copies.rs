//! Counts the payload bytes that this process copies from place to place itself, in builds with debug assertions, so
//! that tests can show that long requests are not copied. Copies that the kernel makes to and from sockets and files
//! do not count.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(debug_assertions)]
static BYTES: AtomicU64 = AtomicU64::new(0);

/// `bytes` of payload are copied.
#[inline]
pub(crate) fn count(bytes: usize) {
    #[cfg(debug_assertions)]
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    #[cfg(not(debug_assertions))]
    let _ = bytes;
}

/// Says how many there were.
pub(crate) fn log() {
    #[cfg(debug_assertions)]
    tracing::debug!("payload bytes copied: {}", BYTES.load(Ordering::Relaxed));
}
