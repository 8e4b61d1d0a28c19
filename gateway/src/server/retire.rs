//! The way of a disk into service and out of it, over all its workers.

use std::sync::Arc;
use std::time::Duration;

use drivers::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::service::Of;
use crate::disk::DiskShared;
use crate::worker::LastFlush;
use crate::worker::mailbox::Message;

/// How long clients may take to finish requests that they have begun, and to receive their last replies.
pub(super) const CLIENTS: Duration = Duration::from_secs(10);

/// How long a device may take for what it has, once all clients are gone.
pub(super) const DEVICE: Duration = Duration::from_secs(20);

/// Opens a queue of the disk on each of its workers.
///
/// # Errors
/// What the driver said; no worker has a queue then.
pub(super) async fn open(disk: &Arc<DiskShared>) -> Result<(), Error> {
    let answers: Vec<_> = (0..disk.mailboxes().len())
        .map(|queue| ask(disk, queue, |opened| Message::OpenDisk { shared: disk.clone(), queue, opened }))
        .collect();
    let mut result = Ok(());
    for answer in answers {
        let opened =
            answer.await.unwrap_or_else(|_| Err(Error::device("cannot open a queue: its worker is gone")));
        result = result.and(opened);
    }
    if result.is_err() {
        close(disk).await;
    }
    result
}

/// Answers what the clients of a disk have asked for, and sends them away. Others may come. Does not wait for that.
pub(super) fn send_away(disk: Arc<DiskShared>) {
    let index = disk.index();
    tell(&disk, || Message::DrainDisk { disk: index });
    tokio_uring::spawn(async move {
        tokio::time::sleep(CLIENTS).await;
        tell(&disk, || Message::CloseDrained { disk: index });
    });
}

/// Tells all workers that have the disk.
fn tell(disk: &DiskShared, message: impl Fn() -> Message) {
    disk.mailboxes().iter().for_each(|mailbox| mailbox.post(message()));
}

/// Takes a disk out of service that no new client finds any more: clients get their answers, writes reach the disk, its
/// queues are closed. `of` says in messages whose it is. Returns whether all went well. A device that does not finish
/// is let go when it does, while others are served.
pub(super) async fn retire(disk: Arc<DiskShared>, of: Of) -> bool {
    let export = of.0.as_str();
    let mut drained: Vec<_> = (0..disk.mailboxes().len())
        .map(|queue| ask(&disk, queue, |drained| Message::EndDisk { disk: disk.index(), drained }))
        .collect();
    let mut last_flush = Ok(());
    let mut in_time = timeout(CLIENTS, all(&mut drained, &mut last_flush)).await;
    if in_time.is_err() {
        tracing::warn!(
            export,
            "closing connections{of} whose clients do not take their replies or do not finish their requests: {}",
            disk.sessions()
        );
        tell(&disk, || Message::CloseSessions { disk: disk.index() });
        in_time = timeout(DEVICE, all(&mut drained, &mut last_flush)).await;
    }
    if in_time.is_err() {
        tracing::error!(export, "a device{of} does not finish what it was asked for; going on without it");
        tokio_uring::spawn(late(disk, drained, of));
        return false;
    }
    if last_flush.is_err() {
        tracing::error!(export, "the last flush{of} failed: writes since the last good one may be lost");
    }
    if timeout(DEVICE, close(&disk)).await.is_err() {
        tracing::error!(export, "a device{of} does not close; going on without it");
        return false;
    }
    last_flush.is_ok()
}

/// The rest of the way of a disk that took too long.
async fn late(disk: Arc<DiskShared>, mut drained: Vec<oneshot::Receiver<LastFlush>>, of: Of) {
    let export = of.0.as_str();
    let mut last_flush = Ok(());
    all(&mut drained, &mut last_flush).await;
    close(&disk).await;
    match last_flush {
        Ok(()) => {
            tracing::info!(
                export,
                "the device{of} that was gone on without has finished what it was asked for"
            )
        }
        Err(_) => {
            tracing::error!(export, "the last flush{of} failed: writes since the last good one may be lost");
        }
    }
}

/// Has each worker let the disk go.
async fn close(disk: &DiskShared) {
    let closed: Vec<_> = (0..disk.mailboxes().len())
        .map(|queue| ask(disk, queue, |closed| Message::CloseDisk { disk: disk.index(), closed }))
        .collect();
    for closed in closed {
        // A worker that is gone has let it go.
        let _ = closed.await;
    }
}

/// Sends the worker of a queue a message with a way to answer.
fn ask<T>(
    disk: &DiskShared,
    queue: usize,
    message: impl FnOnce(oneshot::Sender<T>) -> Message,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    disk.mailboxes()[queue].post(message(sender));
    receiver
}

/// Waits until every worker is drained; `last_flush` becomes the worst of theirs. Workers that are gone count as
/// drained. Each that has answered is taken out, so that a wait that was given up can be taken up again.
async fn all(drained: &mut Vec<oneshot::Receiver<LastFlush>>, last_flush: &mut LastFlush) {
    while let Some(last) = drained.last_mut() {
        if let Ok(Err(failed)) = last.await {
            *last_flush = Err(failed);
        }
        drained.pop();
    }
}
