//! [`DeviceQueue`]: the requests of one worker on a lane of a device.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::lane::{Ended, Errand, Lane, Lie, Verdict};
use super::state::{Device, Step};
use crate::error::Errno;
use crate::mem::Lease;
use crate::queue::{Queue, QueueDead};
use crate::request::{Completion, Operation, Outcome, Request};
use crate::slots::{Key, Slots};
use crate::sys::mmap::MemoryFile;
use crate::sys::poll;
use crate::tally::QueueTally;

/// Most completions of one `reap`, so that a fast device does not keep its worker from everything else.
const REAP_BOUND: usize = 256;

/// How often a device may ask for another try of one request.
const TRIES_MAX: u32 = 5;

/// How long a queue that is dropped waits for what is with the device.
const LONGEST_FAREWELL: Duration = Duration::from_secs(10);

/// A request that the queue holds.
#[derive(Debug)]
struct Entry {
    request: Request,
    stage: Stage,
    /// How often the device asked for another try.
    tries: u32,
    /// Pauses before those tries, in all.
    paused: Duration,
    /// How often it was sent to another device, or to the same one after a reset.
    resends: u32,
}

impl Entry {
    /// Whether a device that asks for another try after a pause gets it. A pause that would let a request wait longer
    /// than a device may end nothing is not begun.
    fn may_try_again(&self, after: Duration, most: Option<Duration>) -> bool {
        self.tries < TRIES_MAX && most.is_none_or(|most| self.paused.saturating_add(after) <= most)
    }

    fn errand(&self) -> Errand<'_> {
        match self.stage {
            Stage::Itself => Errand::Request(&self.request),
            Stage::Flush(_) => Errand::Flush,
        }
    }
}

/// What of a request is with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What it asks for.
    Itself,
    /// A flush, which ends this epoch: the request is one, or a write with FUA whose data the device has already.
    Flush(u64),
}

/// How the queue reaches the device.
enum Tie {
    Running(Box<dyn Lane>),
    /// Requests wait until there is a device again.
    Suspended,
    Dead(QueueDead),
}

/// One queue.
pub(crate) struct DeviceQueue {
    device: Arc<Device>,
    index: usize,
    tie: Tie,
    bell: Bell,
    /// The version of the device that the queue has followed, and notices of versions that it has taken.
    seen: u64,
    noticed: u64,
    /// For [`Durability::wrote`](super::durability::Durability::wrote).
    connection: u64,
    slots: Slots<Entry>,
    /// Finished without the device; fetched by the next `reap`.
    ready: Vec<Completion>,
    /// Memory of requests that ended although the device may still write there.
    withheld: Vec<Lease>,
    /// What is to be tried again, and when.
    later: Vec<(Instant, Key)>,
    armed: bool,
    /// When the device last ended a request, or was given one while it had none; kept where that has a bound.
    progress: Option<Instant>,
    told_unanswered: bool,
    /// What keeps the device in service.
    _link: Arc<dyn Any + Send + Sync>,
}

impl DeviceQueue {
    /// Queue `index` of the device, which nobody else has.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new(
        device: Arc<Device>,
        index: usize,
        link: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<DeviceQueue> {
        let mut queue = DeviceQueue {
            index,
            tie: Tie::Suspended,
            bell: Bell::new(device.notice(index))?,
            seen: 0,
            noticed: 1,
            connection: 0,
            slots: Slots::new(device.slots.into()),
            ready: Vec::new(),
            withheld: Vec::new(),
            later: Vec::new(),
            armed: false,
            progress: None,
            told_unanswered: false,
            _link: link,
            device,
        };
        queue.follow();
        Ok(queue)
    }

    fn tally(&self) -> &QueueTally {
        self.device.queue_tally(self.index)
    }

    /// Takes a request that has been checked. There is a slot for it.
    fn start(&mut self, request: Request) {
        let is_flush = matches!(request.operation, Operation::Flush);
        let flush_is_nothing = is_flush && !self.device.facts.limits.flush_needed;
        let is_empty = request.len == 0 && !is_flush;
        if flush_is_nothing || is_empty {
            return self.ready.push(request.complete(Ok(Outcome::Done)));
        }
        let stage = first_stage(&request, &self.device);
        if let Ok(key) =
            self.slots.insert(Entry { request, stage, tries: 0, paused: Duration::ZERO, resends: 0 })
        {
            self.send(key);
        }
    }

    /// Sends what a slot holds, if there is a device.
    fn send(&mut self, key: Key) {
        if let (Tie::Running(lane), Some(entry)) = (&mut self.tie, self.slots.get_mut(key)) {
            // There are no more slots than a `u16` counts.
            lane.send(key.index() as u16, entry.errand());
        }
    }

    /// Shows the device what was sent.
    fn publish(&mut self) {
        if let Tie::Running(lane) = &mut self.tie
            && lane.publish()
        {
            self.tally().submissions.add(1);
        }
    }

    /// Takes what the device has ended, up to a bound.
    ///
    /// # Errors
    /// What the device says is impossible.
    fn take_ended(&mut self, done: &mut Vec<Completion>) -> Result<(), Lie> {
        for _ in 0..REAP_BOUND {
            let Tie::Running(lane) = &mut self.tie else { break };
            let Some(ended) = lane.next_ended()? else { break };
            self.tally().completions.add(1);
            done.extend(self.judge(ended));
        }
        self.publish();
        Ok(())
    }

    /// Judges what the device has ended. Nothing comes of it when the request has another stage, or is tried again.
    fn judge(&mut self, ended: Ended) -> Option<Completion> {
        let key = self.slots.key_at(ended.slot.into())?;
        let entry = self.slots.get_mut(key)?;
        let result = match ended.verdict {
            // A device that has written less left somebody else's data in the lease.
            Verdict::Done { written: Some(written) } if is_short(entry, written) => {
                self.tell_unanswered("says that a read succeeded, but has not written all of it");
                Err(Errno::IO)
            }
            Verdict::Done { .. } => match next_stage(entry, &self.device, self.connection) {
                Some(stage) => {
                    entry.stage = stage;
                    self.send(key);
                    return None;
                }
                None => Ok(Outcome::Done),
            },
            Verdict::Again { after, .. } if entry.may_try_again(after, self.device.facts.request_timeout) => {
                entry.tries += 1;
                entry.paused += after;
                match after {
                    Duration::ZERO => self.send(key),
                    after => self.later.push((Instant::now() + after, key)),
                }
                return None;
            }
            Verdict::Failed(errno) | Verdict::Again { errno, .. } => Err(errno),
            Verdict::Unanswered => {
                self.tell_unanswered("ended a request without a status");
                Err(Errno::IO)
            }
        };
        Some(self.slots.remove(key)?.request.complete(result))
    }

    /// Sends what is to be tried again and has waited long enough. Whoever drives a queue that holds requests looks at
    /// it every second at least, so nothing waits much longer than it has to.
    fn send_later(&mut self) {
        if self.later.is_empty() {
            return;
        }
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(when, _)| *when <= now);
        self.later = later;
        for (_, key) in due {
            self.send(key);
        }
        self.publish();
    }

    /// Gives a device up that has ended nothing for too long.
    fn watch_progress(&mut self, has_ended: bool) {
        let Some(most) = self.device.facts.request_timeout else { return };
        match self.progress {
            // What waits for another try is not with the device.
            _ if self.slots.len() == self.later.len() || !matches!(self.tie, Tie::Running(_)) => {
                self.progress = None;
            }
            Some(since) if !has_ended && since.elapsed() > most => {
                let (name, seconds) = (&self.device.facts.name, most.as_secs());
                self.progress = None;
                self.device.complain(&format!("{name} has ended no request for {seconds} s"));
            }
            Some(_) if !has_ended => {}
            Some(_) | None => self.progress = Some(Instant::now()),
        }
    }

    fn tell_unanswered(&mut self, what: &str) {
        if !std::mem::replace(&mut self.told_unanswered, true) {
            tracing::warn!("{} {what}; such requests end with input/output errors", self.device.facts.name);
        }
    }

    /// Does what the device's changes ask for.
    fn follow(&mut self) {
        if self.device.version() == self.seen {
            return;
        }
        // What the device had used before it went is taken first. If that is not as it should be, it is sent again.
        let mut done = Vec::new();
        let _ = self.take_ended(&mut done);
        self.ready.append(&mut done);
        let order = self.device.order(self.index);
        (self.seen, self.connection) = (order.version, order.connection);
        self.leave(Tie::Suspended);
        if let Err(cause) = self.move_payload(&order.payload) {
            let reason = format!("no memory for going on without {}: {cause}", self.device.facts.name);
            if let Step::Run(lane) = order.step {
                drop(lane);
                self.device.give_back();
            }
            return self.fail(reason, Memory::Theirs);
        }
        match order.step {
            Step::Run(lane) => self.run(lane),
            Step::Wait => {}
            Step::Fail(reason) => {
                self.fail(reason, if order.is_ours { Memory::Ours } else { Memory::Theirs })
            }
        }
    }

    /// Moves the share of this queue's worker to where the devices before have no access. What was withheld from
    /// them is free then.
    fn move_payload(&mut self, to: &Arc<MemoryFile>) -> io::Result<()> {
        if self.device.region.move_share(self.index, to)? {
            self.withheld.clear();
        }
        Ok(())
    }

    /// Goes on with a device that knows nothing of what is in flight: all of it is sent, from the first stage on.
    fn run(&mut self, lane: Box<dyn Lane>) {
        let listens = self.bell.listen_to(lane.call().cloned());
        self.tie = Tie::Running(lane);
        self.armed = false;
        if let Err(cause) = listens {
            let reason = format!("cannot wait for {}: {cause}", self.device.facts.name);
            return self.fail(reason, Memory::Theirs);
        }
        self.later.clear();
        for key in self.slots.keys() {
            let Some(entry) = self.slots.get_mut(key) else { continue };
            if entry.resends < self.device.facts.resends_max {
                entry.resends += 1;
                self.device.queue_tally(self.index).resubmissions.add(1);
                entry.stage = first_stage(&entry.request, &self.device);
                self.send(key);
            } else if let Some(entry) = self.slots.remove(key) {
                // The device that had it is gone for good, and its memory with it.
                self.ready.push(entry.request.complete(Err(Errno::IO)));
            }
        }
        self.publish();
    }

    /// Ends everything.
    fn fail(&mut self, reason: String, memory: Memory) {
        for entry in self.slots.drain() {
            let request = match memory {
                Memory::Ours => entry.request,
                Memory::Theirs => {
                    let (request, lease) = entry.request.without_lease();
                    self.withheld.extend(lease);
                    request
                }
            };
            self.ready.push(request.complete(Err(Errno::IO)));
        }
        self.leave(Tie::Dead(QueueDead { reason }));
    }

    /// Drops the lane, if there is one.
    fn leave(&mut self, tie: Tie) {
        // An eventfd that is watched can always be given up.
        let _ = self.bell.listen_to(None);
        if let Tie::Running(lane) = std::mem::replace(&mut self.tie, tie) {
            drop(lane);
            self.device.give_back();
        }
    }

    /// The device did what it must not do.
    fn accuse(&mut self, lie: &Lie) {
        let name = &self.device.facts.name;
        tracing::error!("{name} is not to be trusted: {lie}");
        let reason = format!("{name} broke the rules of its queue: {lie}");
        if self.device.facts.is_mended {
            self.leave(Tie::Suspended);
            self.device.complain(&reason);
        } else {
            self.fail(reason, Memory::Theirs);
        }
    }
}

/// Whether a device may still write to what was lent to it.
#[derive(Clone, Copy, Debug)]
enum Memory {
    Ours,
    Theirs,
}

/// What a request begins with.
fn first_stage(request: &Request, device: &Device) -> Stage {
    match request.operation {
        Operation::Flush => Stage::Flush(device.durability.begin_flush()),
        _ => Stage::Itself,
    }
}

/// What follows the success of a request's stage.
fn next_stage(entry: &Entry, device: &Device, connection: u64) -> Option<Stage> {
    match (entry.stage, &entry.request.operation) {
        (Stage::Flush(epoch), _) => device.durability.flushed(epoch),
        (Stage::Itself, Operation::Write(_) | Operation::WriteZeroes) => {
            // Nobody is told of it before its flush.
            match (entry.request.flags.fua && device.facts.limits.flush_needed, device.facts.native_fua) {
                (true, false) => return Some(Stage::Flush(device.durability.begin_flush())),
                (true, true) => {}
                (false, _) => device.durability.wrote(connection),
            }
        }
        (Stage::Itself, _) => {}
    }
    None
}

/// Whether a read has less than its data.
fn is_short(entry: &Entry, written: u32) -> bool {
    matches!(entry.request.operation, Operation::Read(_)) && u64::from(written) < entry.request.len
}

impl Queue for DeviceQueue {
    fn submit(&mut self, todo: &mut VecDeque<Request>) -> Result<(), QueueDead> {
        self.follow();
        if let Tie::Dead(dead) = &self.tie {
            return Err(dead.clone());
        }
        let limits = self.device.request_limits();
        while !self.slots.is_full()
            && let Some(request) = todo.pop_front()
        {
            match request.check(&limits) {
                Ok(()) => self.start(request),
                Err(errno) => self.ready.push(request.complete(Err(errno))),
            }
        }
        self.publish();
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        if let (true, Tie::Running(lane)) = (self.armed, &mut self.tie) {
            lane.disarm();
        }
        self.armed = false;
        done.append(&mut self.ready);
        let before = done.len();
        if let Err(lie) = self.take_ended(done) {
            self.accuse(&lie);
        }
        self.send_later();
        self.watch_progress(done.len() > before);
        self.follow();
        done.append(&mut self.ready);
    }

    fn in_flight(&self) -> usize {
        self.slots.len() + self.ready.len()
    }

    fn has_news(&self) -> bool {
        self.device.version() != self.seen
    }

    fn is_dead(&self) -> bool {
        matches!(self.tie, Tie::Dead(_))
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }

    fn arm(&mut self) -> bool {
        let is_polled = matches!(&self.tie, Tie::Running(lane) if lane.call().is_none());
        if is_polled && self.slots.len() > 0 {
            return true;
        }
        // First the events, then the look: what comes between the two signals again.
        self.tally().notifications.add(self.bell.take_calls());
        if self.noticed < self.seen {
            self.noticed += self.bell.take_notices();
        }
        if !self.ready.is_empty() || self.has_news() {
            return true;
        }
        self.armed = true;
        match &mut self.tie {
            Tie::Running(lane) if !is_polled => lane.arm(),
            Tie::Running(_) | Tie::Suspended | Tie::Dead(_) => false,
        }
    }
}

impl Drop for DeviceQueue {
    /// Waits for what is with the device, so that no lease is given back while the device may still use it.
    fn drop(&mut self) {
        let started = Instant::now();
        let mut done = Vec::new();
        while let Tie::Running(_) = self.tie
            && self.slots.len() > 0
            && started.elapsed() < LONGEST_FAREWELL
        {
            self.reap(&mut done);
            done.clear();
            if self.slots.len() > 0 && !self.arm() {
                // A failure to wait means: look again, and judge by the clock.
                let _ = poll::readable(self.bell.as_fd(), 100);
            }
        }
        // A device that is being stopped may use its memory until it has.
        let may_be_used = match self.tie {
            Tie::Running(_) => true,
            Tie::Suspended => self.device.facts.is_mended,
            Tie::Dead(_) => false,
        };
        if may_be_used && self.slots.len() > 0 {
            tracing::error!(
                "{} did not end {} requests; their memory is given up",
                self.device.facts.name,
                self.slots.len()
            );
            self.fail("the queue was closed".into(), Memory::Theirs);
        }
        let tally = self.tally();
        let (ended, kicks, calls) =
            (tally.completions.get(), tally.submissions.get(), tally.notifications.get());
        let name = &self.device.facts.name;
        tracing::debug!(ended, kicks, calls, "queue {} of {name} ends", self.index);
        self.leave(Tie::Suspended);
        // It stays on loan for ever: the device may still write there.
        self.withheld.drain(..).for_each(std::mem::forget);
    }
}
