//! [`Fault`]: what a back-end does wrong, and what must come of it.

use std::str::FromStr;
use std::time::Duration;

/// What a back-end does wrong. The first request, which asks for the serial number, is answered as it should be,
/// unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Ends each chain under a number that is no chain's. The queue fails: everything it holds and everything that
    /// comes ends with an error.
    WrongId,
    /// Ends each chain twice. The queue fails.
    EndsTwice,
    /// Says to have written more than there is. The queue fails.
    WrongLength,
    /// The used index moves on by more than was ever available. The queue fails.
    IndexAhead,
    /// The used index moves backwards. The queue fails.
    IndexBack,
    /// Leaves the status byte alone. The request fails, the queue lives.
    NoStatus,
    /// Says that reads succeeded without writing the data. Reads fail, the queue lives.
    NoData,
    /// Answers what it has at hand the last request first. That is allowed: everything works.
    OutOfOrder,
    /// Answers this many milliseconds after it was asked. Everything works, later.
    Late(u64),
    /// Never looks at its queues, from the first request on. The device cannot be started.
    Stalls,
    /// Answers so many requests and no more. What comes then stays in flight; the end of a queue waits for it no
    /// longer than it must, and gives the memory up.
    StallsAfter(u64),
    /// Answers so many requests; at the next one it closes the connection. The device is dead: every request ends
    /// with an error, at once.
    DiesAfter(u64),
    /// Answers, and never calls, the first time included. Polled queues work. With calls a request stays in flight
    /// until somebody looks, as the gateway does every second; ending is not held up by it.
    NoCalls,
    /// Calls this many milliseconds after it answered. Everything works; with calls it is later.
    LateCalls(u64),
    /// Sends so many notices of changed configuration, as fast as they are taken, once a queue is enabled and if the
    /// front-end gave it a channel for that (protocol feature BACKEND_REQ). The configuration is the same as before.
    /// Everything works.
    ConfigStorm(u64),
    /// Tells so many bytes of its configuration, whatever was asked for. Features whose fields lie behind are not
    /// used; without the capacity the device cannot be connected.
    ShortConfig(u32),
    /// Closes the connection when it is asked for the configuration. The device cannot be connected.
    Closes,
    /// Says nothing any more when it is asked for the configuration. The device cannot be connected.
    Silent,
}

/// A fault as the command line has it.
#[derive(Clone, Copy, Debug)]
pub struct FaultName {
    /// Its name.
    pub name: &'static str,
    /// What it needs: the word for it and the value where none is given.
    pub parameter: Option<(&'static str, u64)>,
    /// What it is, in half a line.
    pub help: &'static str,
    make: fn(u64) -> Fault,
}

const fn plain(name: &'static str, make: fn(u64) -> Fault, help: &'static str) -> FaultName {
    FaultName { name, parameter: None, help, make }
}

const fn with(
    name: &'static str,
    parameter: (&'static str, u64),
    make: fn(u64) -> Fault,
    help: &'static str,
) -> FaultName {
    FaultName { name, parameter: Some(parameter), help, make }
}

/// Every fault.
pub const FAULTS: &[FaultName] = &[
    plain("wrong-id", |_| Fault::WrongId, "ends requests that it does not have"),
    plain("ends-twice", |_| Fault::EndsTwice, "ends each request twice"),
    plain("wrong-length", |_| Fault::WrongLength, "says to have written more than there is"),
    plain("index-ahead", |_| Fault::IndexAhead, "says to have ended more than it was given"),
    plain("index-back", |_| Fault::IndexBack, "moves its used index backwards"),
    plain("no-status", |_| Fault::NoStatus, "leaves the status byte alone"),
    plain("no-data", |_| Fault::NoData, "says that reads succeeded without data"),
    plain("out-of-order", |_| Fault::OutOfOrder, "answers the last request first (allowed)"),
    with("late", ("MS", 100), Fault::Late, "answers after so many milliseconds"),
    plain("stalls", |_| Fault::Stalls, "never answers a request"),
    with("stalls-after", ("N", 9), Fault::StallsAfter, "answers N requests and no more"),
    with("dies-after", ("N", 9), Fault::DiesAfter, "answers N requests, then closes the connection"),
    plain("no-calls", |_| Fault::NoCalls, "never calls the driver"),
    with("late-calls", ("MS", 100), Fault::LateCalls, "calls so many milliseconds after the answer"),
    with("config-storm", ("N", 10_000), Fault::ConfigStorm, "sends N notices of changed configuration"),
    with(
        "short-config",
        ("BYTES", 8),
        |n| Fault::ShortConfig(bytes(n)),
        "tells the beginning of its configuration only",
    ),
    plain("closes", |_| Fault::Closes, "closes the connection during the negotiation"),
    plain("silent", |_| Fault::Silent, "says nothing any more during the negotiation"),
];

fn bytes(count: u64) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}

impl Fault {
    /// How late it answers.
    pub(super) fn answer_delay(self) -> Option<Duration> {
        match self {
            Fault::Late(ms) => Some(Duration::from_millis(ms)),
            _ => None,
        }
    }

    /// How late it calls.
    pub(super) fn call_delay(self) -> Option<Duration> {
        match self {
            Fault::LateCalls(ms) => Some(Duration::from_millis(ms)),
            _ => None,
        }
    }

    /// Whether it is made in the conversation, not in the device.
    pub(super) fn is_on_the_wire(self) -> bool {
        matches!(self, Fault::ConfigStorm(_) | Fault::ShortConfig(_) | Fault::Closes | Fault::Silent)
    }
}

impl FromStr for Fault {
    type Err = String;

    /// `NAME`, or `NAME=N` for those with a parameter.
    fn from_str(text: &str) -> Result<Fault, String> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let Some(fault) = FAULTS.iter().find(|fault| fault.name == name) else {
            let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
            return Err(format!("there is no fault '{name}'; there are {}", names.join(", ")));
        };
        let value = match (fault.parameter, value) {
            (None, Some(_)) => return Err(format!("the fault '{name}' takes no number")),
            (None, None) => 0,
            (Some((_, default)), None) => default,
            (Some((word, _)), Some(value)) => {
                value.parse().map_err(|_| format!("'{value}' is no number: {name}={word}"))?
            }
        };
        Ok((fault.make)(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_known_by_its_name_and_number() {
        assert_eq!("wrong-id".parse(), Ok(Fault::WrongId));
        assert_eq!("late".parse(), Ok(Fault::Late(100)));
        assert_eq!("dies-after=3".parse(), Ok(Fault::DiesAfter(3)));
        assert_eq!("short-config=99999999999".parse(), Ok(Fault::ShortConfig(u32::MAX)));
    }

    #[test]
    fn what_is_no_fault_is_told() {
        let said = |text: &str| text.parse::<Fault>().unwrap_err();
        assert!(said("wrong").contains("wrong-id, ends-twice"));
        assert!(said("closes=1").contains("takes no number"));
        assert!(said("late=soon").contains("late=MS"));
    }

    #[test]
    fn every_name_makes_a_fault_of_its_own() {
        let made: Vec<Fault> = FAULTS.iter().map(|fault| fault.name.parse().unwrap()).collect();
        for (index, fault) in made.iter().enumerate() {
            assert!(*fault != Fault::None && !made[..index].contains(fault), "{fault:?}");
        }
    }
}
