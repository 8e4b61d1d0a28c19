//! End-to-end tests: one program, a module per subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helper functions too")]

mod back_ends;
mod cli;
mod clients;
mod conformance;
mod ending;
mod faults;
mod planted;
mod raw;
mod reconnect;
mod resources;
mod startup;
mod tls;
mod vhost_user;
mod workers;
