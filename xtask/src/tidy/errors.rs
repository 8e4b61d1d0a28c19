//! Tables of error paths name tests that there are.
//!
//! A file `errors.md` beside the code of a driver says what comes of each thing that goes wrong, and which test shows
//! it. Such a table is worth something only while its tests exist and no test of faults is missing in it. The rule
//! reads every table whose last column is `test`. A cell of that column names tests in backticks:
//!
//! - `` `name::function` ``: in `tests/name.rs` of the crate that the file lies in;
//! - `` `folder/file.rs::function` ``: in this file, from the root of the repository;
//! - `` `folder/scenario.sh` ``: the file by itself.
//!
//! A sentence at the beginning of a line, `Each test of …`, names, in the same way, files whose tests must all be in
//! the tables.

use std::collections::HashSet;
use std::path::Path;

use super::Finding;
use super::code::code;
use crate::repo::File;

/// The name of such files.
const NAME: &str = "errors.md";

/// The last column of their tables.
const TEST: &str = "test";

/// The beginning of a line that names files whose tests are all there.
const COMPLETE: &str = "Each test of ";

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let is_one = |file: &&File| Path::new(&file.path).file_name().is_some_and(|name| name == NAME);
    files.iter().filter(is_one).flat_map(|file| check_file(file, files)).collect()
}

fn check_file(file: &File, files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut named = HashSet::new();
    let rows = rows(&file.text);
    if rows.is_empty() {
        findings.push(Finding::whole(file, format!("no table with rows has `{TEST}` as its last column")));
    }
    for row in &rows {
        if row.cells.len() != row.columns || row.cells.iter().any(|cell| cell.is_empty()) {
            let message = format!("a row has {} cells that say something", row.columns);
            findings.push(Finding::at(file, row.index, message));
            continue;
        }
        let tests = quoted(row.cells.last().copied().unwrap_or_default());
        if tests.is_empty() {
            findings.push(Finding::at(file, row.index, "a row names a test, in backticks"));
        }
        for test in tests {
            let place = Place::of(test, file);
            if !place.exists(files) {
                findings.push(Finding::at(file, row.index, format!("there is no test `{test}`")));
            }
            named.insert(place);
        }
    }
    findings.extend(unnamed(file, files, &named));
    findings
}

/// What is missing in a table that is to have each test of a file.
fn unnamed(file: &File, files: &[File], named: &HashSet<Place>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate().filter(|(_, line)| line.starts_with(COMPLETE)) {
        let sentence = line.split(". ").next().unwrap_or_default();
        for name in quoted(sentence) {
            let path = path(name, file);
            let tests = files.iter().find(|file| file.path == path).map(|file| tests(&file.text));
            let Some(tests) = tests.filter(|tests| !tests.is_empty()) else {
                findings.push(Finding::at(file, index, format!("there is no test in {path}")));
                continue;
            };
            for function in tests {
                let message = format!("no row names `{name}::{function}`");
                if !named.contains(&Place { path: path.clone(), function }) {
                    findings.push(Finding::at(file, index, message));
                }
            }
        }
    }
    findings
}

/// A row of a table.
struct Row<'a> {
    index: usize,
    cells: Vec<&'a str>,
    /// How many its table has.
    columns: usize,
}

/// The rows of all tables that name tests, without headings.
fn rows(text: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    // Columns of the table that the line before is in; 0: that table names no tests.
    let mut table = None;
    for (index, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else {
            table = None;
            continue;
        };
        match table {
            None => table = Some(if cells.last() == Some(&TEST) { cells.len() } else { 0 }),
            Some(columns) if columns > 0 && !is_rule(&cells) => rows.push(Row { index, cells, columns }),
            Some(_) => {}
        }
    }
    rows
}

/// The cells of a line of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?;
    Some(inner.strip_suffix('|').unwrap_or(inner).split('|').map(str::trim).collect())
}

/// Whether a line is what divides headings from rows.
fn is_rule(cells: &[&str]) -> bool {
    cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':'))
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Where a test is.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    path: String,
    /// Empty: the file is the test.
    function: String,
}

impl Place {
    fn of(test: &str, table: &File) -> Place {
        let (name, function) = test.split_once("::").unwrap_or((test, ""));
        Place { path: path(name, table), function: function.to_owned() }
    }

    fn exists(&self, files: &[File]) -> bool {
        let is_there = |file: &File| self.function.is_empty() || tests(&file.text).contains(&self.function);
        files.iter().any(|file| file.path == self.path && is_there(file))
    }
}

/// The file that a table means by a name.
fn path(name: &str, table: &File) -> String {
    if name.contains('/') {
        return name.to_owned();
    }
    let package = table.path.split("/src/").next().unwrap_or_default();
    format!("{package}/tests/{name}.rs")
}

/// Names of the test functions in Rust text.
fn tests(text: &str) -> Vec<String> {
    let text = code(text);
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        is_test |= line == "#[test]";
        if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
            found.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a table with these rows.
    fn messages(rows: &str) -> Vec<String> {
        let table = format!(
            "# Errors\n\nEach test of `faults` is here. `x` is not.\n\n| path | test |\n|---|---|\n{rows}\n"
        );
        let files = [
            File::new("one/src/disk/errors.md", &table),
            File::new(
                "one/tests/faults.rs",
                "#[test]\nfn a() {}\n#[test]\n#[ignore]\nfn b() {}\nfn c() {}\n",
            ),
            File::new(
                "one/src/disk/mod.rs",
                "mod tests {\n    #[test]\n    fn unit() {}\n    // fn d() {}\n}",
            ),
            File::new("tests/guest/all.sh", "true"),
        ];
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_of_tests_that_exist_is_fine() {
        let rows =
            "| x | `faults::a`, `one/src/disk/mod.rs::unit` |\n| y | `faults::b` and `tests/guest/all.sh` |";
        assert_eq!(messages(rows), [""; 0]);
    }

    #[test]
    fn tests_that_do_not_exist_are_found() {
        for test in ["faults::c", "faults::d", "other::a", "one/src/disk/mod.rs::d", "tests/guest/none.sh"] {
            let found = messages(&format!("| x | `faults::a` `faults::b` |\n| y | `{test}` |"));
            assert_eq!(found, [format!("one/src/disk/errors.md:8: there is no test `{test}`")]);
        }
    }

    #[test]
    fn tests_that_are_in_no_row_are_found() {
        let found = messages("| x | `faults::a` |");
        assert_eq!(found, ["one/src/disk/errors.md:3: no row names `faults::b`"]);
    }

    #[test]
    fn cells_that_say_nothing_are_found() {
        let good = "| x | `faults::a` `faults::b` |";
        for row in ["|  | `faults::a` |", "| x |  |", "| x |", "| x | y | `faults::a` |", "| x | faults::a |"]
        {
            let found = messages(&format!("{good}\n{row}"));
            assert!(found.len() == 1 && found[0].contains("errors.md:8: a row"), "{row}: {found:?}");
        }
    }

    #[test]
    fn a_file_without_a_table_and_a_file_without_tests_are_found() {
        let found =
            check(&[File::new("one/src/errors.md", "Each test of `none` is here.\n| path | why |\n")]);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.len() == 2 && found[0].contains("no table"), "{found:?}");
        assert!(found[1].ends_with("there is no test in one/tests/none.rs"), "{found:?}");
        assert_eq!(check(&[File::new("other.md", "| path | test |\n| x | |")]).len(), 0, "another file");
    }
}
