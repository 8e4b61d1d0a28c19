//! Tasks of the workspace: `cargo xtask …`.
pub mod bed;
pub mod bench;
pub mod boot;
pub mod image;
mod sh;
