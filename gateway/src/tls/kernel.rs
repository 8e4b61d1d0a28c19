//! Kernel TLS: a socket whose records the kernel makes, so that it is sent to and received from as any other.
//!
//! Source: Documentation/networking/tls.rst of Linux.
#![expect(unsafe_code, reason = "recvmsg(2) and sendmsg(2) with control messages have no safe face")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::VolatileSlice;

use super::reason;

/// Types of records (RFC 8446, section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// An alert is its level and its number (RFC 8446, section 6).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Names of control messages (linux/tls.h).
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;
const SOL_TLS: libc::c_int = 282;

/// Room for a control message of one byte, aligned as its header.
type Control = [u64; 4];

/// It was tried and did not work as it should.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Whether this kernel has TLS. Asked of it once: a question makes it look for its module.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    !FAILED.load(Ordering::Relaxed) && *AVAILABLE.get_or_init(|| probe().is_ok())
}

/// It is not tried again.
pub(super) fn give_up() {
    FAILED.store(true, Ordering::Relaxed);
}

fn probe() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let name = b"tls";
    let len = libc::socklen_t::try_from(name.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and length describe the name; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(client.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, name.as_ptr().cast(), len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives decrypted data. 0 is the end of the stream.
///
/// # Errors
/// As recv(2), and with words for records that are no data.
pub(crate) fn receive(fd: BorrowedFd<'_>, into: &VolatileSlice<'_>) -> io::Result<usize> {
    let guard = into.ptr_guard_mut();
    let mut piece = libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: into.len() };
    let mut control: Control = [0; 4];
    let mut message = message(&mut piece, &mut control);
    // SAFETY: the piece describes mapped, writable memory that outlives the call, and only the kernel touches it; the
    // control buffer is ours and as long as the message says.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let got = usize::try_from(got).map_err(|_| in_words(io::Error::last_os_error()))?;
    match record_type(&message) {
        None | Some(APPLICATION_DATA) => Ok(got),
        Some(ALERT) => {
            let mut alert = [0; 2];
            into.copy_to(&mut alert);
            if alert == CLOSE_NOTIFY { Ok(0) } else { Err(alerted(alert[1])) }
        }
        Some(HANDSHAKE) => {
            Err(io::Error::other("it wants to negotiate anew, which the kernel's TLS cannot do"))
        }
        Some(other) => Err(io::Error::other(format!("it sent a record of type {other}"))),
    }
}

fn alerted(number: u8) -> io::Error {
    io::Error::other(reason::alert(number.into()).unwrap_or_else(|| format!("alert {number}")))
}

fn in_words(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBADMSG) => io::Error::other("it sent something that does not decrypt"),
        Some(libc::EMSGSIZE | libc::EINVAL) => io::Error::other("what it sent is no record of TLS"),
        _ => error,
    }
}

/// Says goodbye, behind all that was sent. `false`: the socket takes nothing more now, and a part of what was sent may
/// wait in the kernel's TLS, which gives it up when the socket is shut down.
pub(crate) fn close(fd: BorrowedFd<'_>) -> bool {
    let mut alert = CLOSE_NOTIFY;
    let mut piece = libc::iovec { iov_base: alert.as_mut_ptr().cast(), iov_len: alert.len() };
    let mut control: Control = [0; 4];
    let message = message(&mut piece, &mut control);
    // SAFETY: the message has room for a control message of one byte, as the assertion of `Control` says.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return true;
    }
    let told = libc::cmsghdr {
        // SAFETY: a computation with a number.
        cmsg_len: unsafe { libc::CMSG_LEN(1) } as usize,
        cmsg_level: SOL_TLS,
        cmsg_type: TLS_SET_RECORD_TYPE,
    };
    // SAFETY: the header lies in the control buffer, which is aligned for it.
    unsafe { header.write(told) };
    // SAFETY: a computation with the address of a header.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: the byte behind the header lies in the control buffer too.
    unsafe { data.write(ALERT) };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: piece and control buffer outlive the call, which only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    // Any other failure means that nobody listens.
    sent >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock
}

/// A message of one piece with room for a record's type.
fn message(piece: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    const { assert!(size_of::<Control>() >= size_of::<libc::cmsghdr>() + size_of::<u64>()) };
    // SAFETY: all-zero bytes are a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: a computation with a number; the result is 24 and fits.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(1) } as usize;
    message
}

/// What the kernel says about the record that it gave.
fn record_type(message: &libc::msghdr) -> Option<u8> {
    // SAFETY: the kernel has filled the control buffer as far as the message says.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    if header.is_null() {
        return None;
    }
    // SAFETY: a header lies there, in our buffer.
    let told = unsafe { header.read() };
    // SAFETY: a computation with the address of a header.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: the byte behind the header lies in the control buffer, which has room for one.
    let kind = unsafe { data.read() };
    (told.cmsg_level == SOL_TLS && told.cmsg_type == TLS_GET_RECORD_TYPE).then_some(kind)
}
