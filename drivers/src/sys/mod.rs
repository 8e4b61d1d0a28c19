//! Thin, safe faces of kernel interfaces. Nearly all `unsafe` of this crate lives here.

pub mod block;
pub mod eventfd;
pub mod file;
pub mod mmap;
pub mod nvme;
pub mod poll;
pub mod registers;
pub(crate) mod ring;
