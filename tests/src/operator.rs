//! [`Operator`]: somebody at the control socket of a gateway.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// How long any answer may take; the bound is there to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the control socket.
#[derive(Debug)]
pub struct Operator {
    stream: BufReader<UnixStream>,
}

impl Operator {
    /// Connects, and is greeted.
    ///
    /// # Panics
    /// Nobody listens or greets.
    #[must_use]
    pub fn connect(path: &Path) -> Operator {
        let mut operator = Operator::silent(path);
        let greeting = operator.answer().expect("a greeting");
        assert_eq!(greeting["greeting"]["protocol"], 1, "{greeting}");
        operator
    }

    /// Connects, and reads nothing.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn silent(path: &Path) -> Operator {
        let stream = UnixStream::connect(path).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Operator { stream: BufReader::new(stream) }
    }

    /// Sends bytes. Whether the server took them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// The next line; `None` if the server has closed the connection.
    ///
    /// # Panics
    /// It is no JSON, or nothing comes.
    pub fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The `error` of the answer.
    ///
    /// # Panics
    /// There is no answer.
    pub fn ask(&mut self, request: &Value) -> Result<Value, Value> {
        assert!(self.send(format!("{request}\n").as_bytes()), "the server takes no request");
        let mut answer = self.answer().unwrap_or_else(|| panic!("no answer to {request}"));
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["ok"].take()),
        }
    }

    /// Has a command without arguments done.
    ///
    /// # Panics
    /// It fails.
    pub fn run(&mut self, command: &str) -> Value {
        self.ask(&json!({ "command": command })).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Has a command done that takes the name of an export.
    ///
    /// # Errors
    /// The `error` of the answer.
    ///
    /// # Panics
    /// There is no answer.
    pub fn about(&mut self, command: &str, export: &str) -> Result<Value, Value> {
        self.ask(&json!({ "command": command, "name": export }))
    }

    /// How this export is served; `None` if there is none.
    ///
    /// # Panics
    /// There is no answer.
    pub fn state(&mut self, export: &str) -> Option<String> {
        let exports = self.run("exports");
        let mut all = exports["exports"].as_array().into_iter().flatten();
        let found = all.find(|found| found["name"] == export)?;
        found["state"].as_str().map(str::to_owned)
    }
}
