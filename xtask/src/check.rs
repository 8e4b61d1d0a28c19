//! `cargo xtask check`: everything that can be said about the code without running it.
//!
//! It is the one gate before a commit, the same on every machine: format, clippy on everything with warnings
//! denied, documentation with warnings denied, and [`crate::tidy`].

use anyhow::Result;

use crate::{repo, sh, tidy};

/// `cargo xtask check`.
///
/// # Errors
/// The first step that finds something.
pub fn run() -> Result<()> {
    sh::run(repo::cargo()?.args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    // Once as users build it, once with everything that only tests switch on.
    for features in [&[][..], &["--all-features"]] {
        let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked"];
        sh::run(repo::cargo()?.args(clippy).args(features).args(["--", "--deny", "warnings"]))?;
    }
    let doc = ["doc", "--quiet", "--workspace", "--no-deps", "--all-features", "--locked"];
    sh::run(repo::cargo()?.args(doc).env("RUSTDOCFLAGS", "--deny warnings"))
}
