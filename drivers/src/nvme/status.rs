//! [`Status`]: what the status of a completion means (Base 2.0c, section 3.3.3.2.1 "Status Field Definition").

use std::fmt;

use crate::error::Errno;

/// The status field, without the phase: code, type, retry delay, more, do not retry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u16);

/// Types of status codes.
const GENERIC: u8 = 0;
const COMMAND_SPECIFIC: u8 = 1;
const MEDIA: u8 = 2;
const PATH: u8 = 3;

impl Status {
    /// From the upper half of dword 3 of a completion, whose lowest bit is the phase.
    pub(crate) fn from_completion(half: u16) -> Status {
        Status(half >> 1)
    }

    /// From the result of a passthrough ioctl or ring command, which has no phase.
    pub(crate) fn from_passthrough(result: u16) -> Status {
        Status(result & 0x7fff)
    }

    pub(crate) fn is_success(self) -> bool {
        self.kind() == GENERIC && self.code() == 0
    }

    fn code(self) -> u8 {
        self.0 as u8
    }

    fn kind(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// Whether the same command might succeed if it was sent again.
    pub(crate) fn may_retry(self) -> bool {
        !self.is_success() && self.0 >> 14 == 0
    }

    /// Which of the controller's three retry delays it asks for, counted from 0; `None`: at once.
    pub(crate) fn retry_delay(self) -> Option<usize> {
        usize::from(self.0 >> 11 & 3).checked_sub(1)
    }

    /// Whether the command did not find its way to the controller or back.
    pub(crate) fn is_of_the_path(self) -> bool {
        self.kind() == PATH
    }

    /// The error number that a client is to see.
    pub(crate) fn errno(self) -> Errno {
        match (self.kind(), self.code()) {
            // Invalid opcode.
            (GENERIC, 0x01) => Errno::NOT_SUPPORTED,
            // Invalid field; LBA out of range.
            (GENERIC, 0x02 | 0x80) => Errno::INVALID,
            // Capacity exceeded; thin provisioning: namespace insufficient capacity.
            (GENERIC, 0x81) | (COMMAND_SPECIFIC, 0x15) => Errno::NO_SPACE,
            // Namespace is write protected; attempted write to read only range.
            (GENERIC, 0x20) | (COMMAND_SPECIFIC, 0x82) => Errno::READ_ONLY,
            // Access denied.
            (MEDIA, 0x86) => Errno::from_raw(libc::EACCES),
            _ => Errno::IO,
        }
    }

    fn meaning(self) -> &'static str {
        match (self.kind(), self.code()) {
            (GENERIC, 0x00) => "success",
            (GENERIC, 0x01) => "invalid command opcode",
            (GENERIC, 0x02) => "invalid field in command",
            (GENERIC, 0x03) => "command ID conflict",
            (GENERIC, 0x04) => "data transfer error",
            (GENERIC, 0x05) => "aborted due to power loss",
            (GENERIC, 0x06) => "internal error",
            (GENERIC, 0x07) => "abort requested",
            (GENERIC, 0x08) => "aborted due to SQ deletion",
            (GENERIC, 0x0b) => "invalid namespace or format",
            (GENERIC, 0x13) => "invalid PRP offset",
            (GENERIC, 0x20) => "namespace is write protected",
            (GENERIC, 0x80) => "LBA out of range",
            (GENERIC, 0x81) => "capacity exceeded",
            (GENERIC, 0x82) => "namespace not ready",
            (GENERIC, 0x84) => "format in progress",
            (COMMAND_SPECIFIC, 0x15) => "namespace insufficient capacity",
            (COMMAND_SPECIFIC, 0x82) => "attempted write to read only range",
            (MEDIA, 0x80) => "write fault",
            (MEDIA, 0x81) => "unrecovered read error",
            (MEDIA, 0x82) => "end-to-end guard check error",
            (MEDIA, 0x85) => "compare failure",
            (MEDIA, 0x86) => "access denied",
            (MEDIA, 0x87) => "deallocated or unwritten logical block",
            (PATH, 0x70) => "host pathing error",
            (PATH, 0x71) => "command aborted by host",
            (PATH, _) => "path related error",
            _ => "error",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {:x}/{:02x}h)", self.meaning(), self.kind(), self.code())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_apart() {
        // Do not retry, unrecovered read error, phase 1.
        let status = Status::from_completion(1 << 15 | (2 << 8 | 0x81) << 1 | 1);
        assert!(!status.is_success() && !status.may_retry());
        assert_eq!((status.errno(), status.retry_delay()), (Errno::IO, None));
        assert_eq!(status.to_string(), "unrecovered read error (status 2/81h)");
        // Namespace not ready, second delay.
        let status = Status::from_completion((2 << 11 | 0x82) << 1);
        assert!(status.may_retry());
        assert_eq!(status.retry_delay(), Some(1));
        assert!(Status::from_completion(1).is_success() && !Status::from_completion(1).may_retry());
        assert_eq!(Status::from_passthrough(0x4281), Status::from_completion(1 << 15 | (2 << 8 | 0x81) << 1));
    }

    #[test]
    fn each_status_has_an_error_number() {
        for half in 0..=u16::MAX {
            let status = Status::from_completion(half);
            assert!(status.errno().raw() > 0 && !status.to_string().is_empty());
        }
        assert_eq!(Status::from_passthrough(0x81).errno(), Errno::NO_SPACE);
        assert_eq!(Status::from_passthrough(0x20).errno(), Errno::READ_ONLY);
    }
}
