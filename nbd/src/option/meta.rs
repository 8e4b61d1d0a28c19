//! LIST_META_CONTEXT and SET_META_CONTEXT: queries, and the contexts that answer them.
//!
//! Source: doc/proto.md, sections "Metadata querying" and "Option types".

use super::{Malformed, parse_name};
use crate::wire::Reader;

/// Data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRequest<'a> {
    /// Name of the export; empty for the default one.
    pub name: &'a str,
    /// Queries, `namespace:leaf`, in the client's order; the text of unknown namespaces is theirs to define.
    pub queries: Vec<&'a str>,
}

impl<'a> MetaRequest<'a> {
    /// Longest data that is looked at, in bytes: more than 60 queries of the greatest length.
    pub const BYTES_MAX: u32 = 256 << 10;

    /// Decodes the whole data of the option.
    ///
    /// # Errors
    /// A length does not match, or the name or a query is not allowed.
    pub fn decode(data: &'a [u8]) -> Result<MetaRequest<'a>, Malformed> {
        let mut reader = Reader::new(data);
        let name = reader.counted().ok_or(Malformed::Length)?;
        let count = reader.u32().ok_or(Malformed::Length)?;
        let mut queries = Vec::new();
        for _ in 0..count {
            let query = reader.counted().ok_or(Malformed::Length)?;
            queries.push(parse_name(query)?);
        }
        if !reader.rest().is_empty() {
            return Err(Malformed::Length);
        }
        Ok(MetaRequest { name: parse_name(name)?, queries })
    }

    /// Appends the data to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&(self.queries.len() as u32).to_be_bytes());
        for query in &self.queries {
            out.extend_from_slice(&(query.len() as u32).to_be_bytes());
            out.extend_from_slice(query.as_bytes());
        }
    }
}

/// Whether a query of LIST_META_CONTEXT asks for `context`: by its full name, or by a start that ends in a colon
/// (`base:`, `qemu:`, `qemu:dirty-bitmap:`).
pub fn query_lists(query: &str, context: &str) -> bool {
    query == context || (query.ends_with(':') && context.starts_with(query))
}

/// Data of one `NBD_REP_META_CONTEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaContext<'a> {
    /// Names the context in transmission; 0 in answers to LIST_META_CONTEXT.
    pub id: u32,
    /// Full name.
    pub name: &'a str,
}

impl<'a> MetaContext<'a> {
    /// Decodes the whole data of the reply.
    ///
    /// # Errors
    /// It is too short, or the name is not allowed.
    pub fn decode(data: &'a [u8]) -> Result<MetaContext<'a>, Malformed> {
        let mut reader = Reader::new(data);
        let id = reader.u32().ok_or(Malformed::Length)?;
        Ok(MetaContext { id, name: parse_name(reader.rest())? })
    }

    /// The data as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        out.extend_from_slice(self.name.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_namespace_lists_its_contexts_and_a_name_itself() {
        assert!(query_lists("base:", "base:allocation"));
        assert!(query_lists("base:allocation", "base:allocation"));
        assert!(query_lists("qemu:", "qemu:dirty-bitmap:b"));
        assert!(query_lists("qemu:dirty-bitmap:", "qemu:dirty-bitmap:b"));
        assert!(!query_lists("base:alloc", "base:allocation"));
        assert!(!query_lists("base", "base:allocation"));
        assert!(!query_lists("", "base:allocation"));
        assert!(!query_lists("qemu:", "base:allocation"));
    }

    #[test]
    fn lengths_must_match_exactly() {
        let mut data = Vec::new();
        MetaRequest { name: "d", queries: vec!["base:", "x-y:z"] }.encode(&mut data);
        assert_eq!(data, b"\0\0\0\x01d\0\0\0\x02\0\0\0\x05base:\0\0\0\x05x-y:z");
        for len in 0..data.len() {
            assert_eq!(MetaRequest::decode(&data[..len]), Err(Malformed::Length), "cut to {len}");
        }
        data.push(0);
        assert_eq!(MetaRequest::decode(&data), Err(Malformed::Length));
    }

    #[test]
    fn a_huge_count_of_queries_allocates_nothing() {
        assert_eq!(MetaRequest::decode(b"\0\0\0\0\xff\xff\xff\xff"), Err(Malformed::Length));
    }

    proptest! {
        #[test]
        fn requests_come_back(name in "[^\0]{0,40}", queries in prop::collection::vec("[^\0]{0,20}", 0..5)) {
            let request = MetaRequest { name: &name, queries: queries.iter().map(String::as_str).collect() };
            let mut data = Vec::new();
            request.encode(&mut data);
            prop_assert_eq!(MetaRequest::decode(&data), Ok(request));
        }

        #[test]
        fn contexts_come_back(id: u32, name in "[^\0]{0,40}") {
            let context = MetaContext { id, name: &name };
            let data = context.encode();
            prop_assert_eq!(MetaContext::decode(&data), Ok(context));
        }

        #[test]
        fn any_bytes_are_survived(data: Vec<u8>) {
            let _ = MetaRequest::decode(&data);
            let _ = MetaContext::decode(&data);
        }
    }
}
