//! Results of a scenario: rows of runs, and the ratios between them.

use serde::Serialize;
use serde_json::{Value, json};

use super::goal::{Round, Standing, Target, Verdict, is_bounding};
use super::load::Outcome;
use super::observe::Teamwork;
use super::peers::Kind;
use super::scenario::Scenario;
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

impl Row {
    /// Summary of one figure over the rounds.
    pub(crate) fn summary(&self, figure: impl Fn(&Outcome) -> Option<f64>) -> Option<Summary> {
        Summary::of(self.runs.iter().flatten().filter_map(figure))
    }

    /// Summary of one figure about server and back-end.
    pub(crate) fn teamwork(&self, figure: impl Fn(&Teamwork) -> f64) -> Option<Summary> {
        self.summary(|run| run.teamwork.as_ref().map(&figure))
    }

    /// Rounds with a back-end that was busy throughout.
    pub(crate) fn bounded_rounds(&self) -> usize {
        self.runs.iter().flatten().filter(|run| is_bounded(run)).count()
    }
}

fn is_bounded(run: &Outcome) -> bool {
    run.teamwork.is_some_and(|teamwork| is_bounding(teamwork.busy))
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
        let rounds = self.rounds(row);
        let rate = Summary::of(rounds.iter().map(|round| round.rate))?;
        Some(Ratios { rate, cpu: Summary::of(rounds.iter().filter_map(|round| round.cpu)) })
    }

    /// The rounds in which both the gateway and `row`, which is another, were measured.
    fn rounds(&self, row: &Row) -> Vec<Round> {
        let Some(gateway) = self.gateway().filter(|gateway| gateway.server != row.server) else {
            return Vec::new();
        };
        let pairs = gateway.runs.iter().zip(&row.runs);
        pairs
            .filter_map(|(ours, theirs)| {
                let (ours, theirs) = (ours.as_ref()?, theirs.as_ref()?);
                let cpu = ours.server_us.zip(theirs.server_us).map(|(ours, theirs)| ours / theirs);
                let rate = ours.iops / theirs.iops;
                let client_bounded = ours.is_client_bounded();
                Some(Round { rate, cpu, bounded: is_bounded(ours), client_bounded })
            })
            .collect()
    }

    /// CPU per request of `row` divided by the gateway's, if that is a part of it.
    pub(crate) fn share(&self, row: &Row) -> Option<Summary> {
        let rounds = if row.server.is_part() { self.rounds(row) } else { Vec::new() };
        Summary::of(rounds.iter().filter_map(|round| Some(1.0 / round.cpu?)))
    }

    /// The goal for `row`, if there is one and the gateway takes part. What was not measured is not met. `all` has the
    /// scenario with a cheaper back-end, if that is measured already.
    pub(crate) fn verdict(&self, row: &Row, all: &[ScenarioResult]) -> Option<Verdict> {
        let gateway = self.gateway()?;
        if row.server == Kind::Gateway {
            return self.batch_verdict(row);
        }
        if row.server.is_part() {
            return self.share_verdict(row);
        }
        let goal = *self.scenario.goals.iter().find(|goal| goal.peer == row.server)?;
        let rounds = self.rounds(row);
        let elsewhere = goal.cheaper.and_then(|cheaper| {
            let other = all.iter().find(|other| other.scenario.name == cheaper.scenario)?;
            let row = other.rows.iter().find(|row| row.server == goal.peer)?;
            Some(other.ratios(row)?.rate.median)
        });
        let standing = goal.judge(&rounds, rounds.len() < gateway.runs.len(), elsewhere);
        Some(Verdict { target: Target::Ratio(goal), standing })
    }

    /// The goal for the gateway itself.
    fn batch_verdict(&self, row: &Row) -> Option<Verdict> {
        let batch_min = self.scenario.batch_min?;
        let reaches = |figure: fn(&Teamwork) -> f64| {
            row.teamwork(figure).is_some_and(|summary| summary.median >= batch_min)
        };
        let met = reaches(|teamwork| teamwork.per_kick) && reaches(|teamwork| teamwork.per_wake_up);
        let standing = if met { Standing::Met } else { Standing::Missed };
        Some(Verdict { target: Target::Batch { batch_min }, standing })
    }

    /// The goal for a part.
    fn share_verdict(&self, row: &Row) -> Option<Verdict> {
        let share_max = self.scenario.share_max?;
        let met = self.share(row).is_some_and(|share| share.median <= share_max);
        let standing = if met { Standing::Met } else { Standing::Missed };
        Some(Verdict { target: Target::Share { share_max }, standing })
    }

    /// Everything, for `--json`.
    pub(crate) fn json(&self, all: &[ScenarioResult]) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "server": row.server.slug(),
                "title": row.title,
                "problem": row.problem,
                "iops": row.summary(|run| Some(run.iops)),
                "mb_per_s": row.summary(|run| Some(run.mb_per_s)),
                "server_us_per_request": row.summary(|run| run.server_us),
                "client_us_per_request": row.summary(|run| run.client_us),
                "backend_busy": row.teamwork(|teamwork| teamwork.busy),
                "requests_per_kick": row.teamwork(|teamwork| teamwork.per_kick),
                "requests_per_wake_up": row.teamwork(|teamwork| teamwork.per_wake_up),
                "gateway_ratio": self.ratios(row),
                "share_of_gateway_cpu": self.share(row),
                "verdict": self.verdict(row, all),
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
        let (requests, seconds, mb_per_s, client_us) = (1, 1.0, 1.0, Some(1.0));
        Some(Outcome {
            requests,
            seconds,
            iops,
            mb_per_s,
            client_us,
            server_us: Some(server_us),
            teamwork: None,
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
        assert!(result.verdict(&result.rows[1], &[]).unwrap().is_met());
        assert!(result.ratios(&result.rows[0]).is_none(), "no ratio of the gateway to itself");
    }

    #[test]
    fn a_goal_needs_both_ratios() {
        for ours in [run(150.0, 1.0), run(300.0, 4.0)] {
            let result = result(vec![ours], vec![run(100.0, 5.0)]);
            assert!(!result.verdict(&result.rows[1], &[]).unwrap().is_met());
        }
    }

    #[test]
    fn a_goal_against_a_server_that_was_not_measured_is_not_met() {
        let result = result(vec![run(300.0, 1.0)], vec![None]);
        assert!(!result.verdict(&result.rows[1], &[]).unwrap().is_met());
    }

    /// Runs of the gateway with a back-end that was so busy, and with so many requests per kick and wake-up.
    fn with_backend(runs: &[(f64, f64, f64)]) -> ScenarioResult {
        let runs = runs.iter().map(|&(busy, per_kick, per_wake_up)| {
            let teamwork = Some(Teamwork { busy, per_kick, per_wake_up });
            run(100.0, 1.0).map(|run| Outcome { teamwork, ..run })
        });
        let scenario = GROUPS.iter().flat_map(|group| group.scenarios).find(|one| one.batch_min.is_some());
        let (server, title) = (Kind::Gateway, "gateway".to_owned());
        let rows = vec![Row { server, title, runs: runs.collect(), problem: None }];
        ScenarioResult { scenario: scenario.expect("one scenario has that goal"), rows }
    }

    #[test]
    fn both_kicks_and_wake_ups_must_be_few() {
        for (per_kick, per_wake_up, met) in [(4.0, 4.0, true), (3.9, 9.0, false), (9.0, 3.9, false)] {
            let result = with_backend(&[(0.5, per_kick, per_wake_up)]);
            let verdict = result.verdict(&result.rows[0], &[]).unwrap();
            assert_eq!(verdict.is_met(), met, "{per_kick} {per_wake_up}");
        }
        let unknown = ScenarioResult { rows: vec![], ..with_backend(&[]) };
        assert!(unknown.verdict(&with_backend(&[]).rows[0], &[]).is_none());
    }

    #[test]
    fn a_part_is_held_to_its_share_of_the_whole() {
        let scenario = GROUPS.iter().flat_map(|group| group.scenarios).find(|one| one.share_max.is_some());
        let scenario = scenario.expect("one scenario has that goal");
        for (whole_us, part_us, met) in [(2.0, 0.5, true), (2.0, 0.51, false), (0.4, 0.1, true)] {
            let row = |server: Kind, us| {
                let runs = vec![run(100.0, us), run(100.0, us), None];
                Row { server, title: server.to_string(), runs, problem: None }
            };
            let rows = vec![row(Kind::Gateway, whole_us), row(Kind::NvmeDriver, part_us)];
            let result = ScenarioResult { scenario, rows };
            assert_eq!(result.share(&result.rows[1]).unwrap().median, part_us / whole_us);
            assert_eq!(result.verdict(&result.rows[1], &[]).unwrap().is_met(), met, "{part_us}/{whole_us}");
            assert!(result.share(&result.rows[0]).is_none(), "the whole is no part of itself");
        }
    }

    #[test]
    fn a_part_that_was_not_measured_misses_its_goal() {
        let scenario = GROUPS.iter().flat_map(|group| group.scenarios).find(|one| one.share_max.is_some());
        let row = |server: Kind, runs| Row { server, title: server.to_string(), runs, problem: None };
        let rows = vec![row(Kind::Gateway, vec![run(100.0, 2.0)]), row(Kind::NvmeDriver, vec![None])];
        let result = ScenarioResult { scenario: scenario.expect("one scenario has that goal"), rows };
        assert!(!result.verdict(&result.rows[1], &[]).unwrap().is_met());
    }

    #[test]
    fn rounds_with_a_busy_back_end_are_counted() {
        let result = with_backend(&[(0.94, 9.0, 9.0), (0.95, 9.0, 9.0), (1.3, 9.0, 9.0)]);
        assert_eq!(result.rows[0].bounded_rounds(), 2);
    }
}
