//! [`Common`]: the common configuration (VIRTIO 1.2, section 4.1.4.3 "Common configuration structure layout") with the
//! rules of the initialization (section 3.1.1 "Driver Requirements: Device Initialization").

use super::kind::{Fault, Kind};
use crate::testing::device_ring::{Areas, QueueSetup, Violation};
use crate::testing::feature::{ACCESS_PLATFORM, EVENT_IDX, INDIRECT_DESC, RING_PACKED, VERSION_1};

/// Bits of the device status (section 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

/// What the driver may write to the status, besides 0.
const STEPS: [u8; 4] = [
    ACKNOWLEDGE,
    ACKNOWLEDGE | DRIVER,
    ACKNOWLEDGE | DRIVER | FEATURES_OK,
    ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
];

const NO_VECTOR: u16 = 0xffff;

/// What a write asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// The device begins to serve its queues.
    Run,
    /// It is to stop, and to forget everything.
    Reset,
}

/// A queue as its registers have it.
#[derive(Clone, Copy, Debug)]
struct QueueRegisters {
    size: u16,
    vector: u16,
    enabled: bool,
    /// Descriptor area, driver area, device area.
    areas: [u64; 3],
}

/// The registers.
#[derive(Debug)]
pub(super) struct Common {
    kind: Kind,
    device_select: u32,
    driver_select: u32,
    features: u64,
    changes_vector: u16,
    status: u8,
    generation: u8,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
}

impl Common {
    /// A device that somebody else has left running.
    pub(super) fn new(kind: Kind) -> Common {
        let mut common = Common {
            kind,
            device_select: 0,
            driver_select: 0,
            features: 0,
            changes_vector: 0,
            status: 0,
            generation: 0,
            queue_select: 0,
            queues: Vec::new(),
        };
        common.reset();
        common.status = STEPS[3];
        common
    }

    /// Forgets everything but the number of changes.
    pub(super) fn reset(&mut self) {
        let queue =
            QueueRegisters { size: self.kind.queue_size, vector: NO_VECTOR, enabled: false, areas: [0; 3] };
        let queues = vec![queue; self.kind.queues.into()];
        let (kind, generation) = (self.kind, self.generation);
        *self = Common {
            kind,
            device_select: 0,
            driver_select: 0,
            features: 0,
            changes_vector: NO_VECTOR,
            status: 0,
            generation,
            queue_select: 0,
            queues,
        };
    }

    pub(super) fn features(&self) -> u64 {
        self.features
    }

    pub(super) fn is_running(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    pub(super) fn changes_vector(&self) -> u16 {
        self.changes_vector
    }

    /// The interrupt of a queue.
    pub(super) fn queue_vector(&self, queue: usize) -> u16 {
        self.queues.get(queue).map_or(NO_VECTOR, |queue| queue.vector)
    }

    /// The configuration has changed.
    pub(super) fn change(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// The device is in an error state.
    pub(super) fn fail(&mut self) {
        self.status |= NEEDS_RESET;
    }

    /// What is known of each queue that is enabled, and whether they are packed.
    pub(super) fn setups(&self) -> (bool, Vec<Option<QueueSetup>>) {
        let has = |feature: u64| self.features & feature != 0;
        let setup = |queue: &QueueRegisters| QueueSetup {
            areas: Areas { descriptors: queue.areas[0], driver: queue.areas[1], device: queue.areas[2] },
            size: queue.size,
            indirect: has(INDIRECT_DESC),
            event_idx: has(EVENT_IDX),
        };
        let queues = self.queues.iter().map(|queue| queue.enabled.then(|| setup(queue)));
        (has(RING_PACKED), queues.collect())
    }

    /// Reads the field of `width` bytes at `offset`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn load(&mut self, offset: usize, width: usize) -> Result<u32, Violation> {
        let queue = self.queues.get(usize::from(self.queue_select)).copied();
        let of_queue = |field: fn(QueueRegisters) -> u32| queue.map_or(0, field);
        Ok(match (offset, width) {
            (0x00, 4) => self.device_select,
            (0x04, 4) => half(self.kind.offered(), self.device_select),
            (0x08, 4) => self.driver_select,
            (0x0c, 4) => half(self.features, self.driver_select),
            (0x10, 2) => self.changes_vector.into(),
            (0x12, 2) => self.kind.queues.into(),
            (0x14, 1) => self.status.into(),
            (0x15, 1) => self.load_generation(),
            (0x16, 2) => self.queue_select.into(),
            (0x18, 2) => of_queue(|queue| queue.size.into()),
            (0x1a, 2) => of_queue(|queue| queue.vector.into()),
            (0x1c, 2) => of_queue(|queue| queue.enabled.into()),
            (0x1e, 2) if self.kind.fault == Fault::NotifyOutside => 0xffff,
            (0x1e, 2) => self.queue_select.into(),
            (0x20..0x38, 4) if offset.is_multiple_of(4) => {
                let areas = queue.map_or([0; 3], |queue| queue.areas);
                half(areas[(offset - 0x20) / 8], (offset / 4 % 2) as u32)
            }
            _ => return Err(Violation(format!("{width} bytes are read at {offset:#x}"))),
        })
    }

    fn load_generation(&mut self) -> u32 {
        if self.kind.fault == Fault::Restless {
            self.change();
        }
        self.generation.into()
    }

    /// Writes the field of `width` bytes at `offset`.
    ///
    /// # Errors
    /// There is none, or it is not to be written with that now.
    pub(super) fn store(&mut self, offset: usize, width: usize, value: u32) -> Result<Effect, Violation> {
        match (offset, width) {
            (0x00, 4) => self.device_select = value,
            (0x08, 4) => self.driver_select = value,
            (0x0c, 4) => self.store_features(value)?,
            (0x10, 2) => {
                let refused = self.kind.fault == Fault::ChangesVectorRefused;
                self.changes_vector = self.vector(value as u16, refused);
            }
            (0x14, 1) => return self.store_status(value as u8),
            (0x16, 2) => self.queue_select = value as u16,
            (0x18..0x1e, 2) | (0x20..0x38, 4) => self.store_queue(offset, value)?,
            _ => return Err(Violation(format!("{width} bytes are written at {offset:#x}"))),
        }
        Ok(Effect::Nothing)
    }

    fn store_features(&mut self, value: u32) -> Result<(), Violation> {
        if self.status & (DRIVER | FEATURES_OK) != DRIVER {
            return Err(Violation(format!("features are written at status {:#x}", self.status)));
        }
        let shift = match self.driver_select {
            0 => 0,
            1 => 32,
            // There are no such features.
            _ => return if value == 0 { Ok(()) } else { Err(Violation("features above 63".into())) },
        };
        self.features = self.features & !(0xffff_ffff << shift) | u64::from(value) << shift;
        Ok(())
    }

    /// What a vector register holds after it was written.
    fn vector(&self, wanted: u16, refused: bool) -> u16 {
        if wanted < self.kind.vectors && !refused { wanted } else { NO_VECTOR }
    }

    fn store_status(&mut self, value: u8) -> Result<Effect, Violation> {
        if value == 0 {
            return Ok(self.store_reset());
        }
        let kept = self.status & NEEDS_RESET;
        let step = value & !(NEEDS_RESET | FAILED);
        if !STEPS.contains(&step) || self.status & !kept & !value != 0 {
            return Err(Violation(format!("the status goes from {:#x} to {value:#x}", self.status)));
        }
        let added = value & !self.status;
        self.status |= value;
        if added & FEATURES_OK != 0 {
            self.judge_features()?;
        }
        Ok(if added & DRIVER_OK == 0 { Effect::Nothing } else { Effect::Run })
    }

    fn store_reset(&self) -> Effect {
        let is_again = self.is_running() && self.features != 0;
        match self.kind.fault {
            Fault::NeverResets => Effect::Nothing,
            Fault::NeverResetsAgain if is_again => Effect::Nothing,
            _ => Effect::Reset,
        }
    }

    /// Takes FEATURES_OK back if the features will not do.
    fn judge_features(&mut self) -> Result<(), Violation> {
        let offered = self.kind.offered();
        let needed = offered & (VERSION_1 | ACCESS_PLATFORM);
        if self.features & needed != needed || self.kind.fault == Fault::FeaturesRefused {
            self.status &= !FEATURES_OK;
        }
        match self.features & !offered {
            0 => Ok(()),
            strange => Err(Violation(format!("features that are not offered: {strange:#x}"))),
        }
    }

    fn store_queue(&mut self, offset: usize, value: u32) -> Result<(), Violation> {
        let vector = self.vector(value as u16, self.kind.fault == Fault::VectorRefused);
        let is_packed = self.features & RING_PACKED != 0;
        let is_time = self.status & (FEATURES_OK | DRIVER_OK) == FEATURES_OK;
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)).filter(|_| is_time) else {
            let (queue, status) = (self.queue_select, self.status);
            return Err(Violation(format!("queue {queue} is set up at status {status:#x}")));
        };
        if queue.enabled {
            return Err(Violation(format!("{value:#x} is written at {offset:#x} of an enabled queue")));
        }
        match offset {
            0x18 => {
                let size = value as u16;
                if size == 0 || size > self.kind.queue_size || !is_packed && !size.is_power_of_two() {
                    return Err(Violation(format!("a queue of {size} entries")));
                }
                queue.size = size;
            }
            0x1a => queue.vector = vector,
            0x1c if value == 1 => {
                check_areas(queue.areas, is_packed)?;
                queue.enabled = self.kind.fault != Fault::QueueRefused;
            }
            0x20.. if offset.is_multiple_of(4) => {
                let area = &mut queue.areas[(offset - 0x20) / 8];
                let shift = 32 * (offset / 4 % 2);
                *area = *area & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
            _ => return Err(Violation(format!("{value:#x} is written at {offset:#x}"))),
        }
        Ok(())
    }
}

/// Alignments of section 2.7 and 2.8.
fn check_areas([descriptors, driver, device]: [u64; 3], is_packed: bool) -> Result<(), Violation> {
    let driver_alignment = if is_packed { 4 } else { 2 };
    if descriptors.is_multiple_of(16) && driver.is_multiple_of(driver_alignment) && device.is_multiple_of(4) {
        return Ok(());
    }
    Err(Violation(format!("a queue at {descriptors:#x}, {driver:#x}, {device:#x}")))
}

/// The low half of a word for 0, the high one for 1, nothing for more.
fn half(word: u64, select: u32) -> u32 {
    match select {
        0 => word as u32,
        1 => (word >> 32) as u32,
        _ => 0,
    }
}
