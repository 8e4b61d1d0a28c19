//! [`Daemon`]: a server in the background. The command that starts it returns when clients can connect.
//!
//! The server is a child of the command, and tells by a pipe when it is ready. Until then it is as in the foreground:
//! it prints, complains and hears Ctrl-C; its end is the command's end.
#![expect(unsafe_code, reason = "fork(2) is unsafe by signature")]

use std::io::{self, Read as _, Write as _};

use drivers::Error;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};

use crate::{log, sys};

/// Which process this is now.
#[derive(Debug)]
pub(super) enum Side {
    /// The command; it ends with this code.
    Command(u8),
    /// The server.
    Server(Daemon),
}

/// A server that is not in the background yet.
#[derive(Debug)]
pub(super) struct Daemon {
    report: io::PipeWriter,
}

/// Goes on as two processes. The command's waits until the server is ready or has ended.
///
/// # Errors
/// There are threads already, or the system said no.
pub(super) fn split() -> Result<Side, Error> {
    let failed = |cause: io::Error| Error::system("start a process in the background", &cause);
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|count| count > 1) {
        return Err(Error::device("cannot go into the background: threads are running already"));
    }
    let (news, report) = io::pipe().map_err(failed)?;
    // SAFETY: no other thread runs, so nothing is half done in the child: no lock is held, and it may do whatever this
    // process may.
    match unsafe { fork() }.map_err(|cause| failed(cause.into()))? {
        ForkResult::Child => Ok(Side::Server(Daemon { report })),
        ForkResult::Parent { child } => {
            drop(report);
            Ok(Side::Command(wait(news, child)))
        }
    }
}

/// Waits for the server; returns the exit code of the command.
fn wait(mut news: io::PipeReader, server: Pid) -> u8 {
    if news.read_exact(&mut [0]).is_ok() {
        return 0;
    }
    // It ended, and said why. Even if it meant to: it does not serve.
    let code = match waitpid(server, None) {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        _ => 1,
    };
    u8::try_from(code).unwrap_or(1).max(1)
}

impl Daemon {
    /// Leaves the terminal, the folder and the standard streams behind, and lets the command end. `status` says what
    /// is served.
    ///
    /// # Errors
    /// The command is gone, or the system said no.
    pub(super) fn ready(mut self, status: &str) -> Result<(), Error> {
        let failed = |cause: io::Error| Error::system("go into the background", &cause);
        setsid().map_err(|cause| failed(cause.into()))?;
        std::env::set_current_dir("/").map_err(failed)?;
        let keeps_errors = log::stay_behind(status);
        sys::empty_standard_streams(!keeps_errors).map_err(failed)?;
        self.report.write_all(&[0]).map_err(failed)
    }
}
