//! [`Places`]: everywhere this server listens. Each place owns its sockets and the tasks that accept from them, so that
//! one can go without the others.

use drivers::Error;

use super::accept::Acceptors;
use super::crew::Balance;
use crate::net::activation::Activation;
use crate::net::address::Address;
use crate::net::limits::Limits;
use crate::net::listen::{Listen, Place};

/// A place, and who accepts there.
#[derive(Debug)]
struct Open {
    place: Place,
    acceptors: Option<Acceptors>,
}

/// Everywhere this server listens; nowhere when it serves a single client.
#[derive(Debug)]
pub(super) struct Places {
    open: Vec<Open>,
}

impl Places {
    /// Opens all of them. They queue connections from now on.
    ///
    /// # Errors
    /// What is in the way; none stays open then.
    pub(super) fn open(listen: &[Listen], activation: &mut Activation) -> Result<Places, Error> {
        let open = |listen| Ok(Open { place: Place::open(listen, activation)?, acceptors: None });
        Ok(Places { open: listen.iter().map(open).collect::<Result<_, Error>>()? })
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
    pub(super) fn accept(
        &mut self,
        balance: &Balance,
        limits: Limits,
        descriptors_max: u64,
    ) -> Result<(), Error> {
        for open in &mut self.open {
            let sockets = open.place.take_sockets();
            open.acceptors = Some(Acceptors::start(sockets, balance, limits, descriptors_max)?);
        }
        Ok(())
    }

    /// Ends all of them.
    pub(super) async fn close(self) {
        for Open { place, acceptors } in self.open {
            // Its name goes before the socket itself, so that nobody finds one on which nobody listens.
            drop(place);
            if let Some(acceptors) = acceptors {
                acceptors.stop().await;
            }
        }
    }
}
