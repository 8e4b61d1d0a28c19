//! `kernel/`: Debian's kernel for cloud machines, unpacked and not installed.
//!
//! The package is small (34 MB), has ext4, NVMe and virtio-pci built in, and virtio-blk, nbd, ublk, vDPA
//! and VFIO as modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Base, debootstrap};
use crate::sh;

/// Package that depends on the current kernel of the release.
const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel package.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Release, as `uname -r` says.
    pub release: String,
    /// The kernel as a boot loader takes it (bzImage).
    pub image: PathBuf,
    /// Folder of the modules (`kernel/…`, `modules.dep` not made).
    pub modules: PathBuf,
}

impl Kernel {
    /// Finds the kernel in the folder of an unpacked package.
    pub(super) fn find(folder: &Path) -> Result<Self> {
        // Debian moved modules to /usr in release 13.
        let modules = ["usr/lib/modules", "lib/modules"]
            .iter()
            .find_map(|path| fs::read_dir(folder.join(path)).ok()?.next()?.ok())
            .with_context(|| format!("no kernel modules in {}", folder.display()))?
            .path();
        let release = modules.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let image = folder.join(format!("boot/vmlinuz-{release}"));
        if !image.exists() {
            bail!("no kernel at {}", image.display());
        }
        Ok(Self { release, image, modules })
    }
}

/// Fetches the kernel unless one is there.
pub(super) fn ensure(bed: &Path, base: &Base) -> Result<Kernel> {
    let folder = bed.join("kernel");
    if folder.is_dir() {
        return Kernel::find(&folder);
    }
    let new = match base {
        Base::Tree(tree) => tree.join("opt/kernel"),
        Base::Host => bed.join("kernel.new"),
    };
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    let line = format!(
        "package=$(apt-cache depends --important {METAPACKAGE} | sed -n 's/^ *Depends: //p')\n\
         test -n \"$package\"\n\
         apt-get -q download $package && dpkg-deb -x *.deb . && rm *.deb"
    );
    let mut command = match base {
        Base::Tree(tree) => debootstrap::inside(tree, &format!("cd /opt/kernel; {line}")),
        Base::Host => {
            let mut command = Command::new("/bin/sh");
            command.args(["-ec", &line]).current_dir(&new).env("LC_ALL", "C");
            command
        }
    };
    sh::logged("kernel", &bed.join("log/kernel.log"), &mut command)?;
    Kernel::find(&new)?;
    fs::rename(&new, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Kernel::find(&folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_found_in_both_layouts() {
        for modules in ["usr/lib/modules", "lib/modules"] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join(modules).join("6.12.1-cloud")).unwrap();
            assert!(Kernel::find(dir.path()).is_err(), "no image yet");
            fs::create_dir_all(dir.path().join("boot")).unwrap();
            fs::write(dir.path().join("boot/vmlinuz-6.12.1-cloud"), "").unwrap();
            assert_eq!(Kernel::find(dir.path()).unwrap().release, "6.12.1-cloud");
        }
    }
}
