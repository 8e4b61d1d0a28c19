//! What SIGHUP and an operator's `reload` do where there is a configuration file.

use drivers::Error;

use super::Plan;
use super::places::{Door, Places};
use super::service::{Changes, Service};
use crate::log;
use crate::tls;

/// What came of a reload; or else what is wrong, line by line.
pub(crate) type Outcome = Result<Changes, Vec<String>>;

/// Reads the file again and puts its exports and places into service. A file that is wrong changes nothing, nor does
/// one that names a device that cannot be opened or a place where nobody can listen. The log tells what came of it,
/// too.
///
/// # Errors
/// What is wrong.
pub(super) async fn reload(plan: &Plan, service: &Service, places: &mut Places, door: &Door) -> Outcome {
    let Some(reload) = &plan.reload else {
        return Err(vec!["there is no configuration file that could be read again".into()]);
    };
    let mut next = (reload.0)().map_err(|mistakes| {
        mistakes.lines().for_each(|mistake| tracing::error!("{mistake}"));
        tracing::error!("the configuration is wrong: the server goes on as before");
        mistakes.lines().map(str::to_owned).collect::<Vec<_>>()
    })?;
    warn_of_what_waits(plan, &next);
    let unchanged = |error: Error| {
        tracing::error!("{error}: the server goes on as before");
        vec![error.to_string()]
    };
    // Certificates are renewed under the same names.
    let tls = tls::Context::load(&next.tls).map_err(unchanged)?;
    // Devices are for the workers that there are, or each would count as another one.
    next.options.workers = plan.options.workers;
    for export in &mut next.exports {
        export.device.options.workers = plan.options.workers;
    }
    let other_places = places.prepare(next.listen).map_err(unchanged)?;
    let changes = service.reload(next.exports, tls).await.map_err(unchanged)?;
    service.set_options(next.options);
    places.change(other_places, door).await;
    if let Err(error) = log::level::follow(next.log.level.as_deref()) {
        tracing::error!("{error}");
    }
    let Changes { added, removed, changed } = changes;
    tracing::info!(
        "the configuration is reloaded: {added} exports added, {removed} removed, {changed} changed, {} in service",
        service.exports().len()
    );
    Ok(changes)
}

/// Tells of changes that a reload leaves to the next start.
fn warn_of_what_waits(plan: &Plan, next: &Plan) {
    for (what, changed) in [
        ("the number of workers", next.workers != plan.workers),
        ("the time of polling", next.poll != plan.poll),
        ("the pid file", next.pidfile != plan.pidfile),
        ("the place of the metrics", next.metrics != plan.metrics),
        ("the control socket", next.control != plan.control),
        ("what clients are held to", next.limits != plan.limits),
        ("where the log goes", (next.log.place, next.log.format) != (plan.log.place, plan.log.format)),
    ] {
        if changed {
            tracing::warn!(
                "{what} has changed in the configuration, which takes effect when the server is started anew"
            );
        }
    }
}
