//! [`Arguments`]: what a request says besides its command, read key by key.

use drivers::property::nearest;
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// The keys of a request that nobody has read yet, and the names of those that were asked for.
pub(super) struct Arguments {
    command: String,
    left: Map<String, Value>,
    asked: Vec<&'static str>,
}

impl Arguments {
    /// Those of a command.
    pub(super) fn new(command: &str, given: Map<String, Value>) -> Arguments {
        Arguments { command: command.to_owned(), left: given, asked: Vec::new() }
    }

    /// Text that must be there.
    pub(super) fn text(&mut self, key: &'static str) -> Result<String, Refusal> {
        match self.required(key)? {
            Value::String(text) => Ok(text),
            _ => Err(wrong_type(key, "text")),
        }
    }

    /// A whole number that must be there.
    pub(super) fn number(&mut self, key: &'static str) -> Result<u64, Refusal> {
        self.required(key)?.as_u64().ok_or_else(|| wrong_type(key, "a whole number"))
    }

    /// An object that must be there.
    pub(super) fn object(&mut self, key: &'static str) -> Result<Map<String, Value>, Refusal> {
        match self.required(key)? {
            Value::Object(object) => Ok(object),
            _ => Err(wrong_type(key, "an object")),
        }
    }

    /// A truth value; false if it is not there.
    pub(super) fn flag(&mut self, key: &'static str) -> Result<bool, Refusal> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(truth),
            Some(_) => Err(wrong_type(key, "true or false")),
        }
    }

    /// Everything was asked for.
    ///
    /// # Errors
    /// There is something else.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        let Some(unknown) = self.left.keys().next() else { return Ok(()) };
        let refusal =
            Refusal::usage(format!("command '{}' has no key '{unknown}'", self.command)).at(unknown);
        Err(match (nearest(unknown, self.asked.iter().copied()), &self.asked[..]) {
            (Some(near), _) => refusal.hint(format!("did you mean '{near}'?")),
            (None, []) => refusal.hint("it has none"),
            (None, keys) => refusal.hint(format!("its keys are {}", keys.join(", "))),
        })
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.left.remove(key)
    }

    fn required(&mut self, key: &'static str) -> Result<Value, Refusal> {
        self.take(key).ok_or_else(|| {
            Refusal::usage(format!("command '{}' needs the key '{key}'", self.command)).at(key)
        })
    }
}

fn wrong_type(key: &str, wanted: &str) -> Refusal {
    Refusal::usage(format!("key '{key}' must be {wanted}")).at(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(value: Value) -> Arguments {
        let Value::Object(given) = value else { panic!("an object") };
        Arguments::new("c", given)
    }

    fn told(refusal: Refusal) -> (String, String) {
        let error = refusal.into_json();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (text("what"), text("hint"))
    }

    #[test]
    fn keys_have_types() {
        let mut given = arguments(json!({ "t": "x", "n": 7, "f": true, "o": {} }));
        assert_eq!((given.text("t"), given.number("n")), (Ok("x".into()), Ok(7)));
        assert_eq!(
            (given.flag("f"), given.flag("g"), given.object("o")),
            (Ok(true), Ok(false), Ok(Map::new()))
        );
        assert_eq!(given.finish(), Ok(()));
        let mut given = arguments(json!({ "t": 1, "n": -1, "f": 0, "o": [] }));
        assert!(told(given.text("t").unwrap_err()).0.contains("'t' must be text"));
        assert!(told(given.number("n").unwrap_err()).0.contains("whole number"));
        assert!(told(given.flag("f").unwrap_err()).0.contains("true or false"));
        assert!(told(given.object("o").unwrap_err()).0.contains("an object"));
        assert!(told(given.text("x").unwrap_err()).0.contains("needs the key 'x'"));
    }

    #[test]
    fn unknown_keys_are_told_the_known_ones() {
        assert_eq!(told(arguments(json!({ "zz": 1 })).finish().unwrap_err()).1, "it has none");
        let hint = |key: &str| {
            let mut given = arguments(json!({ "name": "a", "now": true, key: 1 }));
            assert!(given.text("name").is_ok() && given.flag("now").is_ok());
            told(given.finish().unwrap_err()).1
        };
        assert_eq!(hint("zzzz"), "its keys are name, now");
        assert_eq!(hint("nwo"), "did you mean 'now'?");
    }
}
