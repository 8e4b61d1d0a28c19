//! From what controller and namespace say to the facts about a disk.

use super::identify::{CommandSetLimits, Controller, Namespace};
use crate::error::Error;
use crate::limits::{DiscardLimits, Limits, ZeroesLimits};

/// Most blocks of a read, a write or a write zeroes: the field has 16 bits.
const BLOCKS_MAX: u64 = 1 << 16;

/// Where a namespace is reached, besides what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    /// Longest transfer that whatever carries the commands takes, in bytes.
    pub(crate) max_transfer_bytes: u32,
    /// Addresses of payloads are multiples of this.
    pub(crate) buffer_alignment_bytes: u32,
    /// The controller's smallest page: the unit of its limits.
    pub(crate) page_bytes: u32,
}

/// The facts about the disk. `read_only`: the caller asked for it.
///
/// # Errors
/// They cannot be.
pub(crate) fn limits(
    controller: &Controller,
    namespace: &Namespace,
    command_set: CommandSetLimits,
    carrier: Carrier,
    read_only: bool,
) -> Result<Limits, Error> {
    let block = 1_u32 << namespace.block_exponent;
    let Some(capacity_bytes) = namespace.blocks.checked_mul(block.into()) else {
        let blocks = namespace.blocks;
        return Err(Error::device(format!("the device reports an impossible capacity of {blocks} blocks")));
    };
    let in_pages = |exponent: u8| match exponent {
        0 => None,
        exponent => u64::from(carrier.page_bytes).checked_mul(1_u64.checked_shl(exponent.into())?),
    };
    let blocks_max = BLOCKS_MAX * u64::from(block);
    let mdts = in_pages(controller.mdts).unwrap_or(u64::MAX);
    let transfer = mdts.min(carrier.max_transfer_bytes.into()).min(blocks_max);
    // A controller that does not tell bounds them as transfers, as Linux does.
    let zeroes = in_pages(command_set.write_zeroes_exponent).unwrap_or(mdts).min(blocks_max);
    let discard = match command_set.discard_blocks {
        0 => u32::MAX,
        blocks => blocks,
    };
    let whole = |bytes: u64| bytes / u64::from(block) * u64::from(block);
    let optimal = namespace.optimal_write.and_then(|blocks| blocks.checked_mul(block)).unwrap_or(0);
    Limits {
        capacity_bytes,
        read_only: read_only || namespace.write_protected,
        can_grow: true,
        request_alignment_bytes: block,
        buffer_alignment_bytes: carrier.buffer_alignment_bytes,
        optimal_io_alignment_bytes: block.max(4096),
        optimal_io_bytes: optimal,
        // At most 2^20 blocks of at most 2^20 bytes, bounded by 32 bits of the carrier's limit.
        max_transfer_bytes: whole(transfer) as u32,
        discard: controller.can_discard.then(|| DiscardLimits {
            max_bytes: u64::from(discard) * u64::from(block),
            alignment_bytes: block,
        }),
        write_zeroes: (controller.can_write_zeroes && whole(zeroes) > 0).then(|| ZeroesLimits {
            max_bytes: whole(zeroes),
            alignment_bytes: block,
            fast_unmap: namespace.zeroes_may_deallocate,
            fast_no_unmap: false,
        }),
        fua: true,
        flush_needed: controller.has_cache,
        block_status: false,
        rotational: false,
        immediate: false,
    }
    .validate()
}

/// What discards should be multiples of and where the first such place is, in bytes; 0: not told.
pub(crate) fn discard_alignment(namespace: &Namespace) -> (u32, u32) {
    let bytes = |blocks: u32| blocks.checked_shl(namespace.block_exponent.into()).unwrap_or(0);
    match namespace.discard_granularity {
        Some((granularity, alignment)) => (bytes(granularity), bytes(alignment) % bytes(granularity).max(1)),
        None => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::identify::Answer;
    use crate::nvme::spec::ANSWER_BYTES;

    fn facts(edit: impl FnOnce(&mut Answer, &mut Answer, &mut CommandSetLimits)) -> Result<Limits, Error> {
        let (mut controller, mut namespace) = ([0; ANSWER_BYTES], [0; ANSWER_BYTES]);
        (controller[512], controller[513], controller[77]) = (0x66, 0x44, 7);
        (controller[520], controller[525]) = (0x0c, 1);
        namespace[0..8].copy_from_slice(&1000_u64.to_le_bytes());
        namespace[130] = 12;
        let mut command_set = CommandSetLimits::default();
        edit(&mut controller, &mut namespace, &mut command_set);
        let carrier = Carrier { max_transfer_bytes: 1 << 20, buffer_alignment_bytes: 4, page_bytes: 4096 };
        let controller = Controller::decode(&controller, "it")?;
        limits(&controller, &Namespace::decode(&namespace), command_set, carrier, false)
    }

    #[test]
    fn limits_come_from_what_the_device_says() {
        let known = facts(|_, _, _| {}).unwrap();
        assert_eq!(known.capacity_bytes, 4_096_000);
        assert_eq!((known.max_transfer_bytes, known.request_alignment_bytes), (512 << 10, 4096));
        assert_eq!(known.write_zeroes.unwrap().max_bytes, 512 << 10);
        assert_eq!(known.discard.unwrap().max_bytes, u64::from(u32::MAX) << 12);
        assert!(known.flush_needed && known.fua && !known.read_only);
    }

    #[test]
    fn what_is_not_told_has_the_bounds_of_the_fields() {
        let known = facts(|controller, _, command_set| {
            controller[77] = 0;
            *command_set = CommandSetLimits { write_zeroes_exponent: 4, discard_blocks: 8 };
        })
        .unwrap();
        assert_eq!(known.max_transfer_bytes, 1 << 20);
        assert_eq!(known.write_zeroes.unwrap().max_bytes, 64 << 10);
        assert_eq!(known.discard.unwrap().max_bytes, 32 << 10);
        let known = facts(|controller, _, _| controller[77] = 255).unwrap();
        assert_eq!(known.max_transfer_bytes, 1 << 20, "such an exponent is no limit");
        let known = facts(|controller, namespace, _| {
            (controller[520], controller[525], namespace[99]) = (0, 0, 1);
        })
        .unwrap();
        assert!(known.discard.is_none() && known.write_zeroes.is_none() && known.read_only);
        assert!(!known.flush_needed);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(facts(|_, namespace, _| namespace[..8].fill(0xff)).is_err());
        assert!(facts(|controller, _, _| controller[77] = 1).is_ok());
        // A block that is longer than the longest transfer.
        assert!(facts(|controller, namespace, _| (controller[77], namespace[130]) = (1, 20)).is_err());
    }
}
