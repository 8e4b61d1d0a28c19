//! Tells in the log what happens to a device by itself.

use std::io;
use std::sync::Arc;

use drivers::{Event, Started};

use crate::worker::wake::Bells;

/// Logs the device's events from now on, on this thread's runtime.
///
/// # Errors
/// No descriptors left.
pub(super) fn log(device: Arc<dyn Started>) -> io::Result<()> {
    let Some(event) = device.event() else { return Ok(()) };
    let bell = Bells::new(std::iter::once(event))?;
    tokio_uring::spawn(async move {
        loop {
            while let Some(event) = device.next_event() {
                tell(&event, &*device);
            }
            if bell.any().await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn tell(event: &Event, device: &dyn Started) {
    match event {
        Event::CapacityChanged => {
            let bytes = device.limits().capacity_bytes;
            tracing::info!("the disk has {bytes} bytes now, as clients learn that connect from now on");
        }
        Event::Suspended { reason } => tracing::warn!("{reason}"),
        Event::Resumed => tracing::info!("the device is back; what was in flight is sent again"),
        Event::Dead { reason } => tracing::error!("{reason}"),
        Event::WritesLost => tracing::error!(
            "writes were lost with the device's cache: the next flush of every client that was connected fails"
        ),
    }
}
