//! Tools and images of the test bed. The rule where they lie is that of [`xtask::bed`].

use std::path::PathBuf;

use anyhow::Result;
use xtask::bed::Bed;

/// The tool of this name.
///
/// # Errors
/// The test bed is missing or has no such tool; the message says what to do.
pub fn tool(name: &str) -> Result<PathBuf> {
    Bed::locate()?.tool(name)
}

/// The disk image with a partition table and a file system that the test bed keeps. It is to be copied, not written.
///
/// # Errors
/// The test bed has no image; the message says what to do.
pub fn bootable_image() -> Result<PathBuf> {
    Bed::locate()?.image("bootable.img")
}

/// Whether a test that cannot run must fail: `CI` or `GATEWAY_TESTS_NO_SKIP` is set and not empty.
#[must_use]
pub fn must_not_skip() -> bool {
    ["CI", "GATEWAY_TESTS_NO_SKIP"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
