//! [`Keeper`]: the thread that notices when the back-end is gone, and brings another one in its place.
//!
//! A back-end is gone when its socket is at its end: then it can begin nothing new. Mere slowness is none of the
//! keeper's business: a back-end that lives may still write. What is in flight waits in the queues, and is sent again
//! to the next back-end, which may do it twice; that is harmless, because nobody was told of the first time.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::address::Address;
use super::link::{LAYOUT_FEATURES, Link, Terms};
use super::service;
use crate::device::news::News;
use crate::device::service::Keep;
use crate::device::state::Device;
use crate::driver::{Event, Opener};
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::sys::poll;
use crate::virtio::config::BlkConfig;
use crate::virtio::lane;
use crate::virtio::rings::Queues;

/// Pauses between attempts: the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long one attempt may take: a back-end that is silent now may answer the next one.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(3);

/// How long a back-end may take to come back once the caller is about to end.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// How long the back-end is not listened to after it told a change, so that one that tells many gets little.
const CHANGES_PAUSE: Duration = Duration::from_millis(100);

/// What is needed to bring a back-end back.
pub(super) struct Plan {
    pub(super) address: Address,
    pub(super) opener: Arc<dyn Opener>,
    pub(super) terms: Terms,
    pub(super) queues: Queues,
    /// What the queues are made for.
    pub(super) config: BlkConfig,
    /// The serial number of the disk.
    pub(super) serial: String,
    /// How long to try; `None`: for ever. Zero: not at all.
    pub(super) patience: Option<Duration>,
    /// Completed writes may have been in a cache that went with the back-end.
    pub(super) loses_cache: bool,
}

/// Keeps a device in service until it is dropped.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its owner share.
struct Shared {
    device: Arc<Device>,
    news: News,
    can_come_back: bool,
    stop: EventFd,
    /// Signalled to try again after giving up.
    again: EventFd,
    /// The caller is about to end.
    hurry: AtomicBool,
    /// The socket of a conversation under way.
    talking: Mutex<Option<UnixStream>>,
}

impl Keeper {
    /// Watches `link`, on which `device` runs.
    ///
    /// # Errors
    /// What the system answered to the request for a thread or a descriptor.
    pub(super) fn start(device: Arc<Device>, link: Link, plan: Plan) -> io::Result<Keeper> {
        let can_come_back = plan.address.can_come_back() && plan.patience != Some(Duration::ZERO);
        let shared = Arc::new(Shared {
            device,
            news: News::new()?,
            can_come_back,
            stop: EventFd::new()?,
            again: EventFd::new()?,
            hurry: AtomicBool::new(false),
            talking: Mutex::default(),
        });
        let work = Work { shared: shared.clone(), link, plan, quiet_until: None };
        let thread = thread::Builder::new().name("vhost-user".into()).spawn(move || work.run())?;
        Ok(Keeper { shared, thread: Some(thread) })
    }
}

impl Keep for Keeper {
    fn news(&self) -> &News {
        &self.shared.news
    }

    /// Tries again if the device was given up.
    fn try_again(&self) {
        if self.shared.can_come_back && self.shared.device.revive() {
            self.shared.again.signal();
        }
    }

    /// A back-end that is gone is waited for a few seconds more at most.
    fn hurry(&self) {
        self.shared.hurry.store(true, Ordering::Release);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stop.signal();
        self.shared.interrupt();
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did its work would be over as well.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Ends a conversation under way.
    fn interrupt(&self) {
        if let Some(socket) = &*self.talking.lock().unwrap_or_else(PoisonError::into_inner) {
            // It fails only if the connection is gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn is_stopped(&self) -> bool {
        self.pause(Duration::ZERO)
    }

    /// Waits; `true`: to be stopped.
    fn pause(&self, time: Duration) -> bool {
        matches!(poll::first(&[self.stop.as_fd()], Some(time)), Ok(Some(_)))
    }

    fn set_talking(&self, socket: Option<UnixStream>) {
        *self.talking.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

/// How an attempt to bring a back-end back came out.
enum Outcome {
    Back,
    Stopped,
    /// With the last reason.
    GaveUp(String),
}

/// The thread's own.
struct Work {
    shared: Arc<Shared>,
    link: Link,
    plan: Plan,
    /// The back-end's own messages wait until then.
    quiet_until: Option<Instant>,
}

impl Work {
    fn run(mut self) {
        while let Some(reason) = self.watch() {
            // One that lives, but broke the protocol, is to learn that we are gone.
            let _ = self.link.socket.shutdown(Shutdown::Both);
            if !self.bring_back(&reason) {
                return;
            }
        }
    }

    fn name(&self) -> &str {
        &self.shared.device.facts.name
    }

    /// Waits until the back-end is gone, and says why; `None`: to be stopped.
    fn watch(&mut self) -> Option<String> {
        loop {
            let quiet = self.quiet_until.map(|until| until.saturating_duration_since(Instant::now()));
            let quiet = quiet.filter(|rest| !rest.is_zero());
            let mut files = vec![self.shared.stop.as_fd(), self.link.socket.as_fd()];
            let listens = quiet.is_none() && !self.link.awaits_config();
            files.extend(self.link.changes_event().filter(|_| listens));
            match poll::first(&files, quiet) {
                Err(cause) => return Some(format!("its socket cannot be watched: {cause}")),
                Ok(None) => {}
                Ok(Some(poll::Ready { index: 0, .. })) => return None,
                Ok(Some(poll::Ready { index: 1, hung_up: true })) => {
                    return Some("it has closed the connection".into());
                }
                Ok(Some(poll::Ready { index: 1, hung_up: false })) => {
                    // Every other message was answered before, and the back-end may not begin by itself here.
                    if !self.link.awaits_config() || !self.take_config() {
                        return Some("it broke the protocol".into());
                    }
                }
                Ok(Some(_)) => self.take_change(),
            }
        }
    }

    /// Listens to what the back-end tells by itself.
    fn take_change(&mut self) {
        self.quiet_until = Some(Instant::now() + CHANGES_PAUSE);
        self.shared.set_talking(self.link.changes_socket());
        if let Err(error) = self.link.take_change() {
            tracing::warn!("changes of the disk are not noticed any more: {error}");
        }
        self.shared.set_talking(None);
    }

    /// Follows a change of the configuration: of its capacity, that is, since nothing else may change. `false`: what
    /// came is no configuration.
    fn take_config(&mut self) -> bool {
        self.shared.set_talking(self.link.socket.try_clone().ok());
        let config = self.link.take_config();
        self.shared.set_talking(None);
        match config.and_then(|config| config.limits(true)) {
            Ok(limits) => {
                if self.shared.device.resize(limits.capacity_bytes) {
                    self.shared.news.tell(Event::CapacityChanged);
                }
                true
            }
            Err(error) => {
                tracing::warn!("{} tells a change that cannot be: {error}", self.name());
                false
            }
        }
    }

    /// Lets requests wait until there is a back-end again. `false`: to be stopped.
    fn bring_back(&mut self, reason: &str) -> bool {
        let mut reason = format!("{} is gone: {reason}", self.name());
        self.shared.device.suspend();
        if self.shared.can_come_back {
            self.tell_search(reason.clone());
            match self.try_for_a_while() {
                Outcome::Back => return true,
                Outcome::Stopped => return false,
                Outcome::GaveUp(last) => reason = last,
            }
        }
        loop {
            self.give_up(reason);
            if !self.is_asked_again() {
                return false;
            }
            self.tell_search(format!("a client has come: looking for {} again", self.name()));
            match self.try_for_a_while() {
                Outcome::Back => return true,
                Outcome::Stopped => return false,
                Outcome::GaveUp(last) => reason = last,
            }
        }
    }

    fn tell_search(&self, reason: String) {
        let reason = format!("{reason}; requests wait until it is back");
        self.shared.news.tell(Event::Suspended { reason });
    }

    fn give_up(&self, reason: String) {
        self.shared.device.die(&reason);
        let again = if self.shared.can_come_back { " until a client connects again" } else { "" };
        let reason = format!("{reason}; requests end with input/output errors{again}");
        self.shared.news.tell(Event::Dead { reason });
    }

    /// Waits until the device is to be looked for once more. `false`: to be stopped.
    fn is_asked_again(&self) -> bool {
        while !self.shared.device.is_suspended() {
            let files = [self.shared.stop.as_fd(), self.shared.again.as_fd()];
            match poll::first(&files, None) {
                Ok(Some(poll::Ready { index: 0, .. })) | Err(_) => return false,
                _ => self.shared.again.reset(),
            }
        }
        true
    }

    fn try_for_a_while(&mut self) -> Outcome {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut hurry = None;
        let mut told = String::new();
        loop {
            let left = self.plan.patience.map(|most| most.saturating_sub(start.elapsed()));
            let most = left.unwrap_or(ATTEMPT_PATIENCE).clamp(LONGEST_PAUSE, ATTEMPT_PATIENCE);
            let error = match self.attempt(Instant::now() + most) {
                Ok(()) => return Outcome::Back,
                Err(error) => error.to_string(),
            };
            if error != told {
                tracing::info!("not yet: {error}");
                told = error;
            }
            if self.shared.hurry.load(Ordering::Acquire) {
                hurry.get_or_insert_with(Instant::now);
            }
            let is_late = self.plan.patience.is_some_and(|most| start.elapsed() + pause > most)
                || hurry.is_some_and(|since| since.elapsed() > LAST_PATIENCE);
            if is_late {
                let seconds = start.elapsed().as_secs();
                return Outcome::GaveUp(format!(
                    "{} has not come back for {seconds} s; the last attempt: {told}",
                    self.name()
                ));
            }
            if self.shared.pause(pause) {
                return Outcome::Stopped;
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Connects, negotiates, sees that it is the same disk, and goes on with it.
    fn attempt(&mut self, until: Instant) -> Result<(), Error> {
        let socket = self.plan.address.connect(&*self.plan.opener)?;
        let clone = socket.try_clone().map_err(|cause| Error::system("watch a socket", &cause))?;
        self.shared.set_talking(Some(clone));
        let result = match self.shared.is_stopped() {
            true => Err(Error::device("stopped")),
            false => self.take_up(socket, until),
        };
        self.shared.set_talking(None);
        result
    }

    fn take_up(&mut self, socket: UnixStream, until: Instant) -> Result<(), Error> {
        let device = self.shared.device.clone();
        let name = &device.facts.name;
        let mut link = Link::negotiate(socket, name, self.plan.terms, until)?;
        self.judge(&link)?;
        let payload = device
            .give_payload()
            .map_err(|cause| Error::system(format!("make new memory for {name}"), &cause))?;
        let service = service::start(&mut link, name, self.plan.queues, &payload, until)?;
        if service.serial != self.plan.serial {
            return Err(other_disk(name, &format!("its serial number is '{}'", service.serial)));
        }
        if self.plan.loses_cache && device.durability.lose_cache() {
            self.shared.news.tell(Event::WritesLost);
        }
        let is_news = link.config.limits(true).is_ok_and(|limits| device.resize(limits.capacity_bytes));
        let lanes = lane::lanes(service.parts, self.plan.config, service::PAYLOAD_ADDRESS);
        if !device.resume(lanes, &payload) {
            return Err(Error::device(format!("{name} is not waited for any more")));
        }
        self.link = link;
        self.quiet_until = None;
        self.shared.news.tell(Event::Resumed);
        if is_news {
            self.shared.news.tell(Event::CapacityChanged);
        }
        Ok(())
    }

    /// Whether what is behind `link` can take the place of the disk as it was.
    fn judge(&self, link: &Link) -> Result<(), Error> {
        let facts = &self.shared.device.facts;
        let other = |reason: String| other_disk(&facts.name, &reason);
        link.config.replaces(&self.plan.config, &self.shared.device.limits()).map_err(other)?;
        if link.queues < self.plan.queues.count {
            return Err(other(format!("it has {} queues, not {}", link.queues, self.plan.queues.count)));
        }
        if (link.features ^ self.link.features) & LAYOUT_FEATURES != 0 {
            return Err(other("it has other descriptors".into()));
        }
        Ok(())
    }
}

fn other_disk(name: &str, reason: &str) -> Error {
    Error::device(format!("{name} is another disk than before: {reason}"))
        .hint("start the back-end with the disk it had, or end this server")
}
