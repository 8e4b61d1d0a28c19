//! `cargo xtask check`: everything that can be said about the code without running it.
//!
//! It is the one gate before a commit, the same on every machine: format, clippy on everything with warnings
//! denied, documentation with warnings denied, and [`crate::tidy`].

use anyhow::{Result, ensure};

use crate::{repo, sh, tidy};

/// `cargo xtask check`.
///
/// # Errors
/// Some step found something. The others run all the same, and each says by itself what it found.
pub fn run() -> Result<()> {
    let results =
        [("format", format()), ("tidy", tidy::run()), ("clippy", clippy()), ("documentation", document())];
    let mut failed = Vec::new();
    for (name, result) in results {
        if let Err(error) = result {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "not clean: {}", failed.join(", "));
    Ok(())
}

fn format() -> Result<()> {
    sh::run(repo::cargo()?.args(["fmt", "--all", "--check"]))
}

/// Once as users build it, once with everything that only tests switch on.
fn clippy() -> Result<()> {
    for features in [&[][..], &["--all-features"]] {
        let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked"];
        sh::run(repo::cargo()?.args(clippy).args(features).args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

fn document() -> Result<()> {
    let doc = ["doc", "--quiet", "--workspace", "--no-deps", "--all-features", "--locked"];
    sh::run(repo::cargo()?.args(doc).env("RUSTDOCFLAGS", "--deny warnings"))
}
