//! End-to-end tests: one program, a module per subject.

mod cli;
mod clients;
mod ending;
mod raw;
mod startup;
