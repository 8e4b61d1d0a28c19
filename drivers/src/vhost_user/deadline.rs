//! [`within`]: a bound on how long the other side of a socket may be silent.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::error::Error;

/// Runs `talk`, which blocks on a socket. The crate `vhost` goes on waiting when a time-out of the socket itself ends a
/// call, so the connection is shut down instead, which ends everything. `name` is what messages call the other side.
///
/// # Errors
/// It took longer than `most`, or the system has no thread for the clock.
pub(super) fn within<T>(
    most: Duration,
    socket: &UnixStream,
    name: &str,
    talk: impl FnOnce() -> T,
) -> Result<T, Error> {
    let (finished, wait) = mpsc::channel::<()>();
    let watch = move || match wait.recv_timeout(most) {
        Err(RecvTimeoutError::Timeout) => {
            // It fails only if the connection is gone already.
            let _ = socket.shutdown(Shutdown::Both);
            true
        }
        _ => false,
    };
    thread::scope(|scope| {
        let clock = thread::Builder::new()
            .spawn_scoped(scope, watch)
            .map_err(|cause| Error::system(format!("start a clock for {name}"), &cause))?;
        let result = talk();
        drop(finished);
        match clock.join().unwrap_or(true) {
            true => Err(silent(name, most)),
            false => Ok(result),
        }
    })
}

fn silent(name: &str, most: Duration) -> Error {
    Error::device(format!("{name} has not answered for {} s", most.as_secs().max(1)))
        .hint("it may be serving another client, or be stopped")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn silence_ends_and_talk_goes_through() {
        let (mut one, _other) = UnixStream::pair().unwrap();
        let socket = one.try_clone().unwrap();
        assert_eq!(within(Duration::from_secs(60), &socket, "it", || 7).unwrap(), 7);
        let said = within(Duration::from_millis(20), &socket, "it", || one.read(&mut [0])).unwrap_err();
        assert!(said.to_string().contains("it has not answered"), "{said}");
    }
}
