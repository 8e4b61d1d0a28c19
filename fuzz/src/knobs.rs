//! Small decisions made from the first bytes of an input.

/// Takes integers from the front of the input; zeroes when it is used up.
pub(crate) struct Knobs<'a>(pub(crate) &'a [u8]);

impl<'a> Knobs<'a> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = N.min(self.0.len());
        let (head, tail) = self.0.split_at(taken);
        bytes[..taken].copy_from_slice(head);
        self.0 = tail;
        bytes
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }
}
