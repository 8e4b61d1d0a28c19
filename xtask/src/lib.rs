//! Tasks of the workspace: `cargo xtask …`.
pub mod bed;
pub mod bench;
pub mod boot;
pub mod check;
pub mod fuzz;
pub mod image;
mod repo;
mod sh;
pub mod test;
pub mod tidy;
