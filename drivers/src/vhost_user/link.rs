//! [`Link`]: the connection to a back-end.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Error as ProtocolError, Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};

use super::deadline::within;
use crate::driver::Opener;
use crate::error::Error;
use crate::property::Settings;
use crate::sys::eventfd::EventFd;
use crate::sys::file;
use crate::virtio::config::{BlkConfig, CONFIG_BYTES};
use crate::virtio::memory::QueueMemory;
use crate::virtio::spec::feature;

/// How long the other side may take for a negotiation: far longer than any needs that serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bit of the virtio features that says: there are protocol features.
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// What this driver makes use of.
const FEATURES: u64 = feature::SIZE_MAX
    | feature::SEG_MAX
    | feature::READ_ONLY
    | feature::BLK_SIZE
    | feature::FLUSH
    | feature::TOPOLOGY
    | feature::CONFIG_WCE
    | feature::MQ
    | feature::DISCARD
    | feature::WRITE_ZEROES
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::VERSION_1
    | PROTOCOL_FEATURES;

/// A stretch of memory that the back-end gets.
pub(super) struct Memory<'a> {
    pub(super) file: BorrowedFd<'a>,
    pub(super) len_bytes: usize,
    /// What the back-end calls its beginning.
    pub(super) address: u64,
}

/// A connected back-end whose features are negotiated.
pub(super) struct Link {
    frontend: Frontend,
    socket: UnixStream,
    /// What messages call it.
    pub(super) name: String,
    pub(super) path: String,
    pub(super) features: u64,
    pub(super) config: BlkConfig,
    /// Most queues.
    pub(super) queues: usize,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects to what the properties name, and negotiates.
    ///
    /// # Errors
    /// Wrong combinations of properties, no back-end there, or one that is no block device or does not answer.
    pub(super) fn open(settings: &Settings, opener: &dyn Opener) -> Result<Link, Error> {
        let (socket, name, path) = match (settings.path("path"), settings.int("fd")) {
            (Some(path), None) => {
                let name = format!("the vhost-user back-end at '{}'", path.display());
                let socket = opener.connect(path).map_err(|cause| connect_failed(&name, &cause))?;
                (socket, name, path.display().to_string())
            }
            (None, Some(fd)) => {
                let name = format!("the vhost-user back-end on descriptor {fd}");
                (UnixStream::from(descriptor(fd, &name)?), name, String::new())
            }
            (Some(_), Some(_)) => {
                return Err(Error::usage("driver 'virtio-blk-vhost-user' got both 'path' and 'fd'")
                    .hint("give one of them"));
            }
            (None, None) => {
                return Err(Error::usage("driver 'virtio-blk-vhost-user' needs the property 'path' or 'fd'")
                    .hint("for example: virtio-blk-vhost-user path=sock"));
            }
        };
        let clone = || socket.try_clone().map_err(|cause| Error::system(format!("talk to {name}"), &cause));
        let (mut frontend, watched) = (Frontend::from_stream(clone()?, 1), clone()?);
        let negotiated = within(PATIENCE, &watched, || negotiate(&mut frontend, &name));
        let (features, config, queues) = negotiated.ok_or_else(|| silent(&name))??;
        Ok(Link { frontend, socket, name, path, features, config, queues })
    }

    /// Whether a feature was negotiated.
    pub(super) fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Another handle to the socket, for watching it.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn socket(&self) -> Result<UnixStream, Error> {
        self.socket.try_clone().map_err(|cause| Error::system(format!("watch {}", self.name), &cause))
    }

    /// Number of the socket's descriptor.
    pub(super) fn raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Gives the back-end memory and queues, and starts the queues.
    ///
    /// # Errors
    /// What the back-end refuses, or that it does not answer.
    pub(super) fn start(
        &mut self,
        memories: &[Memory<'_>],
        queues: &[(&QueueMemory, &EventFd, &EventFd)],
    ) -> Result<(), Error> {
        let Link { frontend, socket, name, features, .. } = self;
        let talk = || start(frontend, name, *features, memories, queues);
        within(PATIENCE, socket, talk).ok_or_else(|| silent(&self.name))?
    }
}

fn descriptor(fd: i64, name: &str) -> Result<OwnedFd, Error> {
    i32::try_from(fd)
        .map_err(|_| std::io::Error::from_raw_os_error(libc::EBADF))
        .and_then(file::duplicate)
        .map_err(|cause| {
            Error::system(format!("use {name}"), &cause)
                .hint("the program that starts this one must connect the socket and leave it open")
        })
}

fn connect_failed(name: &str, cause: &std::io::Error) -> Error {
    let error = Error::system(format!("connect to {name}"), cause);
    match cause.raw_os_error() {
        Some(libc::ENOENT) => error.hint("start the back-end first, and check the path"),
        Some(libc::ECONNREFUSED) => {
            error.hint("it is no listening socket, or nobody listens any more: start the back-end again")
        }
        Some(libc::EACCES) => error.hint("the socket's permissions do not allow it"),
        _ => error,
    }
}

fn silent(name: &str) -> Error {
    Error::device(format!("{name} has not answered for {} s", PATIENCE.as_secs()))
        .hint("it may be serving another client, or be stopped")
}

/// Which step failed, on whom, and how.
fn failed(name: &str, what: &str, cause: &vhost::Error) -> Error {
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

/// The part of the conversation that finds out what the device is.
fn negotiate(frontend: &mut Frontend, name: &str) -> Result<(u64, BlkConfig, usize), Error> {
    let step = |what: &'static str| move |cause: vhost::Error| failed(name, what, &cause);
    frontend.set_owner().map_err(step("become the owner"))?;
    let offered = frontend.get_features().map_err(step("ask for the features"))?;
    let features = offered & FEATURES;
    if features & PROTOCOL_FEATURES == 0 {
        return Err(no_config(name));
    }
    let wanted = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIG;
    let protocol = frontend.get_protocol_features().map_err(step("ask for the protocol features"))? & wanted;
    if !protocol.contains(VhostUserProtocolFeatures::CONFIG) {
        return Err(no_config(name));
    }
    frontend.set_protocol_features(protocol).map_err(step("set the protocol features"))?;
    if protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    let queues = match protocol.contains(VhostUserProtocolFeatures::MQ) {
        true => frontend.get_queue_num().map_err(step("ask for the number of queues"))?,
        false => 1,
    };
    frontend.set_features(features).map_err(step("set the features"))?;
    let flags = VhostUserConfigFlags::empty();
    let (_, bytes) = frontend
        .get_config(0, CONFIG_BYTES as u32, flags, &[0; CONFIG_BYTES])
        .map_err(step("read the configuration"))?;
    let Ok(bytes) = <&[u8; CONFIG_BYTES]>::try_from(bytes.as_slice()) else {
        return Err(Error::device(format!("{name} has a configuration of {} bytes", bytes.len())));
    };
    let config = BlkConfig::decode(bytes, features);
    let queues = queues.min(config.queues().into()).max(1);
    Ok((features, config, usize::try_from(queues).unwrap_or(1)))
}

fn no_config(name: &str) -> Error {
    Error::device(format!("{name} does not tell its configuration (protocol feature CONFIG)"))
        .hint("the size of the disk cannot be found out without it")
}

fn start(
    frontend: &mut Frontend,
    name: &str,
    features: u64,
    memories: &[Memory<'_>],
    queues: &[(&QueueMemory, &EventFd, &EventFd)],
) -> Result<(), Error> {
    let step = |what: &'static str| move |cause: vhost::Error| failed(name, what, &cause);
    let table: Vec<VhostUserMemoryRegionInfo> = memories.iter().map(region).collect();
    frontend.set_mem_table(&table).map_err(step("set the memory"))?;
    for (index, (memory, kick, call)) in queues.iter().enumerate() {
        let event = |event: &EventFd| {
            event.for_vhost().map_err(|cause| Error::system(format!("hand an event to {name}"), &cause))
        };
        let (descriptors, driver_area, device_area) = memory.areas();
        let size = memory.size();
        frontend.set_vring_num(index, size).map_err(|cause| {
            failed(name, "set the size of a queue", &cause).hint(format!("try a queue-size below {size}"))
        })?;
        frontend.set_vring_base(index, 0).map_err(step("set the start of a queue"))?;
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
        frontend.set_vring_call(index, &event(call)?).map_err(step("set the call of a queue"))?;
        frontend.set_vring_kick(index, &event(kick)?).map_err(step("set the kick of a queue"))?;
    }
    // Without protocol features queues start by themselves.
    if features & PROTOCOL_FEATURES != 0 {
        for index in 0..queues.len() {
            frontend.set_vring_enable(index, true).map_err(step("enable a queue"))?;
        }
    }
    Ok(())
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
