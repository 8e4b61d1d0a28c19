//! Thin, safe faces of kernel interfaces. All `unsafe` of this crate that is not a ring lives here.

pub mod block;
pub mod eventfd;
pub mod file;
pub mod mmap;
pub mod poll;
pub mod registers;
