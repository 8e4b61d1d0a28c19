//! What SIGHUP does where there is a configuration file.

use super::Plan;
use super::places::{Door, Places};
use super::service::{Changes, Service};
use crate::tls;

/// Reads the file again and puts its exports and places into service. A file that is wrong changes nothing; one that
/// names a device that cannot be opened changes no export.
pub(super) async fn reload(plan: &Plan, service: &mut Service, places: &mut Places, door: &Door) {
    let Some(reload) = &plan.reload else { return };
    let next = match (reload.0)() {
        Ok(next) => next,
        Err(mistakes) => {
            mistakes.lines().for_each(|mistake| tracing::error!("{mistake}"));
            tracing::error!("the configuration is wrong: the server goes on as before");
            return;
        }
    };
    for (what, changed) in [
        ("the number of workers", next.workers != plan.workers),
        ("the time of polling", next.poll != plan.poll),
        ("the pid file", next.pidfile != plan.pidfile),
        ("what clients are held to", next.limits != plan.limits),
    ] {
        if changed {
            tracing::warn!(
                "{what} has changed in the configuration, which takes effect when the server is started anew"
            );
        }
    }
    // Certificates are renewed under the same names.
    let tls = match tls::Context::load(&next.tls) {
        Ok(tls) => tls,
        Err(error) => return tracing::error!("{error}: the server goes on as before"),
    };
    match service.reload(next.exports).await {
        Ok(Changes { added, removed, changed }) => tracing::info!(
            "the configuration is reloaded: {added} exports added, {removed} removed, {changed} changed, {} in service",
            service.exports().len()
        ),
        Err(error) => return tracing::error!("{error}: the server goes on as before"),
    }
    service.encrypt(tls);
    if let Err(error) = places.change(&next.listen, door).await {
        tracing::error!("{error}: it listens where it did before");
    }
}
