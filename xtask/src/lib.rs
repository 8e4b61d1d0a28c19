//! Tasks of the workspace: `cargo xtask …`.
pub mod bed;
pub mod bench;
mod sh;
