//! [`Signals`]: the ones that ask this process to end, or to read its configuration again.

use std::fmt;

use drivers::Error;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::sys;

/// A signal that asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    number: i32,
    asks_for_reload: bool,
}

impl Signal {
    /// What a shell says about a process that a signal ended.
    pub(super) fn exit_code(self) -> u8 {
        u8::try_from(128 + self.number).unwrap_or(u8::MAX)
    }

    /// Whether it comes from a terminal, which sends it to a captive command too.
    pub(super) fn is_from_terminal(self) -> bool {
        self.number == libc::SIGINT
    }

    /// Whether it asks for the configuration to be read again, and not for the end.
    pub(super) fn asks_for_reload(self) -> bool {
        self.asks_for_reload
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            libc::SIGTERM => f.write_str("SIGTERM"),
            libc::SIGINT => f.write_str("SIGINT"),
            libc::SIGHUP => f.write_str("SIGHUP"),
            other => write!(f, "signal {other}"),
        }
    }
}

/// The signals that ask for something: they do not end the process any more from now on.
#[derive(Debug)]
pub(super) struct Signals {
    streams: Vec<(Signal, Stream)>,
    /// One that asked for a reload while another was under way.
    missed: Option<Signal>,
}

impl Signals {
    /// Watches SIGTERM, SIGINT, and SIGHUP, which asks for a reload if there is something to reload; otherwise for the
    /// end, unless nohup(1) protects from it. (SIGPIPE is ignored by every Rust program from its start.)
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn watch(reloads: bool) -> Result<Signals, Error> {
        let mut streams = Vec::new();
        for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            let asks_for_reload = reloads && number == libc::SIGHUP;
            if number == libc::SIGHUP && !reloads && sys::is_ignored(number) {
                continue;
            }
            let stream = signal(SignalKind::from_raw(number))
                .map_err(|cause| Error::system(format!("watch signal {number}"), &cause))?;
            streams.push((Signal { number, asks_for_reload }, stream));
        }
        Ok(Signals { streams, missed: None })
    }

    /// The one that does not want to wait for an end in order: the next one, or the one after that if nobody has asked
    /// for the end yet.
    pub(super) async fn insistent(&mut self, asked: bool) -> Signal {
        if !asked {
            let signal = self.next().await;
            tracing::info!("{signal}: the end has begun already");
        }
        self.next().await
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        match self.missed.take() {
            Some(signal) => signal,
            None => self.arrival().await,
        }
    }

    async fn arrival(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (signal, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// The next one that asks for the end. One that asks for a reload comes by [`Signals::next`] afterwards.
    pub(super) async fn end(&mut self) -> Signal {
        loop {
            let signal = self.arrival().await;
            if !signal.asks_for_reload() {
                return signal;
            }
            self.missed = Some(signal);
        }
    }
}
