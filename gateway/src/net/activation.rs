//! [`Activation`]: sockets that whoever started this program has opened for it.
//!
//! Source: sd_listen_fds(3) of systemd. libnbd does the same for its clients' `[ gateway … ]`.
#![expect(unsafe_code, reason = "a descriptor that comes by its number has no owner yet")]

use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use drivers::Error;
use socket2::{Socket, Type};

/// The number of the first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// What a socket without a name is called.
const UNKNOWN: &str = "unknown";

/// The variables of service managers that mean this program only, so that its children must not have them.
pub(crate) const VARIABLES: [&str; 7] = [
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// A socket that was passed.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Under which number it was passed.
    pub(crate) number: RawFd,
    pub(crate) name: String,
    pub(crate) socket: Socket,
}

/// The sockets that were passed and that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Activation {
    listening: Vec<Handed>,
    /// A connection instead of sockets that listen, as inetd passes it (`Accept=yes` of systemd).
    client: Option<Handed>,
}

impl Activation {
    /// Takes over what the environment says was passed to this process. Call once, before anything else is opened.
    ///
    /// # Errors
    /// The variables contradict themselves, or what was passed cannot be served.
    pub(crate) fn from_environment() -> Result<Activation, Error> {
        let variable = |name| std::env::var_os(name);
        let pid = std::process::id();
        let wanted =
            Wanted::parse(pid, variable("LISTEN_PID"), variable("LISTEN_FDS"), variable("LISTEN_FDNAMES"))?;
        let mut activation = Activation::default();
        for (number, name) in (FIRST..).zip(wanted.names) {
            activation.add(number, name)?;
        }
        match &activation.client {
            Some(client) if !activation.listening.is_empty() => Err(Error::device(format!(
                "descriptor {} ({}) of socket activation is a connection, but there are sockets that listen as well",
                client.number, client.name
            ))
            .hint("pass either one connection (Accept=yes) or sockets that listen")),
            _ => Ok(activation),
        }
    }

    fn add(&mut self, number: RawFd, name: String) -> Result<(), Error> {
        let refused = |reason: &str| {
            Error::device(format!(
                "descriptor {number} ({name}) of socket activation cannot be served: {reason}"
            ))
            .hint("pass stream sockets that listen (ListenStream= of systemd), or one connection")
        };
        let descriptor = adopt(number).ok_or_else(|| refused("it is not open"))?;
        let socket = Socket::from(descriptor);
        match socket.r#type() {
            Ok(Type::STREAM) => {}
            Ok(_) => return Err(refused("it is no stream socket")),
            Err(_) => return Err(refused("it is no socket")),
        }
        socket
            .set_cloexec(true)
            .map_err(|cause| Error::system(format!("keep descriptor {number} from children"), &cause))?;
        let is_listener = socket.is_listener().unwrap_or(false);
        let is_connected = !is_listener && socket.peer_addr().is_ok();
        let handed = Handed { number, name: name.clone(), socket };
        match () {
            () if is_listener => self.listening.push(handed),
            () if is_connected && self.client.is_none() => self.client = Some(handed),
            () if is_connected => return Err(refused("there is another connection already")),
            () => return Err(refused("it neither listens nor is connected")),
        }
        Ok(())
    }

    /// Whether nothing was passed.
    pub(crate) fn is_empty(&self) -> bool {
        self.listening.is_empty() && self.client.is_none()
    }

    /// Whether the only client was passed.
    pub(crate) fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// The only client, if one was passed.
    pub(crate) fn take_client(&mut self) -> Option<Socket> {
        self.client.take().map(|handed| handed.socket)
    }

    /// The names of the sockets that listen.
    pub(crate) fn names(&self) -> Vec<String> {
        self.listening.iter().map(|handed| handed.name.clone()).collect()
    }

    /// The sockets of this name that listen; all of them without a name.
    pub(crate) fn look(&self, name: Option<&str>) -> impl Iterator<Item = &Handed> {
        self.listening.iter().filter(move |handed| name.is_none_or(|name| handed.name == name))
    }

    /// The same, taken.
    pub(crate) fn take(&mut self, name: Option<&str>) -> Vec<Handed> {
        let wanted = |handed: &mut Handed| name.is_none_or(|name| handed.name == name);
        self.listening.extract_if(.., wanted).collect()
    }
}

/// Makes an open descriptor ours.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD reads a flag; of a number that is not open it fails.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and it is this process's by the protocol of LISTEN_FDS: whoever started the program opened
    // it for us. Each number is adopted once, before anything else is opened, so nothing else here owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What the variables say.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// One for each descriptor.
    names: Vec<String>,
}

impl Wanted {
    fn parse(
        own_pid: u32,
        pid: Option<OsString>,
        count: Option<OsString>,
        names: Option<OsString>,
    ) -> Result<Wanted, Error> {
        let text = |value: Option<OsString>| value.map(|value| value.to_string_lossy().into_owned());
        // Variables that are meant for another process are none.
        let (Some(pid), Some(count)) = (text(pid), text(count)) else { return Ok(Wanted { names: vec![] }) };
        if pid.parse() != Ok(own_pid) {
            return Ok(Wanted { names: vec![] });
        }
        let failed = |text: String| Error::device(text).hint("the program that starts this one sets it");
        let count: usize = count
            .parse::<u16>()
            .map_err(|_| failed(format!("the variable LISTEN_FDS has no number of descriptors: '{count}'")))?
            .into();
        let names = match text(names) {
            None => vec![UNKNOWN.into(); count],
            Some(names) => names.split(':').map(str::to_owned).collect(),
        };
        if count > 0 && names.len() != count {
            return Err(failed(format!(
                "the variable LISTEN_FDNAMES has {} names for {count} descriptors",
                names.len()
            )));
        }
        Ok(Wanted { names: names.into_iter().take(count).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pid: &str, count: Option<&str>, names: Option<&str>) -> Result<Vec<String>, String> {
        let wanted = Wanted::parse(7, Some(pid.into()), count.map(Into::into), names.map(Into::into));
        wanted.map(|wanted| wanted.names).map_err(|error| error.to_string())
    }

    #[test]
    fn descriptors_have_the_names_that_were_given() {
        assert_eq!(parse("7", Some("2"), Some("a:b")).unwrap(), ["a", "b"]);
        assert_eq!(parse("7", Some("2"), None).unwrap(), ["unknown", "unknown"]);
        assert_eq!(parse("7", Some("3"), Some("a::c")).unwrap(), ["a", "", "c"]);
    }

    #[test]
    fn what_is_for_another_process_is_nothing() {
        for (pid, count) in [("8", Some("1")), ("", Some("1")), ("7", None), ("7", Some("0"))] {
            assert_eq!(parse(pid, count, None).unwrap(), [""; 0], "{pid} {count:?}");
        }
    }

    #[test]
    fn variables_that_contradict_themselves_are_refused() {
        assert!(parse("7", Some("many"), None).unwrap_err().contains("'many'"));
        assert!(parse("7", Some("70000"), None).unwrap_err().contains("'70000'"));
        assert!(parse("7", Some("2"), Some("a")).unwrap_err().contains("1 names for 2"));
    }

    #[test]
    fn a_number_that_is_not_open_is_named() {
        let error = Activation::default().add(RawFd::MAX, "web".into()).unwrap_err().to_string();
        assert!(error.contains("(web)") && error.contains("not open"), "{error}");
    }
}
