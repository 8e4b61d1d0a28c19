//! [`Admission`]: whether the clients of a disk are served, held or sent away, while the disk itself stays.

use tokio::sync::oneshot;

use super::Worker;
use crate::slab::Key;

/// What becomes of the clients of a disk, those that come later too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Admission {
    /// They are served.
    #[default]
    Open,
    /// What they have begun is completed; what they ask for next waits.
    Held,
    /// What they have begun is completed; then they are sent away.
    Shut,
}

/// Somebody waits until an admission has come about.
#[derive(Debug)]
pub(super) struct Awaited {
    disk: usize,
    admission: Admission,
    reached: oneshot::Sender<()>,
}

impl Worker {
    /// Changes what becomes of the clients of a disk. Whoever waits for something else does so in vain from now on.
    pub(super) fn admit(&mut self, disk: usize, admission: Admission, reached: oneshot::Sender<()>) {
        self.awaited.retain(|other| other.disk != disk || other.admission == admission);
        self.awaited.push(Awaited { disk, admission, reached });
        let Some(hosted) = self.disks.get_mut(disk) else { return };
        hosted.admission = admission;
        for key in self.sessions_of(disk) {
            self.apply(key, admission);
        }
    }

    /// Applies an admission to one session.
    pub(super) fn apply(&mut self, key: Key, admission: Admission) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match admission {
            Admission::Open => session.hold(false),
            Admission::Held => session.hold(true),
            Admission::Shut => session.drain(),
        }
        self.enqueue(key);
    }

    /// Tells those whose admission has come about.
    pub(super) fn approach_admissions(&mut self) {
        if self.awaited.is_empty() {
            return;
        }
        for awaited in std::mem::take(&mut self.awaited) {
            match self.has_reached(awaited.disk, awaited.admission) {
                // Whoever does not wait for it does not want to know.
                true => drop(awaited.reached.send(())),
                false => self.awaited.push(awaited),
            }
        }
    }

    /// Whether nothing is under way any more that an admission ends. A disk that is gone has nothing.
    fn has_reached(&mut self, index: usize, admission: Admission) -> bool {
        let Some(hosted) = self.disks.get_mut(index) else { return true };
        match admission {
            Admission::Open => true,
            Admission::Shut => hosted.sessions == 0,
            Admission::Held => {
                let mut sessions = self.sessions.entries().filter(|(_, session)| session.disk == index);
                hosted.disk.is_idle() && sessions.all(|(_, session)| session.is_at_rest())
            }
        }
    }
}
