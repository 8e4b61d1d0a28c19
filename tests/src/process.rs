//! A look at a process from outside, through `/proc`.

use std::fs;

/// Resident memory in bytes.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024
}

/// Clock ticks of CPU that it used since its start, in user and kernel mode.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in parentheses may contain blanks; fields 14 and 15 are utime and stime (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields[index - 3].parse::<u64>().expect("a number");
    ticks(14) + ticks(15)
}

/// Number of open descriptors.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Soft limit of open descriptors.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn descriptor_limit(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a row for files");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}
