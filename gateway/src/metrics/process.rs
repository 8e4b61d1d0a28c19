//! [`Process`]: what the system says of this process, under the names that all clients of Prometheus have for it.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};

/// When the process began to serve.
static START: OnceLock<SystemTime> = OnceLock::new();

/// Notes that the process begins to serve. Call once.
pub(crate) fn starts() {
    // Once is the first time.
    let _ = START.set(SystemTime::now());
}

/// What the system says. What it does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// User and system time of all threads.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
    pub(crate) virtual_memory_bytes: Option<u64>,
    pub(crate) resident_memory_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    /// Since 1970.
    pub(crate) start_time_seconds: Option<f64>,
}

impl Process {
    pub(crate) fn now() -> Process {
        let pages = pages();
        Process {
            cpu_seconds: cpu_seconds(),
            // One of them is that of the folder itself.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as u64),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            virtual_memory_bytes: pages.map(|(all, _)| all),
            resident_memory_bytes: pages.map(|(_, resident)| resident),
            threads: fs::read_dir("/proc/self/task").ok().map(|all| all.count() as u64),
            start_time_seconds: START
                .get()
                .and_then(|start| start.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of centuries fit")]
fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(microseconds as f64 / 1e6)
}

/// Bytes of the address space, and bytes that are resident (proc(5), `/proc/pid/statm`).
fn pages() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut counts = text.split_ascii_whitespace().map(str::parse::<u64>);
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some((counts.next()?.ok()? * page, counts.next()?.ok()? * page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_everything() {
        starts();
        let Process {
            cpu_seconds: Some(_),
            open_fds: Some(open),
            max_fds: Some(max),
            virtual_memory_bytes: Some(all),
            resident_memory_bytes: Some(resident),
            threads: Some(1..),
            start_time_seconds: Some(start),
        } = Process::now()
        else {
            panic!("{:?}", Process::now())
        };
        assert!(open > 2 && open < max && resident > 1 << 20 && resident < all && start > 1.7e9);
    }
}
