//! What each option does.

use super::answer::{Answer, OptionError};
use super::exports::{Exports, ListAnswer};
use super::handshake::{Handshake, Outcome};
use super::policy::{Offer, TlsMode};
use crate::transmission::ReplyMode;
use crate::wire::{opt, rep};

impl Handshake {
    /// Answers an option that was admitted and whose data is complete.
    pub(super) fn take_option(
        &mut self,
        option: u32,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if option == opt::EXPORT_NAME {
            return self.export_name(data, exports, out);
        }
        let mut answer = Answer::new(option, out);
        let result = match option {
            opt::LIST => self.list(exports, &mut answer),
            opt::STARTTLS => self.start_tls(&mut answer),
            opt::INFO => self.info(data, exports, &mut answer).map(|_| Outcome::Continue),
            opt::GO => self.info(data, exports, &mut answer).map(|session| Outcome::Open(Box::new(session))),
            opt::STRUCTURED_REPLY => self.structured_reply(&mut answer),
            opt::LIST_META_CONTEXT => self.list_contexts(data, exports, &mut answer),
            opt::SET_META_CONTEXT => self.set_contexts(data, exports, &mut answer),
            opt::EXTENDED_HEADERS => self.extended_headers(&mut answer),
            _ => Err(OptionError::new(rep::ERR_UNSUP, "unknown option")),
        };
        result.unwrap_or_else(|error| {
            answer.error(error);
            Outcome::Continue
        })
    }

    fn list(&mut self, exports: &dyn Exports, answer: &mut Answer<'_>) -> Result<Outcome, OptionError> {
        let forbidden = OptionError::new(rep::ERR_POLICY, "listing of exports is forbidden");
        if !self.policy.offers(Offer::LIST) {
            return Err(forbidden);
        }
        let ListAnswer::Exports(list) = exports.list() else {
            return Err(forbidden);
        };
        for export in list.iter().filter(|export| self.may_show(&export.name, exports)) {
            let mut data = (export.name.len() as u32).to_be_bytes().to_vec();
            data.extend_from_slice(export.name.as_bytes());
            data.extend_from_slice(export.description.as_bytes());
            answer.reply(rep::SERVER, &data);
        }
        answer.ack();
        // A client may want to ask about each export that it was told of.
        if !self.listed {
            self.listed = true;
            self.options_left = self.options_left.saturating_add(4 * list.len() as u64);
        }
        Ok(Outcome::Continue)
    }

    /// Exports that need encryption are hidden from those who have none.
    fn may_show(&self, name: &str, exports: &dyn Exports) -> bool {
        !self.lacks_tls(name, exports)
    }

    /// Whether this export cannot be touched before encryption.
    pub(super) fn lacks_tls(&self, name: &str, exports: &dyn Exports) -> bool {
        self.policy.tls == TlsMode::On && !self.encrypted && exports.needs_tls(name)
    }

    fn start_tls(&mut self, answer: &mut Answer<'_>) -> Result<Outcome, OptionError> {
        if self.policy.tls == TlsMode::Off {
            return Err(OptionError::new(rep::ERR_POLICY, "this server does not do TLS"));
        }
        if self.encrypted {
            return Err(OptionError::invalid("the connection is encrypted already"));
        }
        answer.ack();
        Ok(Outcome::StartTls)
    }

    fn structured_reply(&mut self, answer: &mut Answer<'_>) -> Result<Outcome, OptionError> {
        match self.agreed.replies {
            ReplyMode::Extended => {
                Err(OptionError::new(rep::ERR_EXT_HEADER_REQD, "extended headers cannot be given up"))
            }
            ReplyMode::Structured => Err(OptionError::invalid("structured replies are agreed already")),
            ReplyMode::Simple => {
                self.agreed.replies = ReplyMode::Structured;
                answer.ack();
                Ok(Outcome::Continue)
            }
        }
    }

    fn extended_headers(&mut self, answer: &mut Answer<'_>) -> Result<Outcome, OptionError> {
        if self.agreed.replies == ReplyMode::Extended {
            return Err(OptionError::invalid("extended headers are agreed already"));
        }
        self.agreed.replies = ReplyMode::Extended;
        answer.ack();
        Ok(Outcome::Continue)
    }
}
