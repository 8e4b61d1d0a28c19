//! Why a device cannot be had, in words, with the commands that help.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vfio_ioctls::VfioError;

use crate::error::Error;

/// The kernel's driver that hands devices out.
const VFIO_PCI: &str = "vfio-pci";

/// Drivers that do not use the devices they have (Linux, driver-api/vfio, and bridges).
const IDLE: [&str; 3] = [VFIO_PCI, "pci-stub", "pcieport"];

/// A device that `vfio-pci` has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its folder in sysfs, without links.
    pub(super) path: PathBuf,
    /// Its address, as in `0000:00:04.0`.
    pub(super) address: String,
    /// Its IOMMU group.
    pub(super) group: String,
}

/// Looks at the device at `path`, which should be a folder of sysfs like `/sys/bus/pci/devices/0000:00:04.0`.
///
/// # Errors
/// There is none, or it cannot be handed out as things are.
pub(super) fn look(path: &Path) -> Result<Place, Error> {
    let shown = path.display();
    let found = fs::canonicalize(path).map_err(|cause| {
        let error = Error::system(format!("find the PCI device '{shown}'"), &cause);
        error.hint("devices are called /sys/bus/pci/devices/DOMAIN:BUS:DEVICE.FUNCTION; lspci -D lists them")
    })?;
    let address = link_name(&found, "subsystem").filter(|name| name == "pci").and_then(|_| name_of(&found));
    let Some(address) = address else {
        return Err(Error::device(format!("'{shown}' is no PCI device"))
            .hint("give a folder of /sys/bus/pci/devices, such as /sys/bus/pci/devices/0000:00:04.0"));
    };
    let Some(group) = link_name(&found, "iommu_group") else {
        return Err(Error::device(format!("no IOMMU is in front of the PCI device {address}")).hint(
            "switch it on in the firmware (VT-d, AMD-Vi) and on the kernel's command line (intel_iommu=on)",
        ));
    };
    let driver = link_name(&found, "driver");
    if driver.as_deref() != Some(VFIO_PCI) {
        let state = driver.map_or("has no driver".into(), |driver| format!("belongs to the driver {driver}"));
        let message = format!("the PCI device {address} {state}, not to {VFIO_PCI}");
        return Err(Error::device(message).hint(format!("as root: {}", bind_commands(&[&address]))));
    }
    check_group(&found, &group)?;
    Ok(Place { path: found, address, group })
}

/// A group can be had only when nobody uses any of its devices.
fn check_group(device: &Path, group: &str) -> Result<(), Error> {
    let Ok(members) = fs::read_dir(device.join("iommu_group/devices")) else { return Ok(()) };
    let used: Vec<(String, String)> = members
        .filter_map(|member| {
            let path = member.ok()?.path();
            let driver = link_name(&path, "driver").filter(|driver| !IDLE.contains(&driver.as_str()))?;
            Some((name_of(&path)?, driver))
        })
        .collect();
    if used.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = used.iter().map(|(address, driver)| format!("{address} ({driver})")).collect();
    let addresses: Vec<&str> = used.iter().map(|(address, _)| address.as_str()).collect();
    Err(Error::device(format!(
        "IOMMU group {group} is not viable: other devices in it are in use: {}",
        list.join(", ")
    ))
    .hint(format!("as root, if this system can do without them: {}", bind_commands(&addresses))))
}

/// What gives devices to `vfio-pci`.
fn bind_commands(addresses: &[&str]) -> String {
    let mut commands = Vec::new();
    if !Path::new("/sys/bus/pci/drivers").join(VFIO_PCI).exists() {
        commands.push(format!("modprobe {VFIO_PCI}"));
    }
    for address in addresses {
        let device = format!("/sys/bus/pci/devices/{address}");
        commands.push(format!("echo {VFIO_PCI} >{device}/driver_override"));
        commands.push(format!("echo {address} >{device}/driver/unbind"));
        commands.push(format!("echo {address} >/sys/bus/pci/drivers_probe"));
    }
    commands.join("; ")
}

/// Why the crate could not open the device.
pub(super) fn open_failed(place: &Place, error: VfioError) -> Error {
    let Place { address, group, .. } = place;
    let open = |path: &str, cause: &io::Error| Error::system(format!("open {path}"), cause);
    let system = |step: &str, cause: io::Error| {
        Error::system(format!("take the PCI device {address}: {step}"), &cause)
    };
    match error {
        VfioError::OpenContainer(cause) => {
            let error = open("/dev/vfio/vfio", &cause);
            match cause.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => error.hint("as root: chmod a+rw /dev/vfio/vfio"),
                Some(libc::ENOENT | libc::ENODEV) => error.hint("as root: modprobe vfio-pci"),
                _ => error,
            }
        }
        VfioError::OpenGroup(cause, _) => {
            let path = format!("/dev/vfio/{group}");
            let error = open(&path, &cause);
            match cause.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => {
                    error.hint(format!("as root: chown USER {path}, with the user who runs this program"))
                }
                Some(libc::EBUSY) => error.hint(format!(
                    "another program has a device of IOMMU group {group}; such a group has one user at a time"
                )),
                Some(libc::ENOENT) => {
                    error.hint("the device is bound, but has no IOMMU: this program does without none")
                }
                _ => error,
            }
        }
        VfioError::GroupViable => Error::device(format!("IOMMU group {group} is not viable"))
            .hint("all of its devices must belong to vfio-pci or to no driver"),
        VfioError::ContainerSetIOMMU(cause) => system("VFIO_SET_IOMMU", cause.into()),
        VfioError::GroupGetDeviceFD(cause) => system("VFIO_GROUP_GET_DEVICE_FD", cause.into()),
        VfioError::VfioDeviceGetInfo(cause) => system("VFIO_DEVICE_GET_INFO", cause.into()),
        other => Error::device(format!("cannot take the PCI device {address}: {other}")),
    }
}

/// The last part of what the link `name` in `folder` points to.
fn link_name(folder: &Path, name: &str) -> Option<String> {
    name_of(&fs::read_link(folder.join(name)).ok()?)
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder like sysfs, with devices: address, group, driver. Empty: there is none.
    fn sysfs(devices: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (address, group, driver) in devices {
            let device = root.path().join(address);
            fs::create_dir(&device).unwrap();
            symlink("../bus/pci", device.join("subsystem")).unwrap();
            if !driver.is_empty() {
                symlink(format!("../drivers/{driver}"), device.join("driver")).unwrap();
            }
            if !group.is_empty() {
                let members = root.path().join("groups").join(group).join("devices");
                fs::create_dir_all(&members).unwrap();
                symlink(&device, members.join(address)).unwrap();
                symlink(members.parent().unwrap(), device.join("iommu_group")).unwrap();
            }
        }
        root
    }

    fn refusal(devices: &[(&str, &str, &str)], name: &str) -> (String, String) {
        let root = sysfs(devices);
        let error = look(&root.path().join(name)).unwrap_err();
        (error.message, error.hint.unwrap())
    }

    #[test]
    fn a_device_that_can_be_had_is_found_through_links() {
        let root =
            sysfs(&[("0000:00:04.0", "7", "vfio-pci"), ("0000:00:05.0", "7", ""), ("b", "7", "pcieport")]);
        symlink(root.path().join("0000:00:04.0"), root.path().join("link")).unwrap();
        let place = look(&root.path().join("link")).unwrap();
        assert_eq!((place.address.as_str(), place.group.as_str()), ("0000:00:04.0", "7"));
        assert!(place.path.ends_with("0000:00:04.0"));
    }

    #[test]
    fn each_obstacle_has_its_words_and_its_remedy() {
        let (message, hint) = refusal(&[], "nothing");
        assert!(message.contains("find the PCI device") && hint.contains("lspci -D"), "{message}");
        let (message, _) = refusal(&[], ".");
        assert!(message.contains("is no PCI device"), "{message}");
        let (message, hint) = refusal(&[("a", "", "vfio-pci")], "a");
        assert!(message.contains("no IOMMU") && hint.contains("intel_iommu=on"), "{message}");
        let (message, hint) = refusal(&[("a", "1", "nvme")], "a");
        assert!(message.contains("belongs to the driver nvme"), "{message}");
        assert!(hint.contains("echo a >/sys/bus/pci/devices/a/driver/unbind"), "{hint}");
        let (message, _) = refusal(&[("a", "1", "")], "a");
        assert!(message.contains("has no driver"), "{message}");
        let (message, hint) = refusal(&[("a", "1", "vfio-pci"), ("b", "1", "e1000e")], "a");
        assert!(message.contains("group 1 is not viable") && message.contains("b (e1000e)"), "{message}");
        assert!(hint.contains("echo vfio-pci >/sys/bus/pci/devices/b/driver_override"), "{hint}");
    }
}
