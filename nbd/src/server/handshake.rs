//! The state machine: greeting, client flags, then option after option.

use super::answer::{Answer, OptionError};
use super::exports::Exports;
use super::policy::{Offer, Policy, TlsMode};
use crate::option::{InfoRequest, MetaRequest, OptionHeader};
use crate::transmission::{Contexts, ReplyMode, Transmission};
use crate::wire::{
    ClientFlags, GREETING_BYTES, HandshakeFlags, IHAVEOPT, NBDMAGIC, OPTION_HEADER_BYTES, STRING_BYTES_MAX,
    opt, rep,
};

/// The server's side of one handshake.
#[derive(Debug)]
pub struct Handshake {
    pub(super) policy: Policy,
    pub(super) client_flags: ClientFlags,
    pub(super) agreed: Agreed,
    pub(super) encrypted: bool,
    /// Options that may still come.
    pub(super) options_left: u64,
    pub(super) listed: bool,
    shutting_down: bool,
    phase: Phase,
    /// The incomplete item that `phase` waits for.
    buffer: Vec<u8>,
}

/// What options have changed so far; dropped when encryption starts.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    pub(super) replies: ReplyMode,
    pub(super) contexts: Contexts,
    /// The name that the contexts were selected for.
    pub(super) contexts_for: Option<String>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    ClientFlags,
    OptionHeader,
    /// Data of an option that is looked at as a whole.
    OptionData(OptionHeader),
    /// Data that is thrown away before the option is answered.
    OptionSkip {
        option: u32,
        bytes_left: u32,
        answer: Skipped,
    },
    /// Waits for [`Handshake::tls_established`].
    StartTls,
    Over,
}

/// How an option whose data was thrown away is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipped {
    Error(OptionError),
    Abort,
}

/// Result of [`Handshake::advance`].
#[derive(Debug)]
pub struct Advance {
    /// Bytes of the input that belong to the handshake. What follows them belongs to the transmission.
    pub consumed: usize,
    /// What to do next, after sending the output.
    pub state: State,
}

/// What to do next.
#[derive(Debug)]
pub enum State {
    /// All input was taken; go on when there is more.
    NeedMore,
    /// The handshake is over and this was agreed.
    Transmission(Box<Transmission>),
    /// Do the TLS handshake, then call [`Handshake::tls_established`], then go on.
    StartTls,
    /// Send the output, then close the connection.
    Close(CloseReason),
}

/// Why a handshake ended without a transmission; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client said goodbye.
    #[error("client aborted the handshake")]
    Aborted,
    /// The client broke a rule, so that it cannot go on.
    #[error("client broke the protocol: {0}")]
    Violation(&'static str),
    /// EXPORT_NAME cannot be granted and has no error reply.
    #[error("export refused: {0}")]
    Refused(&'static str),
}

/// What an option leads to.
pub(super) enum Outcome {
    Continue,
    Open(Box<Transmission>),
    StartTls,
    Close(CloseReason),
}

impl Handshake {
    /// A handshake that has not begun.
    pub fn new(policy: Policy) -> Handshake {
        Handshake {
            policy,
            client_flags: ClientFlags::empty(),
            agreed: Agreed::default(),
            encrypted: false,
            options_left: u64::from(policy.options_max),
            listed: false,
            shutting_down: false,
            phase: Phase::ClientFlags,
            buffer: Vec::new(),
        }
    }

    /// What to send first (doc/proto.md, section "Newstyle negotiation").
    pub fn greeting(&self) -> [u8; GREETING_BYTES] {
        let mut flags = HandshakeFlags::empty();
        flags.set(HandshakeFlags::FIXED_NEWSTYLE, self.policy.offers(Offer::FIXED_NEWSTYLE));
        flags.set(HandshakeFlags::NO_ZEROES, self.policy.offers(Offer::NO_ZEROES));
        let mut greeting = [0; GREETING_BYTES];
        greeting[..8].copy_from_slice(&NBDMAGIC.to_be_bytes());
        greeting[8..16].copy_from_slice(&IHAVEOPT.to_be_bytes());
        greeting[16..].copy_from_slice(&flags.bits().to_be_bytes());
        greeting
    }

    /// From now on options are answered with ERR_SHUTDOWN, on which clients close.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// The TLS handshake that [`State::StartTls`] asked for is done; nothing said before it counts any more.
    pub fn tls_established(&mut self) {
        debug_assert_eq!(self.phase, Phase::StartTls, "only after State::StartTls");
        self.encrypted = true;
        self.agreed = Agreed::default();
        self.phase = Phase::OptionHeader;
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Takes received bytes, in pieces of any size, and appends what is to be sent to `out`.
    pub fn advance(&mut self, input: &[u8], exports: &dyn Exports, out: &mut Vec<u8>) -> Advance {
        let mut rest = input;
        let state = loop {
            let outcome = match self.step(&mut rest, exports, out) {
                Some(outcome) => outcome,
                None => break State::NeedMore,
            };
            match outcome {
                Outcome::Continue => {}
                Outcome::Open(session) => {
                    self.phase = Phase::Over;
                    break State::Transmission(session);
                }
                // Bytes that were sent in clear behind STARTTLS could be an attacker's.
                Outcome::StartTls if !rest.is_empty() => {
                    self.phase = Phase::Over;
                    break State::Close(CloseReason::Violation("bytes in clear behind STARTTLS"));
                }
                Outcome::StartTls => {
                    self.phase = Phase::StartTls;
                    break State::StartTls;
                }
                Outcome::Close(reason) => {
                    self.phase = Phase::Over;
                    break State::Close(reason);
                }
            }
        };
        Advance { consumed: input.len() - rest.len(), state }
    }

    /// Does one item if it is complete; `None` if more input is needed.
    fn step(&mut self, rest: &mut &[u8], exports: &dyn Exports, out: &mut Vec<u8>) -> Option<Outcome> {
        match self.phase {
            Phase::ClientFlags => {
                let bytes = self.gather(4, rest)?;
                Some(self.take_client_flags(&bytes))
            }
            Phase::OptionHeader => {
                let bytes = self.gather(OPTION_HEADER_BYTES, rest)?;
                Some(self.take_option_header(&bytes))
            }
            Phase::OptionData(header) => {
                let data = self.gather(header.len as usize, rest)?;
                self.phase = Phase::OptionHeader;
                Some(self.take_option(header.option, &data, exports, out))
            }
            Phase::OptionSkip { option, bytes_left, answer } => {
                let (_, tail) = rest.split_at((bytes_left as usize).min(rest.len()));
                let bytes_left = bytes_left - (rest.len() - tail.len()) as u32;
                *rest = tail;
                self.phase = Phase::OptionSkip { option, bytes_left, answer };
                (bytes_left == 0).then(|| self.end_skip(option, answer, out))
            }
            Phase::StartTls if rest.is_empty() => None,
            Phase::StartTls => Some(Outcome::Close(CloseReason::Violation("bytes in clear behind STARTTLS"))),
            Phase::Over => Some(Outcome::Close(CloseReason::Violation("the handshake is over"))),
        }
    }

    /// The next `need` bytes, once they have all arrived; takes no more from `rest`.
    fn gather(&mut self, need: usize, rest: &mut &[u8]) -> Option<Vec<u8>> {
        let missing = need - self.buffer.len();
        let (head, tail) = rest.split_at(missing.min(rest.len()));
        self.buffer.extend_from_slice(head);
        *rest = tail;
        (self.buffer.len() == need).then(|| std::mem::take(&mut self.buffer))
    }

    /// A client that sets an unknown bit, or one that was not offered, must be dropped (section "Client flags").
    fn take_client_flags(&mut self, bytes: &[u8]) -> Outcome {
        let word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let Some(flags) = ClientFlags::from_bits(word) else {
            return Outcome::Close(CloseReason::Violation("unknown client flag"));
        };
        let fixed = flags.contains(ClientFlags::FIXED_NEWSTYLE);
        let no_zeroes = flags.contains(ClientFlags::NO_ZEROES);
        if (fixed && !self.policy.offers(Offer::FIXED_NEWSTYLE))
            || (no_zeroes && !self.policy.offers(Offer::NO_ZEROES))
        {
            return Outcome::Close(CloseReason::Violation("client flag that was not offered"));
        }
        self.client_flags = flags;
        self.phase = Phase::OptionHeader;
        Outcome::Continue
    }

    fn take_option_header(&mut self, bytes: &[u8]) -> Outcome {
        let violation = |text| Outcome::Close(CloseReason::Violation(text));
        let Some(header) = OptionHeader::decode(bytes) else {
            return violation("option with a wrong magic");
        };
        if header.len > self.policy.option_bytes_max {
            return violation("option is too long");
        }
        let Some(left) = self.options_left.checked_sub(1) else {
            return violation("too many options");
        };
        self.options_left = left;
        match self.admit(header) {
            Err(reason) => return Outcome::Close(reason),
            Ok(None) => self.phase = Phase::OptionData(header),
            Ok(Some(answer)) => {
                self.phase = Phase::OptionSkip { option: header.option, bytes_left: header.len, answer };
            }
        }
        Outcome::Continue
    }

    /// Decides by the header alone: look at the data (`None`), or throw them away and answer so.
    fn admit(&self, header: OptionHeader) -> Result<Option<Skipped>, CloseReason> {
        let skip = |kind, text| Ok(Some(Skipped::Error(OptionError::new(kind, text))));

        // Goodbye works always, and whatever stands in its data.
        if header.option == opt::ABORT {
            return Ok(Some(Skipped::Abort));
        }

        // EXPORT_NAME has no error reply.
        let tls_first = self.policy.tls == TlsMode::Require && !self.encrypted;
        if header.option == opt::EXPORT_NAME {
            return match header.len as usize {
                _ if self.shutting_down => Err(CloseReason::Refused("server is shutting down")),
                _ if tls_first => Err(CloseReason::Refused("encryption is required")),
                len if len > STRING_BYTES_MAX => Err(CloseReason::Refused("export name is too long")),
                _ => Ok(None),
            };
        }

        // A client without fixed newstyle can use no other option.
        if !self.client_flags.contains(ClientFlags::FIXED_NEWSTYLE) {
            return skip(rep::ERR_INVALID, "only EXPORT_NAME is possible without fixed newstyle");
        }
        if self.shutting_down {
            return skip(rep::ERR_SHUTDOWN, "server is shutting down");
        }
        if tls_first && header.option != opt::STARTTLS {
            return skip(rep::ERR_TLS_REQD, "encryption is required: send STARTTLS first");
        }
        self.admit_known(header)
    }

    /// As [`Handshake::admit`], for the options that need no special state.
    fn admit_known(&self, header: OptionHeader) -> Result<Option<Skipped>, CloseReason> {
        let skip = |kind, text| Ok(Some(Skipped::Error(OptionError::new(kind, text))));
        let (offered, data_bytes_max) = match header.option {
            opt::LIST => (true, 0),
            opt::STARTTLS => (true, 0),
            opt::INFO | opt::GO => (self.policy.offers(Offer::GO), InfoRequest::BYTES_MAX),
            opt::STRUCTURED_REPLY => (self.policy.offers(Offer::STRUCTURED_REPLY), 0),
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => {
                (self.policy.offers(Offer::META_CONTEXTS), MetaRequest::BYTES_MAX)
            }
            opt::EXTENDED_HEADERS => (self.policy.offers(Offer::EXTENDED_HEADERS), 0),
            _ => (false, 0),
        };
        if !offered {
            let kind = if planted!("unknown-option-acknowledged") { rep::ACK } else { rep::ERR_UNSUP };
            return skip(kind, "unknown option");
        }
        if header.len <= data_bytes_max {
            return Ok(None);
        }
        match header.option {
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => skip(rep::ERR_TOO_BIG, "too many queries"),
            opt::INFO | opt::GO => skip(rep::ERR_INVALID, "option is longer than any that is valid"),
            _ => skip(rep::ERR_INVALID, "option takes no data"),
        }
    }

    fn end_skip(&mut self, option: u32, answer: Skipped, out: &mut Vec<u8>) -> Outcome {
        self.phase = Phase::OptionHeader;
        let mut reply = Answer::new(option, out);
        match answer {
            Skipped::Abort => {
                reply.ack();
                return Outcome::Close(CloseReason::Aborted);
            }
            Skipped::Error(error) => reply.error(error),
        }
        // A selection is replaced also by one that fails.
        if option == opt::SET_META_CONTEXT {
            self.clear_contexts();
        }
        Outcome::Continue
    }
}
