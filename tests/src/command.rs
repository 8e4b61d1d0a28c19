//! Running a tool to its end.

use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};

/// What a tool did.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Output {
    /// What it printed, if it succeeded.
    ///
    /// # Panics
    /// It failed; what it said is shown.
    #[must_use]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}:\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// What it said, if it failed.
    ///
    /// # Panics
    /// It succeeded.
    #[must_use]
    pub fn failure(self) -> String {
        assert!(!self.status.success(), "it succeeded:\n{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be started.
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, "")
}

/// Runs a command to its end with this text as standard input.
///
/// # Panics
/// It cannot be started.
pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // A tool that does not want it may close it; short inputs fit into the pipe.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the child is ours");
    Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
