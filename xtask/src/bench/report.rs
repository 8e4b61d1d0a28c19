//! The report for people: one table per scenario on a terminal, one per group in Markdown.

use super::goal::{Standing, Target, Verdict};
use super::load::Percentiles;
use super::observe::BUSY_MIN;
use super::peers::Kind;
use super::result::{Row, ScenarioResult};
use super::rounds::OTHERS_MAX;
use super::stats::Summary;
use super::table::Table;

/// What a cell without a value shows.
const NONE: &str = "-";

/// Headings of what is told of servers with a back-end.
const BACKEND: &[&str] = &["back-end busy", "req/kick", "req/wake-up"];

/// The table of one scenario; `all` has what was measured so far.
pub(crate) fn scenario(result: &ScenarioResult, all: &[ScenarioResult], file_system: &str) -> String {
    let rate = if result.scenario.in_megabytes() { "MB/s" } else { "IOPS" };
    let mut headings = vec!["server", rate, "server µs/req", "client µs/req"];
    let has_backend = result.scenario.backend().is_some();
    // Latencies are measured at depth 1, which no scenario with a back-end has.
    headings.extend(if has_backend { BACKEND } else { &["p50 µs", "p99 µs"] });
    headings.extend(["gateway rate ×", "gateway CPU ×", "goal"]);
    let mut table = Table::new(1, &headings);
    for row in &result.rows {
        let mut cells = cells(result, row, all);
        if has_backend {
            cells.splice(LATENCIES..RATIOS, backend_cells(row));
        }
        table.push(cells);
    }
    let mut text =
        format!("\n{}: {}\n{}", result.scenario.name, result.scenario.description(file_system), table.text());
    for row in &result.rows {
        if let Some(problem) = &row.problem {
            text += &format!("  !! {}: {problem}\n", row.title);
        }
    }
    for (row, share) in result.rows.iter().filter_map(|row| Some((row, result.share(row)?))) {
        text += &format!(
            "  {}: {} of the gateway's CPU per request, by the CPU time of the thread that drives its queue\n",
            row.title,
            ratio(&share)
        );
    }
    for row in result.rows.iter().filter(|row| row.bounded_rounds() > 0) {
        let (busy, rounds) = (row.bounded_rounds(), row.runs.len());
        text += &format!(
            "  {}: back-end ≥ {:.0} % busy throughout {busy} of {rounds} rounds\n",
            row.title,
            BUSY_MIN * 100.0
        );
    }
    if let Some(others) = result.others_max().filter(|&others| others > OTHERS_MAX) {
        text +=
            &format!("  !! other processes took up to {:.0} % of the machine during a run\n", others * 100.0);
    }
    text
}

/// One table for several scenarios, for a page that shows them.
pub(crate) fn markdown(
    title: &str,
    results: &[&ScenarioResult],
    all: &[ScenarioResult],
    file_system: &str,
) -> String {
    let mut headings =
        vec!["load", "server", "rate", "server µs/req", "gateway rate ×", "gateway CPU ×", "goal"];
    let has_backend = results.iter().any(|result| result.scenario.backend().is_some());
    if has_backend {
        headings.splice(4..4, BACKEND.iter().copied());
    }
    let mut table = Table::new(2, &headings);
    for result in results {
        let unit = if result.scenario.in_megabytes() { " MB/s" } else { " IOPS" };
        for (index, row) in result.rows.iter().enumerate() {
            let load = if index == 0 { result.scenario.description(file_system) } else { String::new() };
            let mut cells = cells(result, row, all);
            if cells[1] != NONE {
                cells[1] += unit;
            } else if row.problem.is_some() {
                cells[1] = "not measured".into();
            }
            // Without the columns of the client: its CPU and its latencies.
            cells.drain(LATENCIES - 1..RATIOS);
            cells.insert(0, load);
            if has_backend {
                cells.splice(4..4, backend_cells(row));
            }
            table.push(cells);
        }
    }
    format!("### {title}\n\n{}\n", table.markdown())
}

/// Index of the first latency among the cells of a row; the client's CPU stands before it.
const LATENCIES: usize = 4;
/// Index of the first ratio.
const RATIOS: usize = 6;

fn cells(result: &ScenarioResult, row: &Row, all: &[ScenarioResult]) -> Vec<String> {
    let rate = row.summary(|run| Some(if result.scenario.in_megabytes() { run.mb_per_s } else { run.iops }));
    let ratios = result.ratios(row);
    let latency = |of: fn(&Percentiles) -> u32| {
        let summary = row.summary(|run| run.latency.as_ref().map(|latency| f64::from(of(latency)) / 1e3));
        summary.map_or(NONE.into(), |summary| format!("{:.1}", summary.median))
    };
    vec![
        row.title.clone(),
        rate.map_or(NONE.into(), |rate| {
            if result.scenario.in_megabytes() { integers(&rate) } else { thousands(&rate) }
        }),
        row.summary(|run| run.server_us).map_or(NONE.into(), |us| cpu(&us)),
        row.summary(|run| run.client_us).map_or(NONE.into(), |us| cpu(&us)),
        latency(|latency| latency.p50_ns),
        latency(|latency| latency.p99_ns),
        ratios.map_or(NONE.into(), |ratios| ratio(&ratios.rate)),
        ratios.and_then(|ratios| ratios.cpu).map_or(NONE.into(), |cpu| ratio(&cpu)),
        result.verdict(row, all).map_or(NONE.into(), |verdict| goal(&verdict)),
    ]
}

/// The cells below [`BACKEND`]. Notifications are told of the gateway only: others write(2) for more than kicks.
fn backend_cells(row: &Row) -> [String; 3] {
    let is_ours = row.server.program() == Kind::Gateway.program();
    let figure = |summary: Option<Summary>| summary.filter(|_| is_ours).map_or(NONE.into(), |it| cpu(&it));
    let busy = row.teamwork(|teamwork| teamwork.busy * 100.0);
    [
        busy.map_or(NONE.into(), |busy| format!("{} %", integers(&busy))),
        figure(row.teamwork(|teamwork| teamwork.per_kick)),
        figure(row.teamwork(|teamwork| teamwork.per_wake_up)),
    ]
}

fn thousands(value: &Summary) -> String {
    let k = |value: f64| value / 1e3;
    format!("{:.0} k [{:.0}..{:.0}]", k(value.median), k(value.min), k(value.max))
}

fn integers(value: &Summary) -> String {
    format!("{:.0} [{:.0}..{:.0}]", value.median, value.min, value.max)
}

fn cpu(value: &Summary) -> String {
    if value.median >= 100.0 {
        return integers(value);
    }
    format!("{:.2} [{:.2}..{:.2}]", value.median, value.min, value.max)
}

fn ratio(value: &Summary) -> String {
    format!("{:.2} [{:.2}..{:.2}]", value.median, value.min, value.max)
}

fn goal(verdict: &Verdict) -> String {
    let asked = match verdict.target {
        Target::Ratio(goal) => {
            let cpu = goal.cpu_max.map(|max| format!(", ≤ {max}")).unwrap_or_default();
            let always = if goal.every_round { " always" } else { "" };
            format!("≥ {}{always}{cpu}", goal.rate_min)
        }
        Target::Batch { batch_min } => format!("≥ {batch_min} per kick, per wake-up"),
        Target::Share { share_max } => format!("≤ {share_max} of the gateway's CPU"),
    };
    let standing = match verdict.standing {
        Standing::Met => "met",
        Standing::Bounded => "met, back-end bounds",
        Standing::ClientBounded => "met, client bounds",
        Standing::Missed => "MISSED",
    };
    format!("{asked}: {standing}")
}

/// The last line: how many goals are met.
pub(crate) fn total(results: &[ScenarioResult]) -> String {
    let verdicts = results.iter().flat_map(|result| {
        let verdict = |row| result.verdict(row, results);
        result.rows.iter().filter_map(move |row| verdict(row).map(|verdict| (result, row, verdict)))
    });
    let (met, missed): (Vec<_>, Vec<_>) = verdicts.partition(|(_, _, verdict)| verdict.is_met());
    if met.is_empty() && missed.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{} of {} goals met\n", met.len(), met.len() + missed.len());
    for (result, row, _) in missed {
        text += &format!("  missed: {} against {}\n", result.scenario.name, row.title);
    }
    text
}
