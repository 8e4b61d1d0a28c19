//! The control socket: what an operator sees and does while clients work, and what hostile ones cannot do.

mod commands;
mod docs;
mod hostile;
mod identity;
mod program;
mod reload;

use std::path::{Path, PathBuf};

use tests::{Gateway, GatewayBuilder, Operator};

/// A gateway with a control socket.
struct Controlled {
    gateway: Gateway,
    path: PathBuf,
}

impl Controlled {
    /// Serves these words of the command line.
    fn start(words: &[&str]) -> Controlled {
        Controlled::start_by(Gateway::builder(), words)
    }

    fn start_by(builder: GatewayBuilder, words: &[&str]) -> Controlled {
        let path = builder.path("control");
        let text = path.to_str().expect("a path in UTF-8");
        let gateway = builder.start(&[&["--control", text], words].concat());
        Controlled { gateway, path }
    }

    fn operator(&self) -> Operator {
        Operator::connect(&self.path)
    }

    fn socket(&self) -> &Path {
        self.gateway.socket()
    }
}

/// What an error says.
fn what(error: &serde_json::Value) -> &str {
    error["what"].as_str().expect("an error says what is wrong")
}
