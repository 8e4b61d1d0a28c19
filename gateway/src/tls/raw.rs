//! The calls of OpenSSL that have no safe face in the crate `openssl`: on memory that may change at any time, on a
//! socket without a stream around it, and about the kernel.
#![expect(unsafe_code, reason = "calls of a C library")]

use std::ffi::{c_int, c_long, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd};

use foreign_types::ForeignTypeRef as _;
use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, SslContextBuilder, SslRef, SslStream};
use openssl_sys as ffi;
use vm_memory::VolatileSlice;

use super::pipe::Pipe;

/// Questions to a BIO whether the kernel has taken a direction over (openssl/bio.h, `BIO_CTRL_GET_KTLS_*`).
const BIO_CTRL_GET_KTLS_SEND: c_int = 73;
const BIO_CTRL_GET_KTLS_RECV: c_int = 76;

/// Lets the kernel take over (openssl/ssl.h).
const SSL_OP_ENABLE_KTLS: u64 = 1 << 3;

unsafe extern "C" {
    // Not declared by `openssl-sys`; openssl/ssl.h, since 1.1.1 and 3.0.
    fn SSL_free_buffers(ssl: *mut ffi::SSL) -> c_int;
    fn SSL_set_options(ssl: *mut ffi::SSL, options: u64) -> u64;
    fn SSL_clear_options(ssl: *mut ffi::SSL, options: u64) -> u64;
}

/// A length that OpenSSL takes.
fn length(len: usize) -> c_int {
    c_int::try_from(len).unwrap_or(c_int::MAX)
}

fn code(ssl: &SslRef, result: c_int) -> ErrorCode {
    // SAFETY: a plain question about a live object, right after the call that gave `result`.
    ErrorCode::from_raw(unsafe { ffi::SSL_get_error(ssl.as_ptr(), result) })
}

/// Decrypts what is in the pipe: at most one record, into memory that may change at any time.
pub(super) fn read(stream: &mut SslStream<Pipe>, into: &VolatileSlice<'_>) -> Result<usize, ErrorCode> {
    let guard = into.ptr_guard_mut();
    let ssl = stream.ssl();
    // SAFETY: the slice describes mapped, writable memory that outlives the call; OpenSSL only copies into it, at most
    // `len` bytes. The stream is borrowed exclusively, and its BIO lives as long as it does.
    let result = unsafe { ffi::SSL_read(ssl.as_ptr(), guard.as_ptr().cast(), length(into.len())) };
    usize::try_from(result).ok().filter(|got| *got > 0).ok_or_else(|| code(ssl, result))
}

/// Encrypts memory that may change at any time into the pipe, as one record if it fits into one.
pub(super) fn write(stream: &mut SslStream<Pipe>, from: &VolatileSlice<'_>) -> Result<usize, ErrorCode> {
    let guard = from.ptr_guard();
    let ssl = stream.ssl();
    // SAFETY: the slice describes mapped memory that outlives the call. OpenSSL copies each byte once, into its record,
    // and works on that copy, so a change meanwhile alters the payload and nothing else.
    let result = unsafe { ffi::SSL_write(ssl.as_ptr(), guard.as_ptr().cast(), length(from.len())) };
    usize::try_from(result).ok().filter(|got| *got > 0).ok_or_else(|| code(ssl, result))
}

/// Gives back the buffers of records that OpenSSL keeps; those that are in use stay.
pub(super) fn release_buffers(stream: &mut SslStream<Pipe>) {
    // SAFETY: plain call on a live object that is borrowed exclusively.
    unsafe { SSL_free_buffers(stream.ssl().as_ptr()) };
}

/// Lets records come from and go to a socket directly. It must not block, and must live as long as this is so.
pub(super) fn attach_socket(ssl: &mut SslRef, socket: BorrowedFd<'_>) -> Result<(), ErrorStack> {
    const NO_CLOSE: c_int = 0;
    // SAFETY: makes an object around a number; the socket is not closed with it.
    let bio = unsafe { ffi::BIO_new_socket(socket.as_raw_fd(), NO_CLOSE) };
    if bio.is_null() {
        return Err(ErrorStack::get());
    }
    // SAFETY: the object is new, and the connection becomes its only owner, for both directions.
    unsafe { ffi::SSL_set_bio(ssl.as_ptr(), bio, bio) };
    Ok(())
}

/// Lets the kernel take over what it can, when the handshake is done.
pub(super) fn allow_kernel(ssl: &mut SslRef) {
    // SAFETY: plain call on a live object that is borrowed exclusively.
    unsafe { SSL_set_options(ssl.as_ptr(), SSL_OP_ENABLE_KTLS) };
}

/// Takes that back.
pub(super) fn forbid_kernel(ssl: &mut SslRef) {
    // SAFETY: plain call on a live object that is borrowed exclusively.
    unsafe { SSL_clear_options(ssl.as_ptr(), SSL_OP_ENABLE_KTLS) };
}

/// Whether the client that has just said hello knows TLS 1.3 (RFC 8446, section 4.2.1). Call in the callback of that.
pub(super) fn knows_tls13(ssl: &SslRef) -> bool {
    const SUPPORTED_VERSIONS: c_uint = 43;
    const TLS13: [u8; 2] = [3, 4];
    let mut data = std::ptr::null();
    let mut len = 0;
    // SAFETY: the connection is live and in the callback for the hello; the pointers are to locals.
    let found = unsafe {
        ffi::SSL_client_hello_get0_ext(ssl.as_ptr(), SUPPORTED_VERSIONS, &raw mut data, &raw mut len)
    };
    if found != 1 || data.is_null() {
        return false;
    }
    // SAFETY: OpenSSL said that so many bytes lie there; they belong to the connection and stay as they are for the
    // length of the callback.
    let extension = unsafe { std::slice::from_raw_parts(data, len) };
    // Behind a length of one byte.
    extension.get(1..).is_some_and(|versions| versions.chunks_exact(2).any(|version| version == TLS13))
}

/// Sends a record without data: other keys of the sender.
#[cfg(test)]
pub(super) fn update_keys<S>(stream: &mut SslStream<S>) -> Result<(), ErrorCode> {
    const NOT_REQUESTED: c_int = 0;
    unsafe extern "C" {
        fn SSL_key_update(ssl: *mut ffi::SSL, kind: c_int) -> c_int;
    }
    let ssl = stream.ssl();
    // SAFETY: plain call on a live object that is borrowed exclusively.
    let asked = unsafe { SSL_key_update(ssl.as_ptr(), NOT_REQUESTED) };
    // SAFETY: as above.
    let result = if asked == 1 { unsafe { ffi::SSL_do_handshake(ssl.as_ptr()) } } else { asked };
    if result == 1 { Ok(()) } else { Err(code(ssl, result)) }
}

/// Asks, as a client, for records of at most 512 bytes.
#[cfg(test)]
pub(super) fn ask_for_short_records(ssl: &mut SslRef) {
    const OF_512_BYTES: u8 = 1;
    unsafe extern "C" {
        fn SSL_set_tlsext_max_fragment_length(ssl: *mut ffi::SSL, mode: u8) -> c_int;
    }
    // SAFETY: plain call on a live object that is borrowed exclusively.
    assert_eq!(unsafe { SSL_set_tlsext_max_fragment_length(ssl.as_ptr(), OF_512_BYTES) }, 1);
}

/// Makes [`read`] return behind each record that has no data for it.
pub(super) fn return_often(builder: &mut SslContextBuilder) {
    const CLEAR_MODE: c_int = 78;
    let context = builder.as_ptr();
    // SAFETY: plain call on a live object that is borrowed exclusively (openssl/ssl.h, `SSL_CTX_clear_mode`).
    unsafe { ffi::SSL_CTX_ctrl(context, CLEAR_MODE, ffi::SSL_MODE_AUTO_RETRY, std::ptr::null_mut()) };
}

/// Goes on with the handshake as far as the socket allows.
pub(super) fn handshake(ssl: &mut SslRef) -> Result<(), ErrorCode> {
    // SAFETY: plain call on a live object that is borrowed exclusively.
    let result = unsafe { ffi::SSL_do_handshake(ssl.as_ptr()) };
    if result == 1 { Ok(()) } else { Err(code(ssl, result)) }
}

/// Whether the kernel encrypts what is sent, and whether it decrypts what is received.
pub(super) fn kernel_directions(ssl: &SslRef) -> (bool, bool) {
    // SAFETY: the objects belong to the live connection, which is borrowed.
    let sending = unsafe { ffi::SSL_get_wbio(ssl.as_ptr()) };
    // SAFETY: as above.
    let receiving = unsafe { ffi::SSL_get_rbio(ssl.as_ptr()) };
    (asked(sending, BIO_CTRL_GET_KTLS_SEND), asked(receiving, BIO_CTRL_GET_KTLS_RECV))
}

fn asked(bio: *mut ffi::BIO, question: c_int) -> bool {
    const NOTHING: c_long = 0;
    // SAFETY: a question without arguments to an object of a live connection; null is none.
    !bio.is_null() && unsafe { ffi::BIO_ctrl(bio, question, NOTHING, std::ptr::null_mut()) } > 0
}

/// Lets OpenSSL choose parameters for the key exchange of PSK clients that have no elliptic curves.
pub(super) fn choose_dh(builder: &mut SslContextBuilder) {
    const YES: c_int = 1;
    // SAFETY: plain call on a live object that is borrowed exclusively.
    unsafe { ffi::SSL_CTX_set_dh_auto(builder.as_ptr(), YES) };
}
