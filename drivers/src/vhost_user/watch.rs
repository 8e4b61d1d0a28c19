//! [`Watch`]: a thread that notices when the back-end is gone.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::sys::eventfd::EventFd;
use crate::sys::poll;
use crate::virtio::queue::Device;

/// Watches the socket until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts watching. When the other end hangs up, the device is dead and all `calls` are signalled.
    ///
    /// # Errors
    /// What the system answered to the request for a thread or a descriptor.
    pub(super) fn start(
        socket: UnixStream,
        device: Arc<Device>,
        calls: Vec<Arc<EventFd>>,
    ) -> io::Result<Watch> {
        let stop = Arc::new(EventFd::new()?);
        let stopped = stop.clone();
        let work = move || {
            if let Some(reason) = wait(&socket, &stopped) {
                tracing::error!("{} is gone: {reason}", device.name);
                device.die(&format!("{} is gone: {reason}", device.name));
                calls.iter().for_each(|call| call.signal());
            }
        };
        let thread = thread::Builder::new().name("vhost-user-watch".into()).spawn(work)?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

/// Waits for the end; `None`: we end by ourselves.
fn wait(socket: &UnixStream, stop: &EventFd) -> Option<String> {
    loop {
        match poll::either(socket.as_fd(), stop.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Some(format!("its socket cannot be watched: {error}")),
            Ok(poll::Which::Second) => return None,
            // Every message was answered before the watch began, and the back-end may not begin by itself here.
            Ok(poll::Which::First { hung_up: false }) => return Some("it broke the protocol".into()),
            Ok(poll::Which::First { hung_up: true }) => return Some("it has closed the connection".into()),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did its work would be over as well.
            let _ = thread.join();
        }
    }
}
