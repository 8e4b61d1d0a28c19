//! fio's nbd engine as a second client, so that the figures do not rest on our load generator alone.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::cpu::CpuClock;
use super::interrupt;
use super::load::{Access, Job, Outcome};
use super::server::{Server, stop, tied_to_us};
use super::tools::Tools;

/// How much longer than the load fio may take.
const AIR: Duration = Duration::from_secs(20);

/// Runs `job` with fio against `server`; fio's files go to `folder`.
///
/// The server's CPU time is taken around the whole run of fio and divided by all of its requests.
///
/// # Errors
/// fio is missing, fails, or says nothing that can be read.
pub(crate) fn run(tools: &Tools, server: &Server, job: &Job, folder: &Path) -> anyhow::Result<Outcome> {
    let (output, log) = (folder.join("fio.json"), folder.join("fio.log"));
    let messages = File::create(&log)?;
    let mut child = tied_to_us(&tools.find("fio")?)
        .args(arguments(&server.target.to_string(), job))
        .arg(format!("--output={}", output.display()))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(messages.try_clone()?)
        .stderr(messages)
        .spawn()
        .context("starting fio")?;
    let clock = CpuClock::of(child.id())?;
    let before = server.observed.read()?;
    let end = Instant::now() + job.duration + AIR;
    let mut client_ns = 0;
    let status = loop {
        // Readable until the process is collected below.
        client_ns = clock.now_ns().unwrap_or(client_ns);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let stopped = interrupt::check().and_then(|()| {
            ensure!(Instant::now() < end, "fio does not end");
            Ok(())
        });
        if let Err(error) = stopped {
            stop(&mut child);
            return Err(error);
        }
        thread::sleep(Duration::from_millis(10));
    };
    let spent = server.observed.read()?.since(&before);
    if !status.success() {
        bail!("fio ended with {status}: {}", fs::read_to_string(&log).unwrap_or_default().trim());
    }
    let text = fs::read_to_string(&output).with_context(|| format!("reading {}", output.display()))?;
    let (requests, iops) = rate(&text, job.access)?;
    let seconds = requests as f64 / iops;
    Ok(Outcome {
        requests,
        seconds,
        iops,
        mb_per_s: iops * f64::from(job.block_bytes) / 1e6,
        client_us: Some(client_ns as f64 / 1e3 / requests as f64),
        server_us: Some(spent.server_ns as f64 / 1e3 / requests as f64),
        teamwork: spent.teamwork(requests, seconds),
        others: None,
        latency: None,
    })
}

fn arguments(uri: &str, job: &Job) -> Vec<String> {
    let access = match job.access {
        Access::RandRead => "randread",
        Access::RandWrite => "randwrite",
        Access::Read => "read",
        Access::Write => "write",
    };
    vec![
        "--name=bench".into(),
        "--ioengine=nbd".into(),
        format!("--uri={uri}"),
        format!("--rw={access}"),
        format!("--bs={}", job.block_bytes),
        format!("--iodepth={}", job.depth),
        format!("--randseed={}", job.offset_seed + 1),
        "--norandommap".into(),
        "--time_based".into(),
        format!("--runtime={}ms", job.duration.as_millis()),
        // One process, whose CPU clock counts everything.
        "--thread".into(),
        "--output-format=json".into(),
    ]
}

/// Number of requests and requests per second in fio's JSON, which may have other lines before it.
fn rate(text: &str, access: Access) -> anyhow::Result<(u64, f64)> {
    let json = text.find('{').map(|at| &text[at..]).context("fio printed no JSON")?;
    let report: Value = serde_json::from_str(json).context("fio's report is not JSON")?;
    let job = &report["jobs"][0];
    ensure!(job["error"].as_i64() == Some(0), "fio reports error {} of the nbd engine", job["error"]);
    let side = &job[if access.is_write() { "write" } else { "read" }];
    let (requests, iops) = (side["total_ios"].as_u64(), side["iops"].as_f64());
    let (requests, iops) = requests.zip(iops).context("fio's report has no total_ios or iops")?;
    ensure!(requests > 0 && iops > 0.0, "fio made no request");
    Ok((requests, iops))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_behind_a_note() {
        let text = "note: x\n{\"jobs\":[{\"error\":0,\"read\":{\"total_ios\":12,\"iops\":6.5}}]}";
        assert_eq!(rate(text, Access::RandRead).unwrap(), (12, 6.5));
    }

    #[test]
    fn an_error_of_the_engine_is_an_error() {
        let text = "{\"jobs\":[{\"error\":5,\"read\":{\"total_ios\":12,\"iops\":6.5}}]}";
        assert!(rate(text, Access::RandRead).unwrap_err().to_string().contains("error 5"));
    }
}
