//! What a handshake ended with: the facts that every request of the connection is judged by.

use crate::export::ExportFacts;
use crate::request::HeaderFormat;
use crate::wire::{TransmissionFlags, context};

/// Kind of replies that client and server agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ReplyMode {
    /// One simple reply to each request.
    #[default]
    Simple,
    /// Chunks (after STRUCTURED_REPLY).
    Structured,
    /// Chunks with 64-bit lengths, and extended requests (after EXTENDED_HEADERS).
    Extended,
}

impl ReplyMode {
    /// Layout of the requests that go with these replies.
    pub const fn header_format(self) -> HeaderFormat {
        match self {
            ReplyMode::Simple | ReplyMode::Structured => HeaderFormat::Compact,
            ReplyMode::Extended => HeaderFormat::Extended,
        }
    }

    /// Whether replies are made of chunks, so that holes, block status and error texts can be sent.
    pub const fn is_chunked(self) -> bool {
        !matches!(self, ReplyMode::Simple)
    }
}

impl TransmissionFlags {
    /// These flags without those that may not be announced with the agreed replies and contexts
    /// (doc/proto.md, section "Transmission flags").
    ///
    /// DF needs chunks, FAST_ZERO needs WRITE_ZEROES, a payload of BLOCK_STATUS needs extended headers and a selected
    /// context. `HAS_FLAGS` is always set.
    #[must_use]
    pub fn announced(self, replies: ReplyMode, contexts: &Contexts) -> TransmissionFlags {
        let mut flags = self | TransmissionFlags::HAS_FLAGS;
        if !replies.is_chunked() {
            flags -= TransmissionFlags::SEND_DF;
        }
        if !flags.contains(TransmissionFlags::SEND_WRITE_ZEROES) {
            flags -= TransmissionFlags::SEND_FAST_ZERO;
        }
        if replies != ReplyMode::Extended || contexts.is_empty() {
            flags -= TransmissionFlags::BLOCK_STATUS_PAYLOAD;
        }
        flags
    }
}

/// A metadata context that the client selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedContext {
    /// Names the context in replies; unique on the connection.
    pub id: u32,
    /// Full name, `namespace:leaf`.
    pub name: String,
}

/// The metadata contexts selected on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Contexts {
    selected: Vec<SelectedContext>,
    base_allocation: Option<u32>,
}

impl Contexts {
    /// Most contexts that can be selected on one connection.
    pub const MAX: usize = 64;

    /// No context: BLOCK_STATUS is not possible.
    pub const fn none() -> Contexts {
        Contexts { selected: Vec::new(), base_allocation: None }
    }

    /// Adds a context; one whose id or name is there already, or one too many, is left out and `false` returned.
    pub fn select(&mut self, id: u32, name: &str) -> bool {
        let known = self.selected.iter().any(|context| context.id == id || context.name == name);
        if known || self.selected.len() == Self::MAX {
            return false;
        }
        if name == context::BASE_ALLOCATION {
            self.base_allocation = Some(id);
        }
        self.selected.push(SelectedContext { id, name: name.to_owned() });
        true
    }

    /// The id of `base:allocation`, if selected; costs one load.
    #[inline]
    pub const fn base_allocation(&self) -> Option<u32> {
        self.base_allocation
    }

    /// The context with this id.
    pub fn by_id(&self, id: u32) -> Option<&SelectedContext> {
        self.selected.iter().find(|context| context.id == id)
    }

    /// The id of the context with this name.
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.selected.iter().find(|context| context.name == name).map(|context| context.id)
    }

    /// All selected contexts, in the order of selection.
    pub fn iter(&self) -> std::slice::Iter<'_, SelectedContext> {
        self.selected.iter()
    }

    /// Number of selected contexts.
    pub fn len(&self) -> usize {
        self.selected.len()
    }

    /// Whether none is selected.
    pub fn is_empty(&self) -> bool {
        self.selected.is_empty()
    }
}

impl<'a> IntoIterator for &'a Contexts {
    type Item = &'a SelectedContext;
    type IntoIter = std::slice::Iter<'a, SelectedContext>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What a handshake ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// The export that was opened; its flags are those that were announced on this connection.
    pub export: ExportFacts,
    /// Kind of replies, and with it the layout of requests.
    pub replies: ReplyMode,
    /// Metadata contexts that BLOCK_STATUS answers for.
    pub contexts: Contexts,
    /// Whether the client asked for the size constraints when it opened the export, and so must obey them.
    pub block_sizes_agreed: bool,
}

impl Transmission {
    /// A session on `export` with these replies and contexts; its flags are cut to what those allow.
    pub fn new(mut export: ExportFacts, replies: ReplyMode, contexts: Contexts) -> Transmission {
        export.flags = export.flags.announced(replies, &contexts);
        Transmission { export, replies, contexts, block_sizes_agreed: false }
    }

    /// Layout of the requests of this session.
    #[inline]
    pub const fn header_format(&self) -> HeaderFormat {
        self.replies.header_format()
    }
}
