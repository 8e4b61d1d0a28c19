//! [`Kind`]: what a controller is to be; [`Fault`]: what it does wrong.

use std::time::Duration;

/// What a controller is to be.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Interface, subclass and class in the configuration space.
    pub class: [u8; 3],
    /// Size of each namespace, a multiple of the block.
    pub capacity_bytes: usize,
    /// Length of a block, as a power of two.
    pub block_exponent: u8,
    /// Number of namespaces.
    pub namespaces: u32,
    /// Pairs of queues, without those of administration.
    pub queues: u16,
    /// Most entries of a queue.
    pub entries: u32,
    /// Interrupts that it can tell apart.
    pub vectors: u16,
    /// Distance of doorbells as a power of two, in units of 4 bytes.
    pub stride_exponent: u8,
    /// Doorbells may lie in memory.
    pub shadow: bool,
    /// Longest transfer as a power of two, in pages; 0: no limit.
    pub mdts: u8,
    /// Pauses before a command is sent again, in units of 100 ms.
    pub retry_delays: [u16; 3],
    /// The namespaces are write protected.
    pub read_only: bool,
    /// How long it takes to start, and to stop.
    pub change: Duration,
    /// What it does wrong.
    pub fault: Fault,
}

impl Default for Kind {
    /// One namespace of 1 MiB with one queue and its interrupts.
    fn default() -> Kind {
        Kind {
            class: [0x02, 0x08, 0x01],
            capacity_bytes: 1 << 20,
            block_exponent: 9,
            namespaces: 1,
            queues: 1,
            entries: 256,
            vectors: 2,
            stride_exponent: 0,
            shadow: false,
            mdts: 0,
            retry_delays: [0; 3],
            read_only: false,
            change: Duration::from_millis(3),
            fault: Fault::None,
        }
    }
}

/// What a controller does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nothing answers: neither the configuration space nor registers.
    NotThere,
    /// The configuration space answers, registers do not.
    NoRegisters,
    /// It does not have the NVM command set.
    OtherCommandSet,
    /// The system does not let it reach memory.
    NoMaps,
    /// It does not become ready.
    NeverReady,
    /// It gets into a fatal state when it is started.
    FatalStart,
    /// It does not stop, not even when the function is reset. When it is let go it does what it holds before.
    NeverStops,
    /// It stops only when the function is reset.
    StopsByReset,
    /// It does not end a shutdown.
    NeverShutsDown,
    /// Commands with this opcode that are of administration fail with an internal error.
    AdminFails(u8),
    /// Commands of administration are never ended.
    AdminHangs,
    /// The namespaces are of this command set.
    CommandSet(u8),
    /// They are formatted with metadata of so many bytes.
    Metadata(u8),
    /// They are formatted with protection information of this type.
    Protection(u8),
    /// They are not active.
    NoNamespace,
    /// It is another one than before: its serial number has changed.
    OtherSerial,
}
