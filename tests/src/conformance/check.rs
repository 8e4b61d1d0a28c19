//! What a check is, and how it ends.

use nbd::ReplyMode;

use super::target::Target;

/// How binding the rule behind a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The specification demands it.
    Must,
    /// The specification recommends it.
    Should,
    /// The specification leaves it open; this project has chosen.
    Chosen,
}

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It says nothing about this server: what it looks at is optional and not announced.
    Skip(String),
    /// A rule was broken.
    Failed(String),
}

/// Result of a check, and of each step in it.
pub(super) type Outcome<T = ()> = Result<T, Trouble>;

/// A broken rule.
pub(super) fn failed<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Trouble::Failed(what.into()))
}

/// Nothing to say about this server.
pub(super) fn skip<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Trouble::Skip(why.into()))
}

/// Fails the check unless the condition holds; the rest is what was expected and what came.
macro_rules! demand {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return $crate::conformance::check::failed(format!($($message)+));
        }
    };
}
pub(super) use demand;

/// Skips the check unless the condition holds.
macro_rules! needs {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return $crate::conformance::check::skip(format!($($message)+));
        }
    };
}
pub(super) use needs;

/// Body of a check.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// Looks at the handshake.
    Handshake(fn(&Target) -> Outcome),
    /// Looks at the transmission, once for each kind of reply that the server has.
    Transmission(fn(&Target, ReplyMode) -> Outcome),
}

/// One rule, and how to find out whether a server keeps it.
#[derive(Clone, Copy)]
pub struct Check {
    /// Subject and fact, `read/at-the-end`.
    pub name: &'static str,
    /// How binding the rule is.
    pub level: Level,
    /// Section of doc/proto.md and the rule.
    pub rule: &'static str,
    pub(super) body: Body,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Check({})", self.name)
    }
}

/// A check of the handshake.
pub(super) const fn handshake(
    name: &'static str,
    level: Level,
    rule: &'static str,
    body: fn(&Target) -> Outcome,
) -> Check {
    Check { name, level, rule, body: Body::Handshake(body) }
}

/// A check of the transmission.
pub(super) const fn transmission(
    name: &'static str,
    level: Level,
    rule: &'static str,
    body: fn(&Target, ReplyMode) -> Outcome,
) -> Check {
    Check { name, level, rule, body: Body::Transmission(body) }
}
