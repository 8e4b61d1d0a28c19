//! The properties that every transport of a virtio block device has.

use super::config::BlkConfig;
use super::memory::{Format, Layout};
use super::rings::Queues;
use super::spec::feature;
use crate::device::properties::agreed;
pub(crate) use crate::device::properties::{MAX_QUEUE_SIZE, NUM_POLL_QUEUES};
use crate::error::Error;
use crate::limits::Limits;
use crate::property::{self, Extra, Kind, Phase, Property, Settings, Value};

/// `queue-size` when nobody sets it and the device takes as many.
const DEFAULT_QUEUE_SIZE: u16 = 256;

pub(crate) const QUEUE_SIZE: Property = Property {
    name: "queue-size",
    kind: Kind::Int { min: 4, max: 32768 },
    phase: Phase::Start,
    default: "256, or as many as there may be",
    help: "Entries of each queue, a power of two",
};

pub(crate) const REQUEST_TIMEOUT: Property = Property {
    name: "request-timeout",
    kind: Kind::Patience { max: 31_536_000 },
    phase: Phase::Connect,
    default: "forever",
    help: "How long the device may end no request before it counts as failed",
};

pub(crate) const SERIAL: Property = Property {
    name: "serial",
    kind: Kind::Text,
    phase: Phase::Fact,
    default: "",
    help: "What the device says it is",
};

/// Features that the driver makes use of over every transport. Not CONFIG_WCE: a device that says that its cache is off
/// is flushed all the same, since qemu-storage-daemon says so of every disk and caches as it likes.
pub(crate) const FEATURES: u64 = feature::SIZE_MAX
    | feature::SEG_MAX
    | feature::READ_ONLY
    | feature::BLK_SIZE
    | feature::FLUSH
    | feature::TOPOLOGY
    | feature::MQ
    | feature::DISCARD
    | feature::WRITE_ZEROES
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::VERSION_1;

/// The facts about the disk with this configuration, by the property `read-only`. `name` is what messages call it.
///
/// # Errors
/// They cannot be, or it is read-only and must not be.
pub(crate) fn limits(config: &BlkConfig, settings: &Settings, name: &str) -> Result<Limits, Error> {
    agreed(config.limits(settings.bool("read-only").unwrap_or(false)), settings, name)
}

/// What a device offers to be run with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) config: BlkConfig,
    /// The features that will be negotiated.
    pub(crate) features: u64,
    pub(crate) max_queues: usize,
    /// Most entries of a queue.
    pub(crate) max_queue_size: u16,
}

impl Offer {
    /// Queues for so many workers by the properties. `name` is what messages call the device.
    ///
    /// # Errors
    /// A property asks for what the device does not have.
    pub(crate) fn queues(&self, settings: &Settings, workers: usize, name: &str) -> Result<Queues, Error> {
        let size = self.queue_size(settings, name)?;
        // Header and status besides the data.
        let segments = u16::try_from(self.config.segments()).unwrap_or(u16::MAX).min(size - 2);
        let indirect = self.features & feature::INDIRECT_DESC != 0;
        let format = if self.features & feature::RING_PACKED != 0 { Format::Packed } else { Format::Split };
        let layout = Layout { format, size, chain_max: segments.max(1) + 2, indirect };
        let (wanted, most) = (settings.count("num-queues"), self.max_queues);
        if let Some(count) = wanted.filter(|count| *count > most) {
            return Err(Error::device(format!("{name} has {most} queues, not {count}"))
                .hint(format!("num-queues={most} or less")));
        }
        let count = wanted.unwrap_or(workers).min(most).min(workers);
        let polled = settings.count("num-poll-queues").unwrap_or(0).min(count);
        Ok(Queues { count, polled, layout })
    }

    /// The features to negotiate for such queues. Polled ones go without event indices, with which a device that is
    /// late calls once too often.
    pub(crate) fn features_for(&self, queues: Queues) -> u64 {
        self.features & !if queues.polled > 0 { feature::EVENT_IDX } else { 0 }
    }

    fn queue_size(&self, settings: &Settings, name: &str) -> Result<u16, Error> {
        let most = self.max_queue_size;
        let Some(size) = settings.count("queue-size") else { return Ok(DEFAULT_QUEUE_SIZE.min(most)) };
        match u16::try_from(size).ok().filter(|size| size.is_power_of_two()) {
            None => {
                Err(Error::usage(format!("property 'queue-size' cannot be {size}: it is no power of two"))
                    .hint(format!("for example: queue-size={DEFAULT_QUEUE_SIZE}")))
            }
            Some(size) if size > most => {
                Err(Error::device(format!("{name} has queues of at most {most} entries, not {size}"))
                    .hint(format!("queue-size={most} or less")))
            }
            Some(size) => Ok(size),
        }
    }

    /// The facts for requests that fit into such queues, and the configuration that says so.
    ///
    /// # Errors
    /// Not even one block fits.
    pub(crate) fn fitted(
        &self,
        limits: Limits,
        queues: Queues,
        name: &str,
    ) -> Result<(BlkConfig, Limits), Error> {
        // Beside header and status.
        let config = self.config.with_segments_max(queues.layout.chain_max - 2);
        let fitted = config.limits(true).map_err(|error| {
            Error { message: format!("{name}: {}", error.message), ..error }.hint("take a larger queue-size")
        })?;
        Ok((config, Limits { max_transfer_bytes: fitted.max_transfer_bytes, ..limits }))
    }

    /// Queues before there are any, for properties.
    pub(crate) fn no_queues(&self) -> Queues {
        let size = DEFAULT_QUEUE_SIZE.min(self.max_queue_size);
        let layout = Layout { format: Format::Split, size, chain_max: 3, indirect: true };
        Queues { count: 1, polled: 0, layout }
    }

    /// The value of a property that every transport has; `None` for a name that is not one.
    pub(crate) fn property(
        &self,
        driver: &'static str,
        limits: &Limits,
        queues: Queues,
        serial: &str,
        name: &str,
    ) -> Option<Value> {
        let extra = Extra {
            driver,
            num_queues: queues.count,
            max_queues: self.max_queues,
            poll_queues: true,
            may_pin: true,
            discard_alignment: self.config.discard_alignment(),
        };
        Some(match name {
            "queue-size" => Value::Int(queues.layout.size.into()),
            "num-poll-queues" => Value::Int(queues.polled as i64),
            "max-queue-size" => Value::Int(self.max_queue_size.into()),
            "serial" => Value::Text(serial.into()),
            "size" => Value::Size(limits.capacity_bytes),
            "needs-mem-regions" | "needs-mem-region-fd" => Value::Bool(true),
            "max-segments" => Value::Int(self.config.segments().into()),
            "max-segment-len" => Value::Int(self.config.segment_bytes().into()),
            _ => return property::fact(name, limits, &extra),
        })
    }
}
