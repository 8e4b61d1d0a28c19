//! [`Store`]: where the data of a device lies.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::file;

/// Where the data of a device lies. Every range was checked by who calls.
#[derive(Clone, Debug)]
pub enum Store {
    /// In memory.
    Memory(Arc<Mutex<Vec<u8>>>),
    /// In a file, through the page cache.
    File(Arc<File>),
    /// Nowhere: writes are forgotten, and a read leaves the driver's memory as it is.
    Null,
}

impl Store {
    /// Zeroes in memory.
    #[must_use]
    pub fn memory(capacity_bytes: u64) -> Store {
        Store::Memory(Arc::new(Mutex::new(vec![0; capacity_bytes as usize])))
    }

    /// A file or block device that is there, with its size in bytes.
    ///
    /// # Errors
    /// It cannot be opened for writing (or for reading, if the disk is to be `read_only`).
    pub fn file(path: &Path, read_only: bool) -> io::Result<(Store, u64)> {
        let file = OpenOptions::new().read(true).write(!read_only).open(path)?;
        let size_bytes = file::size_bytes(file.as_fd())?;
        Ok((Store::File(Arc::new(file)), size_bytes))
    }

    pub(super) fn read(&self, offset: u64, len: usize, to: &mut impl Write) -> io::Result<()> {
        match self {
            Store::Memory(bytes) => to.write_all(&lock(bytes)[offset as usize..][..len]),
            Store::File(file) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                to.write_all(&bytes)
            }
            Store::Null => Ok(()),
        }
    }

    pub(super) fn write(&self, offset: u64, len: usize, from: &mut impl Read) -> io::Result<()> {
        match self {
            Store::Memory(bytes) => from.read_exact(&mut lock(bytes)[offset as usize..][..len]),
            Store::File(file) => {
                let mut bytes = vec![0; len];
                from.read_exact(&mut bytes)?;
                file.write_all_at(&bytes, offset)
            }
            Store::Null => Ok(()),
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        match self {
            Store::File(file) => file.sync_data(),
            Store::Memory(_) | Store::Null => Ok(()),
        }
    }

    /// Makes it read as zeroes; `unmap`: storage may be given up.
    pub(super) fn clear(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        match self {
            Store::Memory(bytes) => lock(bytes)[offset as usize..][..len as usize].fill(0),
            Store::File(file) => clear_file(file, offset, len, unmap)?,
            Store::Null => {}
        }
        Ok(())
    }
}

fn clear_file(file: &File, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
    let mode = if unmap { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
    match file::fallocate(file.as_fd(), mode | libc::FALLOC_FL_KEEP_SIZE, offset, len) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            file.write_all_at(&vec![0; len as usize], offset)
        }
        result => result,
    }
}

/// The bytes of a RAM disk, whoever has panicked.
pub(super) fn lock(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps_what_is_written(store: &Store) {
        store.write(1024, 512, &mut &[7; 512][..]).unwrap();
        store.write(1536, 512, &mut &[8; 512][..]).unwrap();
        store.clear(1536, 256, true).unwrap();
        store.clear(1792, 128, false).unwrap();
        store.flush().unwrap();
        let mut read = Vec::new();
        store.read(1024, 1024, &mut read).unwrap();
        assert_eq!(read, [&[7; 512][..], &[0; 384], &[8; 128]].concat());
    }

    #[test]
    fn memory_and_files_keep_what_is_written() {
        keeps_what_is_written(&Store::memory(1 << 20));
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let (store, size_bytes) = Store::file(file.path(), false).unwrap();
        assert_eq!(size_bytes, 1 << 20);
        keeps_what_is_written(&store);
    }

    #[test]
    fn nowhere_is_nothing() {
        let mut read = Vec::new();
        Store::Null.read(0, 512, &mut read).unwrap();
        assert!(read.is_empty(), "memory of the driver is left alone");
    }
}
