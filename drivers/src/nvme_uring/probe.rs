//! Whether the kernel can do passthrough through io_uring, and whether the caller may.
#![expect(unsafe_code, reason = "entries name memory that the kernel uses until their completion")]

use std::io;

use io_uring::{Probe, opcode};

use super::lane::BigRing;
use super::passthrough::{self, Memory};
use super::target::Target;
use crate::error::Error;
use crate::nvme::command::Command;
use crate::sys::mmap::Mapping;
use crate::sys::ring::{Mode, ring_error};

/// Reads the first block. How that ends is no matter, if only the device was asked.
///
/// # Errors
/// The kernel is too old, or does not let the caller do that.
pub(super) fn check(target: &Target, block_bytes: u32) -> Result<(), Error> {
    let name = &target.name;
    let mut ring = BigRing::new(1, Mode::Interrupt).map_err(|cause| match cause.raw_os_error() {
        Some(libc::EINVAL) => too_old(),
        _ => ring_error("make a ring", name, &cause),
    })?;
    let mut known = Probe::new();
    if ring.probe(&mut known).is_err() || !known.is_supported(opcode::UringCmd80::CODE) {
        return Err(too_old());
    }
    ring.register_files(&[target.file()]).map_err(|cause| ring_error("register the device", name, &cause))?;
    let result = read(&mut ring, target.namespace, block_bytes)
        .map_err(|cause| Error::system(format!("send {name} a command"), &cause))?;
    judge(name, result)
}

/// What the result of the first command tells.
fn judge(name: &str, result: i32) -> Result<(), Error> {
    match result.saturating_neg() {
        // A status of the device, whatever it is.
        ..=0 => Ok(()),
        libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY => Err(too_old()),
        libc::EACCES | libc::EPERM => {
            Err(Error::device(format!("{name} takes no commands from this user, although it may be opened"))
                .hint("before Linux 6.2 that needs the capability CAP_SYS_ADMIN"))
        }
        errno => Err(Error::system(format!("send {name} a command"), &io::Error::from_raw_os_error(errno))),
    }
}

fn too_old() -> Error {
    Error::device("the kernel has no passthrough to NVMe devices through io_uring")
        .hint("Linux 6.1 or newer is needed; the driver io_uring serves the block device with older ones")
}

fn read(ring: &mut BigRing, namespace: u32, block_bytes: u32) -> io::Result<i32> {
    let mapping = Mapping::memory(c"gateway-probe", block_bytes.max(4096) as usize)?;
    let slice = mapping.slice(0, block_bytes as usize).ok_or(io::ErrorKind::InvalidInput)?;
    let address = slice.ptr_guard_mut().as_ptr() as u64;
    let memory = Memory { address, len: block_bytes, is_registered: false };
    let entry = passthrough::entry(&Command::read(namespace, 0, 1), memory, 0);
    // SAFETY: the entry names memory of the mapping, and no other.
    unsafe { ring.run_once(&entry, mapping) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_answers_to_a_first_command_is_told() {
        assert!(judge("it", 0).is_ok() && judge("it", 0x281).is_ok());
        let told = |result| judge("it", result).unwrap_err().to_string();
        assert!(told(-libc::EOPNOTSUPP).contains("Linux 6.1"));
        assert!(told(-libc::EACCES).contains("CAP_SYS_ADMIN"));
        assert!(told(-libc::ENODEV).contains("send it a command"));
        assert!(judge("it", i32::MIN).is_err());
    }
}
