//! Results of a scenario: rows of runs, and the ratios between them.

use serde::Serialize;
use serde_json::{Value, json};

use super::load::Outcome;
use super::peers::Kind;
use super::scenario::{Goal, Scenario};
use super::stats::Summary;

/// One server in one scenario.
#[derive(Debug)]
pub(crate) struct Row {
    /// The server.
    pub server: Kind,
    /// Its name in tables.
    pub title: String,
    /// One entry per round; nothing for a round that failed.
    pub runs: Vec<Option<Outcome>>,
    /// Why runs are missing.
    pub problem: Option<String>,
}

/// All servers in one scenario.
#[derive(Debug)]
pub(crate) struct ScenarioResult {
    /// What was measured.
    pub scenario: &'static Scenario,
    /// One row per server, the gateway's first.
    pub rows: Vec<Row>,
}

/// The gateway relative to one peer, round by round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ratios {
    /// Rate of the gateway divided by that of the peer: more is better.
    pub rate: Summary,
    /// CPU per request of the gateway divided by that of the peer: less is better.
    pub cpu: Option<Summary>,
}

/// A goal and whether it was reached.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Verdict {
    /// What was asked.
    pub goal: Goal,
    /// Whether the medians reach it.
    pub met: bool,
}

impl Row {
    /// Summary of one figure over the rounds.
    pub(crate) fn summary(&self, figure: impl Fn(&Outcome) -> Option<f64>) -> Option<Summary> {
        Summary::of(self.runs.iter().flatten().filter_map(figure))
    }
}

impl ScenarioResult {
    fn gateway(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.server == Kind::Gateway)
    }

    /// The largest share of the machine that others took during a run.
    pub(crate) fn others_max(&self) -> Option<f64> {
        let runs = self.rows.iter().flat_map(|row| row.runs.iter().flatten());
        runs.filter_map(|run| run.others).max_by(f64::total_cmp)
    }

    /// The gateway relative to `row`; nothing for the gateway itself or when one of the two was not measured.
    pub(crate) fn ratios(&self, row: &Row) -> Option<Ratios> {
        let gateway = self.gateway().filter(|gateway| gateway.server != row.server)?;
        let pairs = || {
            gateway.runs.iter().zip(&row.runs).filter_map(|(ours, theirs)| ours.as_ref().zip(theirs.as_ref()))
        };
        let rate = Summary::of(pairs().map(|(ours, theirs)| ours.iops / theirs.iops))?;
        let cpu = pairs().filter_map(|(ours, theirs)| ours.server_us.zip(theirs.server_us));
        Some(Ratios { rate, cpu: Summary::of(cpu.map(|(ours, theirs)| ours / theirs)) })
    }

    /// The goal against `row`, if there is one and the gateway takes part. What was not measured is not met.
    pub(crate) fn verdict(&self, row: &Row) -> Option<Verdict> {
        self.gateway()?;
        let goal = *self.scenario.goals.iter().find(|goal| goal.peer == row.server)?;
        let met = self.ratios(row).is_some_and(|ratios| {
            let cpu = |max| ratios.cpu.is_some_and(|cpu| cpu.median <= max);
            ratios.rate.median >= goal.rate_min && goal.cpu_max.is_none_or(cpu)
        });
        Some(Verdict { goal, met })
    }

    /// Everything, for `--json`.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "server": row.server.slug(),
                "title": row.title,
                "problem": row.problem,
                "iops": row.summary(|run| Some(run.iops)),
                "mb_per_s": row.summary(|run| Some(run.mb_per_s)),
                "server_us_per_request": row.summary(|run| run.server_us),
                "client_us_per_request": row.summary(|run| Some(run.client_us)),
                "gateway_ratio": self.ratios(row),
                "verdict": self.verdict(row),
                "runs": row.runs,
            })
        });
        json!({ "scenario": self.scenario, "rows": rows.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::GROUPS;
    use super::*;

    fn run(iops: f64, server_us: f64) -> Option<Outcome> {
        let (requests, seconds, mb_per_s, client_us) = (1, 1.0, 1.0, 1.0);
        Some(Outcome {
            requests,
            seconds,
            iops,
            mb_per_s,
            client_us,
            server_us: Some(server_us),
            others: None,
            latency: None,
        })
    }

    /// The first scenario asks for 2.0 times the rate of nbdkit and half of its CPU.
    fn result(ours: Vec<Option<Outcome>>, theirs: Vec<Option<Outcome>>) -> ScenarioResult {
        let row = |server: Kind, runs| Row { server, title: server.to_string(), runs, problem: None };
        let rows = vec![row(Kind::Gateway, ours), row(Kind::Nbdkit, theirs)];
        ScenarioResult { scenario: &GROUPS[0].scenarios[0], rows }
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        // The second round was slow for both: the ratio does not move.
        let result = result(vec![run(300.0, 2.0), run(30.0, 4.0)], vec![run(100.0, 5.0), run(10.0, 10.0)]);
        let ratios = result.ratios(&result.rows[1]).unwrap();
        assert_eq!(ratios.rate, Summary { median: 3.0, min: 3.0, max: 3.0 });
        assert_eq!(ratios.cpu.unwrap().median, 0.4);
        assert!(result.verdict(&result.rows[1]).unwrap().met);
        assert!(result.ratios(&result.rows[0]).is_none(), "no ratio of the gateway to itself");
    }

    #[test]
    fn a_goal_needs_both_ratios() {
        for ours in [run(150.0, 1.0), run(300.0, 4.0)] {
            let result = result(vec![ours], vec![run(100.0, 5.0)]);
            assert!(!result.verdict(&result.rows[1]).unwrap().met);
        }
    }

    #[test]
    fn a_goal_against_a_server_that_was_not_measured_is_not_met() {
        let result = result(vec![run(300.0, 1.0)], vec![None]);
        assert!(!result.verdict(&result.rows[1]).unwrap().met);
    }
}
