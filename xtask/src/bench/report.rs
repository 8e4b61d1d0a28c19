//! The report for people: one table per scenario on a terminal, one per group in Markdown.

use super::load::Percentiles;
use super::result::{Row, ScenarioResult, Verdict};
use super::rounds::OTHERS_MAX;
use super::stats::Summary;
use super::table::Table;

/// What a cell without a value shows.
const NONE: &str = "-";

/// The table of one scenario.
pub(crate) fn scenario(result: &ScenarioResult, file_system: &str) -> String {
    let rate = if result.scenario.in_megabytes() { "MB/s" } else { "IOPS" };
    let headings = [
        "server",
        rate,
        "server µs/req",
        "client µs/req",
        "p50 µs",
        "p99 µs",
        "gateway rate ×",
        "gateway CPU ×",
        "goal",
    ];
    let mut table = Table::new(1, &headings);
    for row in &result.rows {
        table.push(cells(result, row));
    }
    let mut text =
        format!("\n{}: {}\n{}", result.scenario.name, result.scenario.description(file_system), table.text());
    for row in &result.rows {
        if let Some(problem) = &row.problem {
            text += &format!("  !! {}: {problem}\n", row.title);
        }
    }
    if let Some(others) = result.others_max().filter(|&others| others > OTHERS_MAX) {
        text +=
            &format!("  !! other processes took up to {:.0} % of the machine during a run\n", others * 100.0);
    }
    text
}

/// One table for several scenarios, for a page that shows them.
pub(crate) fn markdown(title: &str, results: &[&ScenarioResult], file_system: &str) -> String {
    let headings = ["load", "server", "rate", "server µs/req", "gateway rate ×", "gateway CPU ×", "goal"];
    let mut table = Table::new(2, &headings);
    for result in results {
        let unit = if result.scenario.in_megabytes() { " MB/s" } else { " IOPS" };
        for (index, row) in result.rows.iter().enumerate() {
            let load = if index == 0 { result.scenario.description(file_system) } else { String::new() };
            let mut cells = cells(result, row);
            if cells[1] != NONE {
                cells[1] += unit;
            } else if row.problem.is_some() {
                cells[1] = "not measured".into();
            }
            // Without the columns of the client: its CPU and its latencies.
            cells.drain(3..6);
            cells.insert(0, load);
            table.push(cells);
        }
    }
    format!("### {title}\n\n{}\n", table.markdown())
}

fn cells(result: &ScenarioResult, row: &Row) -> Vec<String> {
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
        row.summary(|run| Some(run.client_us)).map_or(NONE.into(), |us| cpu(&us)),
        latency(|latency| latency.p50_ns),
        latency(|latency| latency.p99_ns),
        ratios.map_or(NONE.into(), |ratios| ratio(&ratios.rate)),
        ratios.and_then(|ratios| ratios.cpu).map_or(NONE.into(), |cpu| ratio(&cpu)),
        result.verdict(row).map_or(NONE.into(), |verdict| goal(&verdict)),
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
    let cpu = verdict.goal.cpu_max.map(|max| format!(", ≤ {max}")).unwrap_or_default();
    format!("≥ {}{cpu}: {}", verdict.goal.rate_min, if verdict.met { "met" } else { "MISSED" })
}

/// The last line: how many goals are met.
pub(crate) fn total(results: &[ScenarioResult]) -> String {
    let verdicts = results.iter().flat_map(|result| {
        result.rows.iter().filter_map(move |row| result.verdict(row).map(|verdict| (result, row, verdict)))
    });
    let (met, missed): (Vec<_>, Vec<_>) = verdicts.partition(|(_, _, verdict)| verdict.met);
    if met.is_empty() && missed.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{} of {} goals met\n", met.len(), met.len() + missed.len());
    for (result, row, _) in missed {
        text += &format!("  missed: {} against {}\n", result.scenario.name, row.title);
    }
    text
}
