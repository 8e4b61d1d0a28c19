//! The kernel as the emulator starts it fastest: unpacked, so that no emulated processor has to do it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::bed::Bed;

/// Fields of a bzImage (Linux, arch/x86/boot, "The Linux/x86 Boot Protocol"): sectors of the real-mode part after
/// the first; protocol version; where the compressed kernel lies behind the real-mode part; its length.
const SETUP_SECTORS_AT: usize = 0x1f1;
const VERSION_AT: usize = 0x206;
const PAYLOAD_OFFSET_AT: usize = 0x248;
const PAYLOAD_LENGTH_AT: usize = 0x24c;
/// First version of the protocol that has the fields of the payload.
const VERSION_MIN: u16 = 0x0208;
const SECTOR_BYTES: usize = 512;
/// The payload ends with the length of what it unpacks to, which is not part of the compressed stream.
const LENGTH_BYTES: usize = 4;
/// First bytes of a Zstandard frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Writes the ELF file that is inside a bzImage. It has the entry point for virtual machines (PVH).
///
/// # Errors
/// The image is of another kind, or cannot be unpacked.
pub(super) fn unpack(bed: &Bed, image: &Path, vmlinux: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let payload = payload(&bytes).with_context(|| format!("{} is no known bzImage", image.display()))?;
    let out = File::create(vmlinux).with_context(|| format!("cannot write {}", vmlinux.display()))?;
    let mut child = Command::new(bed.tool("zstd")?)
        .args(["--decompress", "--stdout", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .context("cannot start zstd")?;
    child.stdin.take().expect("it is piped").write_all(payload).context("input of zstd")?;
    let status = child.wait().context("zstd")?;
    ensure!(status.success(), "zstd cannot unpack the kernel of {}", image.display());
    Ok(())
}

/// The compressed stream in a bzImage.
fn payload(image: &[u8]) -> Result<&[u8]> {
    let field = |at: usize| image.get(at..at + 4).context("it is too short");
    let number = |at: usize| {
        let bytes = field(at)?.try_into().expect("four bytes");
        usize::try_from(u32::from_le_bytes(bytes)).context("too large")
    };
    ensure!(image.get(VERSION_AT - 4..VERSION_AT) == Some(b"HdrS"), "it has no header");
    let version = field(VERSION_AT)?;
    ensure!(u16::from_le_bytes([version[0], version[1]]) >= VERSION_MIN, "its boot protocol is too old");
    let start = (usize::from(field(SETUP_SECTORS_AT)?[0]) + 1) * SECTOR_BYTES + number(PAYLOAD_OFFSET_AT)?;
    let length = number(PAYLOAD_LENGTH_AT)?.checked_sub(LENGTH_BYTES).context("it has no kernel")?;
    let payload = image.get(start..start + length).context("it ends before its kernel does")?;
    ensure!(payload.starts_with(ZSTD_MAGIC), "its kernel is not compressed by zstd");
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[SETUP_SECTORS_AT] = 3;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[VERSION_AT..VERSION_AT + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET_AT..PAYLOAD_OFFSET_AT + 4].copy_from_slice(&16_u32.to_le_bytes());
        image[PAYLOAD_LENGTH_AT..PAYLOAD_LENGTH_AT + 4].copy_from_slice(&12_u32.to_le_bytes());
        image[4 * 512 + 16..4 * 512 + 20].copy_from_slice(ZSTD_MAGIC);
        image
    }

    #[test]
    fn the_payload_is_found_without_its_length() {
        let image = image();
        assert_eq!(payload(&image).unwrap(), [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0]);
    }

    #[test]
    fn other_images_are_refused() {
        assert!(payload(&[]).is_err());
        assert!(payload(&image()[..2050]).is_err(), "cut off");
        let mut old = image();
        old[VERSION_AT] = 7;
        assert!(payload(&old).is_err());
        let mut other = image();
        other[4 * 512 + 16] = 0x1f;
        assert!(payload(&other).is_err());
    }
}
