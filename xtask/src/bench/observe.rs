//! What can be seen of a server from outside while it works: CPU time and, in front of a vhost-user back-end, how
//! often the two notify each other.
//!
//! *Kicks* are the writes that the server does by write(2) and its kin, `syscw` of proc_pid_io(5). The gateway writes
//! nothing but event counters that way (its sockets take sendmsg(2)), so this is the number of its kicks and of the
//! signals between its own threads: requests per kick may be better than told, never worse. *Wake-ups* are the
//! voluntary context switches of all its threads, proc_pid_status(5): each is a sleep that something ended, be it the
//! back-end or the client. Both cost the server nothing.

use std::fs;

use anyhow::Context;
use serde::Serialize;

use super::cpu::CpuClock;

/// From this share of a core on a back-end bounds what any server in front of it can reach.
pub(crate) const BUSY_MIN: f64 = 0.95;

/// The processes that answer at one address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed {
    pid: u32,
    server: CpuClock,
    backend: Option<CpuClock>,
}

/// The counters at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    server_ns: u64,
    backend: Option<BackendReading>,
}

#[derive(Debug)]
struct BackendReading {
    ns: u64,
    writes: u64,
    sleeps: u64,
}

/// What was spent between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// CPU time of the server.
    pub server_ns: u64,
    /// CPU time of the back-end, if there is one.
    pub backend_ns: Option<u64>,
    writes: u64,
    sleeps: u64,
}

/// How a server and its back-end worked together.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Teamwork {
    /// CPU time of the back-end divided by the wall clock's: 1 is one core, busy throughout.
    pub busy: f64,
    /// Requests per kick.
    pub per_kick: f64,
    /// Requests per wake-up.
    pub per_wake_up: f64,
}

impl Observed {
    /// The server that is process `pid`, with the back-end that it uses.
    ///
    /// # Errors
    /// No such process.
    pub(crate) fn new(pid: u32, backend: Option<CpuClock>) -> anyhow::Result<Self> {
        Ok(Self { pid, server: CpuClock::of(pid)?, backend })
    }

    /// Reads everything. The server's notifications are looked at only where it has a back-end.
    ///
    /// # Errors
    /// One of the processes has ended, or `/proc` is not as documented.
    pub(crate) fn read(&self) -> anyhow::Result<Reading> {
        let backend = match &self.backend {
            Some(clock) => {
                let (writes, sleeps) = (writes(self.pid)?, sleeps(self.pid)?);
                Some(BackendReading { ns: clock.now_ns()?, writes, sleeps })
            }
            None => None,
        };
        Ok(Reading { server_ns: self.server.now_ns()?, backend })
    }
}

impl Reading {
    /// What was spent since `before`.
    pub(crate) fn since(&self, before: &Self) -> Spent {
        let backend = before.backend.as_ref().zip(self.backend.as_ref());
        // Threads that end take their context switches along, so that count may go down.
        let spent =
            |of: fn(&BackendReading) -> u64| backend.map(|(from, to)| of(to).saturating_sub(of(from)));
        Spent {
            server_ns: self.server_ns - before.server_ns,
            backend_ns: spent(|reading| reading.ns),
            writes: spent(|reading| reading.writes).unwrap_or(0),
            sleeps: spent(|reading| reading.sleeps).unwrap_or(0),
        }
    }
}

impl Spent {
    /// The figures for so many requests in so many seconds; nothing where there is no back-end.
    pub(crate) fn teamwork(&self, requests: u64, seconds: f64) -> Option<Teamwork> {
        let busy = self.backend_ns? as f64 / 1e9 / seconds;
        // One that never sleeps has as many requests per wake-up as there were.
        let per = |count: u64| requests as f64 / count.max(1) as f64;
        Some(Teamwork { busy, per_kick: per(self.writes), per_wake_up: per(self.sleeps) })
    }
}

/// Calls of write(2) and its kin by all threads of a process, those that have ended too.
fn writes(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).with_context(|| format!("/proc/{pid}/io"))?;
    field(&text, "syscw:").with_context(|| format!("/proc/{pid}/io has no line 'syscw'"))
}

/// Voluntary context switches of all threads that a process has now.
fn sleeps(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("/proc/{pid}/task"))? {
        // A thread that has just ended is left out.
        let text = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        sum += field(&text, "voluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sum)
}

/// The number behind a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tx\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(status, "syscw:"), None);
    }

    #[test]
    fn writes_and_sleeps_of_a_process_are_counted() {
        // Another process: threads of this one come and go with its other tests.
        let mut command = std::process::Command::new("cat");
        let pipes = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut cat = pipes.spawn().unwrap();
        let (mut stdin, mut stdout) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        let mut echo = || {
            stdin.write_all(b"x").unwrap();
            stdout.read_exact(&mut [0]).unwrap();
            // Long enough for it to sleep until there is more.
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        echo();
        let (writes_before, sleeps_before) = (writes(cat.id()).unwrap(), sleeps(cat.id()).unwrap());
        (0..10).for_each(|_| echo());
        assert_eq!(writes(cat.id()).unwrap(), writes_before + 10);
        assert!(sleeps(cat.id()).unwrap() >= sleeps_before + 5);
        drop(stdin);
        cat.wait().unwrap();
    }

    #[test]
    fn figures_are_per_request_and_second() {
        let reading = |ns, writes, sleeps, server_ns| Reading {
            server_ns,
            backend: Some(BackendReading { ns, writes, sleeps }),
        };
        let (before, after) = (reading(1_000_000_000, 10, 100, 5), reading(2_900_000_000, 35, 100, 12));
        let spent = after.since(&before);
        assert_eq!((spent.server_ns, spent.backend_ns), (7, Some(1_900_000_000)));
        let teamwork = spent.teamwork(1000, 2.0).unwrap();
        assert!((teamwork.busy - 0.95).abs() < 1e-9);
        assert_eq!((teamwork.per_kick, teamwork.per_wake_up), (40.0, 1000.0));
    }

    #[test]
    fn without_a_back_end_there_are_no_such_figures() {
        let observed = Observed::new(std::process::id(), None).unwrap();
        let before = observed.read().unwrap();
        assert!(observed.read().unwrap().since(&before).teamwork(1, 1.0).is_none());
    }
}
