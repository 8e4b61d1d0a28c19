//! Nothing of one machine in the repository: no folders of a user, no hosts of a package registry.
//!
//! What works on one machine only fails on the next; registries are a matter of each machine's settings.

use super::Finding;
use crate::repo::File;

/// Beginnings of paths that exist on one machine only. In two parts, or this file would be a finding.
const FOLDERS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/tmp/br", "ief")];
/// Hosts that serve packages.
const HOSTS: &[&str] = &[
    concat!("deb.deb", "ian.org"),
    concat!("security.deb", "ian.org"),
    concat!("snapshot.deb", "ian.org"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("pypi", ".org"),
    concat!("files.python", "hosted.org"),
    concat!("registry.npm", "js.org"),
];
/// What cargo writes into its lock file for the registry of crates, whichever mirror a machine uses.
const LOCK_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let lock = file.path.ends_with("Cargo.lock");
        for (index, line) in file.text.lines().enumerate() {
            for folder in FOLDERS.iter().filter(|folder| starts_path(line, folder)) {
                let message = format!("`{folder}…` is a folder of one machine");
                findings.push(Finding::at(file, index, message));
            }
            for host in HOSTS.iter().filter(|host| line.contains(*host)) {
                findings.push(Finding::at(file, index, format!("`{host}` is the host of a registry")));
            }
            if lock && line.starts_with("source = \"registry") && line != LOCK_SOURCE {
                findings.push(Finding::at(file, index, "a registry of one machine is in the lock file"));
            }
        }
    }
    findings
}

/// Whether an absolute path in the line begins so.
fn starts_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~}\\)*/".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&[File::new(path, text)]).len()
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        for folder in FOLDERS {
            assert_eq!(findings("a.md", &format!("see {folder}x")), 1, "{folder}");
            assert_eq!(findings("a.sh", &format!("cd \"{folder}x\"")), 1, "{folder}");
            assert_eq!(findings("a.md", &format!("see a{folder}x and $HOME{folder}")), 0, "{folder}");
        }
    }

    #[test]
    fn hosts_of_registries_are_found() {
        for host in HOSTS {
            assert_eq!(findings("a.toml", &format!("mirror = \"https://{host}/x\"")), 1, "{host}");
        }
    }

    #[test]
    fn the_lock_file_names_the_public_registry_only() {
        assert_eq!(findings("Cargo.lock", LOCK_SOURCE), 0);
        assert_eq!(findings("Cargo.lock", "source = \"registry+https://mirror.example/index\""), 1);
    }
}
