//! [`Disks`]: the disks that a worker has a queue of. They come and go while it serves.

use std::io;
use std::ops::{Index, IndexMut};
use std::task::Context;

use super::admission::Admission;
use super::ending::Ending;
use super::wake::Bell;
use crate::disk::Disk;

/// A disk and what the worker knows of it.
pub(super) struct Hosted {
    pub(super) disk: Disk,
    /// Rings when the device has something to tell; `None`: it must be polled.
    bell: Option<Bell>,
    /// Sessions on this worker that use it.
    pub(super) sessions: usize,
    /// What becomes of its clients.
    pub(super) admission: Admission,
    /// How far it is on the way to its end, if that has begun.
    pub(super) ending: Option<Ending>,
    /// It is in the list of those that may have something to do.
    is_active: bool,
}

/// Disks by their numbers, which are the same on all workers and are not used again.
#[derive(Default)]
pub(super) struct Disks {
    places: Vec<Option<Box<Hosted>>>,
    /// Numbers of those that are there, in no order.
    present: Vec<usize>,
    /// Disks that may have something to do: of hundreds only these cost anything in a turn.
    active: Vec<usize>,
    /// Disks whose end has begun.
    endings: usize,
}

impl Disks {
    /// Takes a disk in.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn insert(&mut self, disk: Disk) -> io::Result<()> {
        let index = disk.shared().index();
        let bell = disk.event().map(Bell::new).transpose()?;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        self.places[index] = Some(Box::new(Hosted {
            disk,
            bell,
            sessions: 0,
            admission: Admission::Open,
            ending: None,
            is_active: false,
        }));
        self.present.push(index);
        Ok(())
    }

    /// Lets a disk go. Its queue is closed with the value.
    pub(super) fn remove(&mut self, index: usize) -> Option<Box<Hosted>> {
        let hosted = self.places.get_mut(index)?.take()?;
        self.active.retain(|active| *active != index);
        self.present.retain(|present| *present != index);
        if hosted.ending.is_some() {
            self.endings -= 1;
        }
        Some(hosted)
    }

    /// The disk of this number, if the worker has it.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Hosted> {
        self.places.get_mut(index)?.as_deref_mut()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Disk> {
        self.present.iter().map(|index| &self[*index])
    }

    /// Marks a disk as one that may have something to do.
    pub(super) fn activate(&mut self, index: usize) {
        if let Some(hosted) = self.get_mut(index)
            && !std::mem::replace(&mut hosted.is_active, true)
        {
            self.active.push(index);
        }
    }

    /// Marks those whose bells were rung since the last time, and has the task woken when others are. Returns whether
    /// there were any.
    ///
    /// # Errors
    /// The runtime is beyond use.
    pub(super) fn poll_bells(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        for position in 0..self.present.len() {
            let index = self.present[position];
            let bell = self.get_mut(index).and_then(|hosted| hosted.bell.as_ref());
            if bell.map_or(Ok(false), |bell| bell.poll_rung(context))? {
                self.activate(index);
                any = true;
            }
        }
        Ok(any)
    }

    /// Marks those that have something to do although nobody on this worker asked them for anything.
    pub(super) fn activate_those_with_news(&mut self) {
        for position in 0..self.present.len() {
            let index = self.present[position];
            if self.get_mut(index).is_some_and(|hosted| hosted.disk.has_something_to_do()) {
                self.activate(index);
            }
        }
    }

    /// How many are marked.
    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    /// The number of a marked disk.
    pub(super) fn active_index(&self, position: usize) -> usize {
        self.active[position]
    }

    /// Asks all marked ones. Whether one of them said yes.
    pub(super) fn any_active(&mut self, mut ask: impl FnMut(&mut Disk) -> bool) -> bool {
        let mut yes = false;
        for position in 0..self.active.len() {
            let index = self.active[position];
            yes |= ask(&mut self[index]);
        }
        yes
    }

    /// Takes the mark from a disk that has nothing to do.
    pub(super) fn rest(&mut self, position: usize) {
        let index = self.active.swap_remove(position);
        if let Some(hosted) = self.get_mut(index) {
            hosted.is_active = false;
        }
    }

    /// Begins the end of a disk, unless it has begun.
    pub(super) fn begin_end(&mut self, index: usize, ending: Ending) {
        if let Some(hosted) = self.get_mut(index)
            && hosted.ending.is_none()
        {
            hosted.ending = Some(ending);
            self.endings += 1;
        }
    }

    /// Moves the ends that have begun on. Returns whether one of them has new work.
    pub(super) fn approach_ends(&mut self) -> bool {
        if self.endings == 0 {
            return false;
        }
        let mut work = false;
        for position in 0..self.present.len() {
            let index = self.present[position];
            let Some(hosted) = self.get_mut(index) else { continue };
            let Hosted { disk, sessions, ending: Some(ending), .. } = hosted else { continue };
            if *sessions == 0 && ending.approach(disk) {
                work = true;
                self.activate(index);
            }
        }
        work
    }
}

impl Index<usize> for Disks {
    type Output = Disk;

    /// The disk of a session. A session ends before its disk goes.
    fn index(&self, index: usize) -> &Disk {
        match self.places.get(index) {
            Some(Some(hosted)) => &hosted.disk,
            _ => unreachable!("a session outlives its disk"),
        }
    }
}

impl IndexMut<usize> for Disks {
    fn index_mut(&mut self, index: usize) -> &mut Disk {
        match self.places.get_mut(index) {
            Some(Some(hosted)) => &mut hosted.disk,
            _ => unreachable!("a session outlives its disk"),
        }
    }
}
