//! [`Phase`]: how an operator has an export served.

/// How an operator has an export served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// As always.
    Serving,
    /// No request is taken; some of those that were taken before are not completed.
    Pausing,
    /// No request is taken, and none is under way.
    Paused,
    /// No client finds it, and those that have it open are on their way out.
    Draining,
    /// No client finds it, and none has it open.
    Drained,
}

impl Phase {
    /// The phase in one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Serving => "serving",
            Phase::Pausing => "pausing",
            Phase::Paused => "paused",
            Phase::Draining => "draining",
            Phase::Drained => "drained",
        }
    }

    /// Whether new clients find it.
    pub(super) fn is_offered(self) -> bool {
        !self.is_closed()
    }

    /// Whether an operator has sent its clients away.
    pub(super) fn is_closed(self) -> bool {
        matches!(self, Phase::Draining | Phase::Drained)
    }
}
