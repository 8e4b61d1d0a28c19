//! A conformance suite for NBD servers: connects to any server's socket and judges what comes back.
//!
//! The yardstick is doc/proto.md of the NetworkBlockDevice/nbd project (branch `extension-ext-header` for extended
//! headers). The suite shares numbers ([`nbd::wire`]) with our server and nothing else: requests are put together and
//! replies taken apart by code of its own, so that a mistake in the server's crate cannot excuse itself.
//!
//! | module | is |
//! |---|---|
//! | `target` | the server under test, and what it announces |
//! | `wire` | a socket that never waits for ever |
//! | `haggle` | option haggling, one option at a time, right or wrong |
//! | `session` | transmission: requests out, replies in |
//! | `reply` | the rules that every reply must keep, whatever was asked |
//! | `check` | what a check is, and how it ends |
//! | `checks` | the checks, by subject |
//! | `report` | running them, and the result |
//!
//! A check has a [`Level`]: what the specification demands, what it recommends, and what it leaves open and this
//! project has chosen. Other servers are held to the first two. A server need not have any optional feature: checks of
//! what it does not announce are skipped, and the report says so.
//!
//! The suite writes to the export, all over it.

mod check;
mod checks;
mod haggle;
mod reply;
mod report;
mod session;
mod target;
mod wire;

pub use check::{Check, Level, Trouble};
pub use report::{Finding, Report, Selection, Verdict, all_checks, run};
pub use target::{Address, Target};
