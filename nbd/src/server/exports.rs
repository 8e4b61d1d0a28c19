//! What the handshake asks about exports.

use crate::export::ExportFacts;

/// The exports of a server, as one connection sees them.
///
/// Methods are called while a client waits and before it is known to be friendly: they must be quick and must not open
/// anything.
pub trait Exports {
    /// Answers LIST.
    fn list(&self) -> ListAnswer;

    /// Facts about the export of this name, which may be any text up to 4096 bytes without NUL. Names are no paths.
    fn find(&self, name: &str) -> Option<ExportFacts>;

    /// Facts about the export that the empty name means.
    fn find_default(&self) -> Option<ExportFacts> {
        self.find("")
    }

    /// Whether this export is only for encrypted connections. Asked only with [`TlsMode::On`](super::TlsMode::On) and
    /// before encryption, also about names that do not exist.
    fn needs_tls(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// Answer to LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAnswer {
    /// These exports, possibly none.
    Exports(Vec<Listed>),
    /// Listing is forbidden.
    Forbidden,
}

/// One export in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name to open it by.
    pub name: String,
    /// Text for humans, possibly empty.
    pub description: String,
}
