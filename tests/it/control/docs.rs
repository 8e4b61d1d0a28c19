//! The examples of docs/control.md are what the server says.

use serde_json::Value;
use tests::wait_until;

use super::Controlled;
use crate::raw::Raw;

const DOCS: &str = include_str!("../../../docs/control.md");

/// Requests and their answers, in the order of the page.
fn examples() -> Vec<(Value, Value)> {
    let lines = |mark: &str| -> Vec<Value> {
        let lines = DOCS.lines().filter_map(|line| line.trim_start().strip_prefix(mark));
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    };
    let (requests, answers) = (lines("> "), lines("< "));
    assert_eq!(requests.len(), answers.len());
    requests.into_iter().zip(answers).collect()
}

/// The keys and types of a value, without what differs from server to server.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::Number(_) => "a number".into(),
        other => other.clone(),
    }
}

/// As the page has it: what only this server can say is what the page says.
fn comparable(mut answer: Value, page: &Value) -> Value {
    for pointer in ["/ok/places/0", "/ok/clients/0/peer", "/ok/version"] {
        if let (Some(found), Some(wanted)) = (answer.pointer_mut(pointer), page.pointer(pointer)) {
            assert!(found.is_string());
            *found = wanted.clone();
        }
    }
    shape(&answer)
}

#[test]
fn every_example_is_what_the_server_says() {
    let mut controlled = Controlled::start(&["-e", "disk1", "memory", "1M"]);
    let mut operator = controlled.operator();
    let client = Raw::open(controlled.socket(), "disk1");
    wait_until("the client is there", || operator.run("exports")["exports"][0]["clients"] == 1);
    let examples = examples();
    assert!(examples.len() >= 12);
    for (request, page) in examples {
        assert!(operator.send(format!("{request}\n").as_bytes()));
        let answer = operator.answer().unwrap();
        assert_eq!(comparable(answer, &page), shape(&page), "{request}");
    }
    drop(client);
    assert_eq!(controlled.gateway.wait().code(), Some(0), "the last one is 'stop'");
}

#[test]
fn every_command_has_an_example() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let error = controlled.operator().about("zzzzzzzzzzzz", "").unwrap_err();
    let hint = error["hint"].as_str().unwrap().strip_prefix("the commands are ").unwrap();
    for command in hint.split(", ") {
        assert!(examples().iter().any(|(request, _)| request["command"] == command), "{command}");
    }
    controlled.gateway.stop();
}
