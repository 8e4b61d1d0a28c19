//! [`Pace`]: commands come no faster than the server has time for.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// Shortest time from one to the next. A flood of questions costs the threads that serve NBD clients a few per cent at
/// most, and people notice nothing.
const GAP: Duration = Duration::from_millis(1);

/// Gives out turns, one after the other, to all connections.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits for the next turn.
    pub(super) async fn turn(&self) {
        let mut last = self.last.lock().await;
        if let Some(wait) = last.and_then(|last| GAP.checked_sub(last.elapsed())) {
            sleep(wait).await;
        }
        *last = Some(Instant::now());
    }
}
