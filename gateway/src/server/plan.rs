//! [`Plan`]: everything that was asked for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drivers::{DriverType, Error, Opener, Settings, StartOptions, Started, SystemOpener};

use crate::log;
use crate::net::limits::Limits;
use crate::net::listen::Listen;
use crate::rules::Rules;
use crate::tls;

/// What to open, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) driver: &'static dyn DriverType,
    pub(crate) settings: Settings,
    pub(crate) options: StartOptions,
}

impl Device {
    /// Opens and starts it.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn start(&self) -> Result<Arc<dyn Started>, Error> {
        let opener: Arc<dyn Opener> = Arc::new(SystemOpener);
        self.driver.connect(&self.settings, &opener)?.start(&self.settings, self.options)
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        self.driver.name() == other.driver.name()
            && self.settings == other.settings
            && self.options == other.options
    }
}

/// How a disk is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) read_only: bool,
    /// Clients that ask for no name get this one.
    pub(crate) is_default: bool,
    /// Only clients with TLS may see and open it.
    pub(crate) needs_tls: bool,
    /// Which clients may see and open it.
    pub(crate) rules: Rules,
}

impl Offer {
    /// Whether clients of this offer may have what those of the next one may not.
    pub(super) fn ends_with(&self, next: &Offer) -> bool {
        self.read_only != next.read_only || self.rules != next.rules || (next.needs_tls && !self.needs_tls)
    }
}

/// A disk, and how clients find it.
#[derive(Clone, Debug)]
pub(crate) struct ExportPlan {
    pub(crate) offer: Offer,
    pub(crate) device: Device,
    /// Properties to print.
    pub(crate) gets: Vec<String>,
}

/// Everything that was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// One of them is the default.
    pub(crate) exports: Vec<ExportPlan>,
    /// Nowhere if there is one client that is connected already.
    pub(crate) listen: Vec<Listen>,
    /// That client is on standard input and output.
    pub(crate) single: bool,
    pub(crate) limits: Limits,
    pub(crate) tls: tls::Settings,
    pub(crate) log: log::Settings,
    /// Go into the background when clients can connect.
    pub(crate) daemon: bool,
    pub(crate) exit_with_parent: bool,
    /// Threads that move data.
    pub(crate) workers: usize,
    /// Absolute path.
    pub(crate) pidfile: Option<PathBuf>,
    /// Where Prometheus finds the numbers.
    pub(crate) metrics: Option<Listen>,
    pub(crate) print_uri: bool,
    /// Shell command to run captive.
    pub(crate) run: Option<String>,
    /// Socket for those who look after the server.
    pub(crate) control: Option<PathBuf>,
    /// For exports that say nothing of their own.
    pub(crate) options: StartOptions,
    /// How long an idle worker polls before it sleeps.
    pub(crate) poll: Duration,
    /// Reads the configuration file again; `None`: there is none.
    pub(crate) reload: Option<Reload>,
}

impl Plan {
    /// Whether whoever started the server is its client too: a captive command, the only client, or a program that
    /// opened the sockets. It knows what goes on, and its output should stay its own.
    pub(super) fn is_quiet(&self) -> bool {
        self.run.is_some() || self.listen.iter().all(|listen| matches!(listen, Listen::Activated { .. }))
    }

    /// Whether exports may come that are not in the plan.
    pub(super) fn may_change(&self) -> bool {
        self.reload.is_some() || self.control.is_some()
    }

    /// Whether there is never more than one client.
    pub(super) fn is_for_one(&self) -> bool {
        self.single || self.limits.clients_max == Some(1)
    }
}

/// Makes the plan anew, from a file that has changed. The error is what is wrong with it, for the log.
pub(crate) struct Reload(pub(crate) Box<dyn Fn() -> Result<Plan, String>>);

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}
