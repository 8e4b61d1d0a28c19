//! [`Answers`]: how requests end, and what goes wrong there.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use vhost_user_backend::{VringRwLock, VringT};
use virtio_queue::QueueT;

use super::fault::Fault;

/// A request that is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The descriptor that its chain begins with.
    pub(super) head: u16,
    /// How many bytes of the chain were written.
    pub(super) written: u32,
}

/// Gives answers, as the fault has it.
#[derive(Debug)]
pub(super) struct Answers {
    fault: Fault,
    /// To the thread that does things later, where the fault needs one.
    later: Option<Sender<Later>>,
}

/// What is to be done at a time: answers to be given, and the call for them.
struct Later {
    at: Instant,
    vring: VringRwLock,
    answers: Vec<Answer>,
}

impl Answers {
    /// Answers that go wrong in this way.
    ///
    /// # Errors
    /// No thread can be had for what is done later.
    pub(super) fn new(fault: Fault) -> io::Result<Answers> {
        let later = match fault.answer_delay().or(fault.call_delay()) {
            Some(_) => {
                let (sender, receiver) = mpsc::channel();
                thread::Builder::new().name("back-end-later".into()).spawn(move || do_later(&receiver))?;
                Some(sender)
            }
            None => None,
        };
        Ok(Answers { fault, later })
    }

    /// Answers a batch. `honest`: without any fault but that calls are missing or late.
    ///
    /// # Errors
    /// The ring lies in no memory, or the driver cannot be called.
    pub(super) fn give(&self, vring: &VringRwLock, mut batch: Vec<Answer>, honest: bool) -> io::Result<()> {
        let fault = if honest { Fault::None } else { self.fault };
        if fault == Fault::OutOfOrder {
            batch.reverse();
        }
        if let Some(delay) = fault.answer_delay() {
            self.do_after(delay, vring, batch);
            return Ok(());
        }
        for answer in batch {
            add(vring, answer, fault)?;
        }
        match self.fault {
            Fault::NoCalls => Ok(()),
            Fault::LateCalls(ms) => {
                self.do_after(Duration::from_millis(ms), vring, Vec::new());
                Ok(())
            }
            // By an index that jumped over the event nobody seems to wait for a call.
            Fault::IndexAhead | Fault::IndexBack => vring.signal_used_queue(),
            _ => call_if_wanted(vring),
        }
    }

    fn do_after(&self, delay: Duration, vring: &VringRwLock, answers: Vec<Answer>) {
        if let Some(later) = &self.later {
            // The thread ends only with this sender.
            let _ = later.send(Later { at: Instant::now() + delay, vring: vring.clone(), answers });
        }
    }
}

/// All delays are the same, so what was sent first is due first.
fn do_later(receiver: &Receiver<Later>) {
    for Later { at, vring, answers } in receiver {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let is_call_only = answers.is_empty();
        let added = answers.into_iter().try_for_each(|answer| add(&vring, answer, Fault::None));
        let called = if is_call_only { vring.signal_used_queue() } else { call_if_wanted(&vring) };
        if added.and(called).is_err() {
            // The queue has been taken away: there is nobody to answer.
            return;
        }
    }
}

fn add(vring: &VringRwLock, Answer { head, written }: Answer, fault: Fault) -> io::Result<()> {
    let (id, written) = match fault {
        Fault::WrongId => (head ^ 0x55, written),
        Fault::WrongLength => (head, written + 1000),
        _ => (head, written),
    };
    match fault {
        Fault::IndexAhead => jump(vring, 5),
        Fault::IndexBack => jump(vring, -2),
        _ => {}
    }
    let times = if fault == Fault::EndsTwice { 2 } else { 1 };
    for _ in 0..times {
        vring.add_used(id, written).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Moves the used index; the next answer makes that seen.
fn jump(vring: &VringRwLock, by: i16) {
    let mut state = vring.get_mut();
    let queue = state.get_queue_mut();
    queue.set_next_used(queue.next_used().wrapping_add_signed(by));
}

fn call_if_wanted(vring: &VringRwLock) -> io::Result<()> {
    if vring.needs_notification().map_err(io::Error::other)? {
        vring.signal_used_queue()?;
    }
    Ok(())
}
