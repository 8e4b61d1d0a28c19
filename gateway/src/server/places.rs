//! [`Places`]: everywhere this server listens. Each place owns its sockets and the tasks that accept from them, so that
//! one can go without the others.

use drivers::Error;
use socket2::Socket;

use super::accept::Acceptors;
use super::crew::Balance;
use crate::net::activation::Activation;
use crate::net::address::Address;
use crate::net::limits::Limits;
use crate::net::listen::{Listen, Place};

/// What becomes of a connection that comes to any place.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) balance: Balance,
    pub(super) limits: Limits,
    /// Descriptors that this process may have.
    pub(super) descriptors_max: u64,
}

/// A place, and who accepts there.
#[derive(Debug)]
struct Open {
    listen: Listen,
    place: Place,
    acceptors: Acceptors,
}

/// Everywhere this server listens; nowhere when it serves a single client.
#[derive(Debug)]
pub(super) struct Places {
    open: Vec<Open>,
    /// Sockets that were passed and that nobody has asked for.
    activation: Activation,
}

/// Places that take the place of those there are, ready to accept. Dropping this closes the new ones.
#[derive(Debug)]
pub(super) struct Next {
    listen: Vec<Listen>,
    opened: Vec<Open>,
}

impl Places {
    /// Opens all of them. They queue connections from now on.
    ///
    /// # Errors
    /// What is in the way; none stays open then.
    pub(super) fn open(listen: &[Listen], mut activation: Activation) -> Result<Places, Error> {
        let open = open_all(listen, &mut activation, false)?;
        Ok(Places { open, activation })
    }

    /// Opens those of `listen` that are not there. They queue connections from now on.
    ///
    /// # Errors
    /// What is in the way of a new one; nothing has changed then.
    pub(super) fn prepare(&mut self, listen: Vec<Listen>) -> Result<Next, Error> {
        let mut missing = listen.clone();
        let mut leaving = Vec::new();
        for open in &self.open {
            match missing.iter().position(|listen| *listen == open.listen) {
                Some(found) => drop(missing.remove(found)),
                None => leaving.extend(open.acceptors.sockets()),
            }
        }
        // A new place may want the port of one that leaves for other addresses.
        let shared = Shared::new(leaving);
        let opened = open_all(&missing, &mut self.activation, true);
        drop(shared);
        let opened = opened?;
        Ok(Next { listen, opened })
    }

    /// Accepts at the next places from now on, and nowhere else. Places that stay keep their sockets; clients that are
    /// connected notice nothing.
    pub(super) async fn change(&mut self, next: Next, door: &Door) {
        let Next { mut listen, mut opened } = next;
        opened.iter_mut().for_each(|open| open.accept(door));
        let mut go = Vec::new();
        for open in std::mem::replace(&mut self.open, opened) {
            match listen.iter().position(|listen| *listen == open.listen) {
                Some(found) => {
                    listen.remove(found);
                    self.open.push(open);
                }
                None => go.push(open),
            }
        }
        for open in go {
            open.close().await;
        }
    }

    /// Where clients find this server. The first is what a captive command is told.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.open.iter().flat_map(|open| open.place.addresses())
    }

    /// Each place in words.
    pub(super) fn list(&self) -> Vec<String> {
        self.open.iter().map(|open| open.place.name().to_owned()).collect()
    }

    /// The places in words.
    pub(super) fn names(&self) -> String {
        self.list().join(" and ")
    }

    /// Accepts from now on.
    pub(super) fn accept(&mut self, door: &Door) {
        self.open.iter_mut().for_each(|open| open.accept(door));
    }

    /// Ends all of them.
    pub(super) async fn close(self) {
        for open in self.open {
            open.close().await;
        }
    }
}

/// Opens all, or none. `share`: as [`Place::open`] has it.
fn open_all(listen: &[Listen], activation: &mut Activation, share: bool) -> Result<Vec<Open>, Error> {
    listen.iter().try_for_each(|listen| Place::check(listen, activation))?;
    // What was passed could not be had again if one of the others failed after it.
    let (passed, others): (Vec<&Listen>, Vec<&Listen>) =
        listen.iter().partition(|listen| matches!(listen, Listen::Activated { .. }));
    let mut opened = Vec::new();
    for listen in others.into_iter().chain(passed) {
        opened.push(Open::new(listen, activation, share)?);
    }
    opened.sort_by_key(|open| listen.iter().position(|listen| *listen == open.listen));
    Ok(opened)
}

impl Open {
    fn new(listen: &Listen, activation: &mut Activation, share: bool) -> Result<Open, Error> {
        let mut place = Place::open(listen, activation, share)?;
        let acceptors = Acceptors::new(place.take_sockets())?;
        Ok(Open { listen: listen.clone(), place, acceptors })
    }

    fn accept(&mut self, door: &Door) {
        let Door { balance, limits, descriptors_max } = door;
        self.acceptors.start(balance, *limits, *descriptors_max);
    }

    async fn close(self) {
        // Its name goes before the socket itself, so that nobody finds one on which nobody listens.
        drop(self.place);
        self.acceptors.stop().await;
    }
}

/// Sockets whose ports others of this user may take as well, as long as this lives.
struct Shared<'a>(Vec<&'a Socket>);

impl<'a> Shared<'a> {
    fn new(sockets: Vec<&'a Socket>) -> Shared<'a> {
        let shared = Shared(sockets);
        shared.set(true);
        shared
    }

    fn set(&self, shared: bool) {
        for socket in &self.0 {
            // Sockets that have no port do not know this option.
            let _ = socket.set_reuse_port(shared);
        }
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}
