//! What values of options may be, on the command line and in the file.

/// Most worker threads.
pub(crate) const WORKERS_MAX: u16 = 1024;

/// Longest time a worker polls, in microseconds.
pub(crate) const POLL_MICROSECONDS_MAX: u32 = 10_000;

/// Longest time-out: a year.
pub(crate) const SECONDS_MAX: u32 = 366 * 24 * 60 * 60;

/// Smallest payload memory: two blocks of the largest part for one worker.
pub(crate) const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Largest payload memory.
pub(crate) const MEMORY_BYTES_MAX: u64 = 1 << 40;

/// Longest name or description (doc/proto.md, section "Values": strings).
const STRING_BYTES_MAX: usize = 4096;

/// Checks a name or a description against what the protocol can carry.
///
/// # Errors
/// The second half of a sentence that names the text.
pub(crate) fn check_string(text: &str) -> Result<(), String> {
    if text.len() > STRING_BYTES_MAX {
        return Err(format!("has {} bytes; the protocol allows {STRING_BYTES_MAX}", text.len()));
    }
    if text.contains('\0') {
        return Err("has a zero byte, which the protocol forbids".into());
    }
    Ok(())
}
