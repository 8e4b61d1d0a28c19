//! [`RamDisk`]: the requests of a block device (VIRTIO 1.2, section 5.2.6 "Device Operation"), on zeroes in memory, for
//! whatever serves the rings of [`device_ring`](super::device_ring).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device_ring::{Chain, DeviceMemory, Violation};

/// What a disk says it is.
pub const SERIAL: &str = "a-ram-disk-serial-20";

/// Longest discard and write zeroes request in sectors.
pub const RANGE_SECTORS: u32 = 1 << 16;

const SECTOR_BYTES: usize = 512;
const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;

/// Types of requests.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Status of a request.
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct RamDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    read_only: bool,
}

impl RamDisk {
    /// All zeroes.
    #[must_use]
    pub fn new(capacity_bytes: usize, read_only: bool) -> RamDisk {
        RamDisk { bytes: Arc::new(Mutex::new(vec![0; capacity_bytes])), read_only }
    }

    /// Everything on the disk.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// Makes it longer, by zeroes, or shorter.
    pub fn resize(&self, capacity_bytes: usize) {
        self.lock().resize(capacity_bytes, 0);
    }

    /// Does one request; returns how many bytes were written: all that may be.
    ///
    /// # Errors
    /// The chain is no request, or not in memory.
    pub fn serve(&self, memory: &dyn DeviceMemory, chain: &Chain) -> Result<u32, Violation> {
        let request = read(memory, chain)?;
        let room = chain.writable_bytes() as usize;
        let (Some((header, data)), Some(data_room)) =
            (request.split_first_chunk::<HEADER_BYTES>(), room.checked_sub(1))
        else {
            return Err(Violation(format!("a request of {} bytes, {room} for the answer", request.len())));
        };
        let (status, mut answer) = self.operate(header, data, data_room);
        // Data if there is any, then the status.
        answer.resize(data_room, 0);
        answer.push(status);
        write(memory, chain, &answer)?;
        Ok(room as u32)
    }

    /// Status and data of a request.
    fn operate(&self, header: &[u8; HEADER_BYTES], data: &[u8], room: usize) -> (u8, Vec<u8>) {
        let kind = u32_at(header, 0);
        if self.read_only && matches!(kind, OUT | DISCARD | WRITE_ZEROES) {
            return (IOERR, Vec::new());
        }
        let mut bytes = self.lock();
        let start = u64_at(header, 8);
        let done = match kind {
            IN => part(&mut bytes, start, room).map(|part| part.to_vec()),
            OUT => part(&mut bytes, start, data.len()).map(|part| {
                part.copy_from_slice(data);
                Vec::new()
            }),
            FLUSH => Some(Vec::new()),
            GET_ID => (room >= SERIAL.len()).then(|| SERIAL.into()),
            DISCARD | WRITE_ZEROES => clear(&mut bytes, data),
            _ => return (UNSUPP, Vec::new()),
        };
        done.map_or((IOERR, Vec::new()), |answer| (OK, answer))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the driver sends.
fn read(memory: &dyn DeviceMemory, chain: &Chain) -> Result<Vec<u8>, Violation> {
    let mut request = Vec::new();
    for element in chain.elements.iter().filter(|element| !element.writable) {
        let slice = memory.slice(element.address, element.len as usize);
        let slice = slice.ok_or_else(|| Violation(format!("{element:?} is no memory")))?;
        let start = request.len();
        request.resize(start + slice.len(), 0);
        slice.copy_to(&mut request[start..]);
    }
    Ok(request)
}

/// Fills what the driver has room for.
fn write(memory: &dyn DeviceMemory, chain: &Chain, mut answer: &[u8]) -> Result<(), Violation> {
    for element in chain.elements.iter().filter(|element| element.writable) {
        let slice = memory.slice(element.address, element.len as usize);
        let slice = slice.ok_or_else(|| Violation(format!("{element:?} is no memory")))?;
        let (piece, rest) = answer.split_at(slice.len());
        slice.copy_from(piece);
        answer = rest;
    }
    Ok(())
}

/// The range of the disk that begins at a sector; `None`: it is not inside.
fn part(bytes: &mut [u8], sector: u64, len: usize) -> Option<&mut [u8]> {
    let start = usize::try_from(sector).ok()?.checked_mul(SECTOR_BYTES)?;
    bytes.get_mut(start..start.checked_add(len)?)
}

/// Discards or zeroes the one range that `data` names.
fn clear(bytes: &mut [u8], data: &[u8]) -> Option<Vec<u8>> {
    let range: &[u8; RANGE_BYTES] = data.try_into().ok()?;
    let sectors = Some(u32_at(range, 8)).filter(|sectors| *sectors <= RANGE_SECTORS)?;
    part(bytes, u64_at(range, 0), sectors as usize * SECTOR_BYTES)?.fill(0);
    Some(Vec::new())
}

fn u32_at(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; 16], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
