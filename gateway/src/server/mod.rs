//! The server as a process: start, service, end. This is the control thread; it moves no data.
//!
//! Whatever can fail fails before anything is announced: the device is opened and started, the sockets are bound,
//! every worker has its queue, the pid file is written. Only then is the address told to anybody. What was made in
//! the file system belongs to values that remove it when they are dropped, so every way out cleans up.

mod accept;
mod captive;
mod crew;
mod events;
mod pidfile;
mod signals;
mod stop;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drivers::{DriverType, Error, Opener, Settings, StartOptions, Started, SystemOpener};

use crate::copies;
use crate::net::listen::{Listen, Listeners};
use crate::sys;
use crate::tls;
use accept::Acceptors;
use captive::Captive;
use crew::Crew;
use pidfile::PidFile;
use signals::Signals;

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
    pub(crate) tls: tls::Settings,
}

/// Serves until a signal, or until the captive command ends. Returns the exit code.
///
/// # Errors
/// It could not start; nothing is left behind.
pub(crate) fn run(plan: &Plan) -> Result<u8, Error> {
    let descriptors_max = sys::raise_descriptor_limit()
        .map_err(|cause| Error::system("raise the limit of open files to what is allowed", &cause))?;
    let tls = tls::Context::load(&plan.tls)?;
    // May block for long; until it is done a signal simply ends the process.
    let device = plan.exports[0].device.start()?;
    let runtime =
        tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(|cause| crew::no_runtime(&cause))?;
    runtime.block_on(serve(plan, device, tls, descriptors_max))
}

async fn serve(
    plan: &Plan,
    device: Arc<dyn Started>,
    tls: tls::Context,
    descriptors_max: u64,
) -> Result<u8, Error> {
    let mut signals = Signals::watch()?;
    let mut listeners = Listeners::open(&plan.listen[0])?;
    let mut crew = tokio::select! {
        crew = Crew::start(plan, &device, tls) => crew?,
        signal = signals.next() => {
            tracing::info!("{signal} before the start was complete");
            return Ok(0);
        }
    };
    let pidfile = plan.pidfile.as_deref().map(PidFile::write).transpose()?;
    let mut captive = plan
        .run
        .as_deref()
        .map(|run| captive::command(run, listeners.address(), &plan.exports[0].offer.name, &plan.tls));
    announce(plan, &*device, &listeners)?;
    let mut captive = captive.as_mut().map(Captive::start).transpose()?;
    events::log(device.clone()).map_err(|cause| Error::system("watch the device", &cause))?;
    let acceptors = Acceptors::start(listeners.take_sockets(), &crew, descriptors_max)?;
    let reason = tokio::select! {
        signal = signals.next() => stop::Reason::Signal(signal),
        status = captive::end(&mut captive) => stop::Reason::CaptiveEnded(status),
        failure = crew.failure() => stop::Reason::Failed(failure),
    };
    // Its name goes before the socket itself, so that nobody finds one on which nobody listens.
    drop(listeners);
    acceptors.stop().await;
    device.hurry();
    let code = tokio::select! {
        code = stop::stop(reason, &mut crew, &mut captive) => code,
        signal = signals.next() => {
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
fn announce(plan: &Plan, device: &dyn Started, listeners: &Listeners) -> Result<(), Error> {
    let mut text = String::new();
    let export = &plan.exports[0];
    for name in &export.gets {
        let value = device.property(name).map(|value| value.to_string()).unwrap_or_default();
        text.push_str(&format!("{name}={value}\n"));
    }
    let uri = listeners.address().uri(&export.offer.name, &plan.tls);
    if plan.print_uri {
        text.push_str(&format!("{uri}\n"));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|cause| Error::system("print to standard output", &cause))?;
    let limits = device.limits();
    let read_only = if limits.read_only || export.offer.read_only { ", read-only" } else { "" };
    let (driver, bytes) = (export.device.driver.name(), limits.capacity_bytes);
    let text = format!("serving {driver} ({bytes} bytes{read_only}) as {uri} on {}", listeners.place());
    // A captive command knows, and its output should stay its own.
    if plan.run.is_some() {
        tracing::debug!("{text}");
    } else {
        tracing::info!("{text}");
    }
    Ok(())
}
