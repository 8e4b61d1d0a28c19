//! `statistics`: what exports have done since they are in service.

use serde_json::{Map, Value, json};

use super::super::Hub;
use super::super::arguments::Arguments;
use super::super::refusal::Refusal;
use crate::metrics::{Kind, RequestSum, TrafficSum};
use crate::server::Served;

pub(super) fn run(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    given.finish()?;
    let exports: Vec<Value> = hub.service.exports().iter().map(describe).collect();
    Ok(json!({ "time": hub.started.elapsed().as_secs_f64(), "exports": exports }))
}

fn describe(served: &Served) -> Value {
    let traffic = served.traffic();
    let device = served.device.tally();
    json!({
        "name": served.plan.offer.name,
        "clients": served.clients(),
        "sessions": traffic.sessions,
        "refused": traffic.refused,
        "queue-depth": traffic.depth,
        "operations": operations(&traffic),
        "device": {
            "submissions": device.submissions,
            "completions": device.completions,
            "notifications": device.notifications,
            "reconnects": device.recoveries,
            "resubmissions": device.resubmissions,
        },
    })
}

/// Those that were ever asked for.
fn operations(traffic: &TrafficSum) -> Map<String, Value> {
    let known = Kind::ALL.into_iter().map(|kind| (kind.name(), traffic.of_kind(kind)));
    known.filter(|(_, sum)| sum.asked > 0).map(|(name, sum)| (name.to_owned(), requests(sum))).collect()
}

fn requests(sum: &RequestSum) -> Value {
    json!({
        "requests": sum.asked,
        "bytes": sum.bytes,
        "errors": sum.failed,
        "abandoned": sum.abandoned,
        "in-flight": sum.in_flight(),
        "answered": sum.latency.count(),
        "seconds": sum.latency.sum_seconds(),
    })
}
