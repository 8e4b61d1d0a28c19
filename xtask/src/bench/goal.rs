//! What the gateway must reach, and whether it did.

use serde::Serialize;

use super::observe::BUSY_MIN;
use super::peers::Kind;
use super::stats::Summary;

/// Ratios of the gateway to one peer that must be reached.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Goal {
    /// The peer.
    #[serde(serialize_with = "peer_name")]
    pub peer: Kind,
    /// Least ratio of the rates.
    pub rate_min: f64,
    /// Greatest ratio of the server CPU per request, by the median.
    pub cpu_max: Option<f64>,
    /// Whether every round must reach `rate_min`, not only the median.
    pub every_round: bool,
    /// What counts instead of the rate where the back-end bounds it.
    pub cheaper: Option<Cheaper>,
    /// Whether the rate does not count where the client bounds it.
    pub client_may_bound: bool,
}

/// The same load on a back-end that costs less.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cheaper {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Least ratio of the rates there, by the median, to the same peer.
    pub rate_min: f64,
}

/// What one row of a table is held to.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum Target {
    /// The gateway against the row's server.
    Ratio(Goal),
    /// Least number of requests per kick and per wake-up of the gateway itself, by the medians.
    Batch {
        /// That number.
        batch_min: f64,
    },
    /// Greatest CPU per request of a part of the gateway divided by that of the whole, by the median.
    Share {
        /// That share.
        share_max: f64,
    },
}

/// How a row stands to its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// Reached.
    Met,
    /// The back-end bounded the rate; the CPU goal is reached, and the rate on a cheaper back-end.
    Bounded,
    /// The load generator was busy throughout: it bounded the rate; the CPU goal is reached.
    ClientBounded,
    /// Not reached, or not measured.
    Missed,
}

/// A goal and whether it was reached.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Verdict {
    /// What was asked.
    pub target: Target,
    /// How it stands.
    pub standing: Standing,
}

/// The gateway relative to one peer in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Rate of the gateway divided by that of the peer.
    pub rate: f64,
    /// CPU per request of the gateway divided by that of the peer.
    pub cpu: Option<f64>,
    /// Whether the gateway's back-end was busy throughout.
    pub bounded: bool,
    /// Whether the load generator was, in front of the gateway.
    pub client_bounded: bool,
}

fn peer_name<S: serde::Serializer>(peer: &Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(peer.slug())
}

impl Verdict {
    /// Whether the goal counts as reached.
    pub(crate) fn is_met(&self) -> bool {
        self.standing != Standing::Missed
    }
}

impl Goal {
    /// Judges the rounds in which both were measured; `missing` tells whether there were others. `elsewhere`: median
    /// ratio of the rates in the scenario of `cheaper`, if that was measured.
    pub(crate) fn judge(&self, rounds: &[Round], missing: bool, elsewhere: Option<f64>) -> Standing {
        let Some(rate) = Summary::of(rounds.iter().map(|round| round.rate)) else { return Standing::Missed };
        let cpu = Summary::of(rounds.iter().filter_map(|round| round.cpu));
        let cpu_holds = self.cpu_max.is_none_or(|max| cpu.is_some_and(|cpu| cpu.median <= max));
        if !cpu_holds || (self.every_round && missing) {
            return Standing::Missed;
        }
        if (if self.every_round { rate.min } else { rate.median }) >= self.rate_min {
            return Standing::Met;
        }
        if self.client_may_bound && most(rounds, |round| round.client_bounded) {
            return Standing::ClientBounded;
        }
        let cheaper = self.cheaper.zip(elsewhere);
        let is_excused =
            self.is_bounded(rounds) && cheaper.is_some_and(|(cheaper, rate)| rate >= cheaper.rate_min);
        if is_excused { Standing::Bounded } else { Standing::Missed }
    }

    /// Whether it was the back-end that kept the rate down.
    fn is_bounded(&self, rounds: &[Round]) -> bool {
        if self.every_round {
            return rounds.iter().all(|round| round.bounded || round.rate >= self.rate_min);
        }
        most(rounds, |round| round.bounded)
    }
}

/// Whether more than half of the rounds are so.
fn most(rounds: &[Round], is_so: impl Fn(&Round) -> bool) -> bool {
    2 * rounds.iter().filter(|round| is_so(round)).count() > rounds.len()
}

/// Whether a back-end that was so busy bounds the rate.
pub(crate) fn is_bounding(busy: f64) -> bool {
    busy >= BUSY_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: Goal = Goal {
        peer: Kind::NbdkitBlkio,
        rate_min: 2.0,
        cpu_max: Some(0.4),
        every_round: false,
        cheaper: Some(Cheaper { scenario: "cheaper", rate_min: 2.5 }),
        client_may_bound: false,
    };

    fn rounds(of: &[(f64, f64, bool)]) -> Vec<Round> {
        of.iter()
            .map(|&(rate, cpu, bounded)| Round { rate, cpu: Some(cpu), bounded, client_bounded: false })
            .collect()
    }

    #[test]
    fn a_median_may_hide_a_bad_round_unless_every_round_counts() {
        let some = rounds(&[(2.5, 0.3, false), (1.5, 0.3, false), (2.1, 0.3, false)]);
        assert_eq!(GOAL.judge(&some, false, None), Standing::Met);
        let strict = Goal { every_round: true, ..GOAL };
        assert_eq!(strict.judge(&some, false, None), Standing::Missed);
        assert_eq!(strict.judge(&some[..1], false, None), Standing::Met);
        assert_eq!(
            strict.judge(&some[..1], true, None),
            Standing::Missed,
            "a round that failed is one of them"
        );
        assert_eq!(GOAL.judge(&some[..1], true, None), Standing::Met);
    }

    #[test]
    fn a_rate_that_the_back_end_bounds_counts_by_a_cheaper_one() {
        let bounded = rounds(&[(1.5, 0.3, true), (1.6, 0.3, true), (1.7, 0.3, false)]);
        assert_eq!(GOAL.judge(&bounded, false, Some(2.5)), Standing::Bounded);
        assert_eq!(GOAL.judge(&bounded, false, Some(2.4)), Standing::Missed);
        assert_eq!(GOAL.judge(&bounded, false, None), Standing::Missed, "it was not measured");
        let free = rounds(&[(1.5, 0.3, true), (1.6, 0.3, false), (1.7, 0.3, false)]);
        assert_eq!(GOAL.judge(&free, false, Some(9.0)), Standing::Missed);
        assert_eq!(Goal { cheaper: None, ..GOAL }.judge(&bounded, false, Some(9.0)), Standing::Missed);
    }

    #[test]
    fn a_bounded_round_excuses_only_itself_where_every_round_counts() {
        let strict = Goal { every_round: true, ..GOAL };
        let one = rounds(&[(1.5, 0.3, true), (2.2, 0.3, false)]);
        assert_eq!(strict.judge(&one, false, Some(3.0)), Standing::Bounded);
        let other = rounds(&[(1.5, 0.3, true), (1.9, 0.3, false)]);
        assert_eq!(strict.judge(&other, false, Some(3.0)), Standing::Missed);
    }

    #[test]
    fn a_client_that_is_busy_excuses_the_rate_where_that_is_said() {
        let busy = [Round { rate: 1.0, cpu: Some(0.3), bounded: false, client_bounded: true }];
        assert_eq!(GOAL.judge(&busy, false, None), Standing::Missed);
        let lenient = Goal { client_may_bound: true, ..GOAL };
        assert_eq!(lenient.judge(&busy, false, None), Standing::ClientBounded);
        assert_eq!(Goal { cpu_max: Some(0.2), ..lenient }.judge(&busy, false, None), Standing::Missed);
        assert_eq!(lenient.judge(&rounds(&[(1.0, 0.3, false)]), false, None), Standing::Missed);
    }

    #[test]
    fn nothing_excuses_the_cpu() {
        let dear = rounds(&[(3.0, 0.5, true)]);
        assert_eq!(GOAL.judge(&dear, false, Some(9.0)), Standing::Missed);
        let unknown = [Round { rate: 3.0, cpu: None, bounded: false, client_bounded: false }];
        assert_eq!(GOAL.judge(&unknown, false, None), Standing::Missed);
        assert_eq!(GOAL.judge(&[], false, None), Standing::Missed);
    }
}
