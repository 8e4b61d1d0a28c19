//! [`Load`]: what a worker of a server does of a queue's work, and nothing else, for measurements.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Random;
use crate::driver::Started;
use crate::error::{Errno, Error};
use crate::mem::Pool;
use crate::queue::{Queue, QueueDead};
use crate::request::{Completion, Operation, Request, RequestFlags, RequestId};

/// Random reads, so many at a time, each into a lease of the pool.
pub struct Load {
    queue: Box<dyn Queue>,
    pool: Pool,
    todo: VecDeque<Request>,
    done: Vec<Completion>,
    random: Random,
    depth: usize,
    block_bytes: usize,
    /// Blocks of the disk.
    blocks: u64,
    next_id: u64,
}

/// What stops a load.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The queue is beyond use.
    #[error(transparent)]
    Dead(#[from] QueueDead),
    /// A read failed.
    #[error("a read failed: {0}")]
    Failed(Errno),
    /// The pool has too little memory for so many reads.
    #[error("the pool has no memory for so many reads")]
    NoMemory,
}

impl Load {
    /// Reads of blocks from queue 0 of `device`, on the thread that calls.
    ///
    /// # Errors
    /// The queue cannot be made, or the disk has no block.
    pub fn new(device: &Arc<dyn Started>, depth: usize, block_bytes: usize) -> Result<Load, Error> {
        let blocks = device.limits().capacity_bytes / block_bytes.max(1) as u64;
        if blocks == 0 {
            return Err(Error::usage(format!("the disk has no {block_bytes} bytes")));
        }
        let (queue, pool) = (device.queue(0)?, Pool::new(device.region().clone(), 0));
        let (todo, done) = (VecDeque::with_capacity(depth), Vec::with_capacity(depth));
        let random = Random::new(1);
        Ok(Load { queue, pool, todo, done, random, depth, block_bytes, blocks, next_id: 0 })
    }

    /// One turn: takes what has ended, and submits as many in its place. Returns how many reads ended.
    ///
    /// # Errors
    /// The queue is dead, a read failed, or there is no memory.
    pub fn turn(&mut self) -> Result<usize, Stopped> {
        self.queue.reap(&mut self.done);
        let ended = self.take()?;
        for _ in self.queue.in_flight()..self.depth {
            let request = self.request()?;
            self.todo.push_back(request);
        }
        self.queue.submit(&mut self.todo)?;
        Ok(ended)
    }

    /// Waits for everything that is in flight. Returns how many reads ended.
    ///
    /// # Errors
    /// A read failed.
    pub fn end(&mut self) -> Result<usize, Stopped> {
        let mut ended = 0;
        while self.queue.in_flight() > 0 {
            self.queue.reap(&mut self.done);
            ended += self.take()?;
        }
        Ok(ended)
    }

    /// Gives the leases of what has ended back to the pool.
    fn take(&mut self) -> Result<usize, Stopped> {
        let ended = self.done.len();
        for completion in self.done.drain(..) {
            completion.result.map_err(Stopped::Failed)?;
        }
        Ok(ended)
    }

    fn request(&mut self) -> Result<Request, Stopped> {
        let lease = self.pool.lease(self.block_bytes).ok_or(Stopped::NoMemory)?;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        Ok(Request {
            id,
            operation: Operation::Read(lease),
            flags: RequestFlags::default(),
            offset: self.random.below(self.blocks) * self.block_bytes as u64,
            len: self.block_bytes as u64,
        })
    }
}
