//! Which crate may know what.
//!
//! The protocol and the drivers are worth testing, fuzzing and reusing alone only while neither knows the
//! other, and neither the runtime; and the protocol makes decisions from bytes, so it has no way to do I/O.

use super::Finding;
use super::code::{code, has_word};
use crate::repo::File;

/// What one crate must do without.
struct Wall {
    /// Folder of the crate, with the final slash.
    folder: &'static str,
    /// Dependencies that its manifest must not name.
    dependencies: &'static [&'static str],
    /// Paths that its code must not name.
    paths: &'static [&'static str],
}

const WALLS: &[Wall] = &[
    Wall {
        folder: "nbd/",
        dependencies: &["drivers", "gateway", "tokio", "tokio-uring", "io-uring", "libc", "nix"],
        paths: &[
            "drivers",
            "gateway",
            "tokio",
            "tokio_uring",
            "io_uring",
            "std::net",
            "std::fs",
            "std::os::fd",
            "std::os::unix::io",
            "std::os::unix::net",
            "UnixStream",
            "TcpStream",
            "OwnedFd",
            "RawFd",
        ],
    },
    Wall {
        folder: "drivers/",
        dependencies: &["nbd", "gateway", "tokio", "tokio-uring"],
        paths: &["nbd::", "gateway::", "tokio", "tokio_uring"],
    },
];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    WALLS.iter().flat_map(|wall| check_wall(wall, files)).collect()
}

fn check_wall(wall: &Wall, files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with(wall.folder)) {
        let (words, text) = if file.path.ends_with("Cargo.toml") {
            (wall.dependencies, file.text.clone())
        } else if file.has_extension("rs") {
            (wall.paths, code(&file.text))
        } else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| names(line, word, file)) {
                let message = format!("the crate in {} must not know `{word}`", wall.folder);
                findings.push(Finding::at(file, index, message));
            }
        }
    }
    findings
}

/// Whether a line of code or of a manifest names this thing.
fn names(line: &str, word: &str, file: &File) -> bool {
    if file.path.ends_with("Cargo.toml") {
        // `name.workspace = true`, `name = …`, `[dependencies.name]`, or `package = "name"` under another name.
        let key = line.split(['.', ' ', '=']).next().unwrap_or_default();
        return key == word
            || line.trim_end_matches(']').rsplit('.').next() == Some(word)
            || line.contains(&format!("package = \"{word}\""));
    }
    match word.strip_suffix("::") {
        // As the first part of a path only: a module of this name further in is the crate's own.
        Some(root) => line.match_indices(word).any(|(start, _)| {
            let before = line[..start].chars().next_back();
            has_word(&line[start..], root)
                && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        }),
        None => has_word(line, word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&[File::new(path, text)]).len()
    }

    #[test]
    fn the_protocol_knows_no_driver_socket_or_runtime() {
        for text in
            ["use drivers::Queue;", "use std::net::TcpStream;", "use tokio::io;", "fn f(s: UnixStream)"]
        {
            assert!(findings("nbd/src/lib.rs", text) > 0, "{text}");
            assert_eq!(findings("gateway/src/main.rs", text), 0, "{text}");
        }
        assert_eq!(findings("nbd/src/lib.rs", "//! It knows no drivers and no tokio.\nuse std::fmt;"), 0);
    }

    #[test]
    fn drivers_know_no_protocol() {
        assert_eq!(findings("drivers/src/lib.rs", "use nbd::Reply;"), 1);
        assert_eq!(findings("drivers/src/lib.rs", "let x: nbd::Reply = y;"), 1);
        assert_eq!(findings("drivers/src/lib.rs", "let nbd = 1; use crate::nbd::x; use libnbd::x;"), 0);
    }

    #[test]
    fn manifests_are_checked_too() {
        for text in [
            "[dependencies]\ndrivers.workspace = true",
            "drivers = { path = \"../drivers\" }",
            "[dependencies.drivers]",
            "d = { package = \"drivers\" }",
        ] {
            assert_eq!(findings("nbd/Cargo.toml", text), 1, "{text}");
        }
        assert_eq!(findings("nbd/Cargo.toml", "[dependencies]\nthiserror.workspace = true"), 0);
        assert_eq!(findings("drivers/Cargo.toml", "nbd.workspace = true"), 1);
    }
}
