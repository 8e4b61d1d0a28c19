//! [`Device`]: what the queues of a device share, and how they learn what has become of it.
//!
//! A driver whose device can go and come back keeps the device's *condition* here. A change raises the
//! version, which every queue looks at whenever it is called, and rings the queues' notices. The queue then follows on
//! its own thread: it takes what the device had finished, moves its share of the payload memory, and sends what is in
//! flight to the new device or ends it.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::durability::Durability;
use super::lane::Lane;
use crate::limits::Limits;
use crate::mem::Region;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::MemoryFile;
use crate::sys::poll;
use crate::tally::{QueueTally, Tally};

/// What is known of a device before it runs, and stays.
#[derive(Debug)]
pub(crate) struct Facts {
    /// What messages call it.
    pub(crate) name: String,
    pub(crate) limits: Limits,
    /// The device sees to FUA by itself. Otherwise a flush follows the write.
    pub(crate) native_fua: bool,
    /// How often a request may be sent again because the device was gone; what was sent more often ends with EIO.
    pub(crate) resends_max: u32,
    /// Something may be done about a device that ends nothing or lies: whoever keeps it listens to complaints.
    pub(crate) is_mended: bool,
    /// How long the device may end no request before it counts as failed.
    pub(crate) request_timeout: Option<Duration>,
}

/// A device in service.
pub(crate) struct Device {
    pub(crate) facts: Facts,
    pub(crate) region: Arc<Region>,
    pub(crate) durability: Durability,
    /// Requests that each queue holds. Every device that takes this one's place has rings for as many.
    pub(crate) slots: u16,
    /// The capacity as the device tells it.
    capacity_bytes: AtomicU64,
    /// The largest it has been: clients that were told so may go on.
    reach_bytes: AtomicU64,
    version: AtomicU64,
    state: Mutex<State>,
    /// One per queue.
    notices: Vec<Arc<EventFd>>,
    /// Signalled when nobody waits for the device any more.
    death: EventFd,
    /// Signalled when a queue has something to complain of.
    complaint: EventFd,
    /// Lanes that queues have.
    lent: AtomicUsize,
    /// Signalled when a lane was given back.
    returned: EventFd,
    /// One per queue.
    tallies: Box<[QueueTally]>,
    recoveries: AtomicU64,
}

struct State {
    /// What queues complained of since the device was last taken up.
    complaint: Option<String>,
    /// Where payloads are to lie.
    payload: Arc<MemoryFile>,
    /// No device has it.
    is_ours: bool,
    condition: Condition,
}

/// How the device is.
enum Condition {
    /// It runs; each queue takes its lane once.
    Running(Vec<Option<Box<dyn Lane>>>),
    /// Requests wait for it.
    Suspended,
    /// Requests fail, for this reason.
    Dead(String),
}

impl Condition {
    fn running(lanes: Vec<Box<dyn Lane>>) -> Condition {
        Condition::Running(lanes.into_iter().map(Some).collect())
    }
}

/// What a queue has to follow.
pub(crate) struct Order {
    pub(crate) version: u64,
    pub(crate) payload: Arc<MemoryFile>,
    /// No device has the payload.
    pub(crate) is_ours: bool,
    /// For [`Durability::wrote`].
    pub(crate) connection: u64,
    pub(crate) step: Step,
}

/// What has become of a queue's device.
pub(crate) enum Step {
    /// It runs on this lane.
    Run(Box<dyn Lane>),
    /// Requests wait for it.
    Wait,
    /// Requests fail, for this reason.
    Fail(String),
}

impl Device {
    /// A device that runs, with the lanes of its queues.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new(facts: Facts, region: Arc<Region>, lanes: Vec<Box<dyn Lane>>) -> io::Result<Device> {
        let notices = lanes.iter().map(|_| EventFd::new().map(Arc::new)).collect::<io::Result<_>>()?;
        let queues = 0..lanes.len();
        Ok(Device {
            capacity_bytes: AtomicU64::new(facts.limits.capacity_bytes),
            reach_bytes: AtomicU64::new(facts.limits.capacity_bytes),
            durability: Durability::new(),
            slots: lanes.iter().map(|lane| lane.slots()).min().unwrap_or(0),
            // Above what a new queue has seen.
            version: AtomicU64::new(1),
            state: Mutex::new(State {
                complaint: None,
                payload: region.file(),
                is_ours: false,
                condition: Condition::running(lanes),
            }),
            notices,
            death: EventFd::new()?,
            complaint: EventFd::new()?,
            lent: AtomicUsize::new(0),
            returned: EventFd::new()?,
            tallies: queues.map(|_| QueueTally::default()).collect(),
            recoveries: AtomicU64::new(0),
            region,
            facts,
        })
    }

    /// The facts about the disk, with the capacity as it is now.
    pub(crate) fn limits(&self) -> Limits {
        Limits { capacity_bytes: self.capacity_bytes.load(Ordering::Acquire), ..self.facts.limits }
    }

    /// The facts that requests are checked against. A disk that shrank answers itself for what it has no more.
    pub(crate) fn request_limits(&self) -> Limits {
        Limits { capacity_bytes: self.reach_bytes.load(Ordering::Acquire), ..self.facts.limits }
    }

    /// The device tells another capacity. Returns whether that is news.
    pub(crate) fn resize(&self, capacity_bytes: u64) -> bool {
        self.reach_bytes.fetch_max(capacity_bytes, Ordering::AcqRel);
        self.capacity_bytes.swap(capacity_bytes, Ordering::AcqRel) != capacity_bytes
    }

    /// A number that every change raises by one.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The notice of a queue: signalled once with every change.
    pub(crate) fn notice(&self, queue: usize) -> Arc<EventFd> {
        self.notices[queue].clone()
    }

    /// How many queues there are.
    pub(crate) fn queues(&self) -> usize {
        self.notices.len()
    }

    /// What a queue that has seen an older version has to do. Its lane is taken, so it is to ask once per version.
    pub(crate) fn order(&self, queue: usize) -> Order {
        let mut state = self.state();
        let step = match &mut state.condition {
            Condition::Running(lanes) => match lanes.get_mut(queue).and_then(Option::take) {
                Some(lane) => {
                    self.lent.fetch_add(1, Ordering::AcqRel);
                    Step::Run(lane)
                }
                None => Step::Fail(format!("queue {queue} of {} is in use", self.facts.name)),
            },
            Condition::Suspended => Step::Wait,
            Condition::Dead(reason) => Step::Fail(reason.clone()),
        };
        Order {
            version: self.version(),
            payload: state.payload.clone(),
            is_ours: state.is_ours,
            // Changed only while the device is suspended.
            connection: self.durability.connection(),
            step,
        }
    }

    /// The device is gone; requests wait until another one takes its place. The old one may still have the memory, so
    /// payloads move to new memory.
    pub(crate) fn suspend(&self) {
        self.change(|state| {
            state.is_ours = false;
            self.own_payload(state);
            state.condition = Condition::Suspended;
        });
    }

    /// The device is to be stopped and taken up again; requests wait, and queues give their lanes back. Until
    /// [`Device::is_stopped`] it may still use the memory.
    pub(crate) fn hold(&self) {
        self.change(|state| state.condition = Condition::Suspended);
    }

    /// The device is proven to use no memory any more, so what it had is ours.
    pub(crate) fn is_stopped(&self) {
        self.state().is_ours = true;
    }

    /// A queue has dropped its lane.
    pub(crate) fn give_back(&self) {
        self.lent.fetch_sub(1, Ordering::AcqRel);
        self.returned.signal();
    }

    /// Waits until no queue has a lane. `false`: some still have when the time is over.
    pub(crate) fn await_lanes(&self, until: Instant) -> bool {
        while self.lent.load(Ordering::Acquire) > 0 {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            // A failure to wait means: look again, and judge by the clock.
            let _ = poll::first(&[self.returned.as_fd()], Some(left.min(Duration::from_millis(100))));
            self.returned.reset();
        }
        true
    }

    /// A queue cannot go on with the device as it is. Where nothing can be done about that, the device is dead.
    pub(crate) fn complain(&self, reason: &str) {
        if !self.facts.is_mended {
            return self.die(reason);
        }
        self.state().complaint.get_or_insert_with(|| reason.to_owned());
        self.complaint.signal();
    }

    /// Readable when a queue complained.
    pub(crate) fn complaint(&self) -> &EventFd {
        &self.complaint
    }

    /// What queues complained of.
    pub(crate) fn take_complaint(&self) -> Option<String> {
        self.complaint.reset();
        self.state().complaint.take()
    }

    /// Memory for the payloads that no device before had. The caller gives it to a device.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn give_payload(&self) -> io::Result<Arc<MemoryFile>> {
        let mut given = None;
        self.change(|state| {
            self.own_payload(state);
            if std::mem::replace(&mut state.is_ours, false) {
                given = Some(state.payload.clone());
            }
        });
        given.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
    }

    /// A device that has `payload` has taken the place of the one that is gone. Returns whether it was waited for.
    pub(crate) fn resume(&self, lanes: Vec<Box<dyn Lane>>, payload: &Arc<MemoryFile>) -> bool {
        let mut lanes = Some(lanes);
        self.change(|state| {
            if matches!(state.condition, Condition::Suspended) && Arc::ptr_eq(&state.payload, payload) {
                state.condition = Condition::running(lanes.take().unwrap_or_default());
            }
        });
        let is_back = lanes.is_none();
        self.recoveries.fetch_add(is_back.into(), Ordering::Relaxed);
        is_back
    }

    /// What the queue of this number counts.
    pub(crate) fn queue_tally(&self, queue: usize) -> &QueueTally {
        &self.tallies[queue]
    }

    /// What the device and all queues said to each other.
    pub(crate) fn tally(&self) -> Tally {
        Tally { recoveries: self.recoveries.load(Ordering::Relaxed), ..Tally::of(&*self.tallies) }
    }

    /// Nobody waits for the device any more.
    pub(crate) fn die(&self, reason: &str) {
        self.change(|state| {
            // Leases are given back only in memory that is ours.
            self.own_payload(state);
            state.condition = Condition::Dead(reason.to_owned());
        });
        self.death.signal();
    }

    /// Readable when nobody waits for the device any more.
    pub(crate) fn death(&self) -> &EventFd {
        &self.death
    }

    /// Whether nobody waits for the device any more.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state().condition, Condition::Dead(_))
    }

    /// Why nobody does.
    pub(crate) fn reason(&self) -> String {
        match &self.state().condition {
            Condition::Dead(reason) => reason.clone(),
            _ => String::new(),
        }
    }

    /// A dead device is waited for once more. Returns whether it was dead.
    pub(crate) fn revive(&self) -> bool {
        // Asked first, because nearly always there is nothing to change.
        if !self.is_dead() {
            return false;
        }
        let mut was_dead = false;
        self.change(|state| {
            was_dead = matches!(state.condition, Condition::Dead(_));
            if was_dead {
                state.condition = Condition::Suspended;
            }
        });
        was_dead
    }

    /// Whether requests wait for the device.
    pub(crate) fn is_suspended(&self) -> bool {
        matches!(self.state().condition, Condition::Suspended)
    }

    /// Takes new memory for the payloads if a device has the present one; goes on with that if there is none.
    fn own_payload(&self, state: &mut State) {
        if state.is_ours {
            return;
        }
        match self.region.renew() {
            Ok(file) => (state.payload, state.is_ours) = (file, true),
            Err(cause) => tracing::warn!("no new memory for going on without {}: {cause}", self.facts.name),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(state);
        self.notices.iter().for_each(|notice| notice.signal());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
