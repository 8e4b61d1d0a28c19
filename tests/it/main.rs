//! End-to-end tests: one program, a module per subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helper functions too")]

mod activation;
mod back_ends;
mod cli;
mod clients;
mod config;
mod conformance;
mod control;
mod daemon;
mod ending;
mod examples;
mod faults;
mod limits;
mod listeners;
mod log;
mod many;
mod metrics;
mod package;
mod planted;
mod raw;
mod reconnect;
mod reload;
mod resources;
mod shells;
mod single;
mod startup;
mod tls;
mod vhost_user;
mod workers;
