//! [`Changes`]: what the back-end tells by itself (protocol feature BACKEND_REQ), as far as block devices use it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vhost::vhost_user::{
    Frontend, FrontendReqHandler, HandlerResult, VhostUserFrontend, VhostUserFrontendReqHandler,
};

use super::deadline::within;
use super::link::{PATIENCE, failed};
use crate::error::Error;
use crate::sys::file;

/// Set when the back-end says that its configuration has changed.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl VhostUserFrontendReqHandler for Flag {
    fn handle_config_change(&self) -> HandlerResult<u64> {
        self.0.store(true, Ordering::Release);
        Ok(0)
    }
}

/// The back-end's channel to us.
pub(super) struct Changes {
    handler: FrontendReqHandler<Flag>,
    flag: Arc<Flag>,
    /// Our end of the channel, for watching it.
    socket: UnixStream,
    /// What messages call the back-end.
    name: String,
}

impl Changes {
    /// Makes a channel and gives the back-end its end. `has_acks`: the back-end may ask for answers.
    ///
    /// # Errors
    /// No descriptors left, or the back-end refuses.
    pub(super) fn open(frontend: &mut Frontend, name: &str, has_acks: bool) -> Result<Changes, Error> {
        let flag = Arc::new(Flag::default());
        let mut handler = FrontendReqHandler::new(flag.clone())
            .map_err(|cause| Error::device(format!("cannot make a channel for {name}: {cause}")))?;
        handler.set_reply_ack_flag(has_acks);
        let socket = file::duplicate(handler.as_raw_fd())
            .map_err(|cause| Error::system(format!("watch {name}"), &cause))?;
        frontend
            .set_backend_request_fd(&handler.get_tx_raw_fd())
            .map_err(|cause| failed(name, "set the channel", &cause))?;
        Ok(Changes { handler, flag, socket: socket.into(), name: name.to_owned() })
    }

    /// Readable when the back-end has something to tell.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Our end of the channel.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Takes one message. Returns whether the configuration has changed.
    ///
    /// # Errors
    /// It is none of the protocol, or its rest does not come.
    pub(super) fn take(&mut self) -> Result<bool, Error> {
        let Changes { handler, socket, name, .. } = self;
        within(PATIENCE, socket, name, || handler.handle_request())?.map_err(|cause| {
            Error::device(format!("{name} sent a message that is not understood: {cause}"))
        })?;
        Ok(self.flag.0.swap(false, Ordering::AcqRel))
    }
}
