//! [`Relay`]: stands between front-end and back-end, passes everything on, and makes the faults of the conversation.
//!
//! The crate `vhost` makes it hard to speak wrongly, so these faults are made from outside. Only the header of a
//! message is understood: request, flags and size, each 32 bits in the byte order of the machine, then `size` bytes
//! (docs/interop/vhost-user.rst of the QEMU project, "Header").
#![expect(
    unsafe_code,
    reason = "descriptors that come with a message have no safe face in the standard library"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::fault::Fault;

const HEADER_BYTES: usize = 12;
/// Most descriptors with one message: the memory table has eight regions.
const DESCRIPTORS_MAX: usize = 8;
/// Longest message that is passed on; the protocol's own are far shorter.
const PAYLOAD_BYTES_MAX: usize = 1 << 16;

/// Numbers of messages to the back-end.
const SET_VRING_ENABLE: u32 = 18;
const SET_BACKEND_REQ_FD: u32 = 21;
const GET_CONFIG: u32 = 24;
/// Number of a message to the front-end, on a channel of its own.
const CONFIG_CHANGE_MSG: u32 = 2;
/// Flags of a message that is no reply and wants none: the version of the protocol.
const VERSION: u32 = 1;
/// Offset, size and flags before the bytes of the configuration.
const CONFIG_HEADER_BYTES: usize = 12;

/// A message of either side.
struct Message {
    header: [u8; HEADER_BYTES],
    payload: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Message {
    fn new(request: u32, flags: u32) -> Message {
        let mut message = Message { header: [0; HEADER_BYTES], payload: Vec::new(), descriptors: Vec::new() };
        message.put(0, request);
        message.put(4, flags);
        message
    }

    fn put(&mut self, at: usize, value: u32) {
        self.header[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn word(&self, at: usize) -> u32 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|index| self.header[at + index]);
        u32::from_ne_bytes([a, b, c, d])
    }

    fn request(&self) -> u32 {
        self.word(0)
    }

    /// The next message; `None` at the end.
    fn receive(socket: &mut UnixStream) -> io::Result<Option<Message>> {
        let mut message = Message::new(0, 0);
        let (received, descriptors) = receive_with_descriptors(socket, &mut message.header)?;
        if received == 0 {
            return Ok(None);
        }
        message.descriptors = descriptors;
        socket.read_exact(&mut message.header[received..])?;
        let len = message.word(8) as usize;
        if len > PAYLOAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        message.payload = vec![0; len];
        socket.read_exact(&mut message.payload)?;
        Ok(Some(message))
    }

    fn send(&self, socket: &mut UnixStream) -> io::Result<()> {
        let numbers: Vec<RawFd> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let bytes = [&self.header[..], &self.payload].concat();
        let sent = socket.send_with_fds(&[&bytes[..]], &numbers)?;
        socket.write_all(&bytes[sent..])
    }

    /// Cuts the bytes of a configuration down.
    fn shorten_config(&mut self, len: u32) {
        self.payload.truncate(CONFIG_HEADER_BYTES.saturating_add(len as usize));
        self.put(8, self.payload.len() as u32);
        let told = self.payload.len().saturating_sub(CONFIG_HEADER_BYTES) as u32;
        if let Some(size) = self.payload.get_mut(4..8) {
            size.copy_from_slice(&told.to_ne_bytes());
        }
    }
}

/// Receives some of `bytes`, and the descriptors that came with them.
fn receive_with_descriptors(socket: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut numbers = [-1; DESCRIPTORS_MAX];
    let mut pieces = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
    // SAFETY: the one piece describes `bytes`, which is borrowed exclusively for longer than the call.
    let (received, count) = unsafe { socket.recv_with_fds(&mut pieces, &mut numbers)? };
    // SAFETY: the first `count` numbers are descriptors that the kernel has just made for us, owned by nobody else.
    let own = |number: &RawFd| unsafe { OwnedFd::from_raw_fd(*number) };
    Ok((received, numbers[..count].iter().map(own).collect()))
}

/// One direction of a conversation.
struct Relay {
    from: UnixStream,
    to: UnixStream,
    fault: Fault,
    /// The channel for messages to the front-end, until the storm on it has begun.
    channel: Option<File>,
}

/// Passes messages on between the two sides until one of them leaves.
///
/// # Errors
/// No threads or no descriptors.
pub(super) fn relay(front: UnixStream, back: UnixStream, fault: Fault) -> io::Result<()> {
    let directions = [(front.try_clone()?, back.try_clone()?), (back, front)];
    for (from, to) in directions {
        let relay = Relay { from, to, fault, channel: None };
        thread::Builder::new().name("back-end-relay".into()).spawn(move || relay.run())?;
    }
    Ok(())
}

impl Relay {
    fn run(mut self) {
        // However the conversation ends, both sides see the end of it.
        while let Ok(Some(message)) = Message::receive(&mut self.from) {
            if self.pass(message).is_err() {
                break;
            }
        }
        let _ = self.to.shutdown(Shutdown::Both);
        let _ = self.from.shutdown(Shutdown::Both);
    }

    /// # Errors
    /// The conversation is over.
    fn pass(&mut self, mut message: Message) -> io::Result<()> {
        let is_reply = message.word(4) & 4 != 0;
        match (self.fault, message.request(), is_reply) {
            (Fault::Closes, GET_CONFIG, false) => return Err(io::ErrorKind::ConnectionAborted.into()),
            (Fault::Silent, GET_CONFIG, false) => return Ok(()),
            (Fault::ShortConfig(len), GET_CONFIG, true) => message.shorten_config(len),
            (Fault::ConfigStorm(_), SET_BACKEND_REQ_FD, false) => {
                let channel = message.descriptors.first().map(OwnedFd::try_clone).transpose()?;
                self.channel = channel.map(File::from);
            }
            (Fault::ConfigStorm(count), SET_VRING_ENABLE, false) => {
                message.send(&mut self.to)?;
                if let Some(channel) = self.channel.take() {
                    thread::Builder::new()
                        .name("back-end-storm".into())
                        .spawn(move || storm(channel, count))?;
                }
                return Ok(());
            }
            _ => {}
        }
        message.send(&mut self.to)
    }
}

/// Sends notices until all are sent or nobody takes them any more.
fn storm(mut channel: File, count: u64) {
    let notice = Message::new(CONFIG_CHANGE_MSG, VERSION).header;
    for _ in 0..count {
        if channel.write_all(&notice).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ends of a conversation that is relayed with this fault.
    fn conversation(fault: Fault) -> (UnixStream, UnixStream) {
        let ((front, front_side), (back_side, back)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        relay(front_side, back_side, fault).unwrap();
        (front, back)
    }

    fn config(flags: u32) -> Message {
        let mut message = Message::new(GET_CONFIG, flags);
        message.payload = vec![9; CONFIG_HEADER_BYTES + 60];
        message.put(8, message.payload.len() as u32);
        message
    }

    #[test]
    fn messages_arrive_with_their_descriptors() {
        let (mut front, mut back) = conversation(Fault::ConfigStorm(0));
        let mut message = config(VERSION);
        message.descriptors = vec![front.try_clone().unwrap().into(), back.try_clone().unwrap().into()];
        message.send(&mut front).unwrap();
        let arrived = Message::receive(&mut back).unwrap().unwrap();
        assert_eq!((arrived.header, arrived.payload.len()), (message.header, message.payload.len()));
        assert_eq!(arrived.descriptors.len(), 2);
        drop(front);
        drop(message);
        drop(arrived);
        assert!(Message::receive(&mut back).unwrap().is_none(), "the end is passed on");
    }

    #[test]
    fn a_configuration_is_cut_down_with_its_lengths() {
        let (mut front, mut back) = conversation(Fault::ShortConfig(8));
        config(VERSION | 4).send(&mut back).unwrap();
        let short = Message::receive(&mut front).unwrap().unwrap();
        assert_eq!((short.word(8), short.payload.len()), (20, 20));
        assert_eq!(short.payload[4..8], 8_u32.to_ne_bytes());
    }

    #[test]
    fn a_storm_begins_when_a_queue_is_enabled() {
        let (mut front, mut back) = conversation(Fault::ConfigStorm(1000));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut channel = Message::new(SET_BACKEND_REQ_FD, VERSION);
        channel.descriptors = vec![theirs.into()];
        channel.send(&mut front).unwrap();
        drop(channel);
        drop(Message::receive(&mut back).unwrap());
        Message::new(SET_VRING_ENABLE, VERSION).send(&mut front).unwrap();
        let mut notices = 0;
        while let Some(notice) = Message::receive(&mut ours).unwrap() {
            assert_eq!((notice.request(), notice.payload.len()), (CONFIG_CHANGE_MSG, 0));
            notices += 1;
        }
        assert_eq!(notices, 1000);
    }
}
