//! Running the checks, and the result.

use std::fmt;

use nbd::ReplyMode;

use super::check::{Body, Check, Level, Outcome, Trouble};
use super::checks;
use super::target::Target;
use super::wire::Wire;

/// Which checks are run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Rules up to this level.
    pub level: Level,
    /// Only checks whose name contains one of these; all if there is none.
    pub filters: Vec<String>,
    /// Checks that are left out, by their whole names: those that kill the server under test.
    pub except: Vec<String>,
}

impl Default for Selection {
    fn default() -> Self {
        Selection { level: Level::Chosen, filters: Vec::new(), except: Vec::new() }
    }
}

impl Selection {
    fn takes(&self, check: &Check) -> bool {
        let named = |filter: &String| check.name.contains(filter.as_str());
        let left_out = self.except.iter().any(|name| name == check.name);
        let wanted = self.filters.is_empty() || self.filters.iter().any(named);
        check.level <= self.level && wanted && !left_out
    }
}

/// How one check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rule was kept.
    Passed,
    /// The check says nothing about this server.
    Skipped(String),
    /// The rule was broken.
    Failed(String),
}

/// One check that was run.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// Kind of replies, for checks of the transmission.
    pub mode: Option<ReplyMode>,
    /// How binding the rule is.
    pub level: Level,
    /// The rule.
    pub rule: &'static str,
    /// What came out.
    pub verdict: Verdict,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            None => String::new(),
            Some(mode) => format!(" [{}]", format!("{mode:?}").to_lowercase()),
        };
        match &self.verdict {
            Verdict::Passed => write!(formatter, "ok      {}{mode}", self.check),
            Verdict::Skipped(why) => write!(formatter, "skipped {}{mode}: {why}", self.check),
            Verdict::Failed(what) => {
                let level = format!("{:?}", self.level).to_lowercase();
                write!(formatter, "FAILED  {}{mode}: {what}\n        ({level}) {}", self.check, self.rule)
            }
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every check that was run, in order.
    pub findings: Vec<Finding>,
    /// The server took no connection any more; the checks behind the last one were not run.
    pub server_is_gone: bool,
}

impl Report {
    /// Checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Failed(_)))
    }

    /// Names of the checks that failed, each once.
    #[must_use]
    pub fn failed_checks(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self.failures().map(|finding| finding.check).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Number of checks that passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Passed).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.failures() {
            writeln!(formatter, "{finding}")?;
        }
        let failed = self.failures().count();
        let skipped = self.findings.len() - self.passed() - failed;
        let gone = if self.server_is_gone { "; then the server was gone" } else { "" };
        write!(formatter, "{} passed, {failed} failed, {skipped} skipped{gone}", self.passed())
    }
}

/// Every check, by subject.
#[must_use]
pub fn all_checks() -> Vec<Check> {
    checks::all()
}

/// Runs the selected checks, one after the other; `tell` hears of each.
pub fn run(target: &Target, selection: &Selection, mut tell: impl FnMut(&Finding)) -> Report {
    let mut report = Report::default();
    for check in all_checks().into_iter().filter(|check| selection.takes(check)) {
        let runs: Vec<(Option<ReplyMode>, Outcome)> = match check.body {
            Body::Handshake(body) => vec![(None, body(target))],
            Body::Transmission(body) => {
                target.modes.iter().map(|(mode, _)| (Some(*mode), body(target, *mode))).collect()
            }
        };
        for (mode, outcome) in runs {
            let verdict = judge(outcome, target);
            let finding = Finding { check: check.name, mode, level: check.level, rule: check.rule, verdict };
            tell(&finding);
            report.findings.push(finding);
        }
        if Wire::connect(&target.address).is_err() {
            report.server_is_gone = true;
            break;
        }
    }
    report
}

/// A check passes only if the server serves the next client.
fn judge(outcome: Outcome, target: &Target) -> Verdict {
    match outcome.and_then(|()| target.serves()) {
        Ok(()) => Verdict::Passed,
        Err(Trouble::Skip(why)) => Verdict::Skipped(why),
        Err(Trouble::Failed(what)) => Verdict::Failed(what),
    }
}
