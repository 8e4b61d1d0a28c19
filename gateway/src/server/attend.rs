//! [`Attendance`]: what the control thread does while the server serves.

use super::captive::{self, Captive};
use super::crew::Crew;
use super::notify::Manager;
use super::places::{Door, Places};
use super::reload::{self, Outcome};
use super::service::Service;
use super::signals::Signals;
use super::stop::Reason;
use super::{Plan, status_of};
use crate::control::{self, Control, Order};

/// What the control thread looks after.
pub(super) struct Attendance<'a> {
    pub(super) plan: &'a Plan,
    pub(super) service: &'a Service,
    pub(super) crew: &'a mut Crew,
    pub(super) places: &'a mut Places,
    pub(super) door: &'a Door,
    pub(super) manager: &'a Manager,
    pub(super) signals: &'a mut Signals,
    pub(super) captive: &'a mut Option<Captive>,
    pub(super) control: &'a mut Option<Control>,
    /// The server ends with its only client.
    pub(super) is_single: bool,
}

impl Attendance<'_> {
    /// Reloads when it is asked for, until something asks for the end.
    pub(super) async fn serve(mut self) -> Reason {
        loop {
            let answer = tokio::select! {
                signal = self.signals.next() => match signal.asks_for_reload() {
                    true => None,
                    false => return Reason::Signal(signal),
                },
                order = control::order(self.control) => match order {
                    Order::Reload(answer) => Some(answer),
                    Order::Stop => return Reason::Asked,
                },
                status = captive::end(self.captive) => return Reason::CaptiveEnded(status),
                failure = self.crew.failure() => return Reason::Failed(failure),
                () = self.door.balance.all_over(), if self.is_single => return Reason::ClientLeft,
            };
            let outcome = match self.reload().await {
                Ok(outcome) => outcome,
                Err(reason) => return reason,
            };
            if let Some(answer) = answer {
                // Whoever does not wait for it reads the log.
                let _ = answer.send(outcome);
            }
        }
    }

    /// Reloads, unless something asks for the end meanwhile.
    async fn reload(&mut self) -> Result<Outcome, Reason> {
        self.manager.reloading();
        let outcome = tokio::select! {
            outcome = reload::reload(self.plan, self.service, self.places, self.door) => outcome,
            signal = self.signals.end() => return Err(Reason::Signal(signal)),
            () = control::stop(self.control) => return Err(Reason::Asked),
            status = captive::end(self.captive) => return Err(Reason::CaptiveEnded(status)),
            failure = self.crew.failure() => return Err(Reason::Failed(failure)),
            () = self.door.balance.all_over(), if self.is_single => return Err(Reason::ClientLeft),
        };
        if let Some(control) = self.control {
            control.listens_on(self.places.list());
        }
        self.manager.ready(&status_of(self.service, self.places, &self.plan.tls));
        Ok(outcome)
    }
}
