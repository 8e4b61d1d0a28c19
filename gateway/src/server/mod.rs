//! The server as a process: start, service, end. This is the control thread; it moves no data.
//!
//! Whatever can fail fails before anything is announced: the device is opened and started, the sockets are bound,
//! every worker has its queue, the pid file is written. Only then is the address told to anybody. What was made in
//! the file system belongs to values that remove it when they are dropped, so every way out cleans up.

mod accept;
mod captive;
mod crew;
mod events;
mod opening;
mod pidfile;
mod reload;
mod retire;
mod service;
mod signals;
mod stop;

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drivers::{DriverType, Error, Opener, Settings, StartOptions, Started, SystemOpener};

use crate::copies;
use crate::net::listen::{Listen, Listeners};
use crate::rules::Rules;
use crate::sys;
use accept::Acceptors;
use captive::Captive;
use pidfile::PidFile;
use service::{Served, Service};
use signals::Signals;

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
    fn ends_with(&self, next: &Offer) -> bool {
        self.read_only != next.read_only || self.rules != next.rules || (next.needs_tls && !self.needs_tls)
    }
}

/// A disk, and the name that clients have for it.
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
    /// The first is the default.
    pub(crate) exports: Vec<ExportPlan>,
    pub(crate) listen: Vec<Listen>,
    /// Threads that move data.
    pub(crate) workers: usize,
    /// Absolute path.
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) print_uri: bool,
    /// Shell command to run captive.
    pub(crate) run: Option<String>,
    /// How long an idle worker polls before it sleeps.
    pub(crate) poll: Duration,
    /// Reads the configuration file again; `None`: there is none.
    pub(crate) reload: Option<Reload>,
}

/// Makes the plan anew, from a file that has changed. The error is what is wrong with it, for the log.
pub(crate) struct Reload(pub(crate) Box<dyn Fn() -> Result<Plan, String>>);

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// Serves until a signal, or until the captive command ends. Returns the exit code.
///
/// # Errors
/// It could not start; nothing is left behind.
pub(crate) fn run(plan: &Plan) -> Result<u8, Error> {
    let descriptors_max = sys::raise_descriptor_limit()
        .map_err(|cause| Error::system("raise the limit of open files to what is allowed", &cause))?;
    // May block for long; until it is done a signal simply ends the process.
    let runtime =
        tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(|cause| crew::no_runtime(&cause))?;
    runtime.block_on(serve(plan, descriptors_max))
}

async fn serve(plan: &Plan, descriptors_max: u64) -> Result<u8, Error> {
    let mut signals = Signals::watch(plan.reload.is_some())?;
    let mut service = tokio::select! {
        service = Service::start(plan) => service?,
        signal = signals.end() => {
            tracing::info!("{signal} before the start was complete");
            return Ok(0);
        }
    };
    let mut listeners = Listeners::open(&plan.listen[0])?;
    let pidfile = plan.pidfile.as_deref().map(PidFile::write).transpose()?;
    let mut captive = plan
        .run
        .as_deref()
        .map(|run| captive::command(run, listeners.address(), &plan.exports[0].offer.name));
    announce(plan, &service, &listeners)?;
    let mut captive = captive.as_mut().map(Captive::start).transpose()?;
    service.watch_devices()?;
    let acceptors = Acceptors::start(listeners.take_sockets(), &service.crew, descriptors_max)?;
    let reason = loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            status = captive::end(&mut captive) => break stop::Reason::CaptiveEnded(status),
            failure = service.crew.failure() => break stop::Reason::Failed(failure),
        };
        if !signal.asks_for_reload() {
            break stop::Reason::Signal(signal);
        }
        tokio::select! {
            () = reload::reload(plan, &mut service) => {}
            signal = signals.end() => break stop::Reason::Signal(signal),
        }
    };
    // Its name goes before the socket itself, so that nobody finds one on which nobody listens.
    drop(listeners);
    acceptors.stop().await;
    let code = tokio::select! {
        code = stop::stop(reason, &mut service, &mut captive) => code,
        signal = signals.end() => {
            tracing::warn!("{signal} while ending: ending at once");
            if let Some(captive) = &mut captive {
                captive.send_signal(libc::SIGTERM);
            }
            signal.exit_code()
        }
    };
    drop(pidfile);
    copies::log();
    Ok(code)
}

/// Tells what was asked for on standard output, and where the server is in the log.
fn announce(plan: &Plan, service: &Service, listeners: &Listeners) -> Result<(), Error> {
    let mut text = String::new();
    for Served { plan, device, .. } in service.exports() {
        for name in &plan.gets {
            let value = device.property(name).map(|value| value.to_string()).unwrap_or_default();
            text.push_str(&format!("{name}={value}\n"));
        }
    }
    let uri = |served: &Served| listeners.address().uri(&served.plan.offer.name);
    if plan.print_uri {
        service.exports().iter().for_each(|served| text.push_str(&format!("{}\n", uri(served))));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|cause| Error::system("print to standard output", &cause))?;
    for served in service.exports() {
        let Served { plan: export, device, .. } = served;
        let limits = device.limits();
        let read_only = if limits.read_only || export.offer.read_only { ", read-only" } else { "" };
        let (driver, bytes) = (export.device.driver.name(), limits.capacity_bytes);
        let text = format!(
            "serving {driver} ({bytes} bytes{read_only}) as {} on {}",
            uri(served),
            listeners.place()
        );
        // A captive command knows, and its output should stay its own.
        if plan.run.is_some() {
            tracing::debug!("{text}");
        } else {
            tracing::info!("{text}");
        }
    }
    Ok(())
}
