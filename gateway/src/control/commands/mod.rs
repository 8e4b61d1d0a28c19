//! The commands: one file for each, or for a few that are alike.
//!
//! A new one needs a name in [`NAMES`], an arm in [`run`], a section in docs/control.md (a test runs its example) and,
//! for people, a place in `cli/ctl.rs`. It reads its arguments and touches nothing before they are known to be right.
//! What it wants to know of workers it asks by messages, a bounded piece at a time ([`ask`]). Counters of a disk, which
//! all workers share, can be read from `Served` without asking anybody.

mod add;
mod clients;
mod disconnect;
mod exports;
mod life;
mod log_level;
mod server;
mod statistics;
mod status;

use std::sync::Arc;
use std::time::Duration;

use drivers::property::nearest;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Hub;
use super::arguments::Arguments;
use super::refusal::Refusal;
use crate::worker::mailbox::{Mailbox, Message};

/// Ends the server; the connection is kept until it has.
pub(super) const STOP: &str = "stop";

/// All commands, as messages list them.
const NAMES: [&str; 13] = [
    "status",
    "exports",
    "clients",
    "statistics",
    "add",
    "remove",
    "drain",
    "pause",
    "resume",
    "disconnect",
    "log-level",
    "reload",
    STOP,
];

/// How long a worker may take to read a message.
const WORKER: Duration = Duration::from_secs(5);

/// Does what a request asks for.
///
/// # Errors
/// Its words are wrong, or it did not work.
pub(super) async fn run(hub: &Hub, command: &str, given: Map<String, Value>) -> Result<Value, Refusal> {
    let given = Arguments::new(command, given);
    match command {
        "status" => status::run(hub, given),
        "exports" => exports::run(hub, given),
        "clients" => clients::run(hub, given).await,
        "statistics" => statistics::run(hub, given),
        "add" => add::run(hub, given).await,
        "remove" => life::remove(hub, given).await,
        "drain" => life::drain(hub, given).await,
        "pause" => life::pause(hub, given).await,
        "resume" => life::resume(hub, given).await,
        "disconnect" => disconnect::run(hub, given).await,
        "log-level" => log_level::run(given),
        "reload" => server::reload(hub, given).await,
        STOP => server::stop(hub, given),
        unknown => Err(no_command(unknown)),
    }
}

fn no_command(unknown: &str) -> Refusal {
    let refusal = Refusal::usage(format!("there is no command '{unknown}'")).at("command");
    match nearest(unknown, NAMES.iter().copied()) {
        Some(near) => refusal.hint(format!("did you mean '{near}'?")),
        None => refusal.hint(format!("the commands are {}", NAMES.join(", "))),
    }
}

/// Nothing to tell but that it worked.
fn done() -> Value {
    Value::Object(Map::new())
}

/// Asks a worker something. `None`: it does not answer in time.
async fn ask<T>(worker: &Arc<Mailbox>, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    worker.post(message(sender));
    timeout(WORKER, answer).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_told_the_known_ones() {
        let hint = |name: &str| no_command(name).into_json()["hint"].as_str().unwrap().to_owned();
        assert_eq!(hint("paus"), "did you mean 'pause'?");
        assert!(NAMES.iter().all(|name| hint("zzzzzzzzzz").contains(name)));
    }
}
