//! Defects that are planted on purpose, to show that the conformance suite finds them.
//!
//! With the cargo feature `planted` the environment variable `GATEWAY_PLANTED` names one defect, which is then in the
//! program from its start to its end. Without the feature `planted!` is the constant `false` and nothing of this is
//! compiled. The defects and the checks that find them are listed in the crate `tests`, module `planted`. The other
//! crates have the same few lines: they share no crate that could hold them.

/// Whether the defect of this name is in.
#[cfg(feature = "planted")]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is_chosen($name)
    };
}

/// Whether the defect of this name is in: never.
#[cfg(not(feature = "planted"))]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

/// The environment is read once, so that the answer does not change.
#[cfg(feature = "planted")]
pub(crate) fn is_chosen(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("GATEWAY_PLANTED").ok()).as_deref() == Some(name)
}

thread_local! {
    /// Sessions of this worker that have written and not flushed since.
    static WRITERS: std::cell::RefCell<std::collections::HashSet<u64>> = std::cell::RefCell::default();
}

/// Remembers that a session has written.
pub(crate) fn note_write(session: u64) {
    WRITERS.with_borrow_mut(|writers| writers.insert(session));
}

/// Whether a session has written since it was asked last.
pub(crate) fn take_written(session: u64) -> bool {
    WRITERS.with_borrow_mut(|writers| writers.remove(&session))
}
