//! The `faulty` driver: a filter that makes faults in front of another driver.
//!
//! ```text
//! gateway faulty 'memory 64M' fail-flush=2
//! gateway faulty inner='io_uring path=/srv/disk.img direct=true' full-after=10M
//! ```
//!
//! It is also the pattern for filters: a driver that wraps a driver, sees every request on its way in and every
//! completion on its way out, and passes everything it does not care about. It exists in test builds only.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vm_memory::VolatileSlice;

use crate::driver::{Connected, DriverType, Event, Opener, StartOptions, Started};
use crate::error::{Errno, Error};
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{self, Kind, Phase, Property, Settings, Value};
use crate::queue::{Now, Queue, QueueDead, Store, View};
use crate::request::{Completion, Extent, Operation, Request, RequestFlags};
use crate::tally::Tally;

/// The type of the filter.
#[derive(Debug)]
pub struct FaultyDriver;

/// The filter, as an entry of the list of drivers.
pub static FAULTY: FaultyDriver = FaultyDriver;

const fn setting(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Property {
    Property { name, kind, phase: Phase::Connect, default, help }
}

static TABLE: [Property; 37] = property::join([
    setting(
        "inner",
        Kind::Text,
        "must be given",
        "The driver behind, with its properties, separated by blanks",
    ),
    setting(
        "fail-flush",
        Kind::Int { min: 0, max: i64::MAX },
        "0",
        "The flush of this number fails with EIO; 0: none",
    ),
    setting(
        "fail-offset",
        Kind::Size { min: 0, max: i64::MAX as u64 },
        "none",
        "Transfers of this byte fail with EIO",
    ),
    setting(
        "full-after",
        Kind::Size { min: 0, max: i64::MAX as u64 },
        "never",
        "Writes fail with ENOSPC after so many bytes",
    ),
    setting("delay-ms", Kind::Int { min: 0, max: 60_000 }, "0", "Every request takes so much longer"),
    setting("at-once", Kind::Bool, "true", "Requests may finish without being submitted"),
]);

impl DriverType for FaultyDriver {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn summary(&self) -> &'static str {
        "makes faults in front of another driver (test builds only)"
    }

    fn magic_property(&self) -> &'static str {
        "inner"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        let words: Vec<String> =
            settings.text("inner").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let (name, words) = words.split_first().ok_or_else(|| {
            Error::usage("driver 'faulty' needs the property 'inner'")
                .hint("for example: faulty 'memory 64M'")
        })?;
        let driver = crate::find(name)?;
        let inner_settings = Settings::parse(name, driver.properties(), driver.magic_property(), words)?;
        let inner = driver.connect(&inner_settings, opener)?;
        Ok(Box::new(FaultyConnected { inner, inner_settings, plan: Arc::new(Plan::new(settings)) }))
    }
}

/// Which faults to make, and how far things have come. Shared by all queues.
#[derive(Debug)]
struct Plan {
    fail_flush: u64,
    fail_offset: Option<u64>,
    full_after_bytes: u64,
    delay: Duration,
    at_once: bool,
    flushes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Plan {
    fn new(settings: &Settings) -> Plan {
        Plan {
            fail_flush: settings.count("fail-flush").unwrap_or(0) as u64,
            fail_offset: settings.size("fail-offset"),
            full_after_bytes: settings.size("full-after").unwrap_or(u64::MAX),
            delay: Duration::from_millis(settings.count("delay-ms").unwrap_or(0) as u64),
            at_once: settings.bool("at-once").unwrap_or(true),
            flushes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }

    fn flush(&self) -> Result<(), Errno> {
        let number = self.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.fail_flush { Err(Errno::IO) } else { Ok(()) }
    }

    fn transfer(&self, offset: u64, len: u64) -> Result<(), Errno> {
        match self.fail_offset {
            Some(bad) if offset <= bad && bad - offset < len => Err(Errno::IO),
            _ => Ok(()),
        }
    }

    fn write(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.transfer(offset, len)?;
        let before = self.written_bytes.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > self.full_after_bytes { Err(Errno::NO_SPACE) } else { Ok(()) }
    }

    fn judge(&self, request: &Request) -> Result<(), Errno> {
        match request.operation {
            Operation::Read(_) => self.transfer(request.offset, request.len),
            Operation::Write(_) => self.write(request.offset, request.len),
            Operation::Flush => self.flush(),
            Operation::Discard | Operation::WriteZeroes | Operation::BlockStatus => Ok(()),
        }
    }

    fn property(&self, name: &str) -> Option<Value> {
        Some(match name {
            "driver" => Value::Text("faulty".into()),
            "inner" => Value::Text(String::new()),
            "fail-flush" => Value::Int(self.fail_flush as i64),
            "fail-offset" => Value::Size(self.fail_offset.unwrap_or(0)),
            "full-after" => Value::Size(self.full_after_bytes.min(i64::MAX as u64)),
            "delay-ms" => Value::Int(self.delay.as_millis() as i64),
            "at-once" => Value::Bool(self.at_once),
            _ => return None,
        })
    }
}

struct FaultyConnected {
    inner: Box<dyn Connected>,
    inner_settings: Settings,
    plan: Arc<Plan>,
}

impl Connected for FaultyConnected {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.plan.property(name).or_else(|| self.inner.property(name))
    }

    fn start(
        self: Box<Self>,
        _settings: &Settings,
        options: StartOptions,
    ) -> Result<Arc<dyn Started>, Error> {
        let inner = self.inner.start(&self.inner_settings, options)?;
        Ok(Arc::new(FaultyDevice { inner, plan: self.plan }))
    }
}

struct FaultyDevice {
    inner: Arc<dyn Started>,
    plan: Arc<Plan>,
}

impl Started for FaultyDevice {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.plan.property(name).or_else(|| self.inner.property(name))
    }

    fn region(&self) -> &Arc<Region> {
        self.inner.region()
    }

    fn queues(&self) -> usize {
        self.inner.queues()
    }

    fn queue(&self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let inner = self.inner.queue(index)?;
        Ok(Box::new(FaultyQueue {
            inner,
            plan: self.plan.clone(),
            failed: Vec::new(),
            late: VecDeque::new(),
        }))
    }

    fn store(&self) -> Option<&dyn Store> {
        self.inner.store()
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        self.inner.event()
    }

    fn next_event(&self) -> Option<Event> {
        self.inner.next_event()
    }

    fn losses(&self) -> u64 {
        self.inner.losses()
    }

    fn is_flushed(&self) -> bool {
        self.inner.is_flushed()
    }

    fn tally(&self) -> Tally {
        self.inner.tally()
    }

    fn try_again(&self) {
        self.inner.try_again();
    }

    fn hurry(&self) {
        self.inner.hurry();
    }
}

struct FaultyQueue {
    inner: Box<dyn Queue>,
    plan: Arc<Plan>,
    /// Failed here; the inner queue never saw them.
    failed: Vec<Completion>,
    /// Finished, and held back until their time.
    late: VecDeque<(Instant, Completion)>,
}

impl FaultyQueue {
    fn delays(&self) -> bool {
        !self.plan.delay.is_zero()
    }

    fn at_once(&self) -> bool {
        self.plan.at_once && !self.delays()
    }
}

/// The answer of the inner queue, unless the plan says otherwise or nothing may finish at once.
fn now<T>(
    at_once: bool,
    verdict: impl FnOnce() -> Result<(), Errno>,
    inner: impl FnOnce() -> Now<T>,
) -> Now<T> {
    if !at_once {
        return Now::Later;
    }
    match verdict() {
        Ok(()) => inner(),
        Err(errno) => Now::Failed(errno),
    }
}

impl Queue for FaultyQueue {
    fn read_now(&mut self, offset: u64, into: &VolatileSlice<'_>) -> Now<()> {
        let (at_once, verdict) = (self.at_once(), self.plan.transfer(offset, into.len() as u64));
        now(at_once, || verdict, || self.inner.read_now(offset, into))
    }

    fn view_now(&mut self, offset: u64, len: usize) -> Now<View> {
        let (at_once, verdict) = (self.at_once(), self.plan.transfer(offset, len as u64));
        now(at_once, || verdict, || self.inner.view_now(offset, len))
    }

    fn write_now(&mut self, offset: u64, from: &[u8]) -> Now<()> {
        let (at_once, plan, len) = (self.at_once(), self.plan.clone(), from.len() as u64);
        let answer = now(at_once, || plan.write(offset, len), || self.inner.write_now(offset, from));
        if at_once && answer == Now::Later {
            // It comes again as a request and is counted then.
            plan.written_bytes.fetch_sub(len, Ordering::Relaxed);
        }
        answer
    }

    fn discard_now(&mut self, offset: u64, len: u64) -> Now<()> {
        now(self.at_once(), || Ok(()), || self.inner.discard_now(offset, len))
    }

    fn write_zeroes_now(&mut self, offset: u64, len: u64, flags: RequestFlags) -> Now<()> {
        now(self.at_once(), || Ok(()), || self.inner.write_zeroes_now(offset, len, flags))
    }

    fn flush_now(&mut self) -> Now<()> {
        if !self.at_once() {
            return Now::Later;
        }
        match self.inner.flush_now() {
            Now::Done(()) => self.plan.flush().map_or_else(Now::Failed, Now::Done),
            other => other,
        }
    }

    fn block_status_now(&mut self, offset: u64, len: u64, extents: &mut Vec<Extent>) -> Now<()> {
        now(self.at_once(), || Ok(()), || self.inner.block_status_now(offset, len, extents))
    }

    fn submit(&mut self, todo: &mut VecDeque<Request>) -> Result<(), QueueDead> {
        // The plan judges a request when it leaves for the inner queue, so those that find it full are offered one
        // by one again and judged once.
        let mut one = VecDeque::with_capacity(1);
        while let Some(request) = todo.pop_front() {
            if let Err(errno) = self.plan.judge(&request) {
                self.failed.push(request.complete(Err(errno)));
                continue;
            }
            let undo = matches!(request.operation, Operation::Write(_)).then_some(request.len);
            let is_flush = matches!(request.operation, Operation::Flush);
            one.push_back(request);
            let result = self.inner.submit(&mut one);
            if let Some(request) = one.pop_front() {
                self.plan.written_bytes.fetch_sub(undo.unwrap_or(0), Ordering::Relaxed);
                self.plan.flushes.fetch_sub(is_flush.into(), Ordering::Relaxed);
                todo.push_front(request);
                return result;
            }
            result?;
        }
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        if !self.delays() {
            done.append(&mut self.failed);
            return self.inner.reap(done);
        }
        let mut fresh = std::mem::take(&mut self.failed);
        self.inner.reap(&mut fresh);
        let now = Instant::now();
        self.late.extend(fresh.into_iter().map(|completion| (now + self.plan.delay, completion)));
        while self.late.front().is_some_and(|(due, _)| *due <= now) {
            done.extend(self.late.pop_front().map(|(_, completion)| completion));
        }
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.failed.len() + self.late.len()
    }

    fn has_news(&self) -> bool {
        self.inner.has_news()
    }

    fn is_dead(&self) -> bool {
        self.inner.is_dead()
    }

    /// A queue that delays must be polled: its requests end by the clock.
    fn event(&self) -> Option<BorrowedFd<'_>> {
        if self.delays() { None } else { self.inner.event() }
    }

    fn arm(&mut self) -> bool {
        !self.failed.is_empty() || self.inner.arm()
    }
}
