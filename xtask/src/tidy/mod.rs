//! `cargo xtask tidy`: rules of this repository that neither the compiler nor clippy knows.
//!
//! Each rule is a function from the files to findings, in a module that says why the rule is there.

mod arrows;
mod code;
mod dependencies;
mod errors;
mod islands;
mod places;
mod shape;

use std::fmt;

use anyhow::{Result, bail};

use crate::repo::{self, File};

/// Something that a rule does not like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path from the root of the repository.
    path: String,
    /// Line, from 1; 0 when it is about the whole file.
    line: usize,
    /// What is wrong and what to do.
    message: String,
}

impl Finding {
    /// A finding in a file; `index` counts lines from 0.
    fn at(file: &File, index: usize, message: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line: index + 1, message: message.into() }
    }

    /// A finding about a file as a whole.
    fn whole(file: &File, message: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line: 0, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Applies every rule.
fn check(files: &[File]) -> Vec<Finding> {
    let rules =
        [arrows::check, dependencies::check, errors::check, islands::check, places::check, shape::check];
    rules.iter().flat_map(|rule| rule(files)).collect()
}

/// `cargo xtask tidy`.
///
/// # Errors
/// The files cannot be listed, or a rule found something; the findings are printed.
pub fn run() -> Result<()> {
    let files = repo::files()?;
    let findings = check(&files);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings in {} files", findings.len(), files.len());
    }
    eprintln!("tidy: {} files are clean", files.len());
    Ok(())
}
