//! Opening devices, which may take long: on helper threads, a few at a time.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use drivers::{Error, Started};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Device;
use super::service::Of;

/// Devices that are opened at the same time.
const AT_A_TIME: usize = 8;

/// How long a running server waits for devices that are to be opened.
const OPENING: Duration = Duration::from_secs(60);

/// How long a device may take to close.
const CLOSING: Duration = Duration::from_secs(20);

/// Opens and starts devices. All of them, or none is left.
///
/// # Errors
/// What the first driver said that failed, in the order of the devices.
pub(super) async fn start_all(devices: Vec<Device>) -> Result<Vec<Arc<dyn Started>>, Error> {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let openings: Vec<Opening> = devices
        .into_iter()
        .map(|device| {
            let turns = turns.clone();
            Opening(tokio_uring::spawn(async move {
                // Nobody closes it.
                let _turn = turns.acquire().await;
                start(device).await
            }))
        })
        .collect();
    let mut started = Vec::new();
    for mut opening in openings {
        let result = (&mut opening.0).await;
        match result.unwrap_or_else(|_| Err(gone())) {
            Ok(device) => started.push(device),
            Err(error) => {
                // Closing may take as long as opening, and nobody waits for it.
                started.into_iter().for_each(|device| drop(tokio_uring::spawn(close(device))));
                return Err(error);
            }
        }
    }
    Ok(started)
}

/// As [`start_all`], while others are served: they do not wait for ever.
///
/// # Errors
/// Also: it takes too long.
pub(super) async fn start_all_in_time(devices: Vec<Device>) -> Result<Vec<Arc<dyn Started>>, Error> {
    timeout(OPENING, start_all(devices)).await.unwrap_or_else(|_| {
        Err(Error::device(format!(
            "a device that is to be opened does not answer for {} s",
            OPENING.as_secs()
        ))
        .hint("the storage behind it may hang: look at the devices that are new in the configuration"))
    })
}

/// One device, in time.
///
/// # Errors
/// What the driver said, or that it takes too long.
pub(super) async fn start_in_time(device: Device) -> Result<Arc<dyn Started>, Error> {
    start_all_in_time(vec![device]).await?.pop().ok_or_else(gone)
}

/// Opens and starts a device on a thread of its own.
///
/// # Errors
/// What the driver said.
async fn start(device: Device) -> Result<Arc<dyn Started>, Error> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("open".into())
        // Whoever does not wait for it any more does not want it.
        .spawn(move || drop(sender.send(device.start())))
        .map_err(|cause| Error::system("start a thread that opens a device", &cause))?;
    receiver.await.unwrap_or_else(|_| Err(gone()))
}

fn gone() -> Error {
    Error::device("cannot open a device: the thread that should is gone")
}

/// Lets a device go, and waits until it is closed; not for ever. `of` says in messages whose it is. Returns whether it
/// is closed.
pub(super) async fn close_in_time(device: Arc<dyn Started>, of: &Of) -> bool {
    let closed = timeout(CLOSING, close(device)).await.is_ok();
    if !closed {
        tracing::error!(export = of.0, "a device{of} does not close; going on without it");
    }
    closed
}

/// Lets a device go, and waits until it is closed, which may take long as well.
async fn close(device: Arc<dyn Started>) {
    let (sender, closed) = oneshot::channel::<()>();
    let close = move || {
        drop(device);
        drop(sender);
    };
    // Without a thread it is closed here.
    if thread::Builder::new().name("close".into()).spawn(close).is_ok() {
        let _ = closed.await;
    }
}

/// A task that ends with its value.
struct Opening(JoinHandle<Result<Arc<dyn Started>, Error>>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.abort();
    }
}
