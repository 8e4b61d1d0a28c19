//! End-to-end tests: one program, a module per subject.

mod clients;
