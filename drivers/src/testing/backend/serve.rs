//! [`serve`]: one request.

use std::io::{self, Read, Write};

use virtio_queue::{DescriptorChain, Reader, Writer};
use vm_memory::GuestMemoryMmap;

use super::fault::Fault;
use super::kind::{Kind, READ_ONLY, SERIAL};
use super::store::Store;

/// A chain with the memory that its addresses mean.
pub(super) type Chain<'a> = DescriptorChain<&'a GuestMemoryMmap>;

/// Types of requests (VIRTIO 1.2, section 5.2.6 "Device Operation").
pub(super) mod request {
    pub(in super::super) const IN: u32 = 0;
    pub(in super::super) const OUT: u32 = 1;
    pub(in super::super) const FLUSH: u32 = 4;
    pub(in super::super) const GET_ID: u32 = 8;
    pub(in super::super) const DISCARD: u32 = 11;
    pub(in super::super) const WRITE_ZEROES: u32 = 13;
}

/// Status of a request (same section).
pub(super) mod status {
    pub(in super::super) const OK: u8 = 0;
    pub(in super::super) const IOERR: u8 = 1;
    pub(in super::super) const UNSUPP: u8 = 2;
}

/// Flag of a write zeroes range: storage may be given up.
const FLAG_UNMAP: u32 = 1;

/// Does one request; returns how many bytes were written to its chain, status included.
///
/// # Errors
/// The chain is none of a block device.
pub(super) fn serve(
    kind: &Kind,
    store: &Store,
    memory: &GuestMemoryMmap,
    chain: Chain<'_>,
) -> io::Result<u32> {
    let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut reader = Reader::new(memory, chain.clone()).map_err(malformed)?;
    let mut writer = Writer::new(memory, chain).map_err(malformed)?;
    let mut header = [0; 16];
    reader.read_exact(&mut header)?;
    let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
    let operation = u32::from_le_bytes([k0, k1, k2, k3]);
    let offset = u64::from_le_bytes(sector).saturating_mul(512);
    let data_bytes = writer.available_bytes().checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
    let mut status_writer = writer.split_at(data_bytes).map_err(malformed)?;
    let status = operate(kind, store, operation, offset, &mut reader, &mut writer).unwrap_or(status::IOERR);
    if kind.fault != Fault::NoStatus {
        status_writer.write_all(&[status])?;
    }
    let forgets = matches!(store, Store::Null) && operation == request::IN && status == status::OK;
    let written = if forgets { data_bytes } else { writer.bytes_written() };
    Ok((written + 1) as u32)
}

fn operate(
    kind: &Kind,
    store: &Store,
    operation: u32,
    offset: u64,
    reader: &mut Reader<'_>,
    writer: &mut Writer<'_>,
) -> io::Result<u8> {
    let is_inside =
        |offset: u64, len: u64| offset.checked_add(len).is_some_and(|end| end <= kind.capacity_bytes);
    let writes = matches!(operation, request::OUT | request::DISCARD | request::WRITE_ZEROES);
    if writes && kind.features & READ_ONLY != 0 {
        return Ok(status::IOERR);
    }
    match operation {
        request::IN => {
            let len = writer.available_bytes();
            if !is_inside(offset, len as u64) {
                return Ok(status::IOERR);
            }
            if kind.fault != Fault::NoData {
                store.read(offset, len, writer)?;
            }
        }
        request::OUT => {
            let len = reader.available_bytes();
            if !is_inside(offset, len as u64) {
                return Ok(status::IOERR);
            }
            store.write(offset, len, reader)?;
        }
        request::FLUSH => store.flush()?,
        request::GET_ID => writer.write_all(SERIAL.as_bytes())?,
        request::DISCARD | request::WRITE_ZEROES => {
            let (offset, sectors, unmap) = range(reader)?;
            let len = u64::from(sectors) * 512;
            if sectors > kind.range_sectors || !is_inside(offset, len) {
                return Ok(status::IOERR);
            }
            store.clear(offset, len, unmap || operation == request::DISCARD)?;
        }
        _ => return Ok(status::UNSUPP),
    }
    Ok(status::OK)
}

/// Offset in bytes, length in sectors and whether storage may be given up.
fn range(reader: &mut Reader<'_>) -> io::Result<(u64, u32, bool)> {
    let (mut sector, mut sectors, mut flags) = ([0; 8], [0; 4], [0; 4]);
    reader.read_exact(&mut sector)?;
    reader.read_exact(&mut sectors)?;
    reader.read_exact(&mut flags)?;
    let offset = u64::from_le_bytes(sector).saturating_mul(512);
    Ok((offset, u32::from_le_bytes(sectors), u32::from_le_bytes(flags) & FLAG_UNMAP != 0))
}
