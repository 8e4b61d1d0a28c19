//! Tells in the log what happens to a device by itself.

use std::io;
use std::sync::Arc;

use drivers::{Event, Started};
use tokio::task::JoinHandle;

use super::service::Of;
use crate::worker::wake::Bell;

/// Logs the device's events from now on, on this thread's runtime. `of` says in messages whose it is. `None`: it has
/// none.
///
/// # Errors
/// No descriptors left.
pub(super) fn log(device: Arc<dyn Started>, of: Of) -> io::Result<Option<JoinHandle<()>>> {
    let Some(event) = device.event() else { return Ok(None) };
    let bell = Bell::new(event)?;
    Ok(Some(tokio_uring::spawn(async move {
        loop {
            while let Some(event) = device.next_event() {
                tell(&event, &*device, &of);
            }
            if bell.rung().await.is_err() {
                return;
            }
        }
    })))
}

fn tell(event: &Event, device: &dyn Started, of: &Of) {
    let export = of.0.as_str();
    match event {
        Event::CapacityChanged => {
            let bytes = device.limits().capacity_bytes;
            tracing::info!(
                export,
                "the disk{of} has {bytes} bytes now, as clients learn that connect from now on"
            );
        }
        Event::Suspended { reason } => tracing::warn!(export, "{reason}{of}"),
        Event::Resumed => {
            tracing::info!(export, "the device{of} is back; what was in flight is sent again");
        }
        Event::Dead { reason } => tracing::error!(export, "{reason}{of}"),
        Event::WritesLost => tracing::error!(
            export,
            "writes{of} were lost with the device's cache: the next flush of every client that was connected fails"
        ),
    }
}
