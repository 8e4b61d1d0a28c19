//! `--exit-with-parent`: whoever started the server takes it along.

use drivers::Error;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// Makes this process end as by SIGTERM when the thread that started it ends. `parent`: its process, as it was when
/// this one began.
///
/// # Errors
/// That has happened already, or the system said no.
pub(super) fn end_with(parent: Pid) -> Result<(), Error> {
    prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|cause| Error::system("watch the parent process", &cause.into()))?;
    // It may have ended before that: then another process has adopted this one.
    if getppid() != parent {
        return Err(Error::device(
            "the parent process is gone already, so option --exit-with-parent ends here",
        ));
    }
    Ok(())
}
