//! `images/debian.img`: a file system with a fresh Debian 13, which never had the gateway or anything for building it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::packages::FRESH;
use super::{Bed, debootstrap};
use crate::sh;

/// Name of the image in the bed.
pub(crate) const DEBIAN: &str = "debian.img";
/// Length of the file system: twice what is in it. The image is sparse.
const LENGTH: &str = "768M";
/// To be raised when the way of making the image changes: an older one is then made anew.
const RECIPE: u32 = 1;
/// What the installation leaves and nobody needs, in the words of the tree's shell.
const CLEAN: &str =
    "apt-get clean; rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/90host";

/// Makes the image unless one of the same recipe and packages is there.
///
/// # Errors
/// As [`debootstrap::ensure`]; the file system cannot be made.
pub(super) fn ensure(bed: &Bed) -> Result<()> {
    let image = bed.root().join("images").join(DEBIAN);
    let stamp = bed.root().join("images/debian.stamp");
    let recipe = format!("{RECIPE} {LENGTH} {}\n", FRESH.join(" "));
    if image.exists() && fs::read_to_string(&stamp).is_ok_and(|text| text == recipe) {
        return Ok(());
    }
    eprintln!("setup: fresh Debian system");
    let scratch = tempfile::tempdir_in(bed.root()).context("cannot make a scratch folder in the bed")?;
    let (tree, new) = (scratch.path().join("tree"), scratch.path().join(DEBIAN));
    debootstrap::make(bed.root(), &tree, FRESH, "the package is tested on a fresh Debian tree")?;
    sh::capture(&mut debootstrap::inside(&tree, CLEAN))?;
    let mut mke2fs = Command::new(bed.tool("mke2fs")?);
    mke2fs.args(["-q", "-F", "-t", "ext4", "-L", "debian", "-d"]).arg(&tree).arg(&new).arg(LENGTH);
    sh::logged("file system", &bed.root().join("log/debian.log"), &mut mke2fs)?;
    fs::rename(&new, &image).with_context(|| format!("cannot make {}", image.display()))?;
    fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))
}
