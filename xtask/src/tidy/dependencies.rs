//! Every shared dependency has a reason and a user.
//!
//! A line of `[workspace.dependencies]` stands below a comment that says what the dependency is for; one whose
//! name begins with that of the line above (`serde`, `serde_json`) may share the reason. A crate that inherits
//! it names it in its code.

use std::path::Path;

use super::Finding;
use super::code::{code, has_word};
use crate::repo::File;

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let Some(root) = files.iter().find(|file| file.path == "Cargo.toml") else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for dependency in table(&root.text) {
        if !dependency.has_reason {
            let message = format!("`{}` has no comment above it that says what it is for", dependency.name);
            findings.push(Finding::at(root, dependency.index, message));
        }
        let users: Vec<&File> = files.iter().filter(|file| inherits(file, dependency.name)).collect();
        if users.is_empty() {
            let message = format!("`{}` is used by no crate: remove the line", dependency.name);
            findings.push(Finding::at(root, dependency.index, message));
        }
        for user in users.into_iter().filter(|user| !is_named(files, user, dependency.name)) {
            let message = format!("no code of this crate names `{}`: remove the dependency", dependency.name);
            findings.push(Finding::whole(user, message));
        }
    }
    findings
}

/// A line of the table.
struct Dependency<'a> {
    name: &'a str,
    index: usize,
    has_reason: bool,
}

/// The lines of `[workspace.dependencies]`.
fn table(manifest: &str) -> Vec<Dependency<'_>> {
    let mut found: Vec<Dependency<'_>> = Vec::new();
    let mut inside = false;
    let mut reason = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            reason = false;
            continue;
        }
        if line.starts_with('#') {
            reason = true;
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| inside) else {
            reason = false;
            continue;
        };
        let name = name.trim();
        // The workspace's own crates need no reason.
        let own = value.contains("path =");
        let shared = found.last().is_some_and(|last| last.index + 1 == index && name.starts_with(last.name));
        found.push(Dependency { name, index, has_reason: reason || own || shared });
        reason = false;
    }
    found
}

/// Whether the file is a crate's manifest that inherits the dependency.
fn inherits(file: &File, name: &str) -> bool {
    file.path.ends_with("/Cargo.toml")
        && file.text.lines().any(|line| {
            line.strip_prefix(name).is_some_and(|rest| {
                let rest = rest.trim_start();
                rest.starts_with(".workspace")
                    || rest.strip_prefix('=').is_some_and(|value| value.contains("workspace = true"))
            })
        })
}

/// Whether a source file of the manifest's crate names the dependency.
fn is_named(files: &[File], manifest: &File, name: &str) -> bool {
    let Some(folder) = Path::new(&manifest.path).parent() else { return false };
    let ident = name.replace('-', "_");
    files
        .iter()
        .filter(|file| file.has_extension("rs") && Path::new(&file.path).starts_with(folder))
        .any(|file| has_word(&code(&file.text), &ident))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(root: &str, member: &str, source: &str) -> Vec<String> {
        let files = [
            File::new(
                "Cargo.toml",
                &format!("[workspace.dependencies]\n{root}\n[profile.release]\nlto = true\n"),
            ),
            File::new("one/Cargo.toml", &format!("[dependencies]\n{member}\n")),
            File::new("one/src/lib.rs", source),
        ];
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dependency_with_reason_and_user_is_fine() {
        for member in ["serde.workspace = true", "serde = { workspace = true, features = [] }"] {
            assert_eq!(messages("# JSON.\nserde = \"1\"", member, "use serde::X;"), [""; 0]);
        }
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let root = "# JSON.\nserde = \"1\"\nlibc = \"0.2\"";
        let found =
            messages(root, "serde.workspace = true\nlibc.workspace = true", "use serde::X; use libc::y;");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("Cargo.toml:4: `libc` has no comment"), "{found:?}");
    }

    #[test]
    fn a_reason_is_shared_with_the_next_line_of_the_same_family_only() {
        let source = "use serde::X; use serde_json::y;";
        let member = "serde.workspace = true\nserde_json.workspace = true";
        assert_eq!(messages("# JSON.\nserde = \"1\"\nserde_json = \"1\"", member, source), [""; 0]);
        assert_eq!(messages("# JSON.\nserde = \"1\"\n\nserde_json = \"1\"", member, source).len(), 1);
    }

    #[test]
    fn a_dependency_that_nobody_uses_is_found() {
        assert_eq!(messages("# JSON.\nserde = \"1\"", "", "").len(), 1);
        let unnamed = messages("# JSON.\nserde = \"1\"", "serde.workspace = true", "// serde\nfn f() {}");
        assert_eq!(unnamed, ["one/Cargo.toml: no code of this crate names `serde`: remove the dependency"]);
    }
}
