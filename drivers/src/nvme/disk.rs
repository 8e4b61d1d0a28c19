//! [`Disk`]: what controller and namespace say, asked by commands of administration.

use super::command::Command;
use super::facts::{self, Carrier};
use super::health::{HEALTH_BYTES, Health};
use super::identify::{self, Answer, CommandSetLimits, Controller, Namespace};
use super::spec::{ALL_NAMESPACES, cns, version};
use crate::error::Error;
use crate::limits::Limits;

/// Who carries commands of administration to the controller and answers back.
pub(crate) trait Ask {
    /// Runs a command that is answered by data. `what` is what it is to do, for messages.
    ///
    /// # Errors
    /// It fails, or does not end.
    fn ask(&mut self, what: &str, command: &Command) -> Result<Box<Answer>, Error>;
}

/// A namespace of a controller.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) controller: Controller,
    pub(crate) number: u32,
    pub(crate) namespace: Namespace,
    command_set: CommandSetLimits,
    pub(crate) health: Option<Health>,
}

impl Disk {
    /// Asks for namespace `wanted`, or the only one. `name` is what messages call the controller.
    ///
    /// # Errors
    /// The controller does not answer, or the namespace cannot be served as a disk.
    pub(crate) fn ask(admin: &mut dyn Ask, wanted: Option<u32>, name: &str) -> Result<Disk, Error> {
        let answer = admin.ask("identify itself", &Command::identify(cns::CONTROLLER, 0))?;
        let controller = Controller::decode(&answer, name)?;
        let number = match wanted {
            Some(number) => number,
            None => only_namespace(admin, &controller, name)?,
        };
        if number > controller.namespaces {
            let most = controller.namespaces;
            return Err(Error::device(format!("{name} has {most} namespaces at most, not {number}"))
                .hint(format!("namespace={most} or less")));
        }
        let called = format!("namespace {number} of {name}");
        let namespace = namespace(admin, number)?;
        let set = match controller.version >= version::V1_3 {
            true => admin
                .ask("describe its namespace", &Command::identify(cns::NAMESPACE_DESCRIPTORS, number))
                .map_or(0, |answer| identify::command_set(&answer)),
            false => 0,
        };
        namespace.check(&called, set)?;
        // Controllers of before version 2.0 do not have it.
        let command_set = admin
            .ask("tell the limits of its commands", &Command::identify_command_set())
            .map(|answer| CommandSetLimits::decode(&answer))
            .unwrap_or_default();
        let health = admin.ask("tell its health", &Command::health(ALL_NAMESPACES)).ok().and_then(|answer| {
            let log: &[u8; HEALTH_BYTES] = answer.first_chunk()?;
            Some(Health::decode(log))
        });
        Ok(Disk { controller, number, namespace, command_set, health })
    }

    /// Whether this is the disk that `before` was, but for its size.
    pub(crate) fn is_same(&self, before: &Disk) -> bool {
        let identity = |disk: &Disk| (disk.controller.serial.clone(), disk.controller.model.clone());
        identity(self) == identity(before) && self.namespace.has_format_of(&before.namespace)
    }

    /// The facts about the disk.
    ///
    /// # Errors
    /// They cannot be.
    pub(crate) fn limits(&self, carrier: Carrier, read_only: bool) -> Result<Limits, Error> {
        facts::limits(&self.controller, &self.namespace, self.command_set, carrier, read_only)
    }
}

/// What a namespace says now.
///
/// # Errors
/// The controller does not answer.
pub(crate) fn namespace(admin: &mut dyn Ask, number: u32) -> Result<Namespace, Error> {
    let answer = admin.ask("identify its namespace", &Command::identify(cns::NAMESPACE, number))?;
    Ok(Namespace::decode(&answer))
}

/// The only namespace, or number 1.
///
/// # Errors
/// There is none, or more than one and none of them is number 1.
fn only_namespace(admin: &mut dyn Ask, controller: &Controller, name: &str) -> Result<u32, Error> {
    if controller.version < version::V1_1 {
        return Ok(1);
    }
    let answer = admin.ask("list its namespaces", &Command::identify(cns::ACTIVE_NAMESPACES, 0))?;
    match identify::active_namespaces(&answer)[..] {
        [] => Err(Error::device(format!("{name} has no namespaces"))
            .hint("nvme create-ns makes one, nvme attach-ns attaches it to the controller")),
        [only] => Ok(only),
        ref several if several.contains(&1) => Ok(1),
        ref several => {
            let first = several[0];
            Err(Error::device(format!("{name} has several namespaces: {}", list(several)))
                .hint(format!("say which one with namespace=, for example namespace={first}")))
        }
    }
}

/// Numbers in a message: all of them, or the first ones of many.
fn list(numbers: &[u32]) -> String {
    const SHOWN_MAX: usize = 16;
    let shown: Vec<String> = numbers.iter().take(SHOWN_MAX).map(u32::to_string).collect();
    let more = if numbers.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
