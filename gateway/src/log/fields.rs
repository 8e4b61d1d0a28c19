//! The fields of an event: whom it is about, for those who search, besides what it says.

use std::fmt;

use tracing::field::Field;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// The text of an event.
pub(super) const MESSAGE: &str = "message";

/// Fields that say what the text says too: lines of text leave them out.
const SAID: [&str; 3] = ["client", "export", "user"];

/// The text, and the fields that it does not say.
pub(super) fn for_people() -> impl for<'a> FormatFields<'a> {
    debug_fn(|line: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| match field.name() {
        MESSAGE => write!(line, "{value:?}"),
        name if SAID.contains(&name) => Ok(()),
        name => write!(line, " {name}={value:?}"),
    })
}
