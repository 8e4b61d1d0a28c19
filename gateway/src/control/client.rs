//! [`Client`]: the other end of the control socket, which waits for answers.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use super::protocol::PROTOCOL;

/// How long a server may take for its greeting.
const GREETING: Duration = Duration::from_secs(10);

/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the server whose control socket this is.
    ///
    /// # Errors
    /// There is none, or it speaks another protocol.
    pub(crate) fn connect(path: &Path) -> Result<Client, Error> {
        let stream = UnixStream::connect(path).map_err(|cause| unreachable(path, &cause))?;
        let mut client = Client { path: path.to_owned(), stream: BufReader::new(stream) };
        client.patience(Some(GREETING))?;
        let greeting = client.line()?;
        client.patience(None)?;
        if let Some(error) = greeting.get("error") {
            return Err(refusal(error));
        }
        match greeting["greeting"]["protocol"].as_u64() {
            Some(PROTOCOL) => Ok(client),
            Some(other) => Err(Error::device(format!(
                "the server at '{}' speaks protocol {other}, and this program {PROTOCOL}",
                path.display()
            ))
            .hint("use the program that the server was started with")),
            None => Err(client.nonsense()),
        }
    }

    /// Has a command done, and waits until it is.
    ///
    /// # Errors
    /// What the server says, or it is gone.
    pub(crate) fn call(&mut self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        let mut request = arguments;
        request.insert("command".into(), command.into());
        request.insert("id".into(), json!(1));
        let line = format!("{}\n", Value::Object(request));
        self.stream.get_mut().write_all(line.as_bytes()).map_err(|cause| self.gone(&cause))?;
        let mut answer = self.line()?;
        if let Some(error) = answer.get("error") {
            return Err(refusal(error));
        }
        match answer.get_mut("ok") {
            Some(value) => Ok(value.take()),
            None => Err(self.nonsense()),
        }
    }

    /// Waits until the server has ended.
    pub(crate) fn wait_for_end(mut self) {
        // However the connection ends, it is over.
        let _ = io::copy(&mut self.stream, &mut io::sink());
    }

    fn patience(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.stream.get_ref().set_read_timeout(timeout).map_err(|cause| self.gone(&cause))
    }

    fn line(&mut self) -> Result<Value, Error> {
        let mut line = Vec::new();
        let read = self.stream.by_ref().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line);
        match read {
            Ok(0) => Err(self.gone(&io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_slice(&line).map_err(|_| self.nonsense()),
            Err(cause) => Err(self.gone(&cause)),
        }
    }

    fn gone(&self, cause: &io::Error) -> Error {
        let why = match cause.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "it has closed the connection".into(),
            io::ErrorKind::WouldBlock => format!("it says nothing for {} s", GREETING.as_secs()),
            _ => cause.to_string(),
        };
        Error::device(format!("there is no answer from the server at '{}': {why}", self.path.display()))
            .hint("its log may say why")
    }

    fn nonsense(&self) -> Error {
        Error::device(format!("what listens at '{}' is not the control of a gateway", self.path.display()))
            .hint("give the path that its option --control has")
    }
}

fn unreachable(path: &Path, cause: &io::Error) -> Error {
    let error = Error::system(format!("reach the server at '{}'", path.display()), cause);
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            error.hint("is it running? It must have been started with --control and this path")
        }
        io::ErrorKind::PermissionDenied => {
            error.hint("only root and the user that the server runs as may control it")
        }
        _ => error,
    }
}

/// The error of an answer: a line for each mistake.
fn refusal(error: &Value) -> Error {
    let more = error["more"].as_array().into_iter().flatten();
    let lines: Vec<String> = std::iter::once(error).chain(more).map(mistake).collect();
    let message = lines.join("\n");
    let kind = if error["kind"] == "usage" { ErrorKind::Usage } else { ErrorKind::Device };
    Error { kind, message, hint: None }
}

fn mistake(error: &Value) -> String {
    let text = |key: &str| error[key].as_str();
    let place = text("where").map(|place| format!("{place}: ")).unwrap_or_default();
    let hint = text("hint").map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{place}{}{hint}", text("what").unwrap_or("the server gives no reason"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What comes of a server that answers with these lines.
    fn served(lines: &'static str) -> Result<Value, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(lines.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let answer = Client::connect(&path).and_then(|mut client| client.call("status", Map::new()));
        server.join().unwrap();
        answer
    }

    const GREETED: &str = "{\"greeting\":{\"protocol\":1}}\n";

    #[test]
    fn answers_are_taken_apart() {
        let lines = concat!("{\"greeting\":{\"protocol\":1}}\n", "{\"id\":1,\"ok\":{\"a\":1}}\n");
        assert_eq!(served(lines).unwrap(), json!({ "a": 1 }));
        let lines = concat!(
            "{\"greeting\":{\"protocol\":1}}\n{\"error\":{\"what\":\"x\",\"where\":\"k\",\"hint\":\"h\",",
            "\"kind\":\"usage\",\"more\":[{\"what\":\"y\"}]}}\n"
        );
        let error = served(lines).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Usage, "k: x (h)\ny"));
    }

    #[test]
    fn whatever_else_listens_is_an_error() {
        for lines in ["", "NBDMAGIC", "{}\n", "[1]\n", "{\"greeting\":{\"protocol\":2}}\n", GREETED] {
            assert_eq!(served(lines).unwrap_err().kind, ErrorKind::Device, "{lines:?}");
        }
        assert!(served("{\"id\":null,\"error\":{\"what\":\"no\"}}\n").unwrap_err().message.contains("no"));
        let missing = Client::connect(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent") && missing.contains("--control"), "{missing}");
    }
}
