//! [`Model`]: a device with the thread that serves it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_sys_util::eventfd;

use super::Bus;

/// What a device does behind its function.
pub(in crate::testing) trait Chip: Send + 'static {
    /// What messages call it.
    const NAME: &'static str;
    /// The base address register of its registers, and how much memory they take.
    const BAR: u8;
    const BAR_BYTES: usize;

    fn bus(&mut self) -> &mut Bus;

    /// Reads `width` bytes of registers; ones where nobody answers.
    fn load(&mut self, at: usize, width: usize) -> u32;

    /// Writes `width` bytes of registers.
    fn store(&mut self, at: usize, width: usize, value: u32);

    /// Does the next piece of what there is to do.
    fn work(&mut self) -> Work;

    /// The function is reset.
    fn reset(&mut self) {}

    /// The driver lets it go: it reaches memory for the last time.
    fn released(&mut self);

    /// The addresses that it reaches: all but a hole, as there is one on most machines.
    fn reach(&self) -> &'static [(u64, u64)] {
        &[(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)]
    }

    /// The system does not let it reach memory.
    fn refuses_maps(&self) -> bool {
        false
    }
}

/// What a device has done when it was asked to work.
pub(in crate::testing) enum Work {
    /// Something.
    Done,
    /// Nothing, and there is nothing to do before its registers are written, or this time has passed.
    Wait(Option<Duration>),
}

/// The device, with what wakes its thread.
pub(in crate::testing) struct Model<C> {
    chip: Mutex<C>,
    work: Condvar,
    stopped: Mutex<bool>,
    /// It has no thread: whoever tells it of something to do does that.
    is_direct: bool,
    /// How the system tells that it wants the device back, and of errors of the bus.
    pub(super) system: Mutex<[Option<eventfd::EventFd>; 2]>,
}

impl<C: Chip> Model<C> {
    pub(in crate::testing) fn new(chip: C) -> Model<C> {
        Model {
            chip: Mutex::new(chip),
            work: Condvar::new(),
            stopped: Mutex::new(false),
            is_direct: false,
            system: Mutex::default(),
        }
    }

    pub(in crate::testing) fn state(&self) -> MutexGuard<'_, C> {
        lock(&self.chip)
    }

    /// There may be something to do.
    pub(in crate::testing) fn wake(&self) {
        if self.is_direct {
            let mut chip = self.state();
            while let Work::Done = chip.work() {}
        }
        self.work.notify_one();
    }

    /// Serves what the driver tells of, until it is stopped. The device looks at nothing by itself: a kick that is lost
    /// is noticed.
    fn serve(&self) {
        let mut chip = self.state();
        while !*lock(&self.stopped) {
            chip = match chip.work() {
                Work::Done => chip,
                Work::Wait(None) => self.work.wait(chip).unwrap_or_else(PoisonError::into_inner),
                Work::Wait(Some(time)) => {
                    self.work.wait_timeout(chip, time).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Ends the thread.
    fn stop(&self) {
        // Its thread looks at this, and begins to wait, with the device locked.
        let chip = self.state();
        *lock(&self.stopped) = true;
        drop(chip);
        self.work.notify_all();
    }

    /// Signals that the system wants the device back (0), or an error of the bus (1).
    pub(in crate::testing) fn tell(&self, which: usize) {
        if let Some(event) = &lock(&self.system)[which] {
            // The only error is a full counter, and then it is readable already.
            let _ = event.write(1);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device that is served until this is dropped.
pub(in crate::testing) struct Running<C: Chip> {
    pub(in crate::testing) model: Arc<Model<C>>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Chip> Running<C> {
    /// # Panics
    /// There is no thread for it.
    pub(in crate::testing) fn start(chip: C) -> Running<C> {
        let model = Arc::new(Model::new(chip));
        let served = model.clone();
        let thread = thread::Builder::new().name("pci-device".into()).spawn(move || served.serve());
        Running { model, thread: Some(thread.expect("a test has threads")) }
    }

    /// One without a thread: it does what there is to do while its registers are written. What takes time never ends.
    pub(in crate::testing) fn direct(chip: C) -> Running<C> {
        Running { model: Arc::new(Model { is_direct: true, ..Model::new(chip) }), thread: None }
    }
}

impl<C: Chip> Drop for Running<C> {
    fn drop(&mut self) {
        self.model.stop();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
