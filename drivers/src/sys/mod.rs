//! Thin, safe faces of kernel interfaces. All `unsafe` of this crate that is not a ring lives here.

pub mod mmap;
