//! [`Limits`]: how many clients, and how long they may do nothing.

use std::time::Duration;

/// What clients are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Clients at a time. `None`: as many as there are descriptors.
    pub(crate) clients_max: Option<usize>,
    /// Handshakes at a time. The next one ends the oldest.
    pub(crate) handshakes_max: usize,
    /// How long a client may take for the whole handshake, at one byte at a time if it likes.
    pub(crate) handshake_timeout: Duration,
    /// How long a client may neither send anything nor wait for anything. `None`: for ever.
    pub(crate) idle_timeout: Option<Duration>,
}

impl Limits {
    /// One worker's share of the handshakes.
    pub(crate) fn handshakes_per_worker(&self, workers: usize) -> usize {
        self.handshakes_max.div_ceil(workers.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_handshakes() {
        let limits = Limits {
            clients_max: None,
            handshakes_max: 1000,
            handshake_timeout: Duration::from_secs(30),
            idle_timeout: None,
        };
        assert_eq!(limits.handshakes_per_worker(1), 1000);
        assert_eq!(limits.handshakes_per_worker(3), 334);
    }
}
