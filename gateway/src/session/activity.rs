//! [`Activity`]: what a client is doing, for those who look after the server.

use super::Session;

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It waits for nothing.
    Idle,
    /// It waits for replies, or takes them.
    Busy,
    /// Its next requests wait until it is served again.
    Held,
    /// It gets its last answers.
    Leaving,
}

impl Activity {
    /// The activity in one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::Busy => "busy",
            Activity::Held => "paused",
            Activity::Leaving => "leaving",
        }
    }
}

impl Session {
    /// Name of the export that the client has opened.
    pub(crate) fn export_name(&self) -> &str {
        &self.transmission.export.name
    }

    /// Operations that the client waits for.
    pub(crate) fn in_flight(&self) -> u32 {
        self.operations
    }

    /// What the client is doing.
    pub(crate) fn activity(&self) -> Activity {
        match () {
            () if self.draining || self.shutting_down => Activity::Leaving,
            () if self.is_held() => Activity::Held,
            () if self.is_at_rest() => Activity::Idle,
            () => Activity::Busy,
        }
    }
}
