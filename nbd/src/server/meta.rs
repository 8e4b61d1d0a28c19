//! LIST_META_CONTEXT and SET_META_CONTEXT.

use super::answer::{Answer, OptionError};
use super::exports::Exports;
use super::handshake::{Handshake, Outcome};
use crate::option::{MetaContext, MetaRequest, query_lists};
use crate::transmission::{Contexts, ReplyMode};
use crate::wire::rep;

impl Handshake {
    /// No context is selected any more.
    pub(super) fn clear_contexts(&mut self) {
        self.agreed.contexts = Contexts::none();
        self.agreed.contexts_for = None;
    }

    /// Names each context that any query asks for, once; without queries all. Changes nothing.
    pub(super) fn list_contexts(
        &self,
        data: &[u8],
        exports: &dyn Exports,
        answer: &mut Answer<'_>,
    ) -> Result<Outcome, OptionError> {
        let request = MetaRequest::decode(data)?;
        let facts = self.find(request.name, exports)?;
        let asked = |context: &str| {
            request.queries.is_empty() || request.queries.iter().any(|query| query_lists(query, context))
        };
        for name in facts.contexts.iter().filter(|name| asked(name)) {
            answer.reply(rep::META_CONTEXT, &MetaContext { id: 0, name }.encode());
        }
        answer.ack();
        Ok(Outcome::Continue)
    }

    /// Replaces the selection, also when it fails. Only full names select; a namespace alone selects nothing.
    pub(super) fn set_contexts(
        &mut self,
        data: &[u8],
        exports: &dyn Exports,
        answer: &mut Answer<'_>,
    ) -> Result<Outcome, OptionError> {
        if !planted!("stale-context") {
            self.clear_contexts();
        }
        if self.agreed.replies == ReplyMode::Simple {
            return Err(OptionError::invalid("agree on structured replies first"));
        }
        let request = MetaRequest::decode(data)?;
        let facts = self.find(request.name, exports)?;
        let mut contexts = Contexts::none();
        let offered = facts.contexts.iter().zip(1..);
        for (name, id) in offered.filter(|(name, _)| request.queries.contains(&name.as_str())) {
            if contexts.len() == Contexts::MAX {
                return Err(OptionError::new(rep::ERR_TOO_BIG, "too many contexts on one connection"));
            }
            contexts.select(id, name);
        }
        for context in &contexts {
            answer.reply(rep::META_CONTEXT, &MetaContext { id: context.id, name: &context.name }.encode());
        }
        answer.ack();
        self.agreed.contexts = contexts;
        self.agreed.contexts_for = Some(request.name.to_owned());
        Ok(Outcome::Continue)
    }
}
