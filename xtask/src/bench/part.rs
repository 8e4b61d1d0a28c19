//! Parts of the gateway that are measured by themselves: the NVMe driver on a controller that moves no payload.
//!
//! The program makes the load by itself, and tells the CPU time of the thread that does what a worker of the gateway
//! does of the driver's work. The controller is another thread of the same program, so that its time is not in that;
//! its queue is polled. Where the thread finds nothing ended it looks again, and that is in the figure: it is never too
//! good.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::cpu;
use super::load::{Job, Outcome};
use super::peers::Kind;
use super::server::tied_to_us;
use super::tools::Tools;

/// The program that measures the NVMe driver.
pub(crate) const PROGRAM: &str = "nvme-driver-load";

/// What the program prints.
#[derive(Debug, Deserialize)]
struct Report {
    /// Requests that ended in the measured time.
    requests: u64,
    /// The measured time.
    seconds: f64,
    /// CPU time of the driver in it.
    driver_ns: u64,
    /// CPU time of the whole program, from its start on.
    process_ns: u64,
}

/// Measures a part under the load of `job`, on a disk of this size.
///
/// # Errors
/// The program is missing, fails, or does not say what it is to say.
pub(crate) fn run(tools: &Tools, kind: Kind, job: &Job, size_bytes: u64) -> anyhow::Result<Outcome> {
    let program = tools.find(kind.program())?;
    let (started, before_ns) = (Instant::now(), cpu::machine_ns()?);
    let output = tied_to_us(&program)
        .args(arguments(job, size_bytes))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let (wall_ns, machine_ns) = (started.elapsed().as_nanos() as f64, cpu::machine_ns()? - before_ns);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{kind} ended with {}: {}", output.status, said.trim());
    let report: Report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{kind} printed {:?}", String::from_utf8_lossy(&output.stdout)))?;
    ensure!(report.requests > 0 && report.seconds > 0.0, "{kind} ended no request");
    let others_ns = machine_ns.saturating_sub(report.process_ns) as f64;
    Ok(report.outcome(job, others_ns / wall_ns / cpu::cores() as f64))
}

/// Arguments that make the program put the load of `job`.
fn arguments(job: &Job, size_bytes: u64) -> Vec<String> {
    let values = [
        ("--size", size_bytes.to_string()),
        ("--depth", job.depth.to_string()),
        ("--block", job.block_bytes.to_string()),
        ("--seconds", job.duration.as_secs_f64().to_string()),
        ("--warm-up", job.warm_up.as_secs_f64().to_string()),
    ];
    values.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

impl Report {
    /// As a row of a table; the driver's CPU time takes the server's place.
    fn outcome(&self, job: &Job, others: f64) -> Outcome {
        let iops = self.requests as f64 / self.seconds;
        Outcome {
            requests: self.requests,
            seconds: self.seconds,
            iops,
            mb_per_s: iops * f64::from(job.block_bytes) / 1e6,
            client_us: None,
            server_us: Some(self.driver_ns as f64 / 1e3 / self.requests as f64),
            teamwork: None,
            others: Some(others),
            latency: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Access;
    use super::*;

    #[test]
    fn the_program_is_told_the_load() {
        let job = Job { depth: 32, block_bytes: 4096, ..Job::new(Access::RandRead, 0) };
        let line = arguments(&job, 1 << 30).join(" ");
        assert_eq!(line, "--size 1073741824 --depth 32 --block 4096 --seconds 1 --warm-up 0.3");
    }

    #[test]
    fn figures_are_per_request_and_second() {
        let text = br#"{"requests":4000,"seconds":2.0,"driver_ns":600000,"process_ns":9,"turns":1}"#;
        let report: Report = serde_json::from_slice(text).unwrap();
        let job = Job { block_bytes: 4096, ..Job::new(Access::RandRead, 0) };
        let outcome = report.outcome(&job, 0.0);
        assert_eq!((outcome.iops, outcome.server_us), (2000.0, Some(0.15)));
    }
}
