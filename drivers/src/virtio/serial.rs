//! The serial number of a device (VIRTIO 1.2, section 5.2.6 "Device Operation", VIRTIO_BLK_T_GET_ID).

use vm_memory::VolatileSlice;

use super::memory::QueueMemory;
use super::ring::{Buffer, Ring};
use super::spec::{request, status};

/// The slot that the request takes.
const SLOT: u16 = 0;

/// Puts the request into a ring that holds nothing else; the answer comes into `buffer`.
pub(crate) fn ask(memory: &QueueMemory, ring: &mut dyn Ring, buffer: Buffer) {
    memory.store_header(SLOT, request::GET_ID, 0);
    memory.store_status(SLOT, status::UNANSWERED);
    let header = Buffer { address: memory.header_address(SLOT), len: request::HEADER_BYTES, writable: false };
    let status = Buffer { address: memory.status_address(SLOT), len: 1, writable: true };
    ring.add(SLOT, &[header, buffer, status]);
}

/// What came: text up to the first NUL, without anything that could harm a terminal. Empty if the device has none.
pub(crate) fn answer(memory: &QueueMemory, answer: &VolatileSlice<'_>) -> String {
    if memory.load_status(SLOT) != status::OK {
        return String::new();
    }
    let mut bytes = [0; request::ID_BYTES];
    answer.copy_to(&mut bytes[..]);
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}
