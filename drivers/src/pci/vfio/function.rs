//! [`VfioFunction`]: an open device.
#![expect(unsafe_code, reason = "mapping memory for a device is a promise about how it is used")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioRegionInfoCap};

use super::diagnosis::{self, Place};
use super::ranges;
use crate::error::Error;
use crate::pci::config::set_bus_master;
use crate::pci::{Function, Registers};
use crate::sys::eventfd::EventFd;
use crate::sys::file;
use crate::sys::mmap::Mapping;
use crate::sys::registers::DeviceMemory;

/// The unit in which the IOMMU maps.
const PAGE_BYTES: usize = 4096;

/// A device that `vfio-pci` has handed out.
pub(crate) struct VfioFunction {
    name: String,
    address: String,
    open: Arc<RwLock<Option<Open>>>,
    mapped: Mutex<Vec<Arc<DeviceMemory>>>,
}

/// What is open of a device. Closed in this order.
struct Open {
    device: VfioDevice,
    container: Arc<VfioContainer>,
    /// The device once more, for access without the crate, which does not tell errors. It is also the last to be
    /// closed: as long as a device is open the kernel keeps its place in sysfs, which the crate looks for when it
    /// closes the device, and panics without.
    file: File,
}

impl VfioFunction {
    /// Takes the device at `path`, a folder of sysfs.
    ///
    /// # Errors
    /// It cannot be had: the message says why, and what to do.
    pub(crate) fn open(path: &Path) -> Result<VfioFunction, Error> {
        let place = diagnosis::look(path)?;
        let open = open(&place)?;
        Ok(VfioFunction {
            name: format!("the PCI device {}", place.address),
            address: place.address,
            open: Arc::new(RwLock::new(Some(open))),
            mapped: Mutex::default(),
        })
    }

    /// Does something with the open device.
    fn with<T>(&self, what: &str, act: impl FnOnce(&Open) -> Result<T, Error>) -> Result<T, Error> {
        match &*read(&self.open) {
            Some(open) => act(open),
            None => Err(Error::device(format!("cannot {what} of {}: it was let go", self.name))),
        }
    }

    fn failed(&self, what: &str, cause: &io::Error) -> Error {
        Error::system(format!("{what} of {}", self.name), cause)
    }

    /// Why memory could not be mapped.
    fn map_failed(&self, len_bytes: usize, error: VfioError) -> Error {
        let cause = match error {
            VfioError::IommuDmaMap(cause) => cause.into(),
            other => io::Error::other(other.to_string()),
        };
        let mebibytes = len_bytes.div_ceil(1 << 20);
        let error = Error::system(format!("let {} reach {mebibytes} MiB of memory", self.name), &cause);
        if cause.raw_os_error() != Some(libc::ENOMEM) {
            return error;
        }
        let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft) >> 20;
        error.hint(format!(
            "such memory is locked, and this process may lock {limit} MiB: raise the limit (ulimit -l, \
             LimitMEMLOCK=), give it CAP_IPC_LOCK, or use less: --memory"
        ))
    }
}

/// What is behind the lock changes by one assignment, so a thread that panicked left it whole.
fn read(open: &RwLock<Option<Open>>) -> RwLockReadGuard<'_, Option<Open>> {
    open.read().unwrap_or_else(PoisonError::into_inner)
}

/// How long a device that is in use is waited for: of a program that was killed the kernel may still be resetting it.
const BUSY_PATIENCE: Duration = Duration::from_secs(2);

/// How often to look whether it is still in use.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

fn open(place: &Place) -> Result<Open, Error> {
    let failed = |error| diagnosis::open_failed(place, error);
    let container = Arc::new(VfioContainer::new(None).map_err(failed)?);
    let until = Instant::now() + BUSY_PATIENCE;
    let device = loop {
        match VfioDevice::new(&place.path, container.clone(), false) {
            Err(VfioError::OpenGroup(cause, _))
                if cause.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until =>
            {
                thread::sleep(BUSY_PAUSE);
            }
            result => break result.map_err(failed)?,
        }
    };
    let file = file::duplicate(device.as_raw_fd())
        .map_err(|cause| Error::system(format!("take the PCI device {}", place.address), &cause))?;
    Ok(Open { device, container, file: file.into() })
}

impl Open {
    /// Where bytes of a region lie in the device's file.
    fn offset(&self, region: u32, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64);
        match end.filter(|end| *end <= self.device.get_region_size(region)) {
            Some(_) => Ok(self.device.get_region_offset(region) + offset),
            None => Err(io::Error::from_raw_os_error(libc::ENXIO)),
        }
    }

    /// Whether the range of a region can be mapped.
    fn can_map(&self, region: u32, offset: u64, len: usize) -> bool {
        if self.device.get_region_flags(region) & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return false;
        }
        let caps = self.device.get_region_caps(region);
        let mut areas = caps.iter().filter_map(|cap| match cap {
            VfioRegionInfoCap::SparseMmap(sparse) => Some(&sparse.areas),
            _ => None,
        });
        areas.all(|areas| {
            areas.iter().any(|area| offset >= area.offset && offset + len as u64 <= area.offset + area.size)
        })
    }
}

impl Function for VfioFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let what = "read the configuration";
        self.with(what, |open| {
            open.offset(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes.len())
                .and_then(|at| open.file.read_exact_at(bytes, at))
                .map_err(|cause| self.failed(what, &cause))
        })
    }

    fn write_config(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let what = "change the configuration";
        self.with(what, |open| {
            open.offset(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes.len())
                .and_then(|at| open.file.write_all_at(bytes, at))
                .map_err(|cause| self.failed(what, &cause))
        })
    }

    fn registers(&self, bar: u8, offset: u64, len_bytes: usize) -> Result<Arc<dyn Registers>, Error> {
        let what = format!("reach {len_bytes} bytes at {offset:#x} of BAR {bar}");
        self.with(&what, |open| {
            let at = match open.offset(bar.into(), offset, len_bytes) {
                Ok(at) if bar < 6 => at,
                _ => {
                    return Err(Error::device(format!(
                        "cannot {what} of {}: it has no such registers",
                        self.name
                    )));
                }
            };
            if open.can_map(bar.into(), offset, len_bytes)
                && let Ok(memory) = DeviceMemory::map(open.file.as_fd(), at, len_bytes)
            {
                let memory = Arc::new(memory);
                let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
                mapped.push(memory.clone());
                return Ok(memory as Arc<dyn Registers>);
            }
            // What cannot be mapped the kernel reads and writes for us.
            Ok(Arc::new(FileRegisters { open: self.open.clone(), at, len_bytes }) as Arc<dyn Registers>)
        })
    }

    fn reach(&self) -> Vec<(u64, u64)> {
        match &*read(&self.open) {
            Some(open) => ranges::of(container(open)),
            None => Vec::new(),
        }
    }

    fn map(&self, address: u64, memory: &Mapping) -> Result<(), Error> {
        self.with("map memory", |open| {
            let len_bytes = memory.len_bytes().next_multiple_of(PAGE_BYTES);
            let Some(slice) = memory.slice(0, memory.len_bytes()) else { return Ok(()) };
            let start = slice.ptr_guard_mut().as_ptr();
            // SAFETY: the range is a mapping of whole pages, and `Mapping` hands its bytes out as volatile slices and
            // atomic words only. The kernel holds on to the pages, so it does no harm if the mapping ends or gets
            // other pages first.
            let mapped = unsafe { open.container.vfio_dma_map(address, len_bytes, start) };
            mapped.map_err(|error| self.map_failed(len_bytes, error))
        })
    }

    fn vectors(&self) -> usize {
        let vectors = |open: &Open| open.device.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX).map(|irq| irq.count);
        read(&self.open).as_ref().and_then(vectors).map_or(0, |count| count as usize)
    }

    fn interrupt(&self, events: &[&EventFd]) -> Result<(), Error> {
        let what = "set up the interrupts";
        self.with(what, |open| {
            let events = events
                .iter()
                .map(|event| event.for_vhost())
                .collect::<io::Result<Vec<_>>>()
                .map_err(|cause| self.failed(what, &cause))?;
            open.device.enable_msix(events.iter().collect()).map_err(|error| {
                Error::device(format!("cannot set up {} interrupts of {}: {error}", events.len(), self.name))
            })
        })
    }

    fn watch(&self, wanted: &EventFd, broken: &EventFd) {
        let Some(open) = &*read(&self.open) else { return };
        for (index, event) in [(VFIO_PCI_REQ_IRQ_INDEX, wanted), (VFIO_PCI_ERR_IRQ_INDEX, broken)] {
            let watched = event.for_vhost().map_err(|cause| cause.to_string()).and_then(|event| {
                open.device.enable_irq(index, vec![&event]).map_err(|error| error.to_string())
            });
            if let Err(error) = watched {
                // Not every bus tells of errors.
                tracing::debug!("{} does not signal event {index}: {error}", self.name);
            }
        }
    }

    fn reset(&self) -> Result<(), Error> {
        // Whether it worked shows in the device's registers.
        self.with("reset the function", |open| {
            open.device.reset();
            Ok(())
        })
    }

    fn release(&self) {
        let open = read(&self.open).is_some();
        if !open {
            return;
        }
        if let Err(error) = set_bus_master(self, false) {
            tracing::debug!("{error}");
        }
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        for memory in mapped.drain(..) {
            if let Err(cause) = memory.retire() {
                tracing::warn!("the PCI device {} is not let go before the end: {cause}", self.address);
            }
        }
        // The kernel takes what was mapped back when the container is closed.
        drop(self.open.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for VfioFunction {
    fn drop(&mut self) {
        self.release();
    }
}

fn container(open: &Open) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is that of the container, which lives as long as `open` is borrowed.
    unsafe { BorrowedFd::borrow_raw(open.container.as_raw_fd()) }
}

/// Registers that the kernel reads and writes for us.
struct FileRegisters {
    open: Arc<RwLock<Option<Open>>>,
    /// Where they lie in the device's file.
    at: u64,
    len_bytes: usize,
}

impl FileRegisters {
    fn load<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0xff; N];
        if offset.checked_add(N).is_some_and(|end| end <= self.len_bytes)
            && let Some(open) = &*read(&self.open)
            && open.file.read_exact_at(&mut bytes, self.at + offset as u64).is_err()
        {
            return [0xff; N];
        }
        bytes
    }

    fn store<const N: usize>(&self, offset: usize, bytes: [u8; N]) {
        if offset.checked_add(N).is_some_and(|end| end <= self.len_bytes)
            && let Some(open) = &*read(&self.open)
            && let Err(cause) = open.file.write_all_at(&bytes, self.at + offset as u64)
        {
            tracing::debug!("a register could not be written: {cause}");
        }
    }
}

impl Registers for FileRegisters {
    fn load8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.load(offset))
    }

    fn load16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.load(offset))
    }

    fn load32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.load(offset))
    }

    fn store8(&self, offset: usize, value: u8) {
        self.store(offset, value.to_le_bytes());
    }

    fn store16(&self, offset: usize, value: u16) {
        self.store(offset, value.to_le_bytes());
    }

    fn store32(&self, offset: usize, value: u32) {
        self.store(offset, value.to_le_bytes());
    }
}
