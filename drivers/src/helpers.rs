//! [`Helpers`]: a few threads for system calls that block and have no asynchronous form (discard ioctls, searching
//! holes), so that no worker has to make them.
//!
//! A job belongs to a request in flight, so there are never more jobs than slots. Its answer goes to the [`Mailbox`]
//! of the queue that asked.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crate::sys::eventfd::EventFd;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads that are started when they are first needed and end when the pool is dropped.
pub(crate) struct Helpers {
    shared: Arc<Shared>,
    most_threads: usize,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Helpers {
    pub(crate) fn new(most_threads: usize) -> Helpers {
        let shared = Shared { state: Mutex::new(State::default()), wake: Condvar::new() };
        Helpers { shared: Arc::new(shared), most_threads }
    }

    /// Runs `job` on one of the threads, in the order of the calls. Without any thread (the system refuses to start
    /// one) the job runs at once: slow is better than never.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.shared.state);
        state.jobs.push_back(Box::new(job));
        if state.jobs.len() > state.idle && state.threads < self.most_threads && self.start_thread().is_ok() {
            state.threads += 1;
        }
        if state.threads == 0 {
            let job = state.jobs.pop_back();
            drop(state);
            if let Some(job) = job {
                job();
            }
            return;
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = self.shared.clone();
        thread::Builder::new().name("disk-helper".into()).spawn(move || shared.work()).map(drop)
    }
}

impl Drop for Helpers {
    /// Jobs that run are left to finish by themselves; they own what they need. Those that wait are dropped.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        while !state.closed {
            match state.jobs.pop_front() {
                Some(job) => {
                    drop(state);
                    job();
                    state = lock(&self.state);
                }
                None => {
                    state.idle += 1;
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                }
            }
        }
    }
}

/// Where helpers put the answers for one queue.
pub(crate) struct Mailbox<T> {
    letters: Mutex<Vec<T>>,
    /// Whether there are letters, so that looking costs a load and no lock.
    full: AtomicBool,
    /// Signalled for every letter.
    event: Arc<EventFd>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(event: Arc<EventFd>) -> Mailbox<T> {
        Mailbox { letters: Mutex::new(Vec::new()), full: AtomicBool::new(false), event }
    }

    pub(crate) fn put(&self, letter: T) {
        let mut letters = lock(&self.letters);
        letters.push(letter);
        self.full.store(true, Ordering::Release);
        drop(letters);
        self.event.signal();
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.full.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Vec<T> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut letters = lock(&self.letters);
        self.full.store(false, Ordering::Release);
        std::mem::take(&mut *letters)
    }
}

/// A panic elsewhere leaves lists of jobs and letters in order, so the lock is taken all the same.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_job_runs_once_and_no_more_than_the_bound_at_a_time() {
        let helpers = Helpers::new(2);
        let (sender, receiver) = mpsc::channel();
        let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for number in 0..50 {
            let (sender, running) = (sender.clone(), running.clone());
            helpers.run(move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                sender.send((number, now)).unwrap();
            });
        }
        let mut seen: Vec<_> = (0..50).map(|_| receiver.recv().unwrap()).collect();
        assert!(seen.iter().all(|(_, now)| *now <= 2));
        seen.sort_unstable();
        assert!(seen.iter().map(|(number, _)| *number).eq(0..50));
    }

    #[test]
    fn letters_arrive_with_a_signal() {
        let event = Arc::new(EventFd::new().unwrap());
        let mailbox = Mailbox::new(event);
        assert!(mailbox.take().is_empty());
        mailbox.put(1);
        mailbox.put(2);
        assert!(!mailbox.is_empty());
        assert_eq!(mailbox.take(), [1, 2]);
        assert!(mailbox.is_empty());
    }
}
