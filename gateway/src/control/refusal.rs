//! [`Refusal`]: why nothing came of a request.

use drivers::{Error, ErrorKind};
use serde_json::{Map, Value};

/// Why nothing came of a request. At least one mistake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The words of the request are wrong, and not the server or a device.
    is_usage: bool,
    mistakes: Vec<Mistake>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// What was tried and why it failed.
    pub(crate) what: String,
    /// Which part of the request it is about, if that is known.
    pub(crate) place: Option<String>,
    /// What can be done about it.
    pub(crate) hint: Option<String>,
}

impl Refusal {
    /// The words of the request are wrong.
    pub(super) fn usage(what: impl Into<String>) -> Refusal {
        Error::usage(what).into()
    }

    /// Several things are wrong with the words of the request.
    pub(super) fn of_words(mistakes: Vec<Mistake>) -> Refusal {
        Refusal { is_usage: true, mistakes }
    }

    /// It did not work, for reasons that are lines of text.
    pub(super) fn failure(lines: Vec<String>) -> Refusal {
        let mistake = |what| Mistake { what, place: None, hint: None };
        Refusal { is_usage: false, mistakes: lines.into_iter().map(mistake).collect() }
    }

    /// Which part of the request it is about.
    pub(super) fn at(mut self, place: &str) -> Refusal {
        for mistake in &mut self.mistakes {
            mistake.place = Some(place.to_owned());
        }
        self
    }

    /// What can be done about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Refusal {
        if let Some(mistake) = self.mistakes.first_mut() {
            mistake.hint = Some(hint.into());
        }
        self
    }

    /// As answers have it.
    pub(super) fn into_json(self) -> Value {
        let mut mistakes = self.mistakes.into_iter().map(Mistake::into_json);
        let mut first = mistakes.next().unwrap_or_default();
        let kind = if self.is_usage { "usage" } else { "failure" };
        first.insert("kind".into(), kind.into());
        let more: Vec<Value> = mistakes.map(Value::Object).collect();
        if !more.is_empty() {
            first.insert("more".into(), more.into());
        }
        Value::Object(first)
    }
}

impl Mistake {
    fn into_json(self) -> Map<String, Value> {
        let parts = [("what", Some(self.what)), ("where", self.place), ("hint", self.hint)];
        parts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into()))).collect()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let Error { kind, message, hint } = error;
        let mistake = Mistake { what: message, place: None, hint };
        Refusal { is_usage: kind == ErrorKind::Usage, mistakes: vec![mistake] }
    }
}

/// Another user is at the other end.
pub(super) fn forbidden() -> Refusal {
    Error::device("only root and the user that the server runs as may control it")
        .hint("become one of them, for example by sudo")
        .into()
}

/// All connections are busy.
pub(super) fn crowded() -> Refusal {
    Error::device("too many control connections wait for the end of a command").hint("try it later").into()
}

/// The server ends.
pub(super) fn ending() -> Refusal {
    Error::device("the server ends, and does not wait for the end of the command").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_mistake_comes_first_and_the_others_behind_it() {
        let refusal = Refusal::usage("a").hint("h").at("p");
        let first = json!({ "what": "a", "where": "p", "hint": "h", "kind": "usage" });
        assert_eq!(refusal.into_json(), first);
        let refusal = Refusal::failure(vec!["a".into(), "b".into()]);
        assert_eq!(refusal.into_json(), json!({ "what": "a", "kind": "failure", "more": [{ "what": "b" }] }));
    }
}
