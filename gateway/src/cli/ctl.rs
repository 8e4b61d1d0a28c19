//! `gateway ctl PATH COMMAND`: shows and changes what a server serves, by its control socket.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use drivers::Error;
use serde_json::{Map, Value, json};

use super::args::{Offered, memory_bytes};
use super::stat;
use super::table::{Side, Table, duration, size};
use super::words::Words;
use crate::control::client::Client;
use crate::values;

/// The command behind `stat`.
const STATISTICS: &str = "statistics";

/// Which server, and what is wanted of it. Both may be missing where help is wanted.
#[derive(Debug, Args)]
#[command(
    subcommand_required = false,
    disable_help_subcommand = true,
    override_usage = "gateway ctl PATH [--json] COMMAND..."
)]
pub(super) struct Ctl {
    /// What the server's option --control says
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    wanted: Option<Wanted>,
}

impl Ctl {
    /// Where its help is: below which commands.
    pub(super) fn help_path(&self) -> &'static [&'static str] {
        match self.wanted {
            Some(Wanted::Add(_)) => &["ctl", "add"],
            _ => &["ctl"],
        }
    }
}

/// What is wanted.
#[derive(Debug, Subcommand)]
enum Wanted {
    /// The server as a whole
    Status,
    /// What is served, and how
    Exports,
    /// Who has an export open
    Clients,
    /// What exports have done in all, or do in each of so many seconds, as iostat(1) shows it
    Stat {
        /// Seconds between rows, for ever or COUNT times
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        interval: Option<u32>,
        /// How many times
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        count: Option<u32>,
    },
    /// Serve one more disk; stays over reloads, unless the file has an export of its name
    #[command(override_usage = "gateway ctl PATH add -e NAME [OPTIONS] DRIVER [PROPERTY=VALUE]...")]
    Add(Add),
    /// Take an export out of service: clients get their answers and are sent away, the device is closed
    Remove { name: String },
    /// As 'remove', but keep the device open; 'resume' serves it again
    Drain { name: String },
    /// Take no requests; returns when all that were taken before are answered
    Pause { name: String },
    /// Serve an export again that was paused or drained
    Resume { name: String },
    /// Send a client away when it has its answers
    Disconnect {
        /// Its number, as 'clients' shows it
        client: u64,
        /// Do not wait for its answers
        #[arg(long)]
        now: bool,
    },
    /// Log more or less: debug, or gateway=debug,drivers=trace
    LogLevel { filter: String },
    /// Read the configuration file again, as by SIGHUP
    Reload,
    /// End the server in order, as by SIGTERM; returns when it has ended
    Stop,
}

/// One more export.
#[derive(Debug, Args)]
struct Add {
    /// Driver and properties, as for serving
    #[arg(value_name = "DRIVER [PROPERTY=VALUE]...", hide = true)]
    words: Vec<String>,
    #[command(flatten)]
    offered: Offered,
    /// Payload memory of the disk
    #[arg(long, value_name = "SIZE", value_parser = memory_bytes)]
    memory: Option<usize>,
}

/// Has it done. Returns what there is to print.
///
/// # Errors
/// Wrong words, no server, or what the server says.
pub(super) fn text(Ctl { path, json, wanted }: Ctl) -> Result<String, Error> {
    let (Some(path), Some(wanted)) = (path, wanted) else {
        return Err(Error::usage("it is not said which server is meant, or what is wanted of it")
            .hint("gateway ctl PATH COMMAND, as 'gateway ctl --help' explains"));
    };
    let (command, arguments) = request(&wanted)?;
    let mut client = Client::connect(&path)?;
    if let Wanted::Stat { interval: Some(interval), count } = wanted {
        return watch(&mut client, interval, count, json);
    }
    let answer = client.call(command, arguments)?;
    if let Wanted::Stop = wanted {
        client.wait_for_end();
    }
    if json {
        return Ok(format!("{answer:#}\n"));
    }
    Ok(match &wanted {
        Wanted::Status => status(&answer),
        Wanted::Exports => exports(&answer),
        Wanted::Clients => clients(&answer),
        Wanted::Stat { .. } => stat::totals(&answer),
        wanted => outcome(wanted, &answer),
    })
}

/// Prints what exports do in each interval, until it was done so often or nobody reads it. Returns the last of it.
fn watch(client: &mut Client, interval: u32, count: Option<u32>, json: bool) -> Result<String, Error> {
    let mut left = count;
    let mut before = client.call(STATISTICS, Map::new())?;
    loop {
        thread::sleep(Duration::from_secs(interval.into()));
        let now = client.call(STATISTICS, Map::new())?;
        // One object on each line: there are many.
        let text = if json { format!("{now}\n") } else { stat::rates(&before, &now) };
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Ok(text);
        }
        if !super::print_on(&text)? {
            return Ok(String::new());
        }
        before = now;
    }
}

/// The command and its arguments.
fn request(wanted: &Wanted) -> Result<(&'static str, Map<String, Value>), Error> {
    let (command, arguments) = match wanted {
        Wanted::Status => ("status", json!({})),
        Wanted::Exports => ("exports", json!({})),
        Wanted::Clients => ("clients", json!({})),
        Wanted::Stat { .. } => (STATISTICS, json!({})),
        Wanted::Add(add) => ("add", json!({ "export": export(add)? })),
        Wanted::Remove { name } => ("remove", json!({ "name": name })),
        Wanted::Drain { name } => ("drain", json!({ "name": name })),
        Wanted::Pause { name } => ("pause", json!({ "name": name })),
        Wanted::Resume { name } => ("resume", json!({ "name": name })),
        Wanted::Disconnect { client, now } => ("disconnect", json!({ "client": client, "now": now })),
        Wanted::LogLevel { filter } => ("log-level", json!({ "filter": filter })),
        Wanted::Reload => ("reload", json!({})),
        Wanted::Stop => ("stop", json!({})),
    };
    match arguments {
        Value::Object(arguments) => Ok((command, arguments)),
        _ => Ok((command, Map::new())),
    }
}

/// The export as a file has it. The words are checked here, so that paths begin in this folder.
fn export(Add { words, offered, memory }: &Add) -> Result<Value, Error> {
    let Words { driver, settings, gets } = Words::parse(words, offered.readonly)?;
    if let Some(name) = gets.first() {
        return Err(Error::usage(format!("'get={name}' is for starting a server"))
            .hint("'exports' shows what is set"));
    }
    if offered.exportname.is_empty() {
        return Err(Error::usage("the export has no name").hint("put -e NAME before the driver"));
    }
    let value = |name: &'static str| Some((name.to_owned(), values::json(settings.get(name)?)));
    let properties = driver.properties().iter().filter_map(|property| value(property.name));
    let mut export = json!({
        "name": offered.exportname,
        "driver": driver.name(),
        "read-only": offered.readonly,
        "properties": properties.collect::<Map<_, _>>(),
    });
    if let Some(description) = &offered.description {
        export["description"] = description.as_str().into();
    }
    if let Some(memory) = memory {
        export["memory"] = (*memory).into();
    }
    Ok(export)
}

/// What there is to say when there is nothing to show.
fn outcome(wanted: &Wanted, answer: &Value) -> String {
    let cut_off = &answer["cut-off"];
    match wanted {
        Wanted::Add(add) => format!("export '{}' is added\n", add.offered.exportname),
        Wanted::Remove { name } => format!("export '{name}' is removed\n"),
        Wanted::Drain { name } if *cut_off == 0 => format!("export '{name}' is drained\n"),
        Wanted::Drain { name } => {
            format!(
                "export '{name}' is drained; clients cut off that did not take their answers: {cut_off}\n"
            )
        }
        Wanted::Pause { name } => format!("export '{name}' is paused\n"),
        Wanted::Resume { name } => format!("export '{name}' is served again\n"),
        Wanted::Disconnect { client, now: false } if *cut_off == true => {
            format!("client {client} is cut off: it did not take its answers\n")
        }
        Wanted::Disconnect { client, .. } => format!("client {client} is gone\n"),
        Wanted::LogLevel { filter } => format!("the log level is '{filter}'\n"),
        Wanted::Reload => format!(
            "the configuration is reloaded: {} exports added, {} removed, {} changed\n",
            answer["added"], answer["removed"], answer["changed"]
        ),
        Wanted::Stop => "the server has ended\n".into(),
        Wanted::Status | Wanted::Exports | Wanted::Clients | Wanted::Stat { .. } => String::new(),
    }
}

fn status(answer: &Value) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: String| text.push_str(&format!("{title:<12} {value}\n"));
    line(
        "server",
        format!("{} {}, process {}", word(&answer["name"]), word(&answer["version"]), answer["pid"]),
    );
    line("uptime", duration(number(&answer["uptime"])));
    line("workers", number(&answer["workers"]).to_string());
    line("exports", number(&answer["exports"]).to_string());
    line("connections", number(&answer["connections"]).to_string());
    for place in list(&answer["places"]) {
        line("listens on", word(place));
    }
    text
}

fn exports(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("NAME", Side::Left),
        ("SIZE", Side::Right),
        ("CLIENTS", Side::Right),
        ("STATE", Side::Left),
        ("ACCESS", Side::Left),
        ("DRIVER", Side::Left),
        ("PROPERTIES", Side::Left),
    ]);
    for export in list(&answer["exports"]) {
        let access = if export["read-only"] == true { "ro" } else { "rw" };
        table.push(vec![
            named(&export["name"]),
            size(number(&export["capacity"])),
            number(&export["clients"]).to_string(),
            word(&export["state"]),
            access.into(),
            word(&export["driver"]),
            properties(&export["properties"]),
        ]);
    }
    table.render()
}

fn clients(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("ID", Side::Right),
        ("EXPORT", Side::Left),
        ("PEER", Side::Left),
        ("IDENTITY", Side::Left),
        ("SINCE", Side::Right),
        ("WORKER", Side::Right),
        ("IN-FLIGHT", Side::Right),
        ("STATE", Side::Left),
    ]);
    for client in list(&answer["clients"]) {
        table.push(vec![
            number(&client["id"]).to_string(),
            named(&client["export"]),
            word(&client["peer"]),
            identity(&client["tls"]),
            duration(number(&client["connected"])),
            number(&client["worker"]).to_string(),
            number(&client["in-flight"]).to_string(),
            word(&client["state"]),
        ]);
    }
    let mut text = table.render();
    let silent: Vec<String> = list(&answer["silent-workers"]).map(Value::to_string).collect();
    if !silent.is_empty() {
        text.push_str(&format!("workers that do not answer: {}\n", silent.join(", ")));
    }
    text
}

/// Who a client has proven to be.
fn identity(tls: &Value) -> String {
    match (tls, tls["user"].as_str(), tls["certificate"][0].as_str()) {
        (Value::Null, ..) => "-".into(),
        (_, Some(user), _) => user.into(),
        (_, None, Some(name)) => name.into(),
        (_, None, None) => "(encrypted)".into(),
    }
}

/// Properties as words of the command line.
fn properties(set: &Value) -> String {
    let words = set.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={}", word(value)));
    words.collect::<Vec<_>>().join(" ")
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Text without quotes; anything else as JSON.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A name that may be empty.
pub(super) fn named(value: &Value) -> String {
    match value.as_str() {
        Some("") => "\"\"".into(),
        _ => word(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Arguments, Command};
    use super::*;
    use clap::Parser;
    use drivers::ErrorKind;

    fn parse(line: &str) -> Ctl {
        let line = ["gateway", "ctl", "/s"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(line).unwrap().command {
            Some(Command::Ctl(ctl)) => ctl,
            other => panic!("{other:?}"),
        }
    }

    fn requested(line: &str) -> Result<(&'static str, Value), Error> {
        request(&parse(line).wanted.unwrap()).map(|(command, arguments)| (command, Value::Object(arguments)))
    }

    #[test]
    fn words_become_requests() {
        assert_eq!(requested("pause a").unwrap(), ("pause", json!({ "name": "a" })));
        let disconnect = json!({ "client": 7, "now": true });
        assert_eq!(requested("disconnect 7 --now").unwrap(), ("disconnect", disconnect));
        assert_eq!(requested("log-level gateway=debug").unwrap().1, json!({ "filter": "gateway=debug" }));
        assert!(parse("--json clients").json);
    }

    #[test]
    fn an_export_is_told_as_a_file_has_it() {
        let (command, told) =
            requested("add -e a -r --memory 2M io_uring disk.img direct=true num-queues=2").unwrap();
        let path = std::env::current_dir().unwrap().join("disk.img");
        let properties = json!({ "path": path, "direct": true, "num-queues": 2, "read-only": true });
        let export = json!({
            "name": "a",
            "driver": "io_uring",
            "read-only": true,
            "memory": 2 << 20,
            "properties": properties,
        });
        assert_eq!((command, &told["export"]), ("add", &export));
        let Value::Object(export) = export else { panic!("an object") };
        assert!(crate::config::export_of_json(export, std::path::Path::new("/")).is_ok());
    }

    #[test]
    fn wrong_words_are_found_without_a_server() {
        for line in [
            "add -e a",
            "add -e a memroy 1G",
            "add -e a memory x",
            "add memory 1G",
            "add -e a null 1 get=size",
        ] {
            assert_eq!(requested(line).unwrap_err().kind, ErrorKind::Usage, "{line}");
        }
    }

    #[test]
    fn answers_become_tables() {
        let answer = json!({ "exports": [
            { "name": "", "capacity": 1 << 30, "clients": 12, "state": "serving", "read-only": false,
              "driver": "memory", "properties": { "size": 1 << 30 } },
        ] });
        let text = exports(&answer);
        assert!(text.starts_with("NAME  SIZE  CLIENTS  STATE"), "{text}");
        assert!(text.contains("\"\"      1G       12  serving  rw      memory  size=1073741824"), "{text}");
        let client = |tls: Value| {
            json!({ "id": 7, "export": "a", "peer": "p", "tls": tls, "connected": 61, "worker": 1, "in-flight": 3,
                    "state": "busy" })
        };
        let tls = [
            json!(null),
            json!({ "user": "alice", "certificate": [] }),
            json!({ "user": null, "certificate": ["c"] }),
        ];
        let text = clients(&json!({ "clients": tls.map(client), "silent-workers": [2] }));
        for wanted in ["-   ", "alice", " c ", "1m1s", "workers that do not answer: 2"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
