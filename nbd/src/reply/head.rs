//! A few bytes of reply header, kept in place.

/// Longest head: an extended header with the payload of a hole.
const CAPACITY: usize = 48;

/// The bytes before a reply's data; no heap, at most 48 bytes.
#[derive(Clone, Copy)]
pub struct Head {
    bytes: [u8; CAPACITY],
    len: u8,
}

impl Head {
    #[inline]
    pub(super) const fn new() -> Head {
        Head { bytes: [0; CAPACITY], len: 0 }
    }

    #[inline(always)]
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        let at = usize::from(self.len);
        self.bytes[at..at + N].copy_from_slice(&value);
        self.len += N as u8;
    }

    #[inline(always)]
    pub(super) fn put_u16(&mut self, value: u16) {
        self.put(value.to_be_bytes());
    }

    #[inline(always)]
    pub(super) fn put_u32(&mut self, value: u32) {
        self.put(value.to_be_bytes());
    }

    #[inline(always)]
    pub(super) fn put_u64(&mut self, value: u64) {
        self.put(value.to_be_bytes());
    }

    /// The bytes to send.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Head").field(&self.as_bytes()).finish()
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Head {}
