//! One control connection, from the greeting to its end.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::protocol::{self, NoRequest};
use super::refusal::{self, Refusal};
use super::seats::Seat;
use super::{Hub, commands};

/// How long a client may take to receive an answer.
const SEND: Duration = Duration::from_secs(10);

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Line,
    /// It is over.
    End,
    /// It is over when the server has ended.
    EndOfServer,
}

/// Answers a client until it leaves, loses its seat, does not take its answers, or the server ends.
pub(super) async fn serve(stream: UnixStream, seat: Seat, hub: Rc<Hub>, mut ended: watch::Receiver<bool>) {
    let ending = ended.clone();
    let mut lines = Lines::default();
    let talk = async {
        send(&stream, &protocol::greeting()).await?;
        loop {
            let line = tokio::select! {
                line = lines.next(&stream) => line?,
                _ = ended.wait_for(|ended| *ended) => return Ok(Next::End),
            };
            let (answer, next) = answer_to(line, &hub, &seat, ending.clone()).await;
            // Whoever does not read its answer may lose its seat.
            seat.rest(Instant::now());
            send(&stream, &answer).await?;
            if next != Next::Line {
                return Ok(next);
            }
        }
    };
    let end: io::Result<Next> = tokio::select! {
        end = talk => end,
        () = seat.lost() => Ok(Next::End),
    };
    match end {
        Ok(Next::EndOfServer) => hub.waiting.borrow_mut().push(stream),
        Ok(_) => {}
        Err(cause) => tracing::debug!("a control connection failed: {cause}"),
    }
}

/// The answer to a line, and what comes behind it.
async fn answer_to(line: Line, hub: &Hub, seat: &Seat, mut ended: watch::Receiver<bool>) -> (Vec<u8>, Next) {
    let line = match line {
        Line::Complete(line) => line,
        Line::TooLong => {
            let refusal = Refusal::usage(format!("the line has more than {LINE_BYTES_MAX} bytes"));
            return (protocol::answer(&serde_json::Value::Null, Err(refusal)), Next::End);
        }
        Line::End => return (Vec::new(), Next::End),
    };
    hub.pace.turn().await;
    // Not before: whoever floods has many lines that wait for their turn.
    seat.begin();
    let request = match protocol::request(&line) {
        Ok(request) => request,
        Err(NoRequest { id, refusal }) => return (protocol::answer(&id, Err(refusal)), Next::Line),
    };
    let is_stop = request.command == commands::STOP;
    let outcome = tokio::select! {
        outcome = commands::run(hub, &request.command, request.arguments) => outcome,
        _ = ended.wait_for(|ended| *ended) => Err(refusal::ending()),
    };
    let next = if is_stop && outcome.is_ok() { Next::EndOfServer } else { Next::Line };
    (protocol::answer(&request.id, outcome), next)
}

/// Says why a connection is not served. That fits into its socket, which is empty, so nobody is waited for.
pub(super) async fn refuse(stream: &UnixStream, refusal: Refusal) {
    // Whoever has left does not want to know.
    let _ = send(stream, &protocol::answer(&serde_json::Value::Null, Err(refusal))).await;
}

/// Sends everything, if the client takes it in time.
async fn send(stream: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    let all = async {
        let mut sent = 0;
        while sent < bytes.len() {
            stream.writable().await?;
            match stream.try_write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    timeout(SEND, all).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
