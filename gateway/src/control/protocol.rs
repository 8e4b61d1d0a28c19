//! What the lines of the control socket mean: JSON, an object on each line.
//!
//! The server greets; then each request is one line, and its answer is one line. docs/control.md has every command.

use serde_json::{Map, Value, json};

use super::refusal::Refusal;

/// Raised when a client that knows the number before would misunderstand something.
pub(crate) const PROTOCOL: u64 = 1;

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// Comes back with the answer.
    pub(super) id: Value,
    pub(super) command: String,
    /// Everything else.
    pub(super) arguments: Map<String, Value>,
}

/// Why a line is no request, and the id of the answer that says so.
#[derive(Debug, PartialEq)]
pub(super) struct NoRequest {
    pub(super) id: Value,
    pub(super) refusal: Refusal,
}

/// Who answers.
pub(super) fn greeting() -> Vec<u8> {
    line(&json!({
        "greeting": {
            "name": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "protocol": PROTOCOL,
        }
    }))
}

/// Reads a line.
pub(super) fn request(line: &[u8]) -> Result<Request, NoRequest> {
    let no_request = |id: Value, refusal: Refusal| NoRequest { id, refusal };
    let value: Value = serde_json::from_slice(line).map_err(|cause| {
        let refusal = Refusal::usage(format!("the line is no JSON: {cause}"));
        no_request(
            Value::Null,
            refusal.hint("send one object on each line, such as {\"command\":\"status\"}"),
        )
    })?;
    let Value::Object(mut arguments) = value else {
        let refusal = Refusal::usage("the line is no JSON object");
        return Err(no_request(Value::Null, refusal.hint("for example {\"command\":\"status\"}")));
    };
    let id = arguments.remove("id").unwrap_or_default();
    match arguments.remove("command") {
        Some(Value::String(command)) => Ok(Request { id, command, arguments }),
        Some(_) => Err(no_request(id, Refusal::usage("key 'command' must be text").at("command"))),
        None => {
            let refusal = Refusal::usage("the request has no key 'command'");
            Err(no_request(id, refusal.hint("for example {\"command\":\"status\"}")))
        }
    }
}

/// The answer to a request of this id.
pub(super) fn answer(id: &Value, outcome: Result<Value, Refusal>) -> Vec<u8> {
    line(&match outcome {
        Ok(value) => json!({ "id": id, "ok": value }),
        Err(refusal) => json!({ "id": id, "error": refusal.into_json() }),
    })
}

/// An object on a line of its own.
fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(line: &[u8]) -> (Value, String) {
        let NoRequest { id, refusal } = request(line).unwrap_err();
        (id, refusal.into_json()["what"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_request_is_an_object_with_a_command() {
        let request = request(b"{\"id\":[7],\"command\":\"pause\",\"name\":\"a\"}").unwrap();
        assert_eq!((request.id, request.command.as_str()), (json!([7]), "pause"));
        assert_eq!(Value::Object(request.arguments), json!({ "name": "a" }));
    }

    #[test]
    fn everything_else_is_told_what_it_is_not() {
        for line in [&b""[..], b"{", b"\xff", b"{\"command\":\"a\xff\"}", b"{} {}"] {
            assert!(refusal(line).1.contains("no JSON:"), "{line:?}");
        }
        assert!(refusal(b"[]").1.contains("no JSON object"));
        assert_eq!(refusal(b"{\"id\":1}").0, json!(1));
        assert!(refusal(b"{\"command\":1}").1.contains("must be text"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let line = "[".repeat(60_000);
        assert!(refusal(line.as_bytes()).1.contains("recursion limit"));
    }

    #[test]
    fn an_answer_is_one_line() {
        let answer = answer(&json!("a\nb"), Ok(json!({ "text": "c\nd" })));
        assert_eq!(answer.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(answer.last(), Some(&b'\n'));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(&bytes);
        }
    }
}
