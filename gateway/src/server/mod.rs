//! The server as a process: start, service, end. This is the control thread; it moves no data.
//!
//! Whatever can fail fails before anything is announced: the devices are opened and started, the sockets are bound,
//! every worker has its queues, the pid file is written. Only then is the address told to anybody. What was made in
//! the file system belongs to values that remove it when they are dropped, so every way out cleans up.

mod accept;
mod attend;
mod captive;
mod crew;
mod daemon;
mod events;
mod metrics;
mod notify;
mod opening;
mod operate;
mod parent;
mod phase;
mod pidfile;
mod places;
mod plan;
mod reload;
mod retire;
mod service;
mod signals;
mod single;
mod stop;

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;

use drivers::Error;
use nix::unistd::Pid;

use crate::control;
use crate::copies;
use crate::exports::Catalogue;
use crate::net::activation::Activation;
use crate::net::visit;
use crate::sys;
use crate::tls;
use attend::Attendance;
use captive::Captive;
use crew::Crew;
use daemon::{Daemon, Side};
use metrics::Endpoint;
use notify::Manager;
use pidfile::PidFile;
use places::{Door, Places};
use signals::Signals;
use single::Single;

pub(crate) use plan::{Device, ExportPlan, Offer, Plan, Reload};
pub(crate) use reload::Outcome;
pub(crate) use service::{Served, Service};

/// Pairs of descriptors that a runtime needs: a ring, epoll and eventfds, and sockets for signals.
const RUNTIME_PAIRS: usize = 4;

/// By what ways clients come, and who waits for them.
struct Entrance {
    activation: Activation,
    single: Option<Single>,
    tls: tls::Context,
    daemon: Option<Daemon>,
    /// Descriptors that this process may have.
    descriptors_max: u64,
}

/// Serves until a signal, until the captive command ends, or until the only client leaves. Returns the exit code.
/// `started_by` is the process that started this one.
///
/// Call this while the process has no second thread.
///
/// # Errors
/// It could not start; nothing is left behind.
pub(crate) fn run(plan: &Plan, mut activation: Activation, started_by: Pid) -> Result<u8, Error> {
    if plan.exit_with_parent {
        parent::end_with(started_by)?;
    }
    if plan.is_quiet() {
        visit::be_quiet();
    }
    let daemon = match plan.daemon.then(daemon::split).transpose()? {
        Some(Side::Command(code)) => return Ok(code),
        Some(Side::Server(daemon)) => Some(daemon),
        None => None,
    };
    let descriptors_max = sys::raise_descriptor_limit()
        .map_err(|cause| Error::system("raise the limit of open files to what is allowed", &cause))?;
    let tls = tls::Context::load(&plan.tls)?;
    let single = match activation.take_client() {
        Some(client) => Some(Single::connected(client)),
        None if plan.single => Some(Single::on_standard_streams()?),
        None => None,
    };
    crate::metrics::process_starts();
    let runtime = runtime().map_err(|cause| crew::no_runtime(&cause))?;
    runtime.block_on(serve(plan, Entrance { activation, single, tls, daemon, descriptors_max }))
}

fn runtime() -> io::Result<tokio_uring::Runtime> {
    // A runtime panics where descriptors are missing for what watches signals, instead of saying so.
    (0..RUNTIME_PAIRS).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>()?;
    tokio_uring::Runtime::new(&tokio_uring::builder())
}

async fn serve(plan: &Plan, entrance: Entrance) -> Result<u8, Error> {
    let Entrance { activation, mut single, tls, daemon, descriptors_max } = entrance;
    let mut signals = Signals::watch(plan.reload.is_some())?;
    let (service, mut crew) = tokio::select! {
        started = start(plan, tls) => started?,
        signal = signals.end() => {
            tracing::info!("{signal} before the start was complete");
            return Ok(0);
        }
    };
    // First: whoever finds the server finds its control too.
    let control = plan.control.as_deref().map(control::open).transpose()?;
    let mut places = Places::open(&plan.listen, activation)?;
    let manager = Manager::from_environment();
    let metrics = plan.metrics.as_ref();
    let metrics =
        metrics.map(|listen| Endpoint::open(listen, &service.numbers(crew.efforts()))).transpose()?;
    let pidfile = plan.pidfile.as_deref().map(PidFile::write).transpose()?;
    let command = |run: &String| {
        let address = places.addresses().next()?;
        Some(captive::command(run, address, &plan.exports[0].offer.name, &plan.tls))
    };
    let mut captive = plan.run.as_ref().and_then(command);
    let status = announce(plan, &service, &places)?;
    service.watch_devices()?;
    let balance = crew.balance();
    let door = Door { balance: balance.clone(), limits: plan.limits, descriptors_max };
    places.accept(&door);
    let control = control.map(|socket| socket.answer(service.clone(), places.list()));
    let mut control = control.transpose()?;
    if let Some(socket) = single.as_mut().and_then(Single::take_socket) {
        balance.hand_over(socket);
    }
    daemon.map(|daemon| daemon.ready(&status)).transpose()?;
    // The last that can fail: nobody is left to end it otherwise.
    let mut captive = captive.as_mut().map(Captive::start).transpose()?;
    manager.ready(&status);
    let attendance = Attendance {
        plan,
        service: &service,
        crew: &mut crew,
        places: &mut places,
        door: &door,
        manager: &manager,
        signals: &mut signals,
        captive: &mut captive,
        control: &mut control,
        is_single: single.is_some(),
    };
    let reason = attendance.serve().await;
    tell_of_end(&reason, plan);
    manager.stopping();
    drop(metrics);
    places.close().await;
    let callers = control::close(control).await;
    let code = end(reason, &service, crew, captive, single, &mut signals).await;
    drop(pidfile);
    // Whoever asked for the end sees by this that it has come.
    drop(callers);
    copies::log();
    Ok(code)
}

/// Opens all devices, starts the workers, and gives them the exports.
///
/// # Errors
/// The first thing that failed.
async fn start(plan: &Plan, tls: tls::Context) -> Result<(Rc<Service>, Crew), Error> {
    let devices =
        opening::start_all(plan.exports.iter().map(|export| export.device.clone()).collect()).await?;
    let catalogue = Arc::new(Catalogue::new(tls));
    // A worker without a queue could only hand its clients over, unless a disk comes that has one for it.
    let queues = devices.iter().map(|device| device.queues()).max().unwrap_or(1);
    let workers = if plan.may_change() { plan.workers } else { plan.workers.min(queues).max(1) };
    let crew = Crew::start(workers, plan, &catalogue).await?;
    let service = Service::new(plan, crew.workers().clone(), catalogue);
    service.begin(plan, devices).await?;
    Ok((Rc::new(service), crew))
}

/// Says in the log who asked for the end.
fn tell_of_end(reason: &stop::Reason, plan: &Plan) {
    match reason {
        _ if plan.is_quiet() => {}
        stop::Reason::Signal(signal) => tracing::info!("{signal}: answering what is in flight, then ending"),
        stop::Reason::Asked => tracing::info!("an operator asks for the end: answering what is in flight"),
        _ => {}
    }
}

/// Ends everything, in order if nobody insists. Returns the exit code.
async fn end(
    reason: stop::Reason,
    service: &Service,
    mut crew: Crew,
    mut captive: Option<Captive>,
    single: Option<Single>,
    signals: &mut Signals,
) -> u8 {
    let asked = matches!(reason, stop::Reason::Signal(_) | stop::Reason::Asked);
    let in_order = async {
        let code = stop::stop(reason, service, &mut crew, &mut captive).await;
        if let Some(single) = single {
            single.delivered().await;
        }
        code
    };
    let code = tokio::select! {
        code = in_order => Ok(code),
        signal = signals.insistent(asked) => Err(signal),
    };
    code.unwrap_or_else(|signal| {
        tracing::warn!("{signal} while ending: ending at once");
        if let Some(captive) = &mut captive {
            captive.send_signal(libc::SIGTERM);
        }
        signal.exit_code()
    })
}

/// Tells what was asked for on standard output, and where the server is in the log and in words.
fn announce(plan: &Plan, service: &Service, places: &Places) -> Result<String, Error> {
    let mut text = String::new();
    for Served { plan, device, .. } in service.exports().iter() {
        for name in &plan.gets {
            let value = device.property(name).map(|value| value.to_string()).unwrap_or_default();
            text.push_str(&format!("{name}={value}\n"));
        }
    }
    if plan.print_uri {
        service.exports().iter().flat_map(|served| uris(served, places, &plan.tls)).for_each(|uri| {
            text.push_str(&uri);
            text.push('\n');
        });
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|cause| Error::system("print to standard output", &cause))?;
    for served in service.exports().iter() {
        let (text, export) = (description(served, places, &plan.tls), &*served.plan.offer.name);
        if plan.is_quiet() {
            tracing::debug!(export, "{text}");
        } else {
            tracing::info!(export, "{text}");
        }
    }
    Ok(status_of(service, places, &plan.tls))
}

/// What is served and where, in one line.
fn status_of(service: &Service, places: &Places, tls: &tls::Settings) -> String {
    match &service.exports()[..] {
        [only] => description(only, places, tls),
        many => format!("serving {} exports on {}", many.len(), places.names()),
    }
}

/// An export and where clients find it.
fn description(served: &Served, places: &Places, tls: &tls::Settings) -> String {
    let Served { plan, device, .. } = served;
    let limits = device.limits();
    let read_only = if limits.read_only || plan.offer.read_only { ", read-only" } else { "" };
    let (driver, bytes) = (plan.device.driver.name(), limits.capacity_bytes);
    let place = match uris(served, places, tls).as_slice() {
        [] => "to one client".into(),
        uris => format!("as {} on {}", uris.join(" and "), places.names()),
    };
    format!("serving {driver} ({bytes} bytes{read_only}) {place}")
}

fn uris(served: &Served, places: &Places, tls: &tls::Settings) -> Vec<String> {
    places.addresses().map(|address| address.uri(&served.plan.offer.name, tls)).collect()
}
