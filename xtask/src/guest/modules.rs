//! Modules of the guest's kernel: which are needed, unpacked, in the order in which they can be loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::bed::{Bed, Kernel};

/// Loaded before the first scenario.
///
/// TLS of the kernel finds no modules of its ciphers by itself here.
///
/// Of `vhost_vdpa` and `virtio_vdpa` the one that was loaded first gets new devices, and the drivers need the former.
pub(super) const LOADED: &[&str] = &[
    "virtio_blk",
    "nbd",
    "ublk_drv",
    "vduse",
    "vhost_vdpa",
    "vfio_iommu_type1",
    "vfio_pci",
    "dm_delay",
    "vsock_loopback",
    "ghash_generic",
    "gcm",
    "tls",
];
/// There for scenarios that load them themselves.
pub(super) const CARRIED: &[&str] = &["virtio_vdpa"];

/// An unpacked module.
pub(super) struct Module {
    /// Its name in the kernel, with `_`.
    pub(super) name: String,
    /// The ELF file.
    pub(super) contents: Vec<u8>,
}

/// Modules of the guest.
pub(super) struct Modules {
    /// To be loaded in this order.
    pub(super) loaded: Vec<Module>,
    /// Those beside them; what they need is in `loaded`.
    pub(super) carried: Vec<Module>,
}

/// Unpacks the modules that the guest takes along.
///
/// # Errors
/// The kernel has no such module, neither as a file nor built in; or it cannot be unpacked.
pub(super) fn collect(bed: &Bed, kernel: &Kernel) -> Result<Modules> {
    let mut store = Store::new(bed, kernel)?;
    let loaded = store.closure(LOADED, &BTreeSet::new())?;
    let names = loaded.iter().map(|module| module.name.clone()).collect();
    let carried = store.closure(CARRIED, &names)?;
    Ok(Modules { loaded, carried })
}

/// The modules of an unpacked kernel package.
struct Store {
    xz: PathBuf,
    /// Packed files by name.
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Store {
    fn new(bed: &Bed, kernel: &Kernel) -> Result<Self> {
        let mut files = BTreeMap::new();
        list(&kernel.modules, &mut files)
            .with_context(|| format!("cannot list {}", kernel.modules.display()))?;
        let path = kernel.modules.join("modules.builtin");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let built_in = text.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { xz: bed.tool("xz")?, files, built_in })
    }

    /// The modules of these names and those they need, each after what it needs, without those that are there.
    fn closure(&mut self, wanted: &[&str], there: &BTreeSet<String>) -> Result<Vec<Module>> {
        let mut unpacked = BTreeMap::new();
        let order = order(wanted, |name| {
            if there.contains(name) || (self.built_in.contains(name) && !self.files.contains_key(name)) {
                return Ok(None);
            }
            let contents = self.unpack(name)?;
            let needs = needs(&contents).with_context(|| format!("module {name}"))?;
            unpacked.insert(name.to_owned(), contents);
            Ok(Some(needs))
        })?;
        let take = |name: String| unpacked.remove(&name).map(|contents| Module { name, contents });
        Ok(order.into_iter().filter_map(take).collect())
    }

    fn unpack(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
        let output = Command::new(&self.xz)
            .args(["--decompress", "--stdout"])
            .arg(file)
            .output()
            .context("cannot start xz")?;
        ensure!(output.status.success(), "xz cannot unpack {}", file.display());
        Ok(output.stdout)
    }
}

/// Adds every packed module below a folder.
fn list(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in `…/NAME.ko` or `…/NAME.ko.xz`. Files have `-` where the kernel says `_`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(stem.replace('-', "_"))
}

/// What a module says that it needs (`depends=` among its information).
fn needs(module: &[u8]) -> Result<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    let start = module.windows(KEY.len()).position(|window| window == KEY).context("it has no `depends`")?;
    let value = module[start + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = std::str::from_utf8(value).context("`depends` is not text")?;
    Ok(value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

/// The names and all they need, each after what it needs. `needs` says `None` for what is there by itself.
fn order(wanted: &[&str], mut needs: impl FnMut(&str) -> Result<Option<Vec<String>>>) -> Result<Vec<String>> {
    enum Step {
        Look(String),
        Add(String),
    }
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    let mut steps: Vec<Step> = wanted.iter().rev().map(|&name| Step::Look(name.to_owned())).collect();
    while let Some(step) = steps.pop() {
        match step {
            Step::Add(name) => order.push(name),
            Step::Look(name) => {
                if !seen.insert(name.clone()) {
                    continue;
                }
                if let Some(needed) = needs(&name)? {
                    steps.push(Step::Add(name));
                    steps.extend(needed.into_iter().rev().map(Step::Look));
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_once_and_after_what_it_needs() {
        let table = [("a", "b,c"), ("b", "c,built"), ("c", ""), ("d", "b")];
        let order = order(&["a", "d"], |name| {
            let row = table.iter().find(|row| row.0 == name);
            Ok(row.map(|row| row.1.split(',').filter(|s| !s.is_empty()).map(Into::into).collect()))
        })
        .unwrap();
        assert_eq!(order, ["c", "b", "a", "d"]);
    }

    #[test]
    fn needs_are_read_from_the_information_of_a_module() {
        let module = b"\x7fELF\0license=GPL\0depends=vfio,vfio-pci-core\0retpoline=Y\0";
        assert_eq!(needs(module).unwrap(), ["vfio", "vfio_pci_core"]);
        assert!(needs(b"\0depends=\0").unwrap().is_empty());
        assert!(needs(b"\x7fELF").is_err());
    }

    #[test]
    fn a_file_is_called_as_the_kernel_calls_it() {
        assert_eq!(module_name(Path::new("a/vfio-pci.ko.xz")).as_deref(), Some("vfio_pci"));
        assert_eq!(module_name(Path::new("kernel/fs/ext4/ext4.ko")).as_deref(), Some("ext4"));
        assert_eq!(module_name(Path::new("modules.order")), None);
    }
}
