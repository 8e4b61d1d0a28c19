//! [`Control`]: the registers of a virtio device on the PCI bus (VIRTIO 1.2, section 4.1.4.3 "Common configuration
//! structure layout" and those after it).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::layout::Layout;
use crate::error::Error;
use crate::pci::config::{ConfigSpace, set_bus_master};
use crate::pci::{Function, Registers};
use crate::virtio::config::{self, CONFIG_BYTES};
use crate::virtio::kick::Kick;
use crate::virtio::memory::QueueMemory;
use crate::virtio::spec::device_status as status;

/// Offsets in the common configuration.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub(super) const DEVICE_FEATURE: usize = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub(super) const DRIVER_FEATURE: usize = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: usize = 0x10;
    pub(super) const NUM_QUEUES: usize = 0x12;
    pub(super) const DEVICE_STATUS: usize = 0x14;
    pub(super) const CONFIG_GENERATION: usize = 0x15;
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_SIZE: usize = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: usize = 0x1a;
    pub(super) const QUEUE_ENABLE: usize = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub(super) const QUEUE_DESC: usize = 0x20;
    pub(super) const QUEUE_DRIVER: usize = 0x28;
    pub(super) const QUEUE_DEVICE: usize = 0x30;
}

/// What a vector register holds when there is no interrupt.
const NO_VECTOR: u16 = 0xffff;

/// What the status reads as when the device is not there.
const NOBODY: u8 = 0xff;

/// How often the configuration may change while it is read.
const READS_MAX: usize = 100;

/// A device that is under control.
pub(super) struct Control {
    function: Arc<dyn Function>,
    layout: Layout,
    common: Arc<dyn Registers>,
    config: Arc<dyn Registers>,
    /// How long the device may take to reset itself.
    patience: Duration,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("name", &self.function.name()).finish_non_exhaustive()
    }
}

impl Control {
    /// Takes the device, and resets it: whoever had it before may have left it running. It may take as long as
    /// `patience` for that, every time.
    ///
    /// # Errors
    /// It is no block device of virtio 1, or does not do what such devices do.
    pub(super) fn take(function: Arc<dyn Function>, patience: Duration) -> Result<Control, Error> {
        let name = function.name();
        let layout = Layout::find(&ConfigSpace::read(&*function)?, name)?;
        // Registers do not answer before.
        set_bus_master(&*function, false)?;
        let registers = |place: super::layout::Structure| {
            function.registers(place.bar, place.offset.into(), place.len_bytes as usize)
        };
        let (common, config) = (registers(layout.common)?, registers(layout.device)?);
        let control = Control { function: function.clone(), layout, common, config, patience };
        control.reset()?;
        control.common.store8(common::DEVICE_STATUS, status::ACKNOWLEDGE);
        control.common.store8(common::DEVICE_STATUS, status::ACKNOWLEDGE | status::DRIVER);
        Ok(control)
    }

    pub(super) fn name(&self) -> &str {
        self.function.name()
    }

    pub(super) fn function(&self) -> &Arc<dyn Function> {
        &self.function
    }

    fn broken(&self, what: &str) -> Error {
        Error::device(format!("{} {what}", self.name()))
    }

    /// The device status; `None`: the device is not there.
    pub(super) fn status(&self) -> Option<u8> {
        let status = self.common.load8(common::DEVICE_STATUS);
        (status != NOBODY).then_some(status)
    }

    /// Resets the device, and waits until it has done so. Then it uses no memory.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn reset(&self) -> Result<(), Error> {
        self.common.store8(common::DEVICE_STATUS, 0);
        let started = Instant::now();
        loop {
            match self.status() {
                Some(0) => return Ok(()),
                None => return Err(self.broken("does not answer")),
                Some(_) if started.elapsed() > self.patience => {
                    return Err(self.broken("does not reset itself"));
                }
                Some(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Sees to it that the device uses no memory, and lets it go. What remains to be done after the first call is
    /// nothing.
    pub(super) fn leave(&self) {
        if let Err(error) = self.reset() {
            // The end of bus mastering does it as well.
            tracing::debug!("{error}");
        }
        self.function.release();
    }

    /// The features that the device offers.
    pub(super) fn features(&self) -> u64 {
        let half = |select: u32| {
            self.common.store32(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.load32(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    /// Accepts features, and sees that the device agrees.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn accept(&self, features: u64) -> Result<(), Error> {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.common.store32(common::DRIVER_FEATURE_SELECT, select);
            self.common.store32(common::DRIVER_FEATURE, half);
        }
        let wanted = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.common.store8(common::DEVICE_STATUS, wanted);
        match self.status() {
            None => Err(self.broken("does not answer")),
            Some(now) if now & status::FEATURES_OK == 0 => {
                Err(self.broken(&format!("does not accept the features {features:#x}")))
            }
            Some(_) => Ok(()),
        }
    }

    /// The configuration space, and how much of it the device has.
    ///
    /// # Errors
    /// There is not even a capacity, or it changes all the time.
    pub(super) fn config(&self) -> Result<([u8; CONFIG_BYTES], usize), Error> {
        let len = (self.layout.device.len_bytes as usize).min(CONFIG_BYTES);
        if len < config::LEAST {
            return Err(self.broken(&format!("has a configuration of {len} bytes")));
        }
        for _ in 0..READS_MAX {
            let before = self.common.load8(common::CONFIG_GENERATION);
            let bytes = self.read_config(len);
            if self.common.load8(common::CONFIG_GENERATION) == before {
                return Ok((bytes, len));
            }
        }
        Err(self.broken("changes its configuration faster than it can be read"))
    }

    /// The fields that lie within the first `len` bytes of the configuration space, each by an access of its own width
    /// as section 4.1.3.1 demands; zeroes for the others.
    fn read_config(&self, len: usize) -> [u8; CONFIG_BYTES] {
        let mut bytes = [0; CONFIG_BYTES];
        let mut at = 0;
        while let width = config::field_width(at)
            && at + width <= len
        {
            let word = match width {
                1 => self.config.load8(at).into(),
                2 => self.config.load16(at).into(),
                _ => self.config.load32(at),
            };
            bytes[at..at + width].copy_from_slice(&word.to_le_bytes()[..width]);
            at += width;
        }
        bytes
    }

    /// Queues that the device has, and most entries of one that each of the first `count` takes.
    ///
    /// # Errors
    /// The device has no queue.
    pub(super) fn queue_limits(&self) -> Result<(usize, u16), Error> {
        let count = self.common.load16(common::NUM_QUEUES);
        let sizes = (0..count.min(1024)).map(|queue| {
            self.common.store16(common::QUEUE_SELECT, queue);
            self.common.load16(common::QUEUE_SIZE)
        });
        // A queue of no entries is not there.
        let sizes: Vec<u16> = sizes.take_while(|size| *size > 0).collect();
        match sizes.iter().min() {
            Some(least) if *least >= 4 => Ok((sizes.len(), *least)),
            Some(least) => Err(self.broken(&format!("has queues of {least} entries, which is too few"))),
            None => Err(self.broken("has no queues")),
        }
    }

    /// Has interrupt `vector` tell changes of the configuration; `None`: nobody is told.
    ///
    /// # Errors
    /// The device has no interrupt left.
    pub(super) fn tell_changes(&self, vector: Option<u16>) -> Result<(), Error> {
        let vector = vector.unwrap_or(NO_VECTOR);
        self.common.store16(common::CONFIG_MSIX_VECTOR, vector);
        match self.common.load16(common::CONFIG_MSIX_VECTOR) == vector {
            true => Ok(()),
            false => Err(self.broken("has no interrupt for changes of its configuration")),
        }
    }

    /// How the device is told of new chains in a queue.
    ///
    /// # Errors
    /// It says that the register lies outside of the structure for them.
    pub(super) fn kick(&self, queue: u16) -> Result<Kick, Error> {
        self.common.store16(common::QUEUE_SELECT, queue);
        let place = u64::from(self.common.load16(common::QUEUE_NOTIFY_OFF));
        let notify = self.layout.notify;
        let at = place * u64::from(self.layout.notify_multiplier);
        if at + 2 > u64::from(notify.len_bytes) {
            return Err(self.broken(&format!("has no register to tell it of queue {queue}")));
        }
        let registers = self.function.registers(notify.bar, u64::from(notify.offset) + at, 2)?;
        Ok(Kick::Register { registers, offset: 0, queue })
    }

    /// Sets up a queue and enables it. `vector`: which interrupt tells of used chains; `None`: it is polled.
    ///
    /// # Errors
    /// The device does not take it.
    pub(super) fn start_queue(
        &self,
        queue: u16,
        memory: &QueueMemory,
        vector: Option<u16>,
    ) -> Result<(), Error> {
        let (descriptors, driver_area, device_area) = memory.areas();
        self.common.store16(common::QUEUE_SELECT, queue);
        self.common.store16(common::QUEUE_SIZE, memory.size());
        let vector = vector.unwrap_or(NO_VECTOR);
        self.common.store16(common::QUEUE_MSIX_VECTOR, vector);
        if self.common.load16(common::QUEUE_MSIX_VECTOR) != vector {
            return Err(self.broken(&format!("has no interrupt for queue {queue}")));
        }
        let areas = [
            (common::QUEUE_DESC, descriptors),
            (common::QUEUE_DRIVER, driver_area),
            (common::QUEUE_DEVICE, device_area),
        ];
        for (register, address) in areas {
            self.common.store32(register, address as u32);
            self.common.store32(register + 4, (address >> 32) as u32);
        }
        self.common.store16(common::QUEUE_ENABLE, 1);
        match self.common.load16(common::QUEUE_ENABLE) {
            1 => Ok(()),
            _ => Err(self.broken(&format!("does not take queue {queue}"))),
        }
    }

    /// Lets the device run.
    ///
    /// # Errors
    /// The device may not reach memory.
    pub(super) fn run(&self) -> Result<(), Error> {
        set_bus_master(&*self.function, true)?;
        let all = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.common.store8(common::DEVICE_STATUS, all);
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.leave();
    }
}
