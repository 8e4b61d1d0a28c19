//! What the end-to-end tests stand on.
//!
//! The tests themselves are in `tests/it/`, one program with a module per subject. This library has
//!
//! * servers as child processes with a private folder and socket: [`Gateway`] for ours, [`Peer`] for those that we
//!   compare with, both on [`Server`];
//! * a vhost-user back-end for the gateway, which misbehaves when told to: [`BackEnd`];
//! * images for them, on a disk or in memory: [`Image`];
//! * other people's clients, found in the test bed: [`tool`], [`requires!`];
//! * a conformance suite for any NBD server: [`conformance`], and the defects that show what it finds: [`planted`];
//! * somebody at the control socket of a gateway: [`Operator`];
//! * a look at a process from outside: [`process`];
//! * random numbers that print their seed: [`Rng`].
//!
//! Nothing here measures time. Where a test waits, the bound is there to end a test that hangs, far beyond what a
//! busy machine needs.

mod back_end;
mod bed;
pub mod binary;
pub mod cachestat;
mod command;
pub mod conformance;
mod gateway;
mod image;
mod operator;
mod peer;
pub mod planted;
pub mod process;
mod rng;
mod server;

pub use back_end::BackEnd;
pub use bed::{bootable_image, must_not_skip, tool};
pub use command::{Output, run, run_with_input};
pub use gateway::{Gateway, GatewayBuilder};
pub use image::{Image, Place};
pub use operator::Operator;
pub use peer::Peer;
pub use rng::Rng;
pub use server::{Server, wait_until};

/// Leaves the test, loudly, if the test bed lacks one of these tools.
///
/// Where tests must not be skipped (see [`must_not_skip`]) the test fails instead.
///
/// ```no_run
/// fn a_test() {
///     tests::requires!("nbdinfo", "nbdcopy");
/// }
/// ```
#[macro_export]
macro_rules! requires {
    ($($tool:expr),+ $(,)?) => {
        $(
            if let Err(error) = $crate::tool($tool) {
                $crate::skip!("needs {}: {error:#}", $tool);
            }
        )+
    };
}

/// Leaves the test, loudly, for a reason that lies in the machine and not in the code.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        let reason = format!($($reason)+);
        assert!(!$crate::must_not_skip(), "skipped where skipping is forbidden: {reason}");
        eprintln!("SKIPPED: {reason}");
        return;
    }};
}
