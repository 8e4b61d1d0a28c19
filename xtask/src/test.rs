//! `cargo xtask test`: installs what the tests need and runs them all.
//!
//! Steps, in this order: the test bed, [`crate::check`], the tests of the workspace, those of the drivers that need
//! a feature, the scenarios in a guest, the examples in the documentation, the fuzz targets. A step that fails does
//! not keep the later ones from running, except that nothing can be tested without the bed. At the end stands one
//! line for each step and the test runner's own counts.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::bed::Bed;
use crate::{check, fuzz, guest, repo, sh};

/// What `cargo xtask test` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds to look for new inputs, for each fuzz target; 0 only replays their corpora.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    fuzz_seconds: u64,
}

/// How a step went.
struct Step {
    name: &'static str,
    seconds: f64,
    result: Result<()>,
}

/// `cargo xtask test`.
///
/// # Errors
/// The bed cannot be made, or a step failed; the steps that did are listed.
pub fn run(args: &Args) -> Result<()> {
    let bed = Bed::locate()?;
    bed.set_up()?;
    let mut counts = Vec::new();
    let steps = [
        step("check", check::run),
        step("tests", || workspace_tests(&bed, &mut counts)),
        step("drivers", || run_tests(&bed, DRIVERS, &mut counts)),
        step("guest", || guest::run(&guest::Args::all())),
        step("examples", || examples(&bed)),
        step("fuzz", || fuzz::run(&fuzz::Args::all(args.fuzz_seconds))),
    ];
    summary(&steps, &counts)
}

/// Runs one step and reports its failure at once.
fn step(name: &'static str, run: impl FnOnce() -> Result<()>) -> Step {
    eprintln!("== {name}");
    let start = Instant::now();
    let result = run();
    if let Err(error) = &result {
        eprintln!("== {name} failed: {error:#}");
    }
    Step { name, seconds: start.elapsed().as_secs_f64(), result }
}

/// Prints what happened, the runner's own lines last.
fn summary(steps: &[Step], counts: &[String]) -> Result<()> {
    println!();
    for step in steps {
        let word = if step.result.is_ok() { "ok" } else { "FAILED" };
        println!("{:10} {word:6} {:7.1} s", step.name, step.seconds);
    }
    for line in counts {
        println!("{line}");
    }
    let failed: Vec<&str> = steps.iter().filter(|step| step.result.is_err()).map(|step| step.name).collect();
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Unit tests, integration tests and end-to-end tests, by nextest where it is installed.
fn workspace_tests(bed: &Bed, counts: &mut Vec<String>) -> Result<()> {
    // End-to-end tests start programs of other crates, which cargo does not build for them.
    sh::run(repo::cargo()?.args(["build", "--quiet", "--workspace", "--bins", "--locked"]))?;
    run_tests(bed, &["--workspace"], counts)
}

/// The conformance suite on every driver, and what else takes code that no product has. It is built by itself:
/// cargo would otherwise put that code into the gateway that the other tests start.
const DRIVERS: &[&str] = &["--package", "drivers", "--features", "testing-backend"];

/// Runs the tests that the arguments choose.
fn run_tests(bed: &Bed, choice: &[&str], counts: &mut Vec<String>) -> Result<()> {
    let mut command = repo::cargo()?;
    command.env("GATEWAY_TEST_BED", bed.root());
    let nextest = sh::capture(repo::cargo()?.args(["nextest", "--version"])).is_ok();
    if nextest {
        command.args(["nextest", "run"]);
        command.stderr(Stdio::piped());
    } else {
        command.args(["test", "--all-targets"]);
        command.stdout(Stdio::piped());
    }
    command.args(choice).args(["--locked", "--no-fail-fast"]);
    let (status, lines) = watched(&mut command, is_count)?;
    if !status.success() {
        counts.extend(lines);
        bail!("`{}` ended with {status}", sh::display(&command));
    }
    ensure!(!lines.is_empty(), "`{}` counted no tests", sh::display(&command));
    counts.extend(lines);
    Ok(())
}

/// Whether a line of a test runner is its final count (nextest; libtest prints one for each program).
fn is_count(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("Summary [") || line.starts_with("test result:")
}

/// Runs a command that has one piped stream; repeats the stream and returns the lines that are wanted.
fn watched(command: &mut Command, wanted: fn(&str) -> bool) -> Result<(ExitStatus, Vec<String>)> {
    eprintln!("$ {}", sh::display(command));
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", sh::display(command)))?;
    let mut kept = Vec::new();
    let stream: Box<dyn std::io::Read> = match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), _) => Box::new(stdout),
        (None, Some(stderr)) => Box::new(stderr),
        (None, None) => bail!("`{}` has no piped stream", sh::display(command)),
    };
    for line in BufReader::new(stream).split(b'\n') {
        let line = line.context("output of the test runner")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if wanted(&line) {
            kept.push(line.into_owned());
        }
    }
    let status = child.wait().context("cannot wait for the test runner")?;
    Ok((status, kept))
}

/// Examples in documentation comments, which nextest does not run.
fn examples(bed: &Bed) -> Result<()> {
    sh::run(
        repo::cargo()?
            .args(["test", "--quiet", "--workspace", "--doc", "--locked"])
            .env("GATEWAY_TEST_BED", bed.root()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_both_runners_are_known() {
        assert!(is_count("     Summary [   0.005s] 3 tests run: 3 passed, 0 skipped"));
        assert!(is_count("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out"));
        assert!(!is_count("        PASS [   0.005s] xtask tests::summary"));
    }

    #[test]
    fn wanted_lines_of_a_command_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo test result: two; exit 3"]).stdout(Stdio::piped());
        let (status, lines) = watched(&mut command, is_count).unwrap();
        assert_eq!((status.code(), lines), (Some(3), vec!["test result: two".to_owned()]));
    }

    #[test]
    fn one_failed_step_fails_the_whole() {
        let good = || step("good", || Ok(()));
        assert!(summary(&[good()], &[]).is_ok());
        let error = summary(&[good(), step("bad", || bail!("no"))], &[]).unwrap_err();
        assert_eq!(error.to_string(), "failed: bad");
    }
}
