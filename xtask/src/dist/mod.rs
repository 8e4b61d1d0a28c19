//! `cargo xtask dist`: the gateway as others install it: a `.deb`, and an archive of the same tree.
//!
//! # What happens
//!
//! 1. The gateway is built as a release, or a program is taken that somebody else built.
//! 2. `tree.rs` makes the tree: the program without its debugging symbols, the manual and the completions that the
//!    program itself writes (`gateway generate`), units and examples of this repository.
//! 3. `deb.rs` adds what dpkg wants to know, with the libraries that the program needs (`depends.rs`), and packs.
//!
//! The same program and commit make the same files, byte for byte: times are those of the commit (or of
//! `SOURCE_DATE_EPOCH`), owners are root, names are sorted.

mod deb;
mod depends;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{repo, sh};

/// Name of the package and of its program.
const NAME: &str = "gateway";
/// Version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `cargo xtask dist` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the files; default: dist in the target folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Program to pack; default: a release build.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// What was made.
#[derive(Debug)]
pub struct Package {
    /// The package for Debian.
    pub deb: PathBuf,
    /// The tree without what only dpkg needs.
    pub archive: PathBuf,
    /// The tree itself, unpacked, with `DEBIAN/` in it.
    pub tree: PathBuf,
}

/// The moment that all files are of.
#[derive(Debug, Clone)]
struct Moment {
    /// Seconds since the beginning of 1970.
    epoch: String,
}

/// `cargo xtask dist`.
///
/// # Errors
/// The gateway cannot be built, or as [`make`].
pub fn run(args: &Args) -> Result<()> {
    let own = std::env::current_exe().context("where this program lies is unknown")?;
    let target = own.ancestors().nth(2).context("this program is in no target folder")?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => {
            let build = ["build", "--quiet", "--release", "--package", NAME, "--locked"];
            sh::run(repo::cargo()?.args(build))?;
            target.join("release").join(NAME)
        }
    };
    let out = args.out.clone().unwrap_or_else(|| target.join("dist"));
    let package = make(&binary, &out)?;
    for path in [package.deb, package.archive] {
        println!("{}", path.display());
    }
    Ok(())
}

/// Packs a program of this machine.
///
/// # Errors
/// A file cannot be made; a tool is missing or fails; the program needs a library of no known package.
pub fn make(binary: &Path, out: &Path) -> Result<Package> {
    let tree = out.join("tree");
    match fs::remove_dir_all(&tree) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", tree.display()));
        }
        _ => {}
    }
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    let moment = Moment::of_commit()?;
    tree::make(binary, &tree, &moment)?;
    let archive = archive(&tree, out, &moment)?;
    let deb = deb::make(binary, &tree, out, &moment)?;
    Ok(Package { deb, archive, tree })
}

/// The tree as a compressed archive, below a folder with name and version.
fn archive(tree: &Path, out: &Path, moment: &Moment) -> Result<PathBuf> {
    let name = format!("{NAME}-{VERSION}-{}", std::env::consts::ARCH);
    let tar = out.join(format!("{name}.tar"));
    sh::capture(
        Command::new("tar")
            .args(["--sort=name", "--owner=root:0", "--group=root:0", "--format=gnu", "--create"])
            .arg(format!("--mtime=@{}", moment.epoch))
            .arg(format!("--transform=flags=r;s,^\\.,{name},"))
            .arg("--file")
            .arg(&tar)
            .arg("--directory")
            .arg(tree)
            .arg("."),
    )?;
    // Without a name and a time in its header.
    sh::capture(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(&tar))?;
    Ok(out.join(format!("{name}.tar.gz")))
}

impl Moment {
    /// That of `SOURCE_DATE_EPOCH`, else of the last commit.
    fn of_commit() -> Result<Moment> {
        if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH")
            && !epoch.is_empty()
        {
            return Ok(Moment { epoch });
        }
        let mut git = Command::new("git");
        git.args(["log", "-1", "--format=%ct"]).current_dir(repo::root()?);
        let epoch = sh::capture(&mut git).context("without git, set SOURCE_DATE_EPOCH")?.trim().to_owned();
        Ok(Moment { epoch })
    }

    /// As date(1) writes it in this format.
    fn format(&self, format: &str) -> Result<String> {
        let mut date = Command::new("date");
        date.args(["--utc", "--date"]).arg(format!("@{}", self.epoch)).arg(format).env("LC_ALL", "C");
        Ok(sh::capture(&mut date)?.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_moment() {
        let moment = Moment { epoch: "1767312000".into() };
        assert_eq!(moment.format("+%F").unwrap(), "2026-01-02");
        assert_eq!(moment.format("-R").unwrap(), "Fri, 02 Jan 2026 00:00:00 +0000");
    }
}
