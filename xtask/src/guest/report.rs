//! What the guest says about its scenarios. `init.sh` describes the lines.

use std::collections::BTreeMap;

/// How a scenario ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its shell ended with this status.
    Status(i32),
    /// Its time was over.
    Late,
    /// Something of it could not be killed, whether or not its shell had ended.
    Stuck,
}

/// All about one scenario.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Outcome {
    /// How it ended, and the seconds that it took.
    pub(super) end: Option<(End, f64)>,
    /// What it printed.
    pub(super) output: Vec<String>,
    /// What the kernel logged in the same time, if it failed.
    pub(super) kernel: Vec<String>,
}

impl Outcome {
    /// Whether it said by itself that it went well.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.end, Some((End::Status(0), _)))
    }

    /// How it ended, for people.
    pub(super) fn describe(&self) -> String {
        match self.end {
            None => "it had not ended when the machine did".into(),
            Some((End::Status(status), _)) => format!("exit status {status}"),
            Some((End::Late, _)) => "its time was over".into(),
            Some((End::Stuck, _)) => "some of its processes cannot be killed".into(),
        }
    }
}

/// The report of a machine, as far as it came, and of those that ran the other scenarios before it.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Seconds from the kernel's start to the first scenario.
    pub(super) boot_seconds: Option<f64>,
    /// Scenarios of which something was said.
    pub(super) outcomes: BTreeMap<String, Outcome>,
    /// Scenarios whose end was said since this was last emptied.
    pub(super) news: Vec<String>,
    complete: bool,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Report {
    /// Takes the next part of the text.
    pub(super) fn add(&mut self, text: &[u8]) {
        self.partial.extend_from_slice(text);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let rest = self.partial.split_off(end + 1);
            let line = std::mem::replace(&mut self.partial, rest);
            self.line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        }
    }

    /// Whether the guest said that nothing follows.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Forgets what the machine said of scenarios that had not ended: another machine begins them again.
    pub(super) fn begin_again(&mut self) {
        self.outcomes.retain(|_, outcome| outcome.end.is_some());
        self.partial.clear();
        self.boot_seconds = None;
        self.complete = false;
    }

    /// Says of a scenario that went well what was found wrong afterwards.
    pub(super) fn fail(&mut self, name: &str, reason: &str) {
        let outcome = self.of(name);
        outcome.output.push(format!("FAILED: {reason}"));
        outcome.end = Some((End::Status(1), outcome.end.map_or(0.0, |(_, seconds)| seconds)));
        self.news.push(name.to_owned());
    }

    /// All about a scenario; nothing was said about one that did not begin.
    pub(super) fn outcome(&self, name: &str) -> Outcome {
        self.outcomes.get(name).cloned().unwrap_or_default()
    }

    /// A line that is none of these is left out: a scenario without a result has failed anyway.
    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "boot" => self.boot_seconds = seconds(name),
            "line" => self.of(name).output.push(text.to_owned()),
            "kernel" => self.of(name).kernel.push(text.to_owned()),
            "result" => {
                if let Some(end) = result(text) {
                    self.of(name).end = Some(end);
                    self.news.push(name.to_owned());
                }
            }
            "end" => self.complete = true,
            _ => {}
        }
    }

    fn of(&mut self, name: &str) -> &mut Outcome {
        self.outcomes.entry(name.to_owned()).or_default()
    }
}

/// The end of a scenario in `END CENTISECONDS`.
fn result(text: &str) -> Option<(End, f64)> {
    let (end, time) = text.split_once(' ')?;
    let end = match end {
        "late" => End::Late,
        "stuck" => End::Stuck,
        status => End::Status(status.parse().ok()?),
    };
    Some((end, seconds(time)?))
}

/// A time in hundredths of a second.
fn seconds(text: &str) -> Option<f64> {
    text.parse::<u32>().ok().map(|time| f64::from(time) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "boot 215\n\
        line a one\n\
        line b  two words\n\
        result a 0 150\n\
        kernel b [    1.0] oops\n\
        result b late 1000\n\
        end\n";

    #[test]
    fn a_report_is_understood_in_pieces_of_any_length() {
        for length in [1, 2, 7, TEXT.len()] {
            let mut report = Report::default();
            for piece in TEXT.as_bytes().chunks(length) {
                report.add(piece);
            }
            assert_eq!(report.boot_seconds, Some(2.15));
            assert_eq!(report.outcome("a").end, Some((End::Status(0), 1.5)));
            assert_eq!(report.outcome("b").output, [" two words"]);
            assert_eq!(report.outcome("b").kernel, ["[    1.0] oops"]);
            assert_eq!(report.outcome("b").end, Some((End::Late, 10.0)));
            assert_eq!(report.news, ["a", "b"]);
            assert!(report.is_complete());
        }
    }

    #[test]
    fn only_a_status_of_zero_is_good() {
        for (text, good) in [
            ("result a 0 10\n", true),
            ("result a 1 10\n", false),
            ("result a late 10\n", false),
            ("result a stuck 10\n", false),
            ("result a 0\n", false),
            ("result a 0 10", false),
            ("line a result a 0 10\n", false),
            ("", false),
        ] {
            let mut report = Report::default();
            report.add(text.as_bytes());
            assert_eq!(report.outcome("a").is_good(), good, "{text}");
        }
    }

    #[test]
    fn another_machine_goes_on_where_one_ended() {
        let mut report = Report::default();
        report.add(b"boot 1\nresult a 0 10\nline b one\nresu");
        report.begin_again();
        assert_eq!(report.boot_seconds, None);
        report.add(b"boot 2\nline b two\nresult b 0 10\nend\n");
        assert!(report.is_complete() && report.outcome("a").is_good());
        assert_eq!(report.outcome("b").output, ["two"]);
    }

    #[test]
    fn what_is_found_wrong_afterwards_is_a_failure() {
        let mut report = Report::default();
        report.add(b"result a 0 10\n");
        report.fail("a", "no hole");
        assert!(!report.outcome("a").is_good());
        assert_eq!(report.outcome("a").output, ["FAILED: no hole"]);
        assert_eq!(report.news, ["a", "a"]);
    }

    #[test]
    fn a_report_without_its_last_line_is_incomplete() {
        let mut report = Report::default();
        report.add(b"line a end\nresult a 0 10\nen");
        assert!(!report.is_complete());
    }
}
