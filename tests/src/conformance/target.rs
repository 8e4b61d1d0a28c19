//! The server under test, and what it announces.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use nbd::uri::{Transport, UnixSocket, Uri};
use nbd::wire::{DEFAULT_PAYLOAD_BYTES, HandshakeFlags, TransmissionFlags, context};
use nbd::{ReplyMode, wire::rep};

use super::check::{Outcome, Trouble, failed};
use super::haggle::Haggle;
use super::session::Session;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and TCP port.
    Tcp(String, u16),
}

/// What an export is said to be on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// Size in bytes.
    pub(super) size: u64,
    /// Transmission flags.
    pub(super) flags: u16,
    /// Minimum, preferred and maximum payload, if the server tells them.
    pub(super) block_sizes: Option<[u32; 3]>,
}

impl Announced {
    pub(super) const fn has(&self, flag: TransmissionFlags) -> bool {
        self.flags & flag.bits() == flag.bits()
    }

    /// Longest payload that a client may send or ask for, in bytes.
    pub(super) fn payload_max(&self) -> u64 {
        u64::from(self.block_sizes.map_or(DEFAULT_PAYLOAD_BYTES, |sizes| sizes[2]))
    }

    /// What offsets and lengths must be multiples of.
    pub(super) fn minimum(&self) -> u64 {
        u64::from(self.block_sizes.map_or(1, |sizes| sizes[0]))
    }
}

/// The server under test.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) address: Address,
    pub(super) name: Vec<u8>,
    /// The file behind the export, on a disk, for checks of what has reached stable storage.
    pub(super) image: Option<PathBuf>,
    pub(super) handshake_flags: HandshakeFlags,
    /// Kinds of replies that the server has, and what it announces with each.
    pub(super) modes: Vec<(ReplyMode, Announced)>,
    /// Whether it has `base:allocation`.
    pub(super) has_allocation: bool,
    /// Whether a name that nobody has given leads to an export, too.
    pub(super) takes_any_name: bool,
}

impl Target {
    /// Asks the server behind this URI what it has.
    ///
    /// # Errors
    /// The URI is malformed or encrypted, or the server does not get through a plain handshake.
    pub fn probe(uri: &str) -> Result<Target> {
        let parsed: Uri = uri.parse().with_context(|| format!("cannot understand {uri}"))?;
        let address = match parsed.transport {
            Transport::Unix(UnixSocket::Path(path)) => Address::Unix(path),
            Transport::Tcp { host, port } => Address::Tcp(host, port),
            other => bail!("cannot connect to {other:?}: only to TCP and Unix sockets"),
        };
        let mut target = Target {
            address,
            name: parsed.export.into_bytes(),
            image: None,
            handshake_flags: HandshakeFlags::empty(),
            modes: Vec::new(),
            has_allocation: false,
            takes_any_name: false,
        };
        match target.ask() {
            Ok(()) => Ok(target),
            Err(Trouble::Failed(what) | Trouble::Skip(what)) => bail!("{uri}: {what}"),
        }
    }

    /// Names the file behind the export; it must lie on a file system with a disk below.
    #[must_use]
    pub fn with_image(mut self, image: impl Into<PathBuf>) -> Target {
        self.image = Some(image.into());
        self
    }

    fn ask(&mut self) -> Outcome {
        for mode in [ReplyMode::Simple, ReplyMode::Structured, ReplyMode::Extended] {
            let mut haggle = Haggle::start(self)?;
            self.handshake_flags = haggle.server_flags;
            if !haggle.agree(mode)? {
                continue;
            }
            if mode.is_chunked() {
                self.has_allocation = !haggle.select(&self.name, &[context::BASE_ALLOCATION])?.is_empty();
            }
            match haggle.go(&self.name)? {
                Ok(facts) => self.modes.push((mode, facts)),
                Err(kind) => return failed(format!("GO got error {kind:#x}")),
            }
        }
        let mut haggle = Haggle::start(self)?;
        self.takes_any_name = haggle.go(b"a name that nobody has given")? != Err(rep::ERR_UNKNOWN);
        Ok(())
    }

    /// What the server announces with this kind of replies.
    pub(super) fn facts(&self, mode: ReplyMode) -> Outcome<&Announced> {
        match self.modes.iter().find(|(known, _)| *known == mode) {
            Some((_, facts)) => Ok(facts),
            None => Err(Trouble::Skip(format!("the server has no {mode:?} replies"))),
        }
    }

    /// Whether the server has this kind of replies.
    pub(super) fn has_mode(&self, mode: ReplyMode) -> bool {
        self.facts(mode).is_ok()
    }

    /// Shows that the server still serves: a new client opens the export and reads.
    pub(super) fn serves(&self) -> Outcome {
        let mut session = Session::open(self, ReplyMode::Simple)?;
        if session.size() > 0 {
            let len = session.size().min(4096);
            session.read(0, len)?;
        }
        session.close()
    }
}
