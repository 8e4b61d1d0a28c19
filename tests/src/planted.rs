//! The defects that can be planted in the gateway, and the check of the conformance suite that finds each.
//!
//! The cargo feature `planted` puts them into the program, the environment variable `GATEWAY_PLANTED` chooses one;
//! in the sources they stand as `planted!("NAME")`. `tests/it/planted.rs` shows that every one is found by its check,
//! and that the table and the sources name the same defects.

use crate::{Gateway, Image, Place, binary};

/// A defect, and how it comes out.
#[derive(Clone, Copy, Debug)]
pub struct Defect {
    /// Its name in the sources.
    pub name: &'static str,
    /// The check whose rule it breaks.
    pub check: &'static str,
    /// Where it shows.
    pub shows: On,
    /// A part of what that check says about it, so that it cannot fail for another reason.
    pub says: &'static str,
}

/// A disk to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// In the gateway's memory.
    Memory,
    /// In the gateway's memory, and not to be written.
    ReadOnlyMemory,
    /// A file on a file system with a disk below.
    File,
    /// The same past the page cache, so that writes finer than a block need care.
    DirectFile,
    /// A file whose first flush fails.
    FailingFlush,
}

/// Every defect.
pub const DEFECTS: &[Defect] = &[
    // Handshake.
    defect("unknown-option-acknowledged", "options/unknown", On::Memory, "ACK"),
    defect("size-differs-in-info", "info/same-as-go", On::Memory, "INFO gave"),
    defect("stale-context", "meta/failed-set-clears", On::Memory, "which was not asked for"),
    // Durability.
    defect("lost-fua", "durable/fua", On::File, "not on the disk after WRITE with FUA"),
    defect(
        "lost-fua-of-zeroes",
        "durable/fua-zeroes",
        On::File,
        "not on the disk after WRITE_ZEROES with FUA",
    ),
    defect("lost-flush", "durable/flush", On::File, "not on the disk after FLUSH"),
    defect(
        "flush-misses-other-connections",
        "durable/flush-covers-other-connections",
        On::File,
        "not on the disk after FLUSH on another connection",
    ),
    defect(
        "failed-flush-told-once",
        "flush/failure-is-told-to-all",
        On::FailingFlush,
        "FLUSH succeeded after one on another connection got error 5",
    ),
    // Where data go.
    defect("off-by-one-at-4-gib", "integrity/across-4-gib", On::Memory, "at 2^32: byte"),
    defect("offset-cut-to-32-bits", "integrity/across-4-gib", On::Memory, "at 2^32: byte"),
    defect("lost-update", "integrity/overlapping-writes-in-flight", On::DirectFile, "is of neither"),
    defect(
        "lost-update-between-workers",
        "integrity/unaligned-writes-between-connections",
        On::DirectFile,
        "written by several connections",
    ),
    // Trim and zeroes.
    defect("trim-rounds-outwards", "trim/keeps-neighbours", On::Memory, "before TRIM"),
    defect("zeroes-leave-the-last-byte", "zeroes/read-back", On::Memory, "after WRITE_ZEROES"),
    defect("fast-zero-fails-afterwards", "zeroes/fast-is-all-or-nothing", On::Memory, "got 95: byte"),
    defect("ignored-no-hole", "zeroes/no-hole-stays-allocated", On::Memory, "although NO_HOLE was set"),
    defect(
        "no-hole-punches-the-file",
        "zeroes/no-hole-keeps-its-blocks",
        On::File,
        "bytes of blocks more after 4 MiB of zeroes with NO_HOLE",
    ),
    // Replies.
    defect("double-reply", "pipeline/128-in-flight", On::Memory, "which is not in flight"),
    defect("cookie-cut-to-32-bits", "pipeline/cookies", On::Memory, "which is not in flight"),
    defect(
        "df-in-several-chunks",
        "read/df-in-one-chunk",
        On::Memory,
        "a second content chunk in spite of DF",
    ),
    defect("hole-chunk-sent-twice", "read/between-holes", On::Memory, "overlaps"),
    defect("hole-chunk-too-short", "read/between-holes", On::Memory, "bytes told by READ"),
    defect("req-one-ignored", "status/req-one", On::Memory, "extents in spite of REQ_ONE"),
    defect("status-past-the-end", "status/ends-with-the-export", On::Memory, "bytes of status for the last"),
    // Refusals, and the end.
    defect("wrong-error-number", "bounds/error-numbers", On::Memory, "got error 5"),
    defect(
        "refused-payload-not-read-away",
        "write/error-keeps-the-stream-in-step",
        On::Memory,
        "a reply with cookie 0xbad",
    ),
    defect("read-only-not-enforced", "readonly/refuses-changes", On::ReadOnlyMemory, "got success"),
    defect(
        "disconnect-drops-requests",
        "leave/disconnect-completes-requests",
        On::DirectFile,
        "instead of 4 bytes",
    ),
];

const fn defect(name: &'static str, check: &'static str, shows: On, says: &'static str) -> Defect {
    Defect { name, check, shows, says }
}

/// Large enough to have something on both sides of 2^32.
const SIZE: u64 = (4 << 30) + (64 << 20);

impl On {
    /// Serves it with a gateway that has the defect of this name, or none of the defects that it could have.
    ///
    /// # Panics
    /// The gateway cannot be built, or does not start.
    #[must_use]
    pub fn serve(self, defect: Option<&str>) -> (Gateway, Option<Image>) {
        let image = match self {
            On::Memory | On::ReadOnlyMemory => None,
            On::File | On::DirectFile => Some(Image::sparse(Place::Disk, SIZE)),
            On::FailingFlush => Some(Image::sparse(Place::Memory, SIZE)),
        };
        let path = image.as_ref().map(Image::property).unwrap_or_default();
        let words = match self {
            On::Memory => vec!["memory".to_owned(), SIZE.to_string()],
            On::ReadOnlyMemory => vec!["memory".to_owned(), SIZE.to_string(), "read-only=true".to_owned()],
            On::File => vec!["io_uring".to_owned(), path, "direct=false".to_owned()],
            On::DirectFile => vec!["io_uring".to_owned(), path, "direct=true".to_owned()],
            On::FailingFlush => {
                vec!["faulty".to_owned(), format!("inner=io_uring {path}"), "fail-flush=1".to_owned()]
            }
        };
        let program = binary::gateway_with("planted").expect("a gateway with defects can be built");
        // An empty name, because the environment of the tests may have one.
        let chosen = defect.unwrap_or_default();
        let gateway = Gateway::builder().binary(&program).env("GATEWAY_PLANTED", chosen).start(&words);
        (gateway, image)
    }
}
