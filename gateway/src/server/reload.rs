//! What SIGHUP does where there is a configuration file.

use super::Plan;
use super::service::{Changes, Service};

/// Reads the file again and puts its exports into service. A file that is wrong, or names a device that cannot be
/// opened, changes nothing.
pub(super) async fn reload(plan: &Plan, service: &mut Service) {
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
        ("where to listen", next.listen != plan.listen),
        ("the number of workers", next.workers != plan.workers),
        ("the time of polling", next.poll != plan.poll),
        ("the pid file", next.pidfile != plan.pidfile),
    ] {
        if changed {
            tracing::warn!(
                "{what} has changed in the configuration, which takes effect when the server is started anew"
            );
        }
    }
    match service.reload(next.exports).await {
        Ok(Changes { added, removed, changed }) => tracing::info!(
            "the configuration is reloaded: {added} exports added, {removed} removed, {changed} changed, {} in service",
            service.exports().len()
        ),
        Err(error) => tracing::error!("{error}: the server goes on as before"),
    }
}
