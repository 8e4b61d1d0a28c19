//! [`Stacks`]: stacks with how often each was seen, and whether they are whole.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::ensure;

/// Least share of the samples of workers whose stacks reach the beginning of their thread. Without TLS nearly all do.
/// OpenSSL's ciphers are in assembler, which has other uses for the frame pointer: with TLS one in ten ends there.
const WHOLE_MIN: f64 = 0.8;

/// How names of worker threads begin.
const WORKER: &str = "worker-";

/// Functions by which a worker's thread begins, from inside out. What the compiler has merged with its caller is not
/// there, but not all of them can be.
const BEGINNINGS: [&str; 4] = [
    "gateway::worker::serve",
    "gateway::server::crew::Post::work",
    "__rust_begin_short_backtrace",
    "thread_start",
];

/// Stacks in lines, from the outermost function on: `THREAD;FUNCTION;…;FUNCTION COUNT`.
#[derive(Debug)]
pub(super) struct Stacks {
    folded: String,
}

impl Stacks {
    pub(super) fn new(folded: String) -> Stacks {
        Stacks { folded }
    }

    /// The lines.
    pub(super) fn folded(&self) -> &str {
        &self.folded
    }

    /// How many of the workers' stacks are whole, in words.
    ///
    /// # Errors
    /// There are none, or so few that the picture lies.
    pub(super) fn wholeness(&self) -> anyhow::Result<String> {
        let (whole, all, ends) = self.count();
        ensure!(all > 0, "no sample is of a worker's thread");
        let share = whole as f64 / all as f64;
        let words =
            format!("{:.1} % of {all} samples of workers reach the start of their thread", 100.0 * share);
        let hint = "was the gateway built without frame pointers?";
        ensure!(share >= WHOLE_MIN, "{words}; the others end in {}: {hint}", most_frequent(ends));
        Ok(words)
    }

    /// Samples of workers: those with whole stacks, all, and those that end elsewhere, by where that is.
    fn count(&self) -> (u64, u64, HashMap<&str, u64>) {
        let (mut whole, mut all, mut ends) = (0, 0, HashMap::new());
        for line in self.folded.lines().filter(|line| line.starts_with(WORKER)) {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            let count: u64 = count.parse().unwrap_or(0);
            all += count;
            let is_whole = stack
                .split(';')
                .skip(1)
                .any(|function| BEGINNINGS.iter().any(|beginning| function.contains(beginning)));
            match is_whole {
                true => whole += count,
                false => *ends.entry(stack.split(';').nth(1).unwrap_or_default()).or_default() += count,
            }
        }
        (whole, all, ends)
    }
}

/// The most frequent places in words.
fn most_frequent(ends: HashMap<&str, u64>) -> String {
    let mut ends: Vec<(&str, u64)> = ends.into_iter().collect();
    ends.sort_by_key(|(_, count)| Reverse(*count));
    let words: Vec<String> = ends.iter().take(5).map(|(place, count)| format!("{place} ({count})")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks(lines: &[&str]) -> Stacks {
        Stacks::new(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    #[test]
    fn stacks_that_reach_the_start_of_their_thread_are_whole() {
        let stacks = stacks(&[
            "worker-0;thread_start;a b;c 80",
            "worker-1;gateway::worker::serve::{{closure}};x 15",
            "worker-1;[unknown];memcpy 5",
            "gateway;main 1000",
        ]);
        assert_eq!(stacks.count(), (95, 100, HashMap::from([("[unknown]", 5)])));
        assert!(stacks.wholeness().unwrap().starts_with("95.0 % of 100 samples"));
    }

    #[test]
    fn a_picture_of_pieces_is_refused() {
        let error = stacks(&["worker-0;thread_start;a 70", "worker-0;b 30"]).wholeness().unwrap_err();
        assert!(error.to_string().contains("end in b (30): was the gateway built without"), "{error}");
        assert!(stacks(&["gateway;thread_start 7"]).wholeness().is_err());
    }
}
