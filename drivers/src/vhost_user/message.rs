//! Messages that the crate `vhost` cannot send.
//!
//! Its [`Frontend`](vhost::vhost_user::Frontend) asks and waits for the answer in one call, and reads exactly the bytes
//! of that answer: between calls nothing is under way and nothing is buffered. So whoever holds the front-end may speak
//! on the same socket in between.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::RangeInclusive;
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
    // The payload: number of the queue, value.
    tell(socket, FrontendReq::SET_VRING_BASE, &bytes(&[queue, base]), need_reply)
}

/// Tells the back-end that queue `queue` (below 256) is polled: SET_VRING_CALL without a descriptor, which the crate's
/// does not do. `need_reply` as for [`set_vring_base`].
///
/// # Errors
/// As for [`set_vring_base`].
pub(super) fn set_no_vring_call(
    socket: &UnixStream,
    queue: u8,
    need_reply: bool,
) -> Result<(), vhost::Error> {
    // The payload: number of the queue, and the bit that says that no descriptor comes with it.
    tell(socket, FrontendReq::SET_VRING_CALL, &(u64::from(queue) | 1 << 8).to_ne_bytes(), need_reply)
}

/// Sends a message that has no answer but, with `need_reply`, whether it was followed.
fn tell(
    socket: &UnixStream,
    code: FrontendReq,
    payload: &[u8],
    need_reply: bool,
) -> Result<(), vhost::Error> {
    send(socket, code, need_reply, payload)?;
    // The payload of the answer is one number, 0 for success.
    match !need_reply || receive(socket, code, 8..=8)?.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(vhost::Error::VhostUserProtocol(ProtocolError::BackendInternalError)),
    }
}

/// Asks for the first `len` bytes of the configuration; the answer is for [`receive_config`]. GET_CONFIG of the crate
/// waits for the rest of an answer that is shorter. Back-ends that have less than was asked for answer so, or with
/// nothing, which is a refusal.
///
/// # Errors
/// What the socket answered.
pub(super) fn ask_config(socket: &UnixStream, len: usize) -> Result<(), vhost::Error> {
    // The payload: offset, length, flags, and the bytes themselves.
    let mut payload = bytes(&[0, len as u32, 0]);
    payload.resize(CONFIG_HEAD + len, 0);
    send(socket, FrontendReq::GET_CONFIG, false, &payload)
}

/// Takes the answer to [`ask_config`] with the same length.
///
/// # Errors
/// What the socket answered, or that the back-end refuses.
pub(super) fn receive_config(socket: &UnixStream, len: usize) -> Result<Vec<u8>, vhost::Error> {
    let answer = receive(socket, FrontendReq::GET_CONFIG, 0..=CONFIG_HEAD + len)?;
    match answer.get(CONFIG_HEAD..) {
        None | Some([]) => Err(vhost::Error::VhostUserProtocol(ProtocolError::BackendInternalError)),
        Some(told) => Ok(told.to_vec()),
    }
}

/// Bytes of a configuration message before the configuration.
const CONFIG_HEAD: usize = 12;

/// The words in the byte order of the machine, as all of the protocol is.
fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn send(
    mut socket: &UnixStream,
    code: FrontendReq,
    need_reply: bool,
    payload: &[u8],
) -> Result<(), vhost::Error> {
    let flag = if need_reply { VhostUserHeaderFlag::NEED_REPLY.bits() } else { 0 };
    let mut message = bytes(&[code.into(), VERSION | flag, payload.len() as u32]);
    message.extend_from_slice(payload);
    socket.write_all(&message).map_err(|cause| ProtocolError::SocketBroken(cause).into())
}

/// The payload of the answer to `code`, which has one of these lengths.
fn receive(
    mut socket: &UnixStream,
    code: FrontendReq,
    lengths: RangeInclusive<usize>,
) -> Result<Vec<u8>, vhost::Error> {
    let mut header = [0; 12];
    socket.read_exact(&mut header).map_err(broken)?;
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    // Whether the answer repeats NEED_REPLY is nobody's business.
    let flags = word(4) & !VhostUserHeaderFlag::NEED_REPLY.bits();
    let len = word(8) as usize;
    let is_answer = flags == VERSION | VhostUserHeaderFlag::REPLY.bits() && lengths.contains(&len);
    if word(0) != u32::from(code) || !is_answer {
        return Err(vhost::Error::VhostUserProtocol(ProtocolError::InvalidMessage));
    }
    let mut payload = vec![0; len];
    socket.read_exact(&mut payload).map_err(broken)?;
    Ok(payload)
}

fn broken(error: io::Error) -> vhost::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => ProtocolError::Disconnected,
        _ => ProtocolError::SocketBroken(error),
    }
    .into()
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
    fn a_polled_queue_has_no_descriptor() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(set_no_vring_call(&ours, 7, false).is_ok());
        let mut message = [0; 20];
        theirs.read_exact(&mut message).unwrap();
        assert_eq!((message[0], message[8]), (13, 8));
        assert_eq!(message[12..], 0x107_u64.to_ne_bytes());
    }

    #[test]
    fn a_refusal_a_wrong_answer_and_a_hang_up_are_told_apart() {
        use ProtocolError::{BackendInternalError, Disconnected, InvalidMessage};
        let talk = |socket: &UnixStream| match set_vring_base(socket, 0, 0, true) {
            Err(vhost::Error::VhostUserProtocol(cause)) => Err(cause),
            other => panic!("{other:?}"),
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = back_end(theirs, 1, 1 << 40);
        assert!(matches!(talk(&ours), Err::<(), _>(BackendInternalError)));
        server.join().unwrap();
        let closed = talk(&ours);
        assert!(matches!(closed, Err(Disconnected | ProtocolError::SocketBroken(_))), "{closed:?}");
        // A number, flags, or length that is not that of the answer.
        for header in [[9, 5, 8], [10, 1, 8], [10, 5, 4], [10, 6, 8]] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let answer: Vec<u8> = header.into_iter().chain([0, 0]).flat_map(u32::to_ne_bytes).collect();
            theirs.write_all(&answer).unwrap();
            assert!(matches!(talk(&ours), Err(InvalidMessage)), "{header:?}");
        }
    }
    #[test]
    fn a_configuration_may_be_shorter_than_asked_for() {
        for (told, expected) in [(60, Some(60)), (8, Some(8)), (0, None)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let len = if told == 0 { 0 } else { CONFIG_HEAD as u32 + told };
            let mut answer = bytes(&[24, 5, len, 0, told, 0]);
            answer.truncate(if told == 0 { 12 } else { 24 });
            answer.resize(12 + len as usize, 7);
            theirs.write_all(&answer).unwrap();
            let config = receive_config(&ours, 60);
            assert_eq!(config.as_ref().ok().map(Vec::len), expected, "{config:?}");
            assert!(config.into_iter().flatten().all(|byte| byte == 7));
        }
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&bytes(&[24, 5, 1 << 20, 0, 1 << 20, 0])).unwrap();
        assert!(receive_config(&ours, 60).is_err(), "more than asked for");
    }
}
