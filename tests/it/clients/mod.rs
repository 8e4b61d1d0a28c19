//! Real clients against the gateway.

mod images;
mod nbdinfo;
