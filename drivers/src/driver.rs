//! The control plane's contract: [`DriverType`] → [`Connected`] → [`Started`].

use std::fs::OpenOptions;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{Property, Settings, Value};
use crate::queue::{Queue, Store};
use crate::tally::Tally;

/// A kind of driver: an entry of [`crate::DRIVERS`].
pub trait DriverType: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in one line.
    fn summary(&self) -> &'static str;

    /// The property that a bare word after the driver's name sets.
    fn magic_property(&self) -> &'static str;

    /// Every property it has, settable or not.
    fn properties(&self) -> &'static [Property];

    /// The properties that say which disk it is: exactly one of them must be set.
    fn sources(&self) -> Vec<&'static str> {
        let is_source = |name| name == self.magic_property() || name == "fd";
        let settable = self.properties().iter().filter(|property| property.settable());
        settable.map(|property| property.name).filter(|name| is_source(*name)).collect()
    }

    /// Opens the device with the properties that are set before connecting, and finds out what it is.
    ///
    /// `settings` has been checked against the table (names, types, ranges); combinations are checked here. A driver
    /// that can reconnect keeps the opener.
    ///
    /// # Errors
    /// When the combination of properties is wrong, or the device cannot be reached or is not what it should be.
    fn connect(&self, settings: &Settings, opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error>;
}

impl std::fmt::Debug for dyn DriverType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a driver opens what a property names. A sandbox, an upgrade and a reconnect put their own in its place.
pub trait Opener: Send + Sync {
    /// Opens `path`, which is absolute.
    ///
    /// # Errors
    /// What `open(2)` answered.
    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<OwnedFd>;

    /// Connects to the Unix stream socket at `path`, which is absolute. Never waits: a listener with a full queue is
    /// `EAGAIN`.
    ///
    /// # Errors
    /// What `connect(2)` answered.
    fn connect(&self, path: &Path) -> std::io::Result<UnixStream>;
}

/// Opens by `open(2)`, close-on-exec, never making a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemOpener;

impl Opener for SystemOpener {
    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<OwnedFd> {
        let mut flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        if mode.direct {
            flags |= libc::O_DIRECT;
        }
        // O_NONBLOCK: opening a FIFO by mistake must not wait for its other end. It means nothing for files and disks.
        let file = OpenOptions::new().read(true).write(mode.write).custom_flags(flags).open(path)?;
        Ok(file.into())
    }

    fn connect(&self, path: &Path) -> std::io::Result<UnixStream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        socket.set_nonblocking(false)?;
        Ok(UnixStream::from(OwnedFd::from(socket)))
    }
}

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMode {
    /// Open for writing as well as reading.
    pub write: bool,
    /// Bypass the page cache (`O_DIRECT`).
    pub direct: bool,
}

/// A device that is open and whose limits are known; no queue runs yet.
pub trait Connected {
    /// The facts about the disk.
    fn limits(&self) -> Limits;

    /// The value of a property as it is now; `None` for a name that is not in the table.
    fn property(&self, name: &str) -> Option<Value>;

    /// Applies the properties that are set between connecting and starting, maps the region, and gets ready to make
    /// queues.
    ///
    /// # Errors
    /// When a property asks for what the device cannot do, or the system refuses memory.
    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error>;
}

/// What the caller decides at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartOptions {
    /// Threads that will drive queues. `num-queues` defaults to this, at most the device's maximum.
    pub workers: usize,
    /// Size of the region in bytes, for all workers together.
    pub region_bytes: usize,
}

/// What happened to a device by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The capacity changed; [`Started::limits`] tells the new one.
    CapacityChanged,
    /// Requests wait until [`Event::Resumed`]: the device is being reset or its back-end reconnected.
    Suspended {
        /// Why, for the log.
        reason: String,
    },
    /// Requests go on.
    Resumed,
    /// Every request fails from now on.
    Dead {
        /// Why, for the log.
        reason: String,
    },
    /// Writes that had completed and were not flushed are lost; see [`Started::losses`].
    WritesLost,
}

/// A device in service, shared by all workers until the last handle is dropped.
pub trait Started: Send + Sync {
    /// The facts about the disk, asked anew where they may change ([`Limits::can_grow`]). May block for a moment.
    fn limits(&self) -> Limits;

    /// The value of a property as it is now; `None` for a name that is not in the table.
    fn property(&self, name: &str) -> Option<Value>;

    /// The payload memory of this device.
    fn region(&self) -> &Arc<Region>;

    /// How many queues there are: worker `n` of the caller's drives queue `n`.
    fn queues(&self) -> usize;

    /// Makes queue `index`. Called once per index, on the thread that will drive the queue.
    ///
    /// # Errors
    /// When the system refuses what the queue needs; the message says what and why.
    fn queue(&self, index: usize) -> Result<Box<dyn Queue>, Error>;

    /// The memory that [`Queue::view_now`] and [`Outcome::View`](crate::Outcome::View) speak of.
    fn store(&self) -> Option<&dyn Store> {
        None
    }

    /// How often writes that had completed were lost before a flush covered them. Raised before any later flush
    /// succeeds: whoever relied on such writes is to be told that their flush failed.
    fn losses(&self) -> u64 {
        0
    }

    /// Whether every write that completed is known to be on stable storage. `false`: that is not known.
    fn is_flushed(&self) -> bool {
        false
    }

    /// What the device and its queues said to each other so far.
    fn tally(&self) -> Tally {
        Tally::default()
    }

    /// A client has come: a device that was given up is looked for once more.
    fn try_again(&self) {}

    /// The caller is about to end: a device that is gone is waited for a few seconds more at most.
    fn hurry(&self) {}

    /// Signalled when [`Started::next_event`] has something to tell; whoever waits for it watches for edges.
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What happened since the last call, oldest first.
    fn next_event(&self) -> Option<Event> {
        None
    }
}
