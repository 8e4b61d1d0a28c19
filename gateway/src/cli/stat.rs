//! `gateway ctl PATH stat`: what exports do, in numbers, as iostat(1) shows it of disks.

use std::collections::HashMap;

use serde_json::Value;

use super::ctl::{list, named};
use super::table::{Side, Table, size};

/// Operations that have columns of their own; all others are summed up.
const READ: &str = "read";
const WRITE: &str = "write";

/// What was done in all, a row for each export and operation.
pub(super) fn totals(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("EXPORT", Side::Left),
        ("OPERATION", Side::Left),
        ("REQUESTS", Side::Right),
        ("BYTES", Side::Right),
        ("ERRORS", Side::Right),
        ("ABANDONED", Side::Right),
        ("IN-FLIGHT", Side::Right),
        ("MEAN", Side::Right),
    ]);
    for export in list(&answer["exports"]) {
        for (operation, sum) in export["operations"].as_object().into_iter().flatten() {
            let count = |key: &str| sum[key].as_u64().unwrap_or_default();
            table.push(vec![
                named(&export["name"]),
                operation.clone(),
                count("requests").to_string(),
                size(count("bytes")),
                count("errors").to_string(),
                count("abandoned").to_string(),
                count("in-flight").to_string(),
                mean(sum["seconds"].as_f64().unwrap_or_default(), count("answered")),
            ]);
        }
    }
    table.render()
}

/// What was done between two answers, a row for each export that is in the later one.
pub(super) fn rates(before: &Value, now: &Value) -> String {
    let mut table = Table::new(&[
        ("EXPORT", Side::Left),
        ("CLIENTS", Side::Right),
        ("R/S", Side::Right),
        ("READ/S", Side::Right),
        ("R-MEAN", Side::Right),
        ("W/S", Side::Right),
        ("WRITE/S", Side::Right),
        ("W-MEAN", Side::Right),
        ("OTHER/S", Side::Right),
        ("ERRORS", Side::Right),
        ("IN-FLIGHT", Side::Right),
        ("DEPTH", Side::Right),
    ]);
    let seconds = now["time"].as_f64().unwrap_or_default() - before["time"].as_f64().unwrap_or_default();
    let former: HashMap<&str, &Value> =
        list(&before["exports"]).filter_map(|export| Some((export["name"].as_str()?, export))).collect();
    for export in list(&now["exports"]) {
        let former = export["name"].as_str().and_then(|name| former.get(name).copied());
        let change = Change { former: former.unwrap_or(&Value::Null), now: export, seconds };
        let columns = |operation| {
            let [requests, bytes, mean] = change.of(operation);
            [requests, bytes, mean]
        };
        let mut row = vec![named(&export["name"]), export["clients"].to_string()];
        row.extend(columns(READ));
        row.extend(columns(WRITE));
        row.push(rate(change.others(), seconds));
        row.push(change.all("errors").to_string());
        row.push(change.in_flight().to_string());
        row.push(export["queue-depth"].to_string());
        table.push(row);
    }
    table.render()
}

/// One export at two times.
struct Change<'a> {
    former: &'a Value,
    now: &'a Value,
    seconds: f64,
}

impl Change<'_> {
    /// How much a number of an operation has risen. An export that is another one by now begins at nothing.
    fn risen(&self, operation: &str, key: &str) -> u64 {
        let at = |export: &Value| export["operations"][operation][key].as_u64().unwrap_or_default();
        let (former, now) = (at(self.former), at(self.now));
        now.checked_sub(former).unwrap_or(now)
    }

    /// Requests and bytes in a second, and how long a request took.
    fn of(&self, operation: &str) -> [String; 3] {
        let at = |export: &Value| export["operations"][operation]["seconds"].as_f64().unwrap_or_default();
        let answered = self.risen(operation, "answered");
        let took = at(self.now) - at(self.former);
        [
            rate(self.risen(operation, "requests"), self.seconds),
            size(per_second(self.risen(operation, "bytes"), self.seconds)),
            mean(took.max(0.0), answered),
        ]
    }

    fn operations(&self) -> impl Iterator<Item = &str> {
        self.now["operations"].as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    fn others(&self) -> u64 {
        let others = self.operations().filter(|name| ![READ, WRITE].contains(name));
        others.map(|operation| self.risen(operation, "requests")).sum()
    }

    fn all(&self, key: &str) -> u64 {
        self.operations().map(|operation| self.risen(operation, key)).sum()
    }

    fn in_flight(&self) -> u64 {
        let of = |name: &str| self.now["operations"][name]["in-flight"].as_u64().unwrap_or_default();
        self.operations().map(of).sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number for people")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "neither negative nor that large"
)]
fn per_second(count: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 }
}

fn rate(count: u64, seconds: f64) -> String {
    per_second(count, seconds).to_string()
}

/// How long each took, with a unit of which there are few.
#[expect(clippy::cast_precision_loss, reason = "a number for people")]
fn mean(seconds: f64, count: u64) -> String {
    if count == 0 {
        return "-".into();
    }
    let us = seconds * 1e6 / count as f64;
    match () {
        () if us < 1000.0 => format!("{us:.1}us"),
        () if us < 1e6 => format!("{:.1}ms", us / 1e3),
        () => format!("{:.1}s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(time: f64, reads: u64, seconds: f64) -> Value {
        json!({ "time": time, "exports": [{
            "name": "a", "clients": 2, "queue-depth": 3,
            "operations": {
                "read": { "requests": reads, "bytes": reads * 4096, "errors": 1, "abandoned": 0, "in-flight": 5,
                          "answered": reads, "seconds": seconds },
                "flush": { "requests": 4, "bytes": 0, "errors": 0, "abandoned": 0, "in-flight": 0, "answered": 4,
                           "seconds": 0.5 },
            },
        }]})
    }

    #[test]
    fn totals_have_a_row_for_each_operation() {
        let text = totals(&answer(1.0, 1024, 0.1024));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["a", "flush", "4", "0", "0", "0", "0", "125.0ms"]);
        assert_eq!(lines[2], ["a", "read", "1024", "4M", "1", "0", "5", "100.0us"]);
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let text = rates(&answer(1.0, 100, 1.0), &answer(3.0, 300, 5.0));
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["a", "2", "100", "400K", "20.0ms", "0", "0", "-", "0", "0", "5", "3"]);
        let fresh = rates(&json!({ "time": 1.0, "exports": [] }), &answer(3.0, 300, 5.0));
        let row: Vec<&str> = fresh.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[2..5], ["150", "600K", "16.7ms"]);
        assert_eq!(row[8..10], ["2", "1"]);
    }
}
