//! [`Places`]: everywhere this server listens. Each place owns its sockets and the tasks that accept from them, so that
//! one can go without the others.

use drivers::Error;

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
    acceptors: Option<Acceptors>,
}

/// Everywhere this server listens; nowhere when it serves a single client.
#[derive(Debug)]
pub(super) struct Places {
    open: Vec<Open>,
    /// Sockets that were passed and that nobody has asked for.
    activation: Activation,
}

impl Places {
    /// Opens all of them. They queue connections from now on.
    ///
    /// # Errors
    /// What is in the way; none stays open then.
    pub(super) fn open(listen: &[Listen], mut activation: Activation) -> Result<Places, Error> {
        let open = |listen| Open::new(listen, &mut activation);
        let open = listen.iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Places { open, activation })
    }

    /// Listens here from now on, and nowhere else. Places that stay keep their sockets; clients that are connected
    /// notice nothing.
    ///
    /// # Errors
    /// What is in the way of a new one; nothing has changed then.
    pub(super) async fn change(&mut self, listen: &[Listen], door: &Door) -> Result<(), Error> {
        let Places { open, activation } = self;
        let is_new = |listen: &&Listen| !open.iter().any(|open| open.listen == **listen);
        let mut opened = Vec::new();
        for listen in listen.iter().filter(is_new) {
            let mut open = Open::new(listen, activation)?;
            open.accept(door)?;
            opened.push(open);
        }
        let (stay, go): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| listen.contains(&open.listen));
        self.open = stay;
        self.open.append(&mut opened);
        for open in go {
            open.close().await;
        }
        Ok(())
    }

    /// Where clients find this server. The first is what a captive command is told.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.open.iter().flat_map(|open| open.place.addresses())
    }

    /// The places in words.
    pub(super) fn names(&self) -> String {
        self.open.iter().map(|open| open.place.name()).collect::<Vec<_>>().join(" and ")
    }

    /// Accepts from now on.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn accept(&mut self, door: &Door) -> Result<(), Error> {
        self.open.iter_mut().try_for_each(|open| open.accept(door))
    }

    /// Ends all of them.
    pub(super) async fn close(self) {
        for open in self.open {
            open.close().await;
        }
    }
}

impl Open {
    fn new(listen: &Listen, activation: &mut Activation) -> Result<Open, Error> {
        Ok(Open { listen: listen.clone(), place: Place::open(listen, activation)?, acceptors: None })
    }

    fn accept(&mut self, door: &Door) -> Result<(), Error> {
        let Door { balance, limits, descriptors_max } = door;
        let sockets = self.place.take_sockets();
        self.acceptors = Some(Acceptors::start(sockets, balance, *limits, *descriptors_max)?);
        Ok(())
    }

    async fn close(self) {
        // Its name goes before the socket itself, so that nobody finds one on which nobody listens.
        drop(self.place);
        if let Some(acceptors) = self.acceptors {
            acceptors.stop().await;
        }
    }
}
