//! Runs other programs: what is run is shown, what they say is kept, a failure says where to look.
//!
//! It is not a shell: arguments are never split, and nothing is looked up but the program.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// Lines of a log that a failure repeats.
const LOG_TAIL_LINES: usize = 20;

/// The command as a person would type it, without quoting.
pub(crate) fn display(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        // Writing to a `String` cannot fail.
        let _ = write!(text, " {}", arg.to_string_lossy());
    }
    text
}

/// Runs a command whose output goes where ours goes.
///
/// # Errors
/// The program cannot be started, or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", display(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", display(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", display(command));
    }
    Ok(())
}

/// Runs a command in silence and returns what it printed on standard output.
///
/// # Errors
/// The program cannot be started, does not exit with 0 (the error has its standard error), or prints
/// something that is not UTF-8.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", display(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", display(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{}`", display(command)))
}

/// Runs a long command under a title; its output goes to `log` and only a failure shows any of it.
///
/// # Errors
/// The log cannot be written, the program cannot be started, or it does not exit with 0.
pub(crate) fn logged(title: &str, log: &Path, command: &mut Command) -> Result<()> {
    eprint!("setup: {title} … ");
    let start = Instant::now();
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("cannot duplicate the descriptor of a log")?)
        .stderr(file)
        .status();
    match status {
        Ok(status) if status.success() => {
            eprintln!("{:.1} s", start.elapsed().as_secs_f64());
            Ok(())
        }
        Ok(status) => {
            eprintln!("failed");
            bail!("`{}` ended with {status}; the end of {}:\n{}", display(command), log.display(), tail(log));
        }
        Err(error) => {
            eprintln!("failed");
            Err(error).with_context(|| format!("cannot start `{}`", display(command)))
        }
    }
}

/// The last lines of a file, or nothing when it cannot be read.
fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Whether a program of this name is somewhere in `PATH`.
pub(crate) fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some tools in sbin, which the PATH of an ordinary user does not name.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = capture(&mut script("echo no luck >&2; exit 3")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("no luck"), "{text}");
    }

    #[test]
    fn a_logged_failure_shows_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = script("seq 100; echo the reason >&2; exit 1");
        let error = logged("counting", &log, &mut command).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the reason") && !text.contains("\n50\n"), "{text}");
    }

    #[test]
    fn a_missing_program_is_not_in_path() {
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program-anywhere"));
    }
}
