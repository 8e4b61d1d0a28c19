//! [`Gather`]: pieces of memory to be sent together.
#![expect(
    unsafe_code,
    reason = "payload memory may change at any time, so it cannot be an IoSlice of the standard library"
)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use vm_memory::VolatileSlice;

/// Most pieces of memory one send takes.
pub(crate) const GATHER_MAX: usize = 64;

/// Pieces of memory to be sent one after the other.
pub(crate) struct Gather<'a> {
    pieces: [MaybeUninit<libc::iovec>; GATHER_MAX],
    count: usize,
    len_bytes: usize,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> Gather<'a> {
    /// Nothing yet.
    pub(crate) fn new() -> Gather<'a> {
        Gather { pieces: [MaybeUninit::uninit(); GATHER_MAX], count: 0, len_bytes: 0, memory: PhantomData }
    }

    /// Whether no further piece fits.
    pub(crate) fn is_full(&self) -> bool {
        self.count == GATHER_MAX
    }

    /// Bytes gathered so far.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The pieces, for the kernel.
    pub(super) fn as_raw(&self) -> (*const libc::iovec, usize) {
        (self.pieces.as_ptr().cast(), self.count)
    }

    /// The pieces, to be read from.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = VolatileSlice<'a>> + '_ {
        self.pieces[..self.count].iter().map(|piece| {
            // SAFETY: the first `count` pieces are initialised.
            let piece = unsafe { piece.assume_init_ref() };
            // SAFETY: each piece describes memory that is borrowed for 'a. Some of it must not be written; whoever
            // asks for the pieces to send them only reads.
            unsafe { VolatileSlice::new(piece.iov_base.cast(), piece.iov_len) }
        })
    }

    /// Adds private memory. An empty piece adds nothing.
    pub(crate) fn push(&mut self, bytes: &'a [u8]) {
        self.push_raw(bytes.as_ptr().cast_mut(), bytes.len());
    }

    /// Adds memory that may change at any time.
    pub(crate) fn push_volatile(&mut self, slice: &VolatileSlice<'a>) {
        self.push_raw(slice.ptr_guard().as_ptr().cast_mut(), slice.len());
    }

    fn push_raw(&mut self, start: *mut u8, len: usize) {
        if len == 0 {
            return;
        }
        self.pieces[self.count].write(libc::iovec { iov_base: start.cast(), iov_len: len });
        self.count += 1;
        self.len_bytes += len;
    }
}
