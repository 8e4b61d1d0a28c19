//! Test images: files filled with the pattern, kept between runs and warm in the page cache.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::load::{Check, Pattern};

/// Seed of the images that are read.
pub(crate) const SEED: u64 = 0x6761_7465;

const PART_BYTES: usize = 1 << 20;

/// Makes sure that `path` is an image of `size_bytes` with the pattern of [`SEED`], all of it in the page cache.
///
/// A file that is there already is read and compared, which warms it too.
///
/// # Errors
/// The file cannot be written or read, or there is not enough memory to keep it cached.
pub(crate) fn prepare(path: &Path, size_bytes: u64) -> anyhow::Result<()> {
    if !matches(path, size_bytes).with_context(|| format!("reading {}", path.display()))? {
        require_memory(size_bytes)?;
        write(path, size_bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Makes sure that `path` is a file of `size_bytes` without holes, whatever its content.
///
/// # Errors
/// As for [`prepare`].
pub(crate) fn prepare_scratch(path: &Path, size_bytes: u64) -> anyhow::Result<()> {
    let complete =
        fs::metadata(path).is_ok_and(|file| file.len() == size_bytes && file.blocks() * 512 >= size_bytes);
    if !complete {
        require_memory(size_bytes)?;
        write(path, size_bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Folder on tmpfs for images and sockets.
pub(crate) fn tmpfs_folder() -> PathBuf {
    "/dev/shm/gateway-bench".into()
}

/// Fails when less than `bytes` and some air to breathe are free.
///
/// # Errors
/// Too little memory, or `/proc/meminfo` is not as documented in proc_meminfo(5).
pub(crate) fn require_memory(bytes: u64) -> anyhow::Result<()> {
    const AIR_BYTES: u64 = 512 << 20;
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let available_kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .context("/proc/meminfo has no MemAvailable line")?;
    if available_kib * 1024 < bytes + AIR_BYTES {
        bail!(
            "{} MiB of memory are available, {} MiB are needed; choose a smaller --image-size",
            available_kib / 1024,
            (bytes + AIR_BYTES) >> 20
        );
    }
    Ok(())
}

/// Whether the file has the size and the pattern; reads all of it.
fn matches(path: &Path, size_bytes: u64) -> anyhow::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if file.seek(SeekFrom::End(0))? != size_bytes {
        return Ok(false);
    }
    file.rewind()?;
    let pattern = Pattern::new(SEED);
    let mut part = vec![0; PART_BYTES];
    for offset in (0..size_bytes).step_by(PART_BYTES) {
        file.read_exact(&mut part)?;
        if pattern.check(Check::Full, offset, &part).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(path: &Path, size_bytes: u64) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let pattern = Pattern::new(SEED);
    let mut part = vec![0; PART_BYTES];
    for offset in (0..size_bytes).step_by(PART_BYTES) {
        pattern.fill(offset, &mut part);
        file.write_all(&part)?;
    }
    // Otherwise the kernel writes it out during the first measurements.
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_one_wrong_byte_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let size_bytes = 2 * PART_BYTES as u64;
        prepare(&path, size_bytes).unwrap();
        assert!(matches(&path, size_bytes).unwrap());
        let mut content = fs::read(&path).unwrap();
        content[PART_BYTES + 3] ^= 1;
        fs::write(&path, content).unwrap();
        assert!(!matches(&path, size_bytes).unwrap());
        prepare(&path, size_bytes).unwrap();
        assert!(matches(&path, size_bytes).unwrap());
    }
}
