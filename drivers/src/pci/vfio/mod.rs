//! Devices that the kernel's `vfio-pci` hands out.
//!
//! | module | is |
//! |---|---|
//! | `diagnosis` | why a device cannot be had, in words, with the commands that help |
//! | `function` | an open device |
//! | `ranges` | addresses that the IOMMU has for it |
//!
//! The interface is that of include/uapi/linux/vfio.h of Linux; the crate `vfio-ioctls` speaks it. A device belongs to
//! a group of such that the IOMMU cannot tell apart; whoever has one of them has the group.

mod diagnosis;
mod function;
mod ranges;

pub(crate) use function::VfioFunction;
