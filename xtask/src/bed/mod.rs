//! The test bed: other people's NBD tools in the versions of Debian 13, on any Linux host.
//!
//! # What is in the folder
//!
//! | path | is |
//! |---|---|
//! | `bin/TOOL` | starts the tool; see below |
//! | `tree/` | a Debian 13 tree with the tools; absent where the host is Debian 13 or later |
//! | `kernel/` | a kernel package of Debian, unpacked |
//! | `guest/` | the guest of [`crate::guest`]: its kernel, and the part of its file system that stays the same |
//! | `images/bootable.img` | a disk image that boots, see [`crate::image`] |
//! | `images/debian.img` | a file system with a fresh Debian 13, on which a guest installs the gateway's package |
//! | `log/` | what the programs said while the bed was made |
//!
//! # How a tool is found
//!
//! This is the one rule, for tests and bench alike ([`Bed::locate`], [`Bed::tool`]): the bed is the folder
//! that `GATEWAY_TEST_BED` names, else `$XDG_CACHE_HOME/gateway-test-bed`, else
//! `~/.cache/gateway-test-bed`; the tool is `bin/TOOL` in it. `PATH` is not searched: a test would then
//! pass or fail by what a machine happens to have. `cargo xtask test` sets the variable for every test.
//!
//! # What starting one does
//!
//! On a host that is Debian 13 or later `bin/TOOL` is a symbolic link to the host's tool. Elsewhere it is
//! a script that makes a mount namespace of its own, mounts the tree's `/usr` and `/etc` over the host's,
//! and becomes the tool by `exec` all the way: process id, working directory, descriptors (socket
//! activation included), standard streams and signals are the caller's, so CPU time can be read from
//! `/proc/PID` and a signal to the child reaches the tool. All other folders are the host's. It costs
//! about 8 ms. The folder of the repository must therefore not lie under `/usr` or `/etc`.

mod debootstrap;
mod fresh;
pub(crate) mod host;
mod kernel;
mod packages;
mod wrappers;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

pub(crate) use fresh::DEBIAN;
pub use kernel::Kernel;
pub(crate) use packages::FOLDERS;

use crate::image;

/// What `cargo xtask setup` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the test bed; default: $GATEWAY_TEST_BED, else gateway-test-bed in the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    bed: Option<PathBuf>,
}

/// Where the tools of a bed come from.
#[derive(Debug, Clone)]
enum Base {
    /// The host has them.
    Host,
    /// This Debian tree has them.
    Tree(PathBuf),
}

/// A folder that is, or is to become, a test bed.
#[derive(Debug, Clone)]
pub struct Bed {
    root: PathBuf,
}

impl Bed {
    /// The bed that the environment names, present or not.
    ///
    /// # Errors
    /// Neither `GATEWAY_TEST_BED` nor `XDG_CACHE_HOME` nor `HOME` is set, or the working directory, to
    /// which a relative path is resolved, is gone.
    pub fn locate() -> Result<Self> {
        Self::at(&default_root(|name| {
            env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        })?)
    }

    /// The bed in this folder, present or not.
    ///
    /// # Errors
    /// The path is relative and the working directory is gone.
    pub fn at(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Self { root })
    }

    /// Folder of the bed, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The tool of this name.
    ///
    /// # Errors
    /// The bed has no such tool: it was not set up, or the name is wrong.
    pub fn tool(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join("bin").join(name);
        if !path.exists() {
            bail!("the test bed has no {}: run `cargo xtask setup`", path.display());
        }
        Ok(path)
    }

    /// A disk image that the bed keeps.
    ///
    /// # Errors
    /// There is no such image: the bed was not set up, or the name is wrong.
    pub fn image(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join("images").join(name);
        if !path.exists() {
            bail!("the test bed has no {}: run `cargo xtask setup`", path.display());
        }
        Ok(path)
    }

    /// The kernel that the bed keeps.
    ///
    /// # Errors
    /// There is none: the bed was not set up.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        Kernel::find(&self.root.join("kernel")).context("run `cargo xtask setup`")
    }

    /// A file of the Debian system that the bed's tools belong to, by its path without the first slash.
    pub(crate) fn system_file(&self, path: &str) -> PathBuf {
        if host::serves() { Path::new("/").join(path) } else { self.root.join("tree").join(path) }
    }

    /// Makes or completes the bed; does nothing that was done before.
    ///
    /// # Errors
    /// A package or a program is missing and cannot be installed; a step failed (the message names its log).
    pub fn set_up(&self) -> Result<()> {
        let _lock = self.lock()?;
        let base = if host::serves() {
            host::install_missing()?;
            wrappers::link_host(&self.root)?;
            Base::Host
        } else {
            let tree = debootstrap::ensure(&self.root)?;
            wrappers::write_all(&self.root, &tree)?;
            Base::Tree(tree)
        };
        let kernel = kernel::ensure(&self.root, &base)?;
        image::ensure(self, &kernel)?;
        fresh::ensure(self)?;
        eprintln!("setup: the test bed is {}", self.root.display());
        Ok(())
    }

    /// Keeps a second set-up of the same folder waiting until the value is dropped.
    fn lock(&self) -> Result<Flock<File>> {
        for folder in ["bin", "images", "log"] {
            let path = self.root.join(folder);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .with_context(|| format!("cannot lock {}", path.display()))
    }
}

/// The rule of the module's documentation, with the environment as an argument.
fn default_root(env: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    if let Some(root) = env("GATEWAY_TEST_BED") {
        return Ok(root);
    }
    let Some(cache) = env("XDG_CACHE_HOME").or_else(|| env("HOME").map(|home| home.join(".cache"))) else {
        bail!("no folder for the test bed: set GATEWAY_TEST_BED, or HOME");
    };
    Ok(cache.join("gateway-test-bed"))
}

/// `cargo xtask setup`.
///
/// # Errors
/// As [`Bed::set_up`].
pub fn run(args: &Args) -> Result<()> {
    let bed = match &args.bed {
        Some(root) => Bed::at(root)?,
        None => Bed::locate()?,
    };
    bed.set_up()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(pairs: &[(&str, &str)]) -> Result<PathBuf> {
        default_root(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_variable_goes_before_the_cache_folder() {
        let all = [("GATEWAY_TEST_BED", "/bed"), ("XDG_CACHE_HOME", "/cache"), ("HOME", "/users/me")];
        assert_eq!(root(&all).unwrap(), Path::new("/bed"));
        assert_eq!(root(&all[1..]).unwrap(), Path::new("/cache/gateway-test-bed"));
        assert_eq!(root(&all[2..]).unwrap(), Path::new("/users/me/.cache/gateway-test-bed"));
        assert!(root(&[]).is_err());
    }

    #[test]
    fn a_missing_tool_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Bed::at(dir.path()).unwrap().tool("nbdinfo").unwrap_err();
        assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    }
}
