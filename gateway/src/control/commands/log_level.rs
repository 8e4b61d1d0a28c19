//! `log-level`: what is logged.

use serde_json::Value;

use super::super::arguments::Arguments;
use super::super::refusal::Refusal;
use super::done;
use crate::log;

pub(super) fn run(mut given: Arguments) -> Result<Value, Refusal> {
    let filter = given.text("filter")?;
    given.finish()?;
    log::level::set_level(&filter).map_err(|error| Refusal::from(error).at("filter"))?;
    tracing::info!("an operator has set the log level to {filter:?}");
    Ok(done())
}
