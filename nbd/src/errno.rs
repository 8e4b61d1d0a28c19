//! The eight error values of the protocol, and how an operating system's errors become one of them.

/// An error value that may stand in a reply (doc/proto.md, section "Error values").
///
/// No other value is ever sent. Zero (success) is not an error and has no variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Errno {
    /// `NBD_EPERM`: the export is read-only, or the operation is not allowed.
    Perm,
    /// `NBD_EIO`: the device failed.
    Io,
    /// `NBD_ENOMEM`: no memory; a server should not send it.
    NoMem,
    /// `NBD_EINVAL`: the request makes no sense, or is not supported.
    Inval,
    /// `NBD_ENOSPC`: no space, or a write beyond the end.
    NoSpc,
    /// `NBD_EOVERFLOW`: too large for DF, or too large a command without payload.
    Overflow,
    /// `NBD_ENOTSUP`: only for WRITE_ZEROES with FAST_ZERO.
    NotSup,
    /// `NBD_ESHUTDOWN`: the server is going down.
    Shutdown,
}

/// What kind of request failed: two values may only be sent in answer to some requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ErrnoContext {
    /// Any request that is not one of those below.
    #[default]
    Plain,
    /// WRITE_ZEROES with FAST_ZERO: "not supported" may be said.
    FastZero,
    /// READ with DF, or a long command without payload: "too large" may be said.
    Oversized,
}

/// Error numbers of Linux (include/uapi/asm-generic/errno-base.h and errno.h), as far as the mapping needs them.
mod linux {
    pub(super) const EPERM: i32 = 1;
    pub(super) const E2BIG: i32 = 7;
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const EACCES: i32 = 13;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const EFBIG: i32 = 27;
    pub(super) const ENOSPC: i32 = 28;
    pub(super) const EROFS: i32 = 30;
    pub(super) const EDOM: i32 = 33;
    pub(super) const ERANGE: i32 = 34;
    pub(super) const EOVERFLOW: i32 = 75;
    pub(super) const EOPNOTSUPP: i32 = 95;
    pub(super) const ESHUTDOWN: i32 = 108;
    pub(super) const EDQUOT: i32 = 122;
}

impl Errno {
    /// All values, in the order of the specification.
    pub const ALL: [Errno; 8] = [
        Errno::Perm,
        Errno::Io,
        Errno::NoMem,
        Errno::Inval,
        Errno::NoSpc,
        Errno::Overflow,
        Errno::NotSup,
        Errno::Shutdown,
    ];

    /// The number that goes over the wire.
    pub const fn code(self) -> u32 {
        match self {
            Errno::Perm => 1,
            Errno::Io => 5,
            Errno::NoMem => 12,
            Errno::Inval => 22,
            Errno::NoSpc => 28,
            Errno::Overflow => 75,
            Errno::NotSup => 95,
            Errno::Shutdown => 108,
        }
    }

    /// The value behind a number from the wire.
    ///
    /// A number that the protocol does not know counts as `Inval`, as section "Error values" asks of clients.
    pub const fn from_code(code: u32) -> Errno {
        match code {
            1 => Errno::Perm,
            5 => Errno::Io,
            12 => Errno::NoMem,
            28 => Errno::NoSpc,
            75 => Errno::Overflow,
            95 => Errno::NotSup,
            108 => Errno::Shutdown,
            _ => Errno::Inval,
        }
    }

    /// Maps an error number of Linux; total, and the only such mapping.
    ///
    /// Numbers that accuse the caller become `Inval`, everything unknown counts as trouble with the device: `Io`.
    /// Values that a request of this `context` may not be answered with become `Inval`.
    pub const fn from_os(raw_errno: i32, context: ErrnoContext) -> Errno {
        match raw_errno {
            linux::EPERM | linux::EACCES | linux::EROFS => Errno::Perm,
            linux::ENOMEM => Errno::NoMem,
            linux::ENOSPC | linux::EDQUOT | linux::EFBIG => Errno::NoSpc,
            linux::EINVAL | linux::E2BIG | linux::EDOM | linux::ERANGE => Errno::Inval,
            linux::EOPNOTSUPP if matches!(context, ErrnoContext::FastZero) => Errno::NotSup,
            linux::EOVERFLOW if matches!(context, ErrnoContext::Oversized) => Errno::Overflow,
            linux::EOPNOTSUPP | linux::EOVERFLOW => Errno::Inval,
            linux::ESHUTDOWN => Errno::Shutdown,
            _ => Errno::Io,
        }
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Errno::Perm => "operation not permitted",
            Errno::Io => "input/output error",
            Errno::NoMem => "out of memory",
            Errno::Inval => "invalid argument",
            Errno::NoSpc => "no space left",
            Errno::Overflow => "value too large",
            Errno::NotSup => "operation not supported",
            Errno::Shutdown => "server is shutting down",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_specification_and_come_back() {
        assert_eq!(Errno::ALL.map(Errno::code), [1, 5, 12, 22, 28, 75, 95, 108]);
        for errno in Errno::ALL {
            assert_eq!(Errno::from_code(errno.code()), errno);
        }
    }

    #[test]
    fn an_unknown_code_counts_as_invalid() {
        for code in [0, 2, 13, 30, 107, u32::MAX] {
            assert_eq!(Errno::from_code(code), Errno::Inval);
        }
    }

    #[test]
    fn not_supported_is_said_only_to_fast_zero() {
        assert_eq!(Errno::from_os(95, ErrnoContext::FastZero), Errno::NotSup);
        assert_eq!(Errno::from_os(95, ErrnoContext::Plain), Errno::Inval);
        assert_eq!(Errno::from_os(95, ErrnoContext::Oversized), Errno::Inval);
    }

    #[test]
    fn overflow_is_said_only_where_a_length_may_be_too_large() {
        assert_eq!(Errno::from_os(75, ErrnoContext::Oversized), Errno::Overflow);
        assert_eq!(Errno::from_os(75, ErrnoContext::Plain), Errno::Inval);
        assert_eq!(Errno::from_os(75, ErrnoContext::FastZero), Errno::Inval);
    }

    #[test]
    fn system_errors_map_in_every_context() {
        let table = [
            (1, Errno::Perm),
            (13, Errno::Perm),
            (30, Errno::Perm),
            (5, Errno::Io),
            (6, Errno::Io),
            (61, Errno::Io),
            (110, Errno::Io),
            (12, Errno::NoMem),
            (22, Errno::Inval),
            (28, Errno::NoSpc),
            (27, Errno::NoSpc),
            (122, Errno::NoSpc),
            (108, Errno::Shutdown),
            (0, Errno::Io),
            (-5, Errno::Io),
        ];
        for (raw, expected) in table {
            for context in [ErrnoContext::Plain, ErrnoContext::FastZero, ErrnoContext::Oversized] {
                assert_eq!(Errno::from_os(raw, context), expected, "errno {raw}");
            }
        }
    }
}
