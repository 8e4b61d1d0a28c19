//! `ioctl(2)` on NVMe devices, as `linux/nvme_ioctl.h` defines them (Linux 6.1).
#![expect(unsafe_code, reason = "ioctl has no safe face")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::Ioctl;

const NVME_IOCTL_ID: Ioctl = 0x4e40;
const NVME_IOCTL_ADMIN_CMD: Ioctl = 0xc048_4e41;

/// `struct nvme_passthru_cmd` in 32-bit words: opcode, namespace, 2 and 3 of the command, address and length of
/// metadata and data, 10 to 15 of the command, time-out in milliseconds, result.
pub type Words = [u32; 18];

/// The word that holds half the address of the data; the other half follows.
pub const ADDRESS: usize = 6;
/// The word that holds the length of the data in bytes.
pub const DATA_LEN: usize = 9;
/// The first word that is one of the command itself, which are six.
pub const COMMAND: usize = 10;

/// The number of the namespace that a device file stands for.
///
/// # Errors
/// What `ioctl(2)` answered: `ENOTTY` if it stands for none.
pub fn namespace(device: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: this request takes no argument.
    let number = unsafe { libc::ioctl(device.as_raw_fd(), NVME_IOCTL_ID) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Runs a command of administration whose data goes to `memory`, and waits for it. Returns its status without phase.
///
/// # Errors
/// What `ioctl(2)` answered.
pub fn administer(device: BorrowedFd<'_>, words: &Words, memory: &mut [u8]) -> io::Result<u16> {
    let mut words = *words;
    let address = memory.as_mut_ptr() as u64;
    (words[ADDRESS], words[ADDRESS + 1]) = (address as u32, (address >> 32) as u32);
    words[DATA_LEN] = u32::try_from(memory.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the kernel reads 72 bytes at the address and writes the result there, which `words` has. It lets the
    // device have `memory` and no more for the duration of the call, which is borrowed for us alone.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), NVME_IOCTL_ADMIN_CMD, words.as_mut_ptr()) };
    match u16::try_from(status) {
        Ok(status) => Ok(status),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_is_no_namespace() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(namespace(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        let asked = administer(file.as_fd(), &[0; 18], &mut [0; 16]);
        assert_eq!(asked.unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
