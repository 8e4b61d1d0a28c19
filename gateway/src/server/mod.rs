//! The server as a process: start, service, end. This is the control thread; it moves no data.
//!
//! Whatever can fail fails before anything is announced: the device is opened and started, the sockets are bound,
//! every worker has its queue, the pid file is written. Only then is the address told to anybody. What was made in
//! the file system belongs to values that remove it when they are dropped, so every way out cleans up.

mod accept;
mod captive;
mod crew;
mod daemon;
mod events;
mod notify;
mod parent;
mod pidfile;
mod places;
mod signals;
mod single;
mod stop;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drivers::{DriverType, Error, Opener, Settings, StartOptions, Started, SystemOpener};

use crate::copies;
use crate::net::activation::Activation;
use crate::net::limits::Limits;
use crate::net::listen::Listen;
use crate::sys;
use captive::Captive;
use crew::Crew;
use daemon::{Daemon, Side};
use notify::Manager;
use pidfile::PidFile;
use places::Places;
use signals::Signals;
use single::Single;

/// What to open, and with what.
#[derive(Debug)]
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

/// How a disk is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) read_only: bool,
}

/// A disk, and the name that clients have for it.
#[derive(Debug)]
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
    /// Nowhere if there is one client that is connected already.
    pub(crate) listen: Vec<Listen>,
    /// That client is on standard input and output.
    pub(crate) single: bool,
    pub(crate) limits: Limits,
    /// Go into the background when clients can connect.
    pub(crate) daemon: bool,
    pub(crate) exit_with_parent: bool,
    /// Threads that move data.
    pub(crate) workers: usize,
    /// Absolute path.
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) print_uri: bool,
    /// Shell command to run captive.
    pub(crate) run: Option<String>,
    /// How long an idle worker polls before it sleeps.
    pub(crate) poll: Duration,
}

impl Plan {
    /// Whether whoever started the server is its client too: a captive command, the only client, or a program that
    /// opened the sockets. It knows what goes on, and its output should stay its own.
    fn is_quiet(&self) -> bool {
        self.run.is_some() || self.listen.iter().all(|listen| matches!(listen, Listen::Activated { .. }))
    }

    /// Whether there is never more than one client.
    fn is_for_one(&self) -> bool {
        self.single || self.limits.clients_max == Some(1)
    }
}

/// By what ways clients come, and who waits for them.
struct Entrance {
    activation: Activation,
    single: Option<Single>,
    daemon: Option<Daemon>,
    /// Descriptors that this process may have.
    descriptors_max: u64,
}

/// Serves until a signal, until the captive command ends, or until the only client leaves. Returns the exit code.
///
/// Call this while the process has no second thread.
///
/// # Errors
/// It could not start; nothing is left behind.
pub(crate) fn run(plan: &Plan, mut activation: Activation) -> Result<u8, Error> {
    if plan.exit_with_parent {
        parent::end_with_it()?;
    }
    let daemon = match plan.daemon.then(daemon::split).transpose()? {
        Some(Side::Command(code)) => return Ok(code),
        Some(Side::Server(daemon)) => Some(daemon),
        None => None,
    };
    let descriptors_max = sys::raise_descriptor_limit()
        .map_err(|cause| Error::system("raise the limit of open files to what is allowed", &cause))?;
    let single = match activation.take_client() {
        Some(client) => Some(Single::connected(client)),
        None if plan.single => Some(Single::on_standard_streams()?),
        None => None,
    };
    // May block for long; until it is done a signal simply ends the process.
    let device = plan.exports[0].device.start()?;
    let runtime =
        tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(|cause| crew::no_runtime(&cause))?;
    let entrance = Entrance { activation, single, daemon, descriptors_max };
    runtime.block_on(serve(plan, device, entrance))
}

async fn serve(plan: &Plan, device: Arc<dyn Started>, entrance: Entrance) -> Result<u8, Error> {
    let Entrance { mut activation, mut single, daemon, descriptors_max } = entrance;
    let mut signals = Signals::watch()?;
    let mut places = Places::open(&plan.listen, &mut activation)?;
    let mut crew = tokio::select! {
        crew = Crew::start(plan, &device) => crew?,
        signal = signals.next() => {
            tracing::info!("{signal} before the start was complete");
            return Ok(0);
        }
    };
    let manager = Manager::from_environment();
    let pidfile = plan.pidfile.as_deref().map(PidFile::write).transpose()?;
    let command =
        |run: &String| Some(captive::command(run, places.addresses().next()?, &plan.exports[0].offer.name));
    let mut captive = plan.run.as_ref().and_then(command);
    let status = announce(plan, &*device, &places)?;
    let mut captive = captive.as_mut().map(Captive::start).transpose()?;
    events::log(device.clone()).map_err(|cause| Error::system("watch the device", &cause))?;
    let balance = crew.balance();
    places.accept(&balance, plan.limits, descriptors_max)?;
    if let Some(socket) = single.as_mut().and_then(Single::take_socket) {
        balance.hand_over(socket);
    }
    daemon.map(Daemon::ready).transpose()?;
    manager.ready(&status);
    let reason = tokio::select! {
        signal = signals.next() => stop::Reason::Signal(signal),
        status = captive::end(&mut captive) => stop::Reason::CaptiveEnded(status),
        failure = crew.failure() => stop::Reason::Failed(failure),
        () = balance.all_over(), if single.is_some() => stop::Reason::ClientLeft,
    };
    if let stop::Reason::Signal(signal) = &reason
        && !plan.is_quiet()
    {
        tracing::info!("{signal}: answering what is in flight, then ending");
    }
    manager.stopping();
    places.close().await;
    device.hurry();
    let asked = matches!(reason, stop::Reason::Signal(_));
    let end = async {
        let code = stop::stop(reason, &mut crew, &mut captive).await;
        if let Some(single) = single {
            single.delivered().await;
        }
        code
    };
    let code = tokio::select! {
        code = end => Ok(code),
        signal = signals.insistent(asked) => Err(signal),
    };
    let code = code.unwrap_or_else(|signal| {
        tracing::warn!("{signal} while ending: ending at once");
        if let Some(captive) = &mut captive {
            captive.send_signal(libc::SIGTERM);
        }
        signal.exit_code()
    });
    drop(pidfile);
    copies::log();
    Ok(code)
}

/// Tells what was asked for on standard output, and where the server is in the log and in words.
fn announce(plan: &Plan, device: &dyn Started, places: &Places) -> Result<String, Error> {
    let mut text = String::new();
    let export = &plan.exports[0];
    for name in &export.gets {
        let value = device.property(name).map(|value| value.to_string()).unwrap_or_default();
        text.push_str(&format!("{name}={value}\n"));
    }
    let uris: Vec<String> = places.addresses().map(|address| address.uri(&export.offer.name)).collect();
    if plan.print_uri {
        text.extend(uris.iter().map(|uri| format!("{uri}\n")));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|cause| Error::system("print to standard output", &cause))?;
    let limits = device.limits();
    let read_only = if limits.read_only || export.offer.read_only { ", read-only" } else { "" };
    let (driver, bytes) = (export.device.driver.name(), limits.capacity_bytes);
    let place = match uris.as_slice() {
        [] => "to one client".into(),
        uris => format!("as {} on {}", uris.join(" and "), places.names()),
    };
    let text = format!("serving {driver} ({bytes} bytes{read_only}) {place}");
    if plan.is_quiet() {
        tracing::debug!("{text}");
    } else {
        tracing::info!("{text}");
    }
    Ok(text)
}
