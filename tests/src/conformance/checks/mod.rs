//! The checks, by subject.

mod bounds;
mod cache;
mod durable;
mod export_name;
mod flags;
mod flush;
mod greeting;
mod info;
mod integrity;
mod leave;
mod list;
mod meta;
mod names;
mod options;
mod payload;
mod pipeline;
mod read;
mod readonly;
mod status;
mod status_query;
mod tls;
mod trim;
mod write;
mod zeroes;

use super::check::Check;

/// Every check, in the order in which they are run.
pub(super) fn all() -> Vec<Check> {
    [
        greeting::CHECKS,
        options::CHECKS,
        tls::CHECKS,
        list::CHECKS,
        names::CHECKS,
        info::CHECKS,
        export_name::CHECKS,
        meta::CHECKS,
        bounds::CHECKS,
        flags::CHECKS,
        read::CHECKS,
        write::CHECKS,
        readonly::CHECKS,
        zeroes::CHECKS,
        trim::CHECKS,
        flush::CHECKS,
        cache::CHECKS,
        status::CHECKS,
        status_query::CHECKS,
        payload::CHECKS,
        integrity::CHECKS,
        durable::CHECKS,
        pipeline::CHECKS,
        leave::CHECKS,
    ]
    .concat()
}
