//! The server as a process: start, service, end. This is the control thread; it moves no data.
//!
//! Whatever can fail fails before anything is announced: the devices are opened and started, the sockets are bound,
//! every worker has its queues, the pid file is written. Only then is the address told to anybody. What was made in
//! the file system belongs to values that remove it when they are dropped, so every way out cleans up.

mod accept;
mod captive;
mod crew;
mod daemon;
mod events;
mod metrics;
mod notify;
mod opening;
mod parent;
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

use drivers::Error;
use nix::unistd::Pid;

use crate::copies;
use crate::net::activation::Activation;
use crate::sys;
use crate::tls;
use captive::Captive;
use daemon::{Daemon, Side};
use metrics::Endpoint;
use notify::Manager;
use pidfile::PidFile;
use places::{Door, Places};
use service::{Served, Service};
use signals::Signals;
use single::Single;

pub(crate) use plan::{Device, ExportPlan, Offer, Plan, Reload};

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
    let mut service = tokio::select! {
        service = Service::start(plan, tls) => service?,
        signal = signals.end() => {
            tracing::info!("{signal} before the start was complete");
            return Ok(0);
        }
    };
    let mut places = Places::open(&plan.listen, activation)?;
    let manager = Manager::from_environment();
    let metrics = plan.metrics.as_ref();
    let metrics = metrics.map(|listen| Endpoint::open(listen, &service.numbers())).transpose()?;
    let pidfile = plan.pidfile.as_deref().map(PidFile::write).transpose()?;
    let command = |run: &String| {
        let address = places.addresses().next()?;
        Some(captive::command(run, address, &plan.exports[0].offer.name, &plan.tls))
    };
    let mut captive = plan.run.as_ref().and_then(command);
    let status = announce(plan, &service, &places)?;
    service.watch_devices()?;
    let balance = service.crew.balance();
    let door = Door { balance: balance.clone(), limits: plan.limits, descriptors_max };
    places.accept(&door);
    if let Some(socket) = single.as_mut().and_then(Single::take_socket) {
        balance.hand_over(socket);
    }
    daemon.map(Daemon::ready).transpose()?;
    // The last that can fail: nobody is left to end it otherwise.
    let mut captive = captive.as_mut().map(Captive::start).transpose()?;
    manager.ready(&status);
    let reason = loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            status = captive::end(&mut captive) => break stop::Reason::CaptiveEnded(status),
            failure = service.crew.failure() => break stop::Reason::Failed(failure),
            () = balance.all_over(), if single.is_some() => break stop::Reason::ClientLeft,
        };
        if !signal.asks_for_reload() {
            break stop::Reason::Signal(signal);
        }
        manager.reloading();
        tokio::select! {
            () = reload::reload(plan, &mut service, &mut places, &door) => {}
            signal = signals.end() => break stop::Reason::Signal(signal),
            status = captive::end(&mut captive) => break stop::Reason::CaptiveEnded(status),
            () = balance.all_over(), if single.is_some() => break stop::Reason::ClientLeft,
        }
        manager.ready(&status_of(&service, &places, &plan.tls));
    };
    if let stop::Reason::Signal(signal) = &reason
        && !plan.is_quiet()
    {
        tracing::info!("{signal}: answering what is in flight, then ending");
    }
    manager.stopping();
    drop(metrics);
    places.close().await;
    let code = end(reason, service, captive, single, &mut signals).await;
    drop(pidfile);
    copies::log();
    Ok(code)
}

/// Ends everything, in order if nobody insists. Returns the exit code.
async fn end(
    reason: stop::Reason,
    mut service: Service,
    mut captive: Option<Captive>,
    single: Option<Single>,
    signals: &mut Signals,
) -> u8 {
    let asked = matches!(reason, stop::Reason::Signal(_));
    let in_order = async {
        let code = stop::stop(reason, &mut service, &mut captive).await;
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
    for Served { plan, device, .. } in service.exports() {
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
    for served in service.exports() {
        let text = description(served, places, &plan.tls);
        if plan.is_quiet() {
            tracing::debug!("{text}");
        } else {
            tracing::info!("{text}");
        }
    }
    Ok(status_of(service, places, &plan.tls))
}

/// What is served and where, in one line.
fn status_of(service: &Service, places: &Places, tls: &tls::Settings) -> String {
    match service.exports() {
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
