//! Replies to one option.

use crate::option::OptionReplyHeader;
use crate::wire::rep;

/// Appends replies to the option that is being answered.
pub(super) struct Answer<'a> {
    option: u32,
    out: &'a mut Vec<u8>,
}

/// An error reply: its type and a text for humans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OptionError {
    pub(super) kind: u32,
    pub(super) text: &'static str,
}

impl OptionError {
    pub(super) const fn new(kind: u32, text: &'static str) -> OptionError {
        OptionError { kind, text }
    }

    pub(super) const fn invalid(text: &'static str) -> OptionError {
        OptionError { kind: rep::ERR_INVALID, text }
    }
}

impl<'a> Answer<'a> {
    pub(super) fn new(option: u32, out: &'a mut Vec<u8>) -> Answer<'a> {
        Answer { option, out }
    }

    /// The option that is being answered.
    pub(super) const fn option(&self) -> u32 {
        self.option
    }

    /// One reply with data.
    pub(super) fn reply(&mut self, kind: u32, data: &[u8]) {
        OptionReplyHeader::encode(self.option, kind, data, self.out);
    }

    /// Success; the last reply.
    pub(super) fn ack(&mut self) {
        self.reply(rep::ACK, &[]);
    }

    /// Failure; the last reply.
    pub(super) fn error(&mut self, error: OptionError) {
        self.reply(error.kind, error.text.as_bytes());
    }
}
