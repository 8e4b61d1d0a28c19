//! The comparison as a whole: prepare, measure every scenario, report.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::statfs::{self, FsType};
use serde_json::{Value, json};

use super::backend::Backend;
use super::peers::Kind;
use super::result::ScenarioResult;
use super::rounds::{Plan, measure};
use super::scenario::{Client, GROUPS, Media, Scenario};
use super::server::warn;
use super::tools::Tools;
use super::{cpu, image, report};

/// Options of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// Three rounds of short runs instead of seven of one second.
    #[arg(long)]
    quick: bool,
    /// Number of rounds.
    #[arg(long)]
    runs: Option<usize>,
    /// Measured time of each run.
    #[arg(long)]
    seconds: Option<f64>,
    /// How often a run is repeated that other processes disturbed; the least disturbed one counts.
    #[arg(long, default_value_t = 1, value_name = "TIMES")]
    patience: usize,
    /// Only scenarios with one of these names, or whose name contains one of these words.
    #[arg(long, value_delimiter = ',')]
    filter: Vec<String>,
    /// Only these servers (see --list); the gateway is not implied.
    #[arg(long, value_delimiter = ',', value_parser = parse_server)]
    server: Vec<Kind>,
    /// Print names of scenarios and servers, and end.
    #[arg(long)]
    list: bool,
    /// Write everything measured to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print Markdown tables at the end.
    #[arg(long)]
    markdown: bool,
    /// Exit with 1 when a goal is missed.
    #[arg(long)]
    strict: bool,
    /// Another release build of the gateway, to compare versions.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Size of each image in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    image_size: u64,
    /// Folder on a disk's file system for one of the images; default: beside the build's output.
    #[arg(long, value_name = "FOLDER")]
    disk_folder: Option<PathBuf>,
    /// Remove the images afterwards; they are kept for the next time otherwise.
    #[arg(long)]
    remove_images: bool,
}

fn parse_server(name: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.map(Kind::slug).join(", ");
    Kind::ALL
        .into_iter()
        .find(|kind| kind.slug() == name)
        .ok_or_else(|| format!("no such server; there are {}", known()))
}

/// Runs the comparison.
///
/// # Errors
/// See [`super::run`].
pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let chosen: Vec<(&str, Vec<&'static Scenario>)> = GROUPS
        .iter()
        .map(|group| {
            (group.title, group.scenarios.iter().filter(|scenario| wanted(args, scenario)).collect())
        })
        .collect();
    if args.list {
        list();
        return Ok(());
    }
    let scenarios: Vec<&'static Scenario> =
        chosen.iter().flat_map(|(_, scenarios)| scenarios).copied().collect();
    ensure!(!scenarios.is_empty(), "no scenario has {} in its name; see --list", args.filter.join(" or "));
    let sockets =
        tempfile::Builder::new().prefix("gateway-bench-").tempdir().context("folder for sockets")?;
    let plan = plan(args, sockets.path(), &scenarios)?;
    let versions = versions(&plan, &scenarios);
    prepare(&plan, &scenarios)?;
    let file_system = file_system(&plan.file_image);
    println!("{}", heading(&plan, &versions));
    let mut results: Vec<ScenarioResult> = Vec::new();
    for scenario in scenarios {
        let result = measure(&plan, scenario)?;
        results.push(result);
        if let Some(result) = results.last() {
            print!("{}", report::scenario(result, &results, &file_system));
        }
        if let Some(path) = &args.json {
            // After each scenario, so that an interrupt loses nothing.
            write_json(path, &plan, &versions, &results)?;
        }
    }
    print!("{}", report::total(&results));
    if args.markdown {
        for (title, scenarios) in &chosen {
            let is_of_group = |result: &&ScenarioResult| {
                scenarios.iter().any(|scenario| scenario.name == result.scenario.name)
            };
            let of_group: Vec<&ScenarioResult> = results.iter().filter(is_of_group).collect();
            if !of_group.is_empty() {
                print!("\n{}", report::markdown(title, &of_group, &results, &file_system));
            }
        }
    }
    finish(args, &plan, &results)
}

/// A word that is the whole name of a scenario chooses that one alone.
fn wanted(args: &CompareArgs, scenario: &Scenario) -> bool {
    let is_name =
        |word: &str| GROUPS.iter().flat_map(|group| group.scenarios).any(|scenario| scenario.name == word);
    let fits =
        |word: &String| scenario.name == word || (!is_name(word) && scenario.name.contains(word.as_str()));
    args.filter.is_empty() || args.filter.iter().any(fits)
}

fn list() {
    for group in GROUPS {
        println!("{}:", group.title);
        for scenario in group.scenarios {
            println!("  {:28} {}", scenario.name, scenario.description("the disk"));
        }
    }
    println!("servers: {}", Kind::ALL.map(Kind::slug).join(", "));
}

fn plan(args: &CompareArgs, sockets: &Path, scenarios: &[&Scenario]) -> anyhow::Result<Plan> {
    let (rounds, seconds, warm_up) = if args.quick { (3, 0.4, 0.15) } else { (7, 1.0, 0.3) };
    let size_bytes = args.image_size << 20;
    ensure!(size_bytes >= 16 << 20, "--image-size {}: at least 16", args.image_size);
    let rounds = args.runs.unwrap_or(rounds);
    ensure!(rounds > 0, "--runs 0: at least 1");
    let seconds = args.seconds.unwrap_or(seconds);
    let servers = if args.server.is_empty() { Kind::ALL.to_vec() } else { args.server.clone() };
    let programs = programs(&servers, scenarios);
    let own = std::env::current_exe().context("path of this program")?;
    let disk_folder = match &args.disk_folder {
        Some(folder) => std::path::absolute(folder)?,
        None => own.with_file_name("bench"),
    };
    let tmpfs = image::tmpfs_folder();
    Ok(Plan {
        tools: Tools::new(args.gateway.as_deref(), &programs)?,
        rounds,
        patience: args.patience,
        duration: Duration::try_from_secs_f64(seconds).with_context(|| format!("--seconds {seconds}"))?,
        warm_up: Duration::from_secs_f64(warm_up),
        servers,
        size_bytes,
        tmpfs_image: tmpfs.join("image"),
        tmpfs_scratch: tmpfs.join("scratch"),
        file_image: disk_folder.join("image"),
        folder: sockets.to_path_buf(),
    })
}

/// Makes the images that `scenarios` need, and checks that everything fits into memory.
pub(super) fn prepare(plan: &Plan, scenarios: &[&Scenario]) -> anyhow::Result<()> {
    let any = |test: fn(&Scenario) -> bool| scenarios.iter().any(|scenario| test(scenario));
    if any(|scenario| scenario.media == Media::Memory) {
        // The gateway's RAM disk and that of one peer at the same time.
        image::require_memory(2 * plan.size_bytes)?;
    }
    if any(|scenario| scenario.media == Media::Tmpfs && !scenario.access.is_write()) {
        image::prepare(&plan.tmpfs_image, plan.size_bytes)?;
    }
    if any(|scenario| scenario.media == Media::Tmpfs && scenario.access.is_write()) {
        image::prepare_scratch(&plan.tmpfs_scratch, plan.size_bytes)?;
    }
    if any(|scenario| scenario.media == Media::File) {
        image::prepare(&plan.file_image, plan.size_bytes)?;
    }
    Ok(())
}

/// The programs that take part.
pub(super) fn programs(servers: &[Kind], scenarios: &[&Scenario]) -> Vec<&'static str> {
    let is_measured =
        |kind: &Kind| !kind.is_part() || scenarios.iter().any(|scenario| scenario.servers.contains(kind));
    let measured = servers.iter().filter(|kind| is_measured(kind));
    let mut programs: Vec<&str> = measured.map(|kind| kind.program()).collect();
    if scenarios.iter().any(|scenario| scenario.client == Client::Fio) {
        programs.push("fio");
    }
    programs.extend(scenarios.iter().filter_map(|scenario| scenario.backend()).map(Backend::program));
    let mut seen = BTreeSet::new();
    programs.retain(|program| seen.insert(*program));
    programs
}

/// Program and version of everything that takes part; what is missing is named.
fn versions(plan: &Plan, scenarios: &[&Scenario]) -> Vec<(String, String)> {
    let version = |program: &str| {
        plan.tools.version(program).unwrap_or_else(|error| {
            warn(format_args!("{program}: {error:#}"));
            format!("missing: {error:#}")
        })
    };
    let programs = programs(&plan.servers, scenarios).into_iter();
    programs.map(|program| (program.to_owned(), version(program))).collect()
}

fn heading(plan: &Plan, versions: &[(String, String)]) -> String {
    let mut text = format!(
        "release builds; {} rounds of {:?} after {:?} of warm-up, servers in turn; {} MiB in page cache\n\
         medians [min..max]; {} cores, Linux {}\n\
         server µs/req is user + system time of the whole process (its CPU clock) per request\n\
         gateway rate × and CPU ×: the gateway divided by that server, per round",
        plan.rounds,
        plan.duration,
        plan.warm_up,
        plan.size_bytes >> 20,
        cpu::cores(),
        kernel(),
    );
    for (program, version) in versions {
        text += &format!("\n  {program}: {version}");
    }
    text
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into()
}

/// Name of the file system that holds `path`.
fn file_system(path: &Path) -> String {
    let folder = path.parent().unwrap_or(path);
    let magic = statfs::statfs(folder).map_or(FsType(0), |stat| stat.filesystem_type());
    match magic {
        statfs::EXT4_SUPER_MAGIC => "ext4".into(),
        statfs::XFS_SUPER_MAGIC => "xfs".into(),
        statfs::BTRFS_SUPER_MAGIC => "btrfs".into(),
        statfs::TMPFS_MAGIC => "tmpfs".into(),
        FsType(other) => format!("file system {other:#x}"),
    }
}

fn write_json(
    path: &Path,
    plan: &Plan,
    versions: &[(String, String)],
    results: &[ScenarioResult],
) -> anyhow::Result<()> {
    let versions: Value =
        versions.iter().map(|(program, version)| (program.clone(), json!(version))).collect();
    let report = json!({
        "cores": cpu::cores(),
        "kernel": kernel(),
        "rounds": plan.rounds,
        "seconds": plan.duration.as_secs_f64(),
        "image_bytes": plan.size_bytes,
        "file_system": file_system(&plan.file_image),
        "versions": versions,
        "results": results.iter().map(|result| result.json(results)).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

fn finish(args: &CompareArgs, plan: &Plan, results: &[ScenarioResult]) -> anyhow::Result<()> {
    if args.remove_images {
        for path in [&plan.tmpfs_image, &plan.tmpfs_scratch, &plan.file_image] {
            // One that was not needed was not made.
            let _ = fs::remove_file(path);
        }
    } else {
        println!("images are kept in {} and {}", image::tmpfs_folder().display(), plan.file_image.display());
    }
    let missed = results.iter().flat_map(|result| {
        result.rows.iter().filter_map(|row| result.verdict(row, results)).filter(|verdict| !verdict.is_met())
    });
    ensure!(!args.strict || missed.count() == 0, "a goal is missed");
    Ok(())
}
