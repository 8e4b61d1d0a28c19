//! Where the programs of this workspace are: built when they are missing or older than their sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

/// A program of this workspace.
struct Program {
    package: &'static str,
    name: &'static str,
    /// Folders of the crates that it is made of.
    crates: &'static [&'static str],
}

const GATEWAY: Program =
    Program { package: "gateway", name: "gateway", crates: &["gateway", "drivers", "nbd"] };
const BACK_END: Program =
    Program { package: "tests", name: "vhost-user-back-end", crates: &["tests", "drivers"] };

/// The gateway's program, in the profile in which the tests were built.
///
/// `GATEWAY_TESTS_BINARY` names another one, which is then used as it is. The program is looked for once per
/// process.
///
/// # Panics
/// It cannot be built.
pub(crate) fn gateway() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("GATEWAY_TESTS_BINARY") {
        Some(path) => path.into(),
        None => find(&GATEWAY, None, "").unwrap_or_else(|error| panic!("no gateway to test: {error:#}")),
    })
}

/// Builds the gateway in a target folder of its own below that of the tests, with features of its own.
///
/// # Errors
/// It cannot be built.
pub fn gateway_with(features: &str) -> Result<PathBuf> {
    find(&GATEWAY, Some(features), features)
}

/// The vhost-user back-end, in a target folder of its own: it is built with features that no gateway has.
///
/// # Panics
/// It cannot be built.
pub(crate) fn back_end() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        find(&BACK_END, Some("back-end"), "back-end")
            .unwrap_or_else(|error| panic!("no back-end to test with: {error:#}"))
    })
}

fn find(program: &Program, subfolder: Option<&str>, features: &str) -> Result<PathBuf> {
    let (target, profile) = target_folder()?;
    let target = subfolder.map_or(target.clone(), |name| target.join(name));
    let binary = target.join(&profile).join(program.name);
    if modified(&binary) < newest_source(program)? {
        build(program, &target, &profile, features)?;
    }
    ensure!(binary.exists(), "cargo built no {}", binary.display());
    Ok(binary)
}

/// The target folder and the profile's folder in it, from where this program lies: `TARGET/PROFILE/deps/PROGRAM`.
fn target_folder() -> Result<(PathBuf, String)> {
    let program = std::env::current_exe().context("where this program lies is unknown")?;
    let mut folders = program.ancestors().skip(1);
    let profile = folders
        .by_ref()
        .find(|folder| !folder.ends_with("deps") && !folder.ends_with("examples"))
        .context("this program is in no target folder")?;
    let target = profile.parent().context("this program is in no target folder")?;
    let name = profile.file_name().context("this program is in no target folder")?;
    Ok((target.to_owned(), name.to_string_lossy().into_owned()))
}

/// A folder for large files, on the disk where the target folder is.
///
/// # Panics
/// It cannot be made.
pub(crate) fn scratch_folder() -> PathBuf {
    let (target, _) = target_folder().expect("tests run from a target folder");
    let folder = target.join("tmp");
    std::fs::create_dir_all(&folder).expect("the target folder is ours");
    folder
}

fn build(program: &Program, target: &Path, profile: &str, features: &str) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--quiet"]);
    command.args(["--package", program.package, "--bin", program.name]);
    command.arg("--target-dir").arg(target).args(["--features", features]);
    // The folder of the profile `dev` is called otherwise than the profile.
    command.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// When the newest file was changed that the program may be made of.
fn newest_source(program: &Program) -> Result<SystemTime> {
    let crates = || program.crates.iter().map(|folder| workspace().join(folder));
    let mut newest = modified(&workspace().join("Cargo.lock"));
    for folder in crates() {
        newest = newest.max(modified(&folder.join("Cargo.toml")));
    }
    let mut folders: Vec<PathBuf> = crates().map(|folder| folder.join("src")).collect();
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry.context("folder of sources")?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                newest = newest.max(modified(&path));
            }
        }
    }
    Ok(newest)
}

/// When a file was changed; the beginning of time if it is not there.
fn modified(path: &Path) -> SystemTime {
    path.metadata().and_then(|facts| facts.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}
