//! Serves block devices of the virtualisation world over NBD.
//!
//! | module | is |
//! |---|---|
//! | `cli` | what the user typed, and what it means |
//! | `config`, `rules` | the configuration file; who may see and open an export |
//! | `control` | an operator looks at what is served, and changes it |
//! | `server` | start, service and end of the process: the control thread |
//! | `net` | sockets: listening, addresses, bytes |
//! | `tls` | encryption, and who clients are |
//! | `handshake`, `exports` | clients before their session |
//! | `metrics` | what the server does, in numbers |
//! | `worker` | a thread with its share of the sessions |
//! | `session` | one client: requests in, replies out |
//! | `disk` | one worker's view of a disk, the same for every front-end |
//! | `values` | values of properties as JSON |
//! | `log` | how much is told, and where |
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage.

#[macro_use]
mod planted;

mod cli;
mod config;
mod control;
mod copies;
mod disk;
mod exports;
mod handshake;
mod log;
mod metrics;
mod net;
mod rules;
mod server;
mod session;
mod slab;
mod sys;
mod tls;
mod values;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
