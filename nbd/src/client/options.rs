//! Which option comes next, what it carries, and what its replies mean.

use super::goal::{Answered, Failure, Goal, Tls, Wanted};
use super::handshake::{Handshake, Next, Step};
use crate::option::{Info, InfoRequest, MetaContext, MetaRequest, OptionReplyHeader, parse_name};
use crate::server::Listed;
use crate::transmission::{Contexts, ReplyMode};
use crate::wire::{Reader, TransmissionFlags, info, opt, rep};

impl Handshake {
    /// The step behind `step`, given what is wanted and what was agreed.
    pub(super) fn next_after(&self, step: Step) -> Step {
        let wanted = self.config.wanted;
        match step {
            // Listing needs no kind of reply.
            Step::StartTls if self.config.goal == Goal::List => Step::Goal,
            Step::StartTls if wanted.contains(Wanted::EXTENDED_HEADERS | Wanted::GO) => Step::ExtendedHeaders,
            Step::StartTls => self.next_after(Step::ExtendedHeaders),
            Step::ExtendedHeaders
                if wanted.contains(Wanted::STRUCTURED_REPLY) && !self.found.replies.is_chunked() =>
            {
                Step::StructuredReply
            }
            Step::ExtendedHeaders => self.next_after(Step::StructuredReply),
            Step::StructuredReply if self.found.replies.is_chunked() && !self.config.contexts.is_empty() => {
                Step::SetContexts
            }
            Step::StructuredReply => self.next_after(Step::SetContexts),
            Step::SetContexts if self.config.goal == Goal::Open && !wanted.contains(Wanted::GO) => {
                Step::ExportName
            }
            Step::SetContexts => Step::Goal,
            Step::Goal | Step::ExportName => Step::ExportName,
        }
    }

    /// Number and data of the option that does a step.
    pub(super) fn option(&self, step: Step) -> (u32, Vec<u8>) {
        let mut data = Vec::new();
        let name = self.config.name.as_str();
        let option = match step {
            Step::StartTls => opt::STARTTLS,
            Step::ExtendedHeaders => opt::EXTENDED_HEADERS,
            Step::StructuredReply => opt::STRUCTURED_REPLY,
            Step::SetContexts => {
                let queries = self.config.contexts.iter().map(String::as_str).collect();
                MetaRequest { name, queries }.encode(&mut data);
                opt::SET_META_CONTEXT
            }
            Step::Goal if self.config.goal == Goal::List => opt::LIST,
            Step::Goal => {
                InfoRequest { name, types: self.info_types() }.encode(&mut data);
                if self.config.goal == Goal::Open { opt::GO } else { opt::INFO }
            }
            Step::ExportName => {
                data.extend_from_slice(name.as_bytes());
                opt::EXPORT_NAME
            }
        };
        (option, data)
    }

    fn info_types(&self) -> Vec<u16> {
        let mut types = Vec::new();
        if self.config.wanted.contains(Wanted::BLOCK_SIZE) {
            types.push(info::BLOCK_SIZE);
        }
        if self.config.wanted.contains(Wanted::TEXTS) {
            types.extend([info::NAME, info::DESCRIPTION]);
        }
        types
    }

    /// Takes one complete reply.
    pub(super) fn take_reply(&mut self, header: OptionReplyHeader, data: &[u8]) -> Result<Next, Failure> {
        if header.is_error() {
            return self.take_error(header, data);
        }
        match (header.option, header.kind) {
            (opt::STARTTLS, rep::ACK) => Ok(Next::StartTls),
            (opt::EXTENDED_HEADERS, rep::ACK) => {
                self.found.replies = ReplyMode::Extended;
                Ok(Next::Option(self.next_after(Step::ExtendedHeaders)))
            }
            (opt::STRUCTURED_REPLY, rep::ACK) => {
                self.found.replies = ReplyMode::Structured;
                Ok(Next::Option(self.next_after(Step::StructuredReply)))
            }
            (opt::SET_META_CONTEXT, rep::META_CONTEXT) => self.take_context(data),
            (opt::SET_META_CONTEXT, rep::ACK) => Ok(Next::Option(self.next_after(Step::SetContexts))),
            (opt::LIST, rep::SERVER) => self.take_listed(data),
            (opt::LIST, rep::ACK) => Ok(Next::Done(Answered::Listed(std::mem::take(&mut self.found.listed)))),
            (opt::INFO | opt::GO, rep::INFO) => self.take_info(data),
            (opt::INFO, rep::ACK) => {
                self.session().map(|session| Next::Done(Answered::Described(Box::new(session))))
            }
            (opt::GO, rep::ACK) => {
                self.session().map(|session| Next::Done(Answered::Open(Box::new(session))))
            }
            _ => Err(Failure::Violation("a reply of a type that does not belong to the option")),
        }
    }

    /// An error ends what cannot be done without; the rest is done without.
    fn take_error(&mut self, header: OptionReplyHeader, data: &[u8]) -> Result<Next, Failure> {
        let refused = Failure::Refused {
            option: header.option,
            kind: header.kind,
            text: String::from_utf8_lossy(data).into_owned(),
        };
        if header.kind == rep::ERR_SHUTDOWN {
            return Err(refused);
        }
        match header.option {
            opt::STARTTLS if self.config.tls == Tls::Try => Ok(Next::Option(self.next_after(Step::StartTls))),
            opt::EXTENDED_HEADERS => Ok(Next::Option(self.next_after(Step::ExtendedHeaders))),
            opt::STRUCTURED_REPLY => Ok(Next::Option(self.next_after(Step::StructuredReply))),
            opt::SET_META_CONTEXT => {
                self.found.contexts = Contexts::none();
                Ok(Next::Option(self.next_after(Step::SetContexts)))
            }
            // An old server; but EXPORT_NAME may not follow extended headers.
            opt::GO if header.kind == rep::ERR_UNSUP && self.found.replies != ReplyMode::Extended => {
                Ok(Next::Option(Step::ExportName))
            }
            opt::GO | opt::INFO
                if header.kind == rep::ERR_BLOCK_SIZE_REQD
                    && self.config.wanted.contains(Wanted::BLOCK_SIZE) =>
            {
                Err(Failure::Violation("ERR_BLOCK_SIZE_REQD although the block sizes were asked for"))
            }
            _ => Err(refused),
        }
    }

    fn take_context(&mut self, data: &[u8]) -> Result<Next, Failure> {
        let context = MetaContext::decode(data).map_err(|_| Failure::Violation("malformed META_CONTEXT"))?;
        if !self.config.contexts.iter().any(|wanted| wanted == context.name) {
            return Err(Failure::Violation("a metadata context that was not asked for"));
        }
        if !self.found.contexts.select(context.id, context.name) {
            return Err(Failure::Violation("a metadata context twice, or too many"));
        }
        Ok(Next::Reply)
    }

    fn take_listed(&mut self, data: &[u8]) -> Result<Next, Failure> {
        let mut reader = Reader::new(data);
        let malformed = Failure::Violation("malformed SERVER reply");
        let Some(name) = reader.counted().and_then(|name| parse_name(name).ok()) else {
            return Err(malformed);
        };
        let description = parse_name(reader.rest()).map_err(|_| malformed)?;
        self.found.listed.push(Listed { name: name.to_owned(), description: description.to_owned() });
        Ok(Next::Reply)
    }

    fn take_info(&mut self, data: &[u8]) -> Result<Next, Failure> {
        match Info::decode(data).map_err(|_| Failure::Violation("malformed INFO reply"))? {
            Info::Export { size_bytes, flags } => {
                let known = TransmissionFlags::from_bits_truncate(flags.bits());
                self.found.export = Some((size_bytes, known));
            }
            Info::Name(name) => self.found.name = Some(name.to_owned()),
            Info::Description(text) => self.found.description = Some(text.to_owned()),
            // Sent without being asked for, it binds nobody.
            Info::BlockSize(sizes) if self.config.wanted.contains(Wanted::BLOCK_SIZE) => {
                self.found.block_sizes = Some(sizes);
            }
            Info::BlockSize(_) | Info::Unknown(_) => {}
        }
        Ok(Next::Reply)
    }
}
