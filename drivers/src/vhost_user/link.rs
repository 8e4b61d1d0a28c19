//! [`Link`]: the connection to a back-end.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Error as ProtocolError, Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};

use super::changes::Changes;
use super::deadline::within;
use super::message::{self, PACKED_START};
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::virtio::config::{self, BlkConfig, CONFIG_BYTES};
use crate::virtio::memory::QueueMemory;
use crate::virtio::properties;
use crate::virtio::spec::feature;

/// How long the other side may take for a negotiation: far longer than any needs that serves.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bit of the virtio features that says: there are protocol features.
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// What this driver makes use of.
const FEATURES: u64 = properties::FEATURES | feature::RING_PACKED | PROTOCOL_FEATURES;

/// Features on which the memory of a queue depends.
pub(super) const LAYOUT_FEATURES: u64 = feature::INDIRECT_DESC | feature::RING_PACKED;

/// A stretch of memory that the back-end gets.
pub(super) struct Memory<'a> {
    pub(super) file: BorrowedFd<'a>,
    pub(super) len_bytes: usize,
    /// What the back-end calls its beginning.
    pub(super) address: u64,
}

/// A queue that the back-end gets.
pub(super) struct GivenQueue<'a> {
    pub(super) memory: &'a QueueMemory,
    pub(super) kick: &'a EventFd,
    /// `None`: it is polled.
    pub(super) call: Option<&'a EventFd>,
}

/// What is known of the back-end before it is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Capacity in bytes, for a back-end that does not tell its configuration.
    pub(super) capacity_bytes: Option<u64>,
    /// Features that are not to be negotiated.
    pub(super) without: u64,
}

/// A connected back-end that is known. The features are chosen, and set at the start of the queues.
pub(super) struct Link {
    frontend: Frontend,
    pub(super) socket: UnixStream,
    /// What the back-end tells by itself.
    changes: Option<Changes>,
    /// What messages call it.
    name: String,
    pub(super) features: u64,
    /// Every message is answered.
    has_acks: bool,
    pub(super) config: BlkConfig,
    /// How much of it the back-end has.
    config_len: usize,
    awaits_config: bool,
    /// Most queues.
    pub(super) queues: usize,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Link {
    /// Negotiates with the back-end on a socket, until then. `name` is what messages call it.
    ///
    /// # Errors
    /// It is no block device, or does not answer.
    pub(super) fn negotiate(
        socket: UnixStream,
        name: &str,
        terms: Terms,
        until: Instant,
    ) -> Result<Link, Error> {
        let stream = socket.try_clone().map_err(|cause| Error::system(format!("talk to {name}"), &cause))?;
        let mut frontend = Frontend::from_stream(stream, 1);
        let most = until.saturating_duration_since(Instant::now());
        let Negotiated { features, has_acks, config, config_len, queues, changes } =
            within(most, &socket, name, || negotiate(&mut frontend, &socket, name, terms))??;
        Ok(Link {
            frontend,
            socket,
            changes,
            name: name.to_owned(),
            features,
            has_acks,
            config,
            config_len,
            awaits_config: false,
            queues,
        })
    }

    /// Whether a feature was negotiated.
    pub(super) fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Whether the back-end tells of changes by itself.
    pub(super) fn tells_changes(&self) -> bool {
        self.changes.is_some()
    }

    /// Readable when the back-end has something to tell.
    pub(super) fn changes_event(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(Changes::event)
    }

    /// Our end of the channel for that.
    pub(super) fn changes_socket(&self) -> Option<UnixStream> {
        self.changes.as_ref().and_then(|changes| changes.socket().try_clone().ok())
    }

    /// Takes what the back-end tells by itself. If its configuration has changed, it is asked for it, and answers when
    /// it likes: [`Link::awaits_config`].
    ///
    /// # Errors
    /// The back-end does not keep to the protocol. It is not listened to any more.
    pub(super) fn take_change(&mut self) -> Result<(), Error> {
        let Some(changes) = &mut self.changes else { return Ok(()) };
        match changes.take() {
            Ok(false) => Ok(()),
            Ok(true) => {
                message::ask_config(&self.socket, self.config_len)
                    .map_err(|cause| failed(&self.name, "ask for the configuration", &cause))?;
                self.awaits_config = true;
                Ok(())
            }
            Err(error) => {
                self.changes = None;
                Err(error)
            }
        }
    }

    /// Whether the next thing on the socket is a configuration.
    pub(super) fn awaits_config(&self) -> bool {
        self.awaits_config
    }

    /// Takes the configuration that the back-end was asked for.
    ///
    /// # Errors
    /// The answer is none.
    pub(super) fn take_config(&mut self) -> Result<BlkConfig, Error> {
        self.awaits_config = false;
        let mut bytes = [0; CONFIG_BYTES];
        let told = message::receive_config(&self.socket, self.config_len)
            .map_err(|cause| failed(&self.name, "read the configuration", &cause))?;
        bytes[..told.len()].copy_from_slice(&told);
        Ok(BlkConfig::decode(&bytes, self.features & config::features_within(told.len())))
    }

    /// Gives the back-end memory and queues, and starts the queues, until then.
    ///
    /// # Errors
    /// What the back-end refuses, or that it does not answer.
    pub(super) fn start(
        &mut self,
        memories: &[Memory<'_>],
        queues: &[GivenQueue<'_>],
        until: Instant,
    ) -> Result<(), Error> {
        let name = self.name.clone();
        let socket =
            self.socket.try_clone().map_err(|cause| Error::system(format!("talk to {name}"), &cause))?;
        let most = until.saturating_duration_since(Instant::now());
        within(most, &socket, &name, || self.start_all(memories, queues))?
    }

    fn start_all(&mut self, memories: &[Memory<'_>], queues: &[GivenQueue<'_>]) -> Result<(), Error> {
        if queues.iter().any(|queue| queue.call.is_none()) {
            // With event indices a device that is late calls once too often, and some do not survive that there is
            // nobody to call. Without them a flag says so.
            self.features &= !feature::EVENT_IDX;
        }
        let done = self.frontend.set_features(self.features);
        done.map_err(|cause| failed(&self.name, "set the features", &cause))?;
        let table: Vec<VhostUserMemoryRegionInfo> = memories.iter().map(region).collect();
        let done = self.frontend.set_mem_table(&table);
        done.map_err(|cause| failed(&self.name, "set the memory", &cause))?;
        for (index, queue) in queues.iter().enumerate() {
            self.start_queue(index, queue)?;
        }
        // Without protocol features queues start by themselves.
        if self.features & PROTOCOL_FEATURES != 0 {
            for index in 0..queues.len() {
                let done = self.frontend.set_vring_enable(index, true);
                done.map_err(|cause| failed(&self.name, "enable a queue", &cause))?;
            }
        }
        Ok(())
    }

    fn start_queue(&mut self, index: usize, queue: &GivenQueue<'_>) -> Result<(), Error> {
        let memory = queue.memory;
        let Link { frontend, name, .. } = self;
        let step = |what: &'static str| {
            let name = &*name;
            move |cause: vhost::Error| failed(name, what, &cause)
        };
        let event = |event: &EventFd| {
            event.for_vhost().map_err(|cause| Error::system(format!("hand an event to {name}"), &cause))
        };
        let (descriptors, driver_area, device_area) = memory.areas();
        let size = memory.size();
        frontend.set_vring_num(index, size).map_err(|cause| {
            failed(name, "set the size of a queue", &cause).hint(format!("try a queue-size below {size}"))
        })?;
        // The crate's message has room for the position in a split ring only.
        let based = match self.features & feature::RING_PACKED {
            0 => frontend.set_vring_base(index, 0),
            _ => message::set_vring_base(&self.socket, index as u32, PACKED_START, self.has_acks),
        };
        based.map_err(step("set the start of a queue"))?;
        let addresses = VringConfigData {
            queue_max_size: size,
            queue_size: size,
            flags: 0,
            desc_table_addr: descriptors,
            used_ring_addr: device_area,
            avail_ring_addr: driver_area,
            log_addr: None,
        };
        frontend.set_vring_addr(index, &addresses).map_err(step("set the addresses of a queue"))?;
        let called = match (queue.call, u8::try_from(index)) {
            (None, Ok(index)) => message::set_no_vring_call(&self.socket, index, self.has_acks),
            // The message has room for 256 queues.
            (None, Err(_)) => Ok(()),
            (Some(call), _) => frontend.set_vring_call(index, &event(call)?),
        };
        called.map_err(step("set the call of a queue"))?;
        frontend.set_vring_kick(index, &event(queue.kick)?).map_err(step("set the kick of a queue"))
    }
}

/// Which step failed, on whom, and how.
pub(super) fn failed(name: &str, what: &str, cause: &vhost::Error) -> Error {
    let cause = match cause {
        vhost::Error::VhostUserProtocol(cause) => cause,
        other => return Error::device(format!("cannot {what} of {name}: {other}")),
    };
    let error = |text: &str| Error::device(format!("cannot {what} of {name}: {text}"));
    match cause {
        ProtocolError::Disconnected | ProtocolError::PartialMessage => {
            error("it closed the connection").hint("what it is may be said in its own log")
        }
        ProtocolError::SocketBroken(_) | ProtocolError::SocketError(_) => error(&cause.to_string())
            .hint("it closed the connection, or is something else than a vhost-user back-end"),
        ProtocolError::BackendInternalError => error("it refused"),
        ProtocolError::InvalidMessage => {
            error("its answer is not of the protocol").hint("is it a vhost-user back-end for a block device?")
        }
        other => error(&other.to_string()),
    }
}

/// What came out of a negotiation.
struct Negotiated {
    features: u64,
    has_acks: bool,
    config: BlkConfig,
    config_len: usize,
    queues: usize,
    changes: Option<Changes>,
}

/// The part of the conversation that finds out what the device is.
fn negotiate(
    frontend: &mut Frontend,
    socket: &UnixStream,
    name: &str,
    terms: Terms,
) -> Result<Negotiated, Error> {
    let step = |what: &'static str| move |cause: vhost::Error| failed(name, what, &cause);
    frontend.set_owner().map_err(step("become the owner"))?;
    let offered = frontend.get_features().map_err(step("ask for the features"))?;
    let mut features = offered & FEATURES & !terms.without;
    let mut protocol = VhostUserProtocolFeatures::empty();
    if features & PROTOCOL_FEATURES != 0 {
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::BACKEND_REQ;
        protocol = frontend.get_protocol_features().map_err(step("ask for the protocol features"))? & wanted;
        frontend.set_protocol_features(protocol).map_err(step("set the protocol features"))?;
    }
    let has_acks = protocol.contains(VhostUserProtocolFeatures::REPLY_ACK);
    if has_acks {
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    let queues = match protocol.contains(VhostUserProtocolFeatures::MQ) {
        true => frontend.get_queue_num().map_err(step("ask for the number of queues"))?,
        false => 1,
    };
    let has_config = protocol.contains(VhostUserProtocolFeatures::CONFIG);
    // First the channel, so that no change goes between it and the configuration.
    let changes = match has_config && protocol.contains(VhostUserProtocolFeatures::BACKEND_REQ) {
        true => Some(Changes::open(frontend, name, has_acks)?),
        false => None,
    };
    let (bytes, config_len) = match terms.capacity_bytes {
        _ if has_config => read_config(socket, name)?,
        Some(capacity_bytes) => config::of_capacity(capacity_bytes),
        None => return Err(no_config(name)),
    };
    features &= config::features_within(config_len);
    let config = BlkConfig::decode(&bytes, features);
    let queues = queues.min(config.queues().into()).max(1);
    let queues = usize::try_from(queues).unwrap_or(1);
    Ok(Negotiated { features, has_acks, config, config_len, queues, changes })
}

/// The configuration space, and how much of it the back-end has. Some have no more than the fields of their features:
/// they tell less than was asked for, or refuse to tell of what lies behind.
fn read_config(socket: &UnixStream, name: &str) -> Result<([u8; CONFIG_BYTES], usize), Error> {
    let mut refusal = None;
    for len in config::LENGTHS {
        let told = message::ask_config(socket, len).and_then(|()| message::receive_config(socket, len));
        match told {
            Ok(told) if told.len() >= config::LEAST => {
                let mut bytes = [0; CONFIG_BYTES];
                bytes[..told.len()].copy_from_slice(&told);
                return Ok((bytes, told.len()));
            }
            Ok(told) => {
                return Err(Error::device(format!("{name} has a configuration of {} bytes", told.len())));
            }
            Err(cause) => {
                let was_refused =
                    matches!(&cause, vhost::Error::VhostUserProtocol(ProtocolError::BackendInternalError));
                refusal = Some(failed(name, "read the configuration", &cause));
                if !was_refused {
                    break;
                }
            }
        }
    }
    Err(refusal.unwrap_or_else(|| no_config(name)))
}

fn no_config(name: &str) -> Error {
    Error::device(format!("{name} does not tell its configuration (protocol feature CONFIG)"))
        .hint("say how large the disk is: size=BYTES")
}

/// One entry of the memory table. The back-end's names for guest memory and for our memory are the same.
fn region(memory: &Memory<'_>) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: memory.address,
        memory_size: memory.len_bytes as u64,
        userspace_addr: memory.address,
        mmap_offset: 0,
        mmap_handle: memory.file.as_raw_fd(),
    }
}
