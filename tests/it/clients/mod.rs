//! Real clients against the gateway.

mod agree;
mod bootable;
mod fio;
mod nbdcopy;
mod nbdinfo;
mod nbdsh;
mod qemu;
pub(crate) mod served;
