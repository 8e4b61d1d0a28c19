//! CPU time of a process, in nanoseconds.
//!
//! The method: the process CPU clock of clock_getcpuclockid(3). It is the sum of the run time (user + system, as
//! the scheduler accounts it) of all threads of the process, of those that have ended too. The workers that
//! io_uring makes (io-wq and SQPOLL threads) are threads of the process and are counted; kernel threads that write
//! back dirty pages are not.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The CPU clock of another process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuClock {
    pid: Pid,
    clock: ClockId,
}

impl CpuClock {
    /// The clock of process `pid`.
    ///
    /// # Errors
    /// No such process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).with_context(|| format!("{pid} is not a process id"))?);
        let clock = clock_getcpuclockid(pid).with_context(|| format!("CPU clock of process {pid}"))?;
        Ok(Self { pid, clock })
    }

    /// CPU time used so far.
    ///
    /// # Errors
    /// The process has ended.
    pub(crate) fn now_ns(&self) -> anyhow::Result<u64> {
        read(self.clock).with_context(|| format!("CPU time of process {}: it has ended", self.pid))
    }
}

/// CPU time of this process so far.
///
/// # Errors
/// None that Linux documents for this clock.
pub(crate) fn own_ns() -> anyhow::Result<u64> {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// Number of cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// CPU time of the whole machine so far, in clock ticks of 10 ms and therefore only good for a second or more.
///
/// Source: proc_stat(5); user, nice, system, irq, softirq and steal are time that nobody else could use.
///
/// # Errors
/// `/proc/stat` cannot be read or is not as documented.
pub(crate) fn machine_ns() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    machine_ticks(&stat).map(|ticks| ticks * TICK_NS).context("/proc/stat has no cpu line")
}

/// `USER_HZ` is 100 on every architecture but alpha and ia64.
const TICK_NS: u64 = 10_000_000;

fn machine_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal
    [0, 1, 2, 5, 6, 7].into_iter().map(|index| fields.get(index).copied()).sum()
}

fn read(clock: ClockId) -> anyhow::Result<u64> {
    let time = Duration::from(clock_gettime(clock)?);
    Ok(u64::try_from(time.as_nanos())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_process_counts_its_ended_threads() {
        let clock = CpuClock::of(std::process::id()).unwrap();
        let before = clock.now_ns().unwrap();
        let spent = std::thread::spawn(|| {
            let start = read(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
            while read(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap() < start + 5_000_000 {}
            read(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap() - start
        });
        let spent = spent.join().unwrap();
        assert!(clock.now_ns().unwrap() - before >= spent);
    }

    #[test]
    fn idle_time_is_not_used_time() {
        assert_eq!(machine_ticks("cpu  1 20 300 9999 9999 4000 50000 600000 7 7\ncpu0 1"), Some(654_321));
        assert_eq!(machine_ticks("intr 1"), None);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        // PID_MAX_LIMIT of proc_sys_kernel(5): one more than the largest id.
        assert!(CpuClock::of(1 << 22).is_err());
    }
}
