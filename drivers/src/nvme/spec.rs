//! Numbers of the specifications.

/// Opcodes of the admin command set (Base 2.0c, section 5, figure 138).
pub(crate) mod admin {
    pub(crate) const CREATE_SQ: u8 = 0x01;
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const CREATE_CQ: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const DOORBELL_BUFFER_CONFIG: u8 = 0x7c;
}

/// Opcodes of the NVM command set (NVM 1.0c, section 3, figure 12).
pub(crate) mod nvm {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;

    /// In dword 12 of a write: on stable storage before it completes.
    pub(crate) const FUA: u32 = 1 << 30;
    /// In dword 12 of a write zeroes: the blocks may be deallocated.
    pub(crate) const DEALLOCATE: u32 = 1 << 25;
    /// In dword 11 of a dataset management: the ranges may be deallocated.
    pub(crate) const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;
}

/// What an identify command asks for (Base 2.0c, section 5.17, figure 273).
pub(crate) mod cns {
    pub(crate) const NAMESPACE: u32 = 0x00;
    pub(crate) const CONTROLLER: u32 = 0x01;
    pub(crate) const ACTIVE_NAMESPACES: u32 = 0x02;
    pub(crate) const NAMESPACE_DESCRIPTORS: u32 = 0x03;
    /// The controller as a command set sees it.
    pub(crate) const COMMAND_SET_CONTROLLER: u32 = 0x06;
}

/// Features (Base 2.0c, section 5.27.1, figure 317).
pub(crate) mod feature {
    pub(crate) const NUMBER_OF_QUEUES: u32 = 0x07;
}

/// Log pages (Base 2.0c, section 5.16.1, figure 202).
pub(crate) mod log {
    pub(crate) const HEALTH: u32 = 0x02;
}

/// Length of what identify and log commands answer at most.
pub(crate) const ANSWER_BYTES: usize = 4096;

/// The namespace of a command that is for all of them.
pub(crate) const ALL_NAMESPACES: u32 = 0xffff_ffff;

/// Versions as a controller tells them (Base 2.0c, section 3.1.3.2).
pub(crate) mod version {
    pub(crate) const V1_1: u32 = 0x0001_0100;
    pub(crate) const V1_3: u32 = 0x0001_0300;
}
