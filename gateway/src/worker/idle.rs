//! [`Idle`]: clients that do nothing for too long are sent away.

use std::time::{Duration, Instant};

use super::Worker;
use crate::net::complaint::complain;
use crate::slab::Key;

/// Looks in the time that a client may do nothing; so much later at most it is sent away.
const LOOKS: u32 = 8;

/// When to look for clients that do nothing.
#[derive(Debug)]
pub(crate) struct Idle {
    timeout: Option<Duration>,
    looked: Instant,
}

impl Idle {
    /// For clients that may do nothing for so long; without a time, for ever.
    pub(crate) fn new(timeout: Option<Duration>) -> Idle {
        Idle { timeout, looked: Instant::now() }
    }

    /// How long until the next look, if there are clients.
    pub(super) fn next_look(&self, any: bool) -> Option<Duration> {
        let period = self.timeout.filter(|_| any)? / LOOKS;
        Some(period.saturating_sub(self.looked.elapsed()))
    }
}

impl Worker {
    /// Sends clients away that have done nothing for too long, if it is time to look for some.
    pub(super) fn close_idle(&mut self, now: Instant) {
        let Some(timeout) = self.idle.timeout else { return };
        if now.saturating_duration_since(self.idle.looked) < timeout / LOOKS {
            return;
        }
        self.idle.looked = now;
        for key in self.keys() {
            if self.is_idle(key, now, timeout) {
                self.close(key);
            }
        }
    }

    fn is_idle(&mut self, key: Key, now: Instant, timeout: Duration) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let is_waiting = !session.is_answered() || session.is_held();
        if session.rest.look(now, is_waiting) < timeout {
            return false;
        }
        let (client, seconds) = (session.visit.client(), timeout.as_secs());
        complain(client, format_args!("closing the connection of {client}, which was idle for {seconds} s"));
        true
    }
}
