//! INFO, GO and EXPORT_NAME: facts about an export, and the way into transmission.

use super::answer::{Answer, OptionError};
use super::exports::Exports;
use super::handshake::{CloseReason, Handshake, Outcome};
use crate::export::{BlockSizeDemand, ExportFacts};
use crate::option::{Info, InfoRequest, Malformed, parse_name};
use crate::transmission::{Contexts, ReplyMode, Transmission};
use crate::wire::{ClientFlags, EXPORT_NAME_ZEROES_BYTES, info, opt, rep};

impl From<Malformed> for OptionError {
    fn from(malformed: Malformed) -> OptionError {
        OptionError::invalid(match malformed {
            Malformed::Length => "lengths inside the option do not match its length",
            Malformed::Name(_) => "a name is longer than 4096 bytes, not UTF-8, or contains NUL",
        })
    }
}

impl Handshake {
    /// Facts about an export that may be touched now.
    pub(super) fn find(&self, name: &str, exports: &dyn Exports) -> Result<ExportFacts, OptionError> {
        if self.lacks_tls(name, exports) {
            return Err(OptionError::new(rep::ERR_TLS_REQD, "encryption is required: send STARTTLS first"));
        }
        let found = if name.is_empty() { exports.find_default() } else { exports.find(name) };
        found.ok_or(OptionError::new(
            rep::ERR_UNKNOWN,
            if name.is_empty() { "there is no default export" } else { "no export has this name" },
        ))
    }

    /// The session that opening this export now would give. Contexts count only if selected for the same name.
    fn session(&self, name: &str, facts: ExportFacts) -> Transmission {
        let selected = self.agreed.contexts_for.as_deref() == Some(name);
        let contexts = if selected { self.agreed.contexts.clone() } else { Contexts::none() };
        Transmission::new(facts, self.agreed.replies, contexts)
    }

    /// INFO and GO: tells all about the export, and what session GO gives.
    pub(super) fn info(
        &self,
        data: &[u8],
        exports: &dyn Exports,
        answer: &mut Answer<'_>,
    ) -> Result<Transmission, OptionError> {
        let request = InfoRequest::decode(data)?;
        let mut session = self.session(request.name, self.find(request.name, exports)?);
        let export = &session.export;
        let asked = |kind| request.types.contains(&kind);

        // The constraints come before the error that demands to ask for them.
        let sizes = Info::BlockSize(export.block_sizes).encode();
        if export.block_size_demand == BlockSizeDemand::Required && !asked(info::BLOCK_SIZE) {
            answer.reply(rep::INFO, &sizes);
            return Err(OptionError::new(rep::ERR_BLOCK_SIZE_REQD, "ask for BLOCK_SIZE, and obey it"));
        }

        let off_by = if planted!("size-differs-in-info") && answer.option() == opt::INFO { 4096 } else { 0 };
        let facts = Info::Export { size_bytes: export.size_bytes - off_by, flags: export.flags };
        answer.reply(rep::INFO, &facts.encode());
        if asked(info::NAME) {
            answer.reply(rep::INFO, &Info::Name(&export.name).encode());
        }
        if let Some(description) = export.description.as_deref().filter(|_| asked(info::DESCRIPTION)) {
            answer.reply(rep::INFO, &Info::Description(description).encode());
        }
        if asked(info::BLOCK_SIZE) {
            answer.reply(rep::INFO, &sizes);
        }
        answer.ack();
        session.block_sizes_agreed = asked(info::BLOCK_SIZE);
        Ok(session)
    }

    /// EXPORT_NAME: the old way into transmission. Its answer has no header and no errors.
    pub(super) fn export_name(&self, data: &[u8], exports: &dyn Exports, out: &mut Vec<u8>) -> Outcome {
        if self.agreed.replies == ReplyMode::Extended {
            return Outcome::Close(CloseReason::Violation("EXPORT_NAME after EXTENDED_HEADERS"));
        }
        let Ok(name) = parse_name(data) else {
            return Outcome::Close(CloseReason::Refused("export name is not UTF-8 or contains NUL"));
        };
        let facts = match self.find(name, exports) {
            Ok(facts) => facts,
            Err(error) => return Outcome::Close(CloseReason::Refused(error.text)),
        };
        if facts.block_size_demand == BlockSizeDemand::Required {
            return Outcome::Close(CloseReason::Refused(
                "clients of this export must ask for its block sizes",
            ));
        }
        let session = self.session(name, facts);
        out.extend_from_slice(&session.export.size_bytes.to_be_bytes());
        out.extend_from_slice(&session.export.flags.bits().to_be_bytes());
        if !self.client_flags.contains(ClientFlags::NO_ZEROES) {
            out.resize(out.len() + EXPORT_NAME_ZEROES_BYTES, 0);
        }
        Outcome::Open(Box::new(session))
    }
}
