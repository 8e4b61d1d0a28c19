//! `add`: one more export.

use drivers::Error;
use nbd::server::TlsMode;
use serde_json::Value;

use super::super::Hub;
use super::super::arguments::Arguments;
use super::super::refusal::Refusal;
use super::done;
use crate::config;

pub(super) async fn run(hub: &Hub, mut given: Arguments) -> Result<Value, Refusal> {
    let export = given.object("export")?;
    given.finish()?;
    let folder = std::env::current_dir().map_err(|cause| Error::system("find the working folder", &cause))?;
    let export = config::export_of_json(export, &folder).map_err(Refusal::of_words)?;
    if export.offer.needs_tls && hub.service.tls().mode() == TlsMode::Off {
        let error = Error::usage(format!(
            "export '{}' is for clients with TLS only, and there is no TLS",
            export.offer.name
        ));
        return Err(error.hint("start the server with tls-certificates or tls-psk").into());
    }
    hub.service.add(export.into_plan(hub.service.options())).await?;
    Ok(done())
}
