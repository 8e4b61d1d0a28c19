//! Messages that the crate `vhost` cannot send.
//!
//! Its [`Frontend`](vhost::vhost_user::Frontend) asks and waits for the answer in one call, and reads exactly the bytes
//! of that answer: between calls nothing is under way and nothing is buffered. So whoever holds the front-end may speak
//! on the same socket in between.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use vhost::vhost_user::Error as ProtocolError;
use vhost::vhost_user::message::{FrontendReq, VhostUserHeaderFlag};

/// The base of a packed ring that begins: the next available descriptor (bits 0 to 14) and the next used one (bits 16
/// to 30) are the first, and both wrap counters (bits 15 and 31) are 1.
pub(super) const PACKED_START: u32 = 1 << 31 | 1 << 15;

/// Version of the protocol, in the flags of each header.
const VERSION: u32 = 1;

/// Tells the back-end where queue `queue` begins, as SET_VRING_BASE of the crate does, but with all 32 bits: those of a
/// packed ring are two positions with their wrap counters. `need_reply`: the protocol feature REPLY_ACK was negotiated.
///
/// # Errors
/// What the socket answered, or that the back-end refuses.
pub(super) fn set_vring_base(
    socket: &UnixStream,
    queue: u32,
    base: u32,
    need_reply: bool,
) -> Result<(), vhost::Error> {
    talk(socket, queue, base, need_reply).map_err(vhost::Error::VhostUserProtocol)
}

fn talk(mut socket: &UnixStream, queue: u32, base: u32, need_reply: bool) -> Result<(), ProtocolError> {
    let code: u32 = FrontendReq::SET_VRING_BASE.into();
    let flag = if need_reply { VhostUserHeaderFlag::NEED_REPLY.bits() } else { 0 };
    // A header, then the payload: number of the queue, value. All words are in the byte order of the machine.
    let words = [code, VERSION | flag, 8, queue, base];
    socket.write_all(&words.map(u32::to_ne_bytes).concat()).map_err(ProtocolError::SocketBroken)?;
    if !need_reply {
        return Ok(());
    }
    // The answer has the same header with another flag; its payload is one number, 0 for success.
    let mut answer = [0; 20];
    socket.read_exact(&mut answer).map_err(broken)?;
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(answer.chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let reply = VERSION | VhostUserHeaderFlag::REPLY.bits();
    // Whether the answer repeats NEED_REPLY is nobody's business.
    let flags = words[1] & !VhostUserHeaderFlag::NEED_REPLY.bits();
    match (words[0] == code, flags == reply, words[2], words[3] | words[4]) {
        (true, true, 8, 0) => Ok(()),
        (true, true, 8, _) => Err(ProtocolError::BackendInternalError),
        _ => Err(ProtocolError::InvalidMessage),
    }
}

fn broken(error: io::Error) -> ProtocolError {
    match error.kind() {
        ErrorKind::UnexpectedEof => ProtocolError::Disconnected,
        _ => ProtocolError::SocketBroken(error),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use vhost::VhostBackend as _;
    use vhost::vhost_user::Frontend;

    use super::*;

    /// A back-end that answers `answers` messages of 20 bytes with `value`, and returns what it was sent.
    fn back_end(mut socket: UnixStream, answers: usize, value: u64) -> thread::JoinHandle<Vec<[u32; 5]>> {
        thread::spawn(move || {
            let answer = |_| {
                let mut message = [0; 20];
                socket.read_exact(&mut message).unwrap();
                let word = |at: usize| u32::from_ne_bytes(message[4 * at..4 * at + 4].try_into().unwrap());
                let reply = [&message[..4], &5_u32.to_ne_bytes(), &message[8..12], &value.to_ne_bytes()];
                socket.write_all(&reply.concat()).unwrap();
                [0, 1, 2, 3, 4].map(word)
            };
            (0..answers).map(answer).collect()
        })
    }

    #[test]
    fn all_bits_of_a_base_arrive_between_messages_of_the_crate() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = back_end(theirs, 2, 0);
        assert!(set_vring_base(&ours, 3, PACKED_START, true).is_ok());
        let frontend = Frontend::from_stream(ours.try_clone().unwrap(), 8);
        // Its answer has the length of ours.
        assert_eq!(frontend.get_vring_base(7).unwrap(), 0);
        assert_eq!(server.join().unwrap(), [[10, 9, 8, 3, 0x8000_8000], [11, 1, 8, 7, 0]]);
    }

    #[test]
    fn without_acknowledgements_nobody_waits() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(set_vring_base(&ours, 0, 0x8000_8001, false).is_ok());
        let mut message = [0; 20];
        theirs.read_exact(&mut message).unwrap();
        assert_eq!(message[4..8], 1_u32.to_ne_bytes());
        assert_eq!(message[16..], 0x8000_8001_u32.to_ne_bytes());
    }

    #[test]
    fn a_refusal_a_wrong_answer_and_a_hang_up_are_told_apart() {
        use ProtocolError::{BackendInternalError, Disconnected, InvalidMessage};
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = back_end(theirs, 1, 1 << 40);
        assert!(matches!(talk(&ours, 0, 0, true), Err(BackendInternalError)));
        server.join().unwrap();
        let closed = talk(&ours, 0, 0, true);
        assert!(matches!(closed, Err(Disconnected | ProtocolError::SocketBroken(_))), "{closed:?}");
        // A number, flags, or length that is not that of the answer.
        for header in [[9, 5, 8], [10, 1, 8], [10, 5, 4], [10, 6, 8]] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let answer: Vec<u8> = header.into_iter().chain([0, 0]).flat_map(u32::to_ne_bytes).collect();
            theirs.write_all(&answer).unwrap();
            assert!(matches!(talk(&ours, 0, 0, true), Err(InvalidMessage)), "{header:?}");
        }
    }
}
