//! The tree of files as it lies on a machine where the gateway is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Moment, NAME, VERSION, deb};
use crate::{repo, sh};

/// Where documents of the package are.
const DOCUMENTS: &str = "usr/share/doc/gateway";
/// Completions: as the gateway calls them, and where each shell looks for them.
const COMPLETIONS: &[(&str, &str)] = &[
    ("gateway.bash", "usr/share/bash-completion/completions/gateway"),
    ("_gateway", "usr/share/zsh/vendor-completions/_gateway"),
    ("gateway.fish", "usr/share/fish/vendor_completions.d/gateway.fish"),
];
/// Folders of this repository that are copied as they are.
const FOLDERS: &[(&str, &str)] = &[
    ("packaging/systemd", "usr/lib/systemd/system"),
    ("packaging/sysusers", "usr/lib/sysusers.d"),
    ("examples", "usr/share/doc/gateway/examples"),
];

/// Fills an empty folder.
pub(super) fn make(binary: &Path, tree: &Path, moment: &Moment) -> Result<()> {
    let root = repo::root()?;
    let program = tree.join("usr/bin").join(NAME);
    folder_of(&program)?;
    let strip = ["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note", "-o"];
    sh::capture(Command::new("strip").args(strip).arg(&program).arg(binary))?;
    manual(binary, tree, moment)?;
    completions(binary, tree)?;
    for (source, destination) in FOLDERS {
        copy_folder(&root.join(source), &tree.join(destination))?;
    }
    documents(&root, tree, moment)?;
    let configuration = tree.join("etc").join(NAME);
    fs::create_dir_all(&configuration).with_context(|| format!("cannot make {}", configuration.display()))?;
    set_modes(tree)
}

/// What the program writes of itself, in a folder that goes with the value.
fn generated(binary: &Path, what: &[&str]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().context("cannot make a scratch folder")?;
    sh::capture(Command::new(binary).arg("generate").args(what).arg(folder.path()))?;
    Ok(folder)
}

fn manual(binary: &Path, tree: &Path, moment: &Moment) -> Result<()> {
    let pages = generated(binary, &["man", "--date", &moment.format("+%F")?])?;
    for page in files(pages.path())? {
        let name = page.file_name().and_then(|name| name.to_str()).context("a page with a name")?;
        let (_, section) = name.rsplit_once('.').with_context(|| format!("{name} has no section"))?;
        compress(&page, &tree.join(format!("usr/share/man/man{section}/{name}.gz")))?;
    }
    Ok(())
}

fn completions(binary: &Path, tree: &Path) -> Result<()> {
    let scripts = generated(binary, &["completions"])?;
    for (name, destination) in COMPLETIONS {
        copy(&scripts.path().join(name), &tree.join(destination))?;
    }
    Ok(())
}

fn documents(root: &Path, tree: &Path, moment: &Moment) -> Result<()> {
    let folder = tree.join(DOCUMENTS);
    copy(&root.join("packaging/debian/copyright"), &folder.join("copyright"))?;
    compress(&root.join("README.md"), &folder.join("README.md.gz"))?;
    compress_text(&changes(moment)?, &folder.join("changelog.gz"))?;
    compress_text(&crates()?, &folder.join("crates.gz"))
}

/// The history of the package in Debian's form (deb-changelog(5)); that of the program is in its repository.
fn changes(moment: &Moment) -> Result<String> {
    let (maintainer, date) = (deb::maintainer(), moment.format("-R")?);
    Ok(format!(
        "{NAME} ({VERSION}) unstable; urgency=medium\n\n  * Packed from the repository.\n\n -- {maintainer}  {date}\n"
    ))
}

/// The crates that the program is linked with, and their licences.
fn crates() -> Result<String> {
    let mut cargo = repo::cargo()?;
    cargo.args(["tree", "--locked", "--package", NAME, "--edges", "normal", "--prefix", "none"]);
    let list = sh::capture(cargo.args(["--format", "{p} {l}"]))?;
    // Those of the workspace stand with their folder, repeated ones with a star.
    let mut lines: Vec<&str> =
        list.lines().filter(|line| !line.contains("(/") && !line.ends_with("(*)")).collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// Makes the folder of a file.
fn folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().context("a path with a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn copy(source: &Path, destination: &Path) -> Result<()> {
    folder_of(destination)?;
    fs::copy(source, destination)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", source.display(), destination.display()))
}

fn copy_folder(source: &Path, destination: &Path) -> Result<()> {
    for path in files(source)? {
        let inside = path.strip_prefix(source).context("a file below its folder")?;
        copy(&path, &destination.join(inside))?;
    }
    Ok(())
}

fn compress(source: &Path, destination: &Path) -> Result<()> {
    folder_of(destination)?;
    let file =
        fs::File::create(destination).with_context(|| format!("cannot write {}", destination.display()))?;
    let mut gzip = Command::new("gzip");
    let status = gzip.args(["-9", "--no-name", "--stdout"]).arg(source).stdout(file).status();
    let status = status.context("cannot start gzip")?;
    anyhow::ensure!(status.success(), "gzip of {} ended with {status}", source.display());
    Ok(())
}

fn compress_text(text: &str, destination: &Path) -> Result<()> {
    let file = tempfile::NamedTempFile::new().context("cannot make a scratch file")?;
    fs::write(file.path(), text).context("cannot write a scratch file")?;
    compress(file.path(), destination)
}

/// All files below a folder, sorted.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Modes that do not depend on the user's: programs and scripts can be run, everything can be read.
pub(super) fn set_modes(path: &Path) -> Result<()> {
    let change = |mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot change the mode of {}", path.display()))
    };
    if !path.is_dir() {
        let mode =
            fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.permissions();
        return change(if mode.mode() & 0o100 == 0 { 0o644 } else { 0o755 });
    }
    change(0o755)?;
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        set_modes(&entry.with_context(|| format!("cannot list {}", path.display()))?.path())?;
    }
    Ok(())
}
