//! [`Device`]: the device as the crate `vhost-user-backend` asks for it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VringRwLock, VringT};
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use super::answer::{Answer, Answers};
use super::fault::Fault;
use super::kind::{Kind, MQ, PROTOCOL_FEATURES, VERSION_1};
use super::serve::{Chain, serve};
use super::store::Store;
use super::{config, null};

/// Most entries of a queue.
const QUEUE_SIZE_MAX: usize = 1024;

/// Requests that are taken from a queue before they are answered.
const BATCH: usize = 64;

/// The memory that the front-end gives.
pub(super) type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// How a device closes its connection, once there is one.
pub(super) type Leave = Arc<Mutex<Option<ShutdownHandle>>>;

/// The device, for one connection.
pub(super) struct Device {
    kind: Kind,
    store: Store,
    memory: Option<Memory>,
    answers: Answers,
    /// Taken so far.
    requests: u64,
    leave: Leave,
}

impl Device {
    /// # Errors
    /// The fault needs a thread, and there is none.
    pub(super) fn new(kind: Kind, store: Store, leave: Leave) -> io::Result<Device> {
        let answers = Answers::new(kind.fault)?;
        Ok(Device { kind, store, memory: None, answers, requests: 0, leave })
    }

    /// Serves a queue until it is empty.
    fn work(&mut self, memory: &GuestMemoryMmap, vring: &VringRwLock) -> io::Result<()> {
        loop {
            let chains = take(memory, vring);
            if chains.is_empty() {
                return Ok(());
            }
            let is_first = self.requests == 0;
            let mut answers = Vec::with_capacity(chains.len());
            for chain in chains {
                match self.kind.fault {
                    Fault::StallsAfter(count) if self.requests >= count => continue,
                    Fault::DiesAfter(count) if self.requests >= count => return self.die(),
                    _ => self.requests += 1,
                }
                let head = chain.head_index();
                answers.push(Answer { head, written: serve(&self.kind, &self.store, memory, chain)? });
            }
            self.answers.give(vring, answers, is_first)?;
        }
    }

    fn die(&self) -> io::Result<()> {
        let leave = self.leave.lock().unwrap_or_else(PoisonError::into_inner);
        leave.as_ref().map(ShutdownHandle::shutdown);
        Ok(())
    }
}

fn take<'a>(memory: &'a GuestMemoryMmap, vring: &VringRwLock) -> Vec<Chain<'a>> {
    let mut state = vring.get_mut();
    let queue = state.get_queue_mut();
    std::iter::from_fn(|| queue.pop_descriptor_chain(memory)).take(BATCH).collect()
}

impl VhostUserBackendMut for Device {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        self.kind.queues.into()
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE_MAX
    }

    fn features(&self) -> u64 {
        let many = if self.kind.queues > 1 { MQ } else { 0 };
        let protocol = if self.kind.protocol.any { PROTOCOL_FEATURES } else { 0 };
        self.kind.features | VERSION_1 | protocol | many
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let protocol = self.kind.protocol;
        let storms = matches!(self.kind.fault, Fault::ConfigStorm(_));
        [
            (protocol.config, VhostUserProtocolFeatures::CONFIG),
            (protocol.mq, VhostUserProtocolFeatures::MQ),
            (protocol.reply_ack, VhostUserProtocolFeatures::REPLY_ACK),
            (protocol.mem_slots, VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS),
            (storms, VhostUserProtocolFeatures::BACKEND_REQ),
        ]
        .into_iter()
        .filter_map(|(has, feature)| has.then_some(feature))
        .collect()
    }

    /// The queues know it themselves.
    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::part(&self.kind, offset, size)
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        vec![u64::MAX]
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(
        &mut self,
        device_event: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let memory = memory.memory();
        match (self.kind.fault, &self.store) {
            (Fault::Stalls, _) => return Ok(()),
            (Fault::None, Store::Null) => return null::serve_all(&self.kind, &memory, vrings),
            _ => {}
        }
        let Some(vring) = vrings.get(usize::from(device_event)) else { return Ok(()) };
        loop {
            vring.disable_notification().map_err(io::Error::other)?;
            self.work(&memory, vring)?;
            if !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}
