//! `bin/TOOL`: scripts that start a tool of the tree, or links to the host's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::packages::{FOLDERS, TOOLS};

/// Writes one script for each tool.
///
/// # Errors
/// The tree lacks a tool; a path cannot be put into a script; the file system says no.
pub(crate) fn write_all(bed: &Path, tree: &Path) -> Result<()> {
    for tool in TOOLS {
        let found = find(tree, tool)?;
        let inside = Path::new("/").join(found.strip_prefix(tree).expect("`find` looks below the tree"));
        let path = bed.join("bin").join(tool);
        replace(&path, |new| {
            fs::write(new, script(tree, &inside)?)?;
            fs::set_permissions(new, fs::Permissions::from_mode(0o755))?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Makes one link for each tool of a host that has them all.
///
/// # Errors
/// The host lacks a tool; the file system says no.
pub(crate) fn link_host(bed: &Path) -> Result<()> {
    for tool in TOOLS {
        let found = find(Path::new("/"), tool)?;
        replace(&bed.join("bin").join(tool), |new| Ok(symlink(&found, new)?))?;
    }
    Ok(())
}

/// The tool in one of the folders for programs below `root`.
fn find(root: &Path, tool: &str) -> Result<PathBuf> {
    for folder in FOLDERS {
        let path = root.join(folder).join(tool);
        // Not `exists`: absolute links (alternatives) of a tree point outside when seen from the host.
        if path.symlink_metadata().is_ok() {
            return Ok(path);
        }
    }
    bail!("{} has no program {tool} in {FOLDERS:?}", root.display());
}

/// Puts a new file in the place of the old in one step, for processes that are starting the old one.
fn replace(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let _ = fs::remove_file(&new);
    make(&new).with_context(|| format!("cannot make {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot make {}", path.display()))
}

/// The script that becomes `tool` (a path inside) with the tree's `/usr` and `/etc`.
///
/// The namespace's mounts are private (the default of `unshare --mount`), so nothing of it shows outside.
/// `PATH` begins with the tree's folders: `nbdsh` and `nbdkit --run` look programs up, and a host's
/// Python in some other folder lacks the tree's modules. A user who is not root gets the right to mount
/// from a user namespace in which he appears as root.
fn script(tree: &Path, tool: &Path) -> Result<String> {
    let tree = plain(tree)?;
    let tool = plain(tool)?;
    Ok(format!(
        r#"#!/bin/sh
# Made by `cargo xtask setup`. Becomes {tool} of the Debian tree: same process id, streams and folder.
[ -O / ] && user= || user=--map-root-user
exec /usr/bin/unshare $user --mount -- /bin/sh -c '
mount --bind "$0/etc" /etc && mount --bind "$0/usr" /usr || exit 125
PATH=/usr/sbin:/usr/bin:$PATH
exec {tool} "$@"' {tree} "$@"
"#
    ))
}

/// The path, if it needs no quoting in a shell script.
fn plain(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c)) => Ok(text),
        _ => bail!(
            "the path {path:?} has a character that needs quoting in a shell; set GATEWAY_TEST_BED to a plainer one"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_needs_quoting_is_refused() {
        assert!(script(Path::new("/bed/tree"), Path::new("/usr/bin/fio")).is_ok());
        for tree in ["/my bed/tree", "/bed'/tree", "/bed$x/tree", "/bed`/tree"] {
            assert!(script(Path::new(tree), Path::new("/usr/bin/fio")).is_err(), "{tree}");
        }
    }

    #[test]
    fn a_missing_tool_is_an_error() {
        let tree = tempfile::tempdir().unwrap();
        assert!(find(tree.path(), "fio").is_err());
        fs::create_dir_all(tree.path().join("usr/bin")).unwrap();
        fs::write(tree.path().join("usr/bin/fio"), "").unwrap();
        assert_eq!(find(tree.path(), "fio").unwrap(), tree.path().join("usr/bin/fio"));
    }

    #[test]
    fn a_script_execs_to_the_end() {
        let script = script(Path::new("/bed/tree"), Path::new("/usr/bin/fio")).unwrap();
        let execs: Vec<&str> = script.lines().filter(|line| line.starts_with("exec ")).collect();
        assert_eq!(execs.len(), 2, "{script}");
        assert!(execs[1].contains("/usr/bin/fio \"$@\""), "{script}");
    }
}
