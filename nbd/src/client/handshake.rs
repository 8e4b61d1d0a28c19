//! The client's state machine: greeting, then one option after the other, each chosen by the answers so far.

use super::goal::{Answered, Config, Failure, Goal, Tls, Wanted};
use crate::export::{BlockSizes, ExportFacts};
use crate::option::{OptionHeader, OptionReplyHeader};
use crate::server::Listed;
use crate::transmission::{Contexts, ReplyMode, Transmission};
use crate::wire::{
    ClientFlags, EXPORT_NAME_REPLY_BYTES, EXPORT_NAME_ZEROES_BYTES, GREETING_BYTES, HandshakeFlags, IHAVEOPT,
    NBDMAGIC, OLDSTYLE_MAGIC, OPTION_REPLY_HEADER_BYTES, Reader, TransmissionFlags, opt,
};

/// Longest option reply that is taken, in bytes: a name, a description and lengths fit many times.
const REPLY_BYTES_MAX: u32 = 64 << 10;
/// Most replies to one option.
const REPLIES_MAX: u32 = 100_000;

/// The client's side of one handshake.
#[derive(Debug)]
pub struct Handshake {
    pub(super) config: Config,
    pub(super) found: Found,
    no_zeroes: bool,
    encrypted: bool,
    phase: Phase,
    /// Replies to the current option that were taken.
    replies_taken: u32,
    buffer: Vec<u8>,
}

/// What the server said so far; dropped when encryption starts.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) replies: ReplyMode,
    pub(super) contexts: Contexts,
    pub(super) listed: Vec<Listed>,
    pub(super) export: Option<(u64, TransmissionFlags)>,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) block_sizes: Option<BlockSizes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    /// Waits for a reply to this option.
    ReplyHeader(u32),
    ReplyData(OptionReplyHeader),
    ExportName,
    StartTls,
    Over,
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
    /// Do the TLS handshake, then call [`Handshake::tls_established`], send what that says, and go on.
    StartTls,
    /// The goal is reached.
    Done(Answered),
    /// Send the output, then close the connection.
    Close(Failure),
}

/// What a reply leads to.
pub(super) enum Next {
    /// The same option has more replies.
    Reply,
    /// Send this option.
    Option(Step),
    /// Do the TLS handshake.
    StartTls,
    /// The goal is reached.
    Done(Answered),
}

/// The options that the client sends, in this order; each may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    StartTls,
    ExtendedHeaders,
    StructuredReply,
    SetContexts,
    Goal,
    ExportName,
}

impl Handshake {
    /// A handshake that has not begun; the server speaks first.
    pub fn new(config: Config) -> Handshake {
        Handshake {
            config,
            found: Found::default(),
            no_zeroes: false,
            encrypted: false,
            phase: Phase::Greeting,
            replies_taken: 0,
            buffer: Vec::new(),
        }
    }

    /// Takes received bytes, in pieces of any size, and appends what is to be sent to `out`.
    pub fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> Advance {
        let mut rest = input;
        let state = loop {
            match self.step(&mut rest, out) {
                Ok(None) => break State::NeedMore,
                Ok(Some(Next::Reply)) => {}
                Ok(Some(Next::Option(step))) => self.send(step, out),
                // Bytes that came in clear behind the answer could be an attacker's.
                Ok(Some(Next::StartTls)) if !rest.is_empty() => {
                    self.phase = Phase::Over;
                    break State::Close(Failure::Violation("bytes in clear behind the answer to STARTTLS"));
                }
                Ok(Some(Next::StartTls)) => {
                    self.phase = Phase::StartTls;
                    break State::StartTls;
                }
                Ok(Some(Next::Done(answered))) => {
                    self.phase = Phase::Over;
                    if !matches!(answered, Answered::Open(_)) {
                        OptionHeader::encode(opt::ABORT, &[], out);
                    }
                    break State::Done(answered);
                }
                Err(failure) => {
                    self.phase = Phase::Over;
                    if matches!(failure, Failure::Refused { .. }) {
                        OptionHeader::encode(opt::ABORT, &[], out);
                    }
                    break State::Close(failure);
                }
            }
        };
        Advance { consumed: input.len() - rest.len(), state }
    }

    /// The TLS handshake that [`State::StartTls`] asked for is done; appends the next option to `out`.
    pub fn tls_established(&mut self, out: &mut Vec<u8>) {
        debug_assert_eq!(self.phase, Phase::StartTls, "only after State::StartTls");
        self.encrypted = true;
        self.found = Found::default();
        let step = self.next_after(Step::StartTls);
        self.send(step, out);
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Does one item if it is complete; `None` if more input is needed.
    fn step(&mut self, rest: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Next>, Failure> {
        let need = match self.phase {
            Phase::Greeting => GREETING_BYTES,
            Phase::ReplyHeader(_) => OPTION_REPLY_HEADER_BYTES,
            Phase::ReplyData(header) => header.len as usize,
            Phase::ExportName if self.no_zeroes => EXPORT_NAME_REPLY_BYTES,
            Phase::ExportName => EXPORT_NAME_REPLY_BYTES + EXPORT_NAME_ZEROES_BYTES,
            Phase::StartTls if rest.is_empty() => return Ok(None),
            Phase::StartTls => {
                return Err(Failure::Violation("bytes in clear behind the answer to STARTTLS"));
            }
            Phase::Over => return Err(Failure::Violation("the handshake is over")),
        };
        let Some(bytes) = self.gather(need, rest) else {
            self.judge_early()?;
            return Ok(None);
        };
        match self.phase {
            Phase::Greeting => self.take_greeting(&bytes, out).map(Some),
            Phase::ReplyHeader(option) => self.take_reply_header(option, &bytes).map(Some),
            Phase::ReplyData(header) => {
                self.phase = Phase::ReplyHeader(header.option);
                self.take_reply(header, &bytes).map(Some)
            }
            _ => self.take_export_name(&bytes).map(Some),
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

    /// Whoever waits for the rest of a greeting that is none waits for ever: judges each magic as soon as it is there.
    fn judge_early(&self) -> Result<(), Failure> {
        if self.phase == Phase::Greeting && self.buffer.len() >= 8 {
            let mut reader = Reader::new(&self.buffer);
            return judge_magics(reader.u64(), reader.u64());
        }
        Ok(())
    }

    fn take_greeting(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Next, Failure> {
        let mut reader = Reader::new(bytes);
        judge_magics(reader.u64(), reader.u64())?;
        let offered = HandshakeFlags::from_bits_truncate(reader.u16().ok_or(Failure::NotNbd)?);
        let fixed = offered.contains(HandshakeFlags::FIXED_NEWSTYLE);
        self.no_zeroes =
            offered.contains(HandshakeFlags::NO_ZEROES) && self.config.wanted.contains(Wanted::NO_ZEROES);

        let mut flags = ClientFlags::empty();
        flags.set(ClientFlags::FIXED_NEWSTYLE, fixed);
        flags.set(ClientFlags::NO_ZEROES, self.no_zeroes);
        let needs_fixed = self.config.tls == Tls::Require || self.config.goal != Goal::Open;
        if needs_fixed && !fixed {
            return Err(Failure::NotFixedNewstyle);
        }
        out.extend_from_slice(&flags.bits().to_be_bytes());
        Ok(Next::Option(match self.config.tls {
            _ if !fixed => Step::ExportName,
            Tls::Off => self.next_after(Step::StartTls),
            Tls::Try | Tls::Require => Step::StartTls,
        }))
    }

    fn take_reply_header(&mut self, option: u32, bytes: &[u8]) -> Result<Next, Failure> {
        let header = OptionReplyHeader::decode(bytes)
            .ok_or(Failure::Violation("an option reply starts with a wrong magic"))?;
        if header.option != option {
            return Err(Failure::Violation("a reply to an option that was not sent"));
        }
        if header.len > REPLY_BYTES_MAX {
            return Err(Failure::Violation("an option reply is too long"));
        }
        self.replies_taken += 1;
        if self.replies_taken > REPLIES_MAX {
            return Err(Failure::Violation("too many replies to one option"));
        }
        self.phase = Phase::ReplyData(header);
        Ok(Next::Reply)
    }

    fn take_export_name(&mut self, bytes: &[u8]) -> Result<Next, Failure> {
        let mut reader = Reader::new(bytes);
        let (Some(size_bytes), Some(flags)) = (reader.u64(), reader.u16()) else {
            return Err(Failure::Violation("the answer to EXPORT_NAME is too short"));
        };
        // Contents of the zeroes are not judged: nobody reads them.
        self.found.export = Some((size_bytes, TransmissionFlags::from_bits_truncate(flags)));
        self.session().map(|session| Next::Done(Answered::Open(Box::new(session))))
    }

    /// The session that was found.
    pub(super) fn session(&mut self) -> Result<Transmission, Failure> {
        let found = std::mem::take(&mut self.found);
        let (size_bytes, flags) = found.export.ok_or(Failure::Violation("no INFO_EXPORT before the ACK"))?;
        let sizes = found.block_sizes.unwrap_or_default();
        sizes.check().map_err(|_| Failure::Violation("block sizes that the protocol does not allow"))?;
        let mut export = ExportFacts::new(found.name.unwrap_or_else(|| self.config.name.clone()), size_bytes);
        export.description = found.description;
        export.flags = flags;
        export.block_sizes = sizes;
        export.maximum_read_bytes = sizes.maximum_payload_bytes;
        export.maximum_df_bytes = sizes.maximum_payload_bytes;
        export.contexts = found.contexts.iter().map(|context| context.name.clone()).collect();
        let agreed = found.block_sizes.is_some();
        export.required_alignment_bytes = if agreed { sizes.minimum_bytes } else { 1 };
        let mut session = Transmission::new(export, found.replies, found.contexts);
        session.block_sizes_agreed = agreed;
        Ok(session)
    }

    fn send(&mut self, step: Step, out: &mut Vec<u8>) {
        let (option, data) = self.option(step);
        OptionHeader::encode(option, &data, out);
        self.replies_taken = 0;
        self.phase = if option == opt::EXPORT_NAME { Phase::ExportName } else { Phase::ReplyHeader(option) };
    }
}

/// The greeting of a newstyle server starts with two magics.
fn judge_magics(first: Option<u64>, second: Option<u64>) -> Result<(), Failure> {
    match (first, second) {
        (Some(NBDMAGIC), None | Some(IHAVEOPT)) => Ok(()),
        (Some(NBDMAGIC), Some(OLDSTYLE_MAGIC)) => Err(Failure::OldStyle),
        _ => Err(Failure::NotNbd),
    }
}
