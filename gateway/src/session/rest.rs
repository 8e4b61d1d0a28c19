//! [`Rest`]: since when a client has done nothing.

use std::time::{Duration, Instant};

/// Since when a client has done nothing. The session only notes that there was something, which costs no look at a
/// clock; whoever wants to know looks from time to time.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// There was something since the last look.
    pub(crate) is_broken: bool,
    since: Option<Instant>,
}

impl Rest {
    /// A look at `now`: how long the rest has lasted. `is_waiting`: the client waits for something, which is no rest.
    pub(crate) fn look(&mut self, now: Instant, is_waiting: bool) -> Duration {
        if std::mem::take(&mut self.is_broken) || is_waiting {
            self.since = None;
        }
        now.duration_since(*self.since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_begins_with_the_first_look_that_finds_nothing() {
        let (mut rest, start) = (Rest::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(rest.look(start, false), Duration::ZERO);
        assert_eq!(rest.look(start + second, false), second);
        rest.is_broken = true;
        assert_eq!(rest.look(start + 2 * second, false), Duration::ZERO);
        assert_eq!(rest.look(start + 3 * second, true), Duration::ZERO, "it waits for a reply");
        assert_eq!(rest.look(start + 5 * second, false), 2 * second);
    }
}
