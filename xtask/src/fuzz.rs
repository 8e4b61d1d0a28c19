//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/`, a package outside the workspace.
//!
//! Each target first replays its corpus, `fuzz/corpus/TARGET`, then looks for new inputs for some seconds.
//! New inputs are kept below `target/`, so the work tree stays clean; one that is worth keeping is copied to the
//! corpus by hand. An input that fails is kept too, and the message of libFuzzer names it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::bed::host;
use crate::{repo, sh};

/// What `cargo xtask fuzz` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Targets to run; default: all.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Seconds to look for new inputs, for each target; 0 only replays the corpus.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u64,
}

impl Args {
    /// All targets, for so many seconds each.
    #[must_use]
    pub fn all(seconds: u64) -> Self {
        Self { targets: Vec::new(), seconds }
    }
}

/// `cargo xtask fuzz`.
///
/// # Errors
/// cargo-fuzz cannot be installed, a target does not exist or cannot be built, or an input makes it fail.
pub fn run(args: &Args) -> Result<()> {
    let manifest = repo::root()?.join("fuzz/Cargo.toml");
    ensure!(manifest.exists(), "{} is missing, and with it every fuzz target", manifest.display());
    let known = targets(&manifest)?;
    for target in &args.targets {
        ensure!(known.contains(target), "no fuzz target `{target}`; there are: {}", known.join(", "));
    }
    let wanted = if args.targets.is_empty() { &known } else { &args.targets };
    ensure_cargo_fuzz()?;
    for target in wanted {
        fuzz(target, args.seconds).with_context(|| format!("fuzz target {target}"))?;
    }
    eprintln!("fuzz: {} targets, {} s each, nothing found", wanted.len(), args.seconds);
    Ok(())
}

/// Names of the programs in the manifest.
fn targets(manifest: &Path) -> Result<Vec<String>> {
    let metadata = sh::capture(
        repo::cargo()?.args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"]).arg(manifest),
    )?;
    parse_targets(&metadata)
}

/// Names of the programs in the output of `cargo metadata`.
fn parse_targets(metadata: &str) -> Result<Vec<String>> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).context("output of cargo metadata")?;
    let mut names: Vec<String> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"] == serde_json::json!(["bin"]))
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    ensure!(!names.is_empty(), "the fuzz package has no program");
    Ok(names)
}

/// Installs cargo-fuzz, and the C++ compiler that libFuzzer is built with, where they are missing.
fn ensure_cargo_fuzz() -> Result<()> {
    if !sh::in_path("c++") {
        host::install(&["g++"], "libFuzzer is built with a C++ compiler")?;
    }
    if sh::capture(repo::cargo()?.args(["fuzz", "--version"])).is_err() {
        // By force: one that is there and does not start was built for another C library.
        sh::run(repo::cargo()?.args(["install", "--quiet", "--locked", "--force", "cargo-fuzz"]))?;
    }
    Ok(())
}

/// Runs one target on its corpus and on what is found from there.
fn fuzz(target: &str, seconds: u64) -> Result<()> {
    let root = repo::root()?;
    let found = root.join("target/fuzz-found").join(target);
    let failed = root.join("target/fuzz-failed").join(target);
    for folder in [&found, &failed] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let corpus = root.join("fuzz/corpus").join(target);
    let mut folders = vec![found];
    if corpus.is_dir() {
        folders.push(corpus);
    }
    // Every input of the folders is run even when there is no time for new ones.
    let limit = if seconds == 0 { "-runs=0".to_owned() } else { format!("-max_total_time={seconds}") };
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(failed.join(""));
    sh::run(cargo_fuzz(target, &folders)?.args(["--", &limit, "-print_final_stats=1"]).arg(prefix))
}

/// `cargo fuzz run`, on the stable toolchain too: the flags that it needs are allowed by a variable.
fn cargo_fuzz(target: &str, folders: &[PathBuf]) -> Result<Command> {
    let mut command = repo::cargo()?;
    command.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", target]).args(folders);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_programs_of_the_manifest() {
        let metadata = r#"{"packages":[{"targets":[
            {"kind":["bin"],"name":"reply"},{"kind":["lib"],"name":"helper"},{"kind":["bin"],"name":"option"}]}]}"#;
        assert_eq!(parse_targets(metadata).unwrap(), ["option", "reply"]);
        assert!(parse_targets(r#"{"packages":[]}"#).is_err());
        assert!(parse_targets("").is_err());
    }
}
