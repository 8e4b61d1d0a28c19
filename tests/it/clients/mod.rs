//! Real clients against the gateway.

mod nbdinfo;
