//! Little-endian words of a device's memory, by address.

use std::sync::atomic::Ordering;

use vm_memory::{AtomicAccess, Bytes};

use super::{DeviceMemory, Violation};

fn load<T: AtomicAccess>(memory: &dyn DeviceMemory, address: u64, order: Ordering) -> Result<T, Violation> {
    memory
        .slice(address, size_of::<T>())
        .and_then(|slice| slice.load(0, order).ok())
        .ok_or_else(|| outside(address))
}

fn store<T: AtomicAccess>(
    memory: &dyn DeviceMemory,
    address: u64,
    value: T,
    order: Ordering,
) -> Result<(), Violation> {
    memory
        .slice(address, size_of::<T>())
        .and_then(|slice| slice.store(value, 0, order).ok())
        .ok_or_else(|| outside(address))
}

fn outside(address: u64) -> Violation {
    Violation(format!("{address:#x} is no memory, or not aligned"))
}

pub(super) fn load16(memory: &dyn DeviceMemory, address: u64, order: Ordering) -> Result<u16, Violation> {
    load(memory, address, order).map(u16::from_le)
}

pub(super) fn load32(memory: &dyn DeviceMemory, address: u64) -> Result<u32, Violation> {
    load(memory, address, Ordering::Relaxed).map(u32::from_le)
}

pub(super) fn load64(memory: &dyn DeviceMemory, address: u64) -> Result<u64, Violation> {
    load(memory, address, Ordering::Relaxed).map(u64::from_le)
}

pub(super) fn store16(
    memory: &dyn DeviceMemory,
    address: u64,
    value: u16,
    order: Ordering,
) -> Result<(), Violation> {
    store(memory, address, value.to_le(), order)
}

pub(super) fn store32(memory: &dyn DeviceMemory, address: u64, value: u32) -> Result<(), Violation> {
    store(memory, address, value.to_le(), Ordering::Relaxed)
}
