//! [`within`]: a bound on how long the other side of a socket may be silent.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Runs `talk`, which blocks on a socket; `None` if that took longer than `most`. The crate `vhost` goes on waiting
/// when a time-out of the socket itself ends a call, so the connection is shut down instead, which ends everything.
pub(super) fn within<T>(most: Duration, socket: &UnixStream, talk: impl FnOnce() -> T) -> Option<T> {
    let (finished, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let alarm = scope.spawn(move || match wait.recv_timeout(most) {
            Err(RecvTimeoutError::Timeout) => {
                // It fails only if the connection is gone already.
                let _ = socket.shutdown(Shutdown::Both);
                true
            }
            _ => false,
        });
        let result = talk();
        drop(finished);
        let rang = alarm.join().unwrap_or(true);
        (!rang).then_some(result)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn silence_ends_and_talk_goes_through() {
        let (mut one, _other) = UnixStream::pair().unwrap();
        let socket = one.try_clone().unwrap();
        assert_eq!(within(Duration::from_secs(60), &socket, || 7), Some(7));
        assert_eq!(within(Duration::from_millis(20), &socket, || one.read(&mut [0])).map(Result::ok), None);
    }
}
