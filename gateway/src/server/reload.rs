//! What SIGHUP does where there is a configuration file.

use super::Plan;
use super::places::{Door, Places};
use super::service::{Changes, Service};
use crate::tls;

/// Reads the file again and puts its exports and places into service. A file that is wrong changes nothing, nor does
/// one that names a device that cannot be opened or a place where nobody can listen.
pub(super) async fn reload(plan: &Plan, service: &mut Service, places: &mut Places, door: &Door) {
    let Some(reload) = &plan.reload else { return };
    let mut next = match (reload.0)() {
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
        ("the place of the metrics", next.metrics != plan.metrics),
        ("what clients are held to", next.limits != plan.limits),
    ] {
        if changed {
            tracing::warn!(
                "{what} has changed in the configuration, which takes effect when the server is started anew"
            );
        }
    }
    // Devices are for the workers that there are, or each would count as another one.
    for export in &mut next.exports {
        export.device.options.workers = plan.workers;
    }
    // Certificates are renewed under the same names.
    let tls = match tls::Context::load(&next.tls) {
        Ok(tls) => tls,
        Err(error) => return tracing::error!("{error}: the server goes on as before"),
    };
    let other_places = match places.prepare(next.listen) {
        Ok(places) => places,
        Err(error) => return tracing::error!("{error}: the server goes on as before"),
    };
    let Changes { added, removed, changed } = match service.reload(next.exports, tls).await {
        Ok(changes) => changes,
        Err(error) => return tracing::error!("{error}: the server goes on as before"),
    };
    places.change(other_places, door).await;
    tracing::info!(
        "the configuration is reloaded: {added} exports added, {removed} removed, {changed} changed, {} in service",
        service.exports().len()
    );
}
