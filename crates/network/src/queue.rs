//! The queue between the program and one lane's writer: bounded by count and by bytes.

use std::sync::Arc;

use bytes::Bytes;
use cpe_membership::NodeId;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use crate::error::SendError;
use crate::lane::{Lane, MESSAGE_OVERHEAD};

/// A message and the room it takes until it is written.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What a message counts against a bound in bytes.
pub(crate) fn weight(bytes: &[u8]) -> u32 {
    // Lane limits keep messages far below `u32::MAX`.
    u32::try_from(bytes.len() + MESSAGE_OVERHEAD).unwrap_or(u32::MAX)
}

/// The program's end.
#[derive(Debug)]
pub(crate) struct LaneSender {
    node: NodeId,
    lane: Lane,
    queue: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
}

/// The writer's end. Dropping it fails those who wait for room.
#[derive(Debug)]
pub(crate) struct LaneReceiver {
    queue: mpsc::Receiver<Item>,
    room: Arc<Semaphore>,
}

pub(crate) fn lane_queue(node: NodeId, lane: Lane) -> (LaneSender, LaneReceiver) {
    let limits = lane.limits();
    let (sender, receiver) = mpsc::channel(limits.queue_messages);
    let room = Arc::new(Semaphore::new(limits.queue_bytes));
    (
        LaneSender {
            node,
            lane,
            queue: sender,
            room: Arc::clone(&room),
        },
        LaneReceiver {
            queue: receiver,
            room,
        },
    )
}

impl LaneSender {
    pub(crate) fn try_send(&self, bytes: Bytes) -> Result<(), SendError> {
        self.check_size(&bytes)?;
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(weight(&bytes))
            .map_err(|error| match error {
                TryAcquireError::Closed => SendError::NoLink(self.node),
                TryAcquireError::NoPermits => SendError::Full(self.node),
            })?;
        self.queue
            .try_send(Item { bytes, _room: room })
            .map_err(|error| match error {
                TrySendError::Closed(_) => SendError::NoLink(self.node),
                TrySendError::Full(_) => SendError::Full(self.node),
            })
    }

    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), SendError> {
        if self.lane == Lane::Control {
            return self.try_send(bytes);
        }
        self.check_size(&bytes)?;
        let gone = SendError::NoLink(self.node);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(weight(&bytes))
            .await;
        let Ok(room) = room else { return Err(gone) };
        self.queue
            .send(Item { bytes, _room: room })
            .await
            .map_err(|_| gone)
    }

    /// Bytes that wait to be written, with the overhead of each message.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.lane
            .limits()
            .queue_bytes
            .saturating_sub(self.room.available_permits())
    }

    fn check_size(&self, bytes: &Bytes) -> Result<(), SendError> {
        let limit = self.lane.limits().message_bytes;
        if bytes.len() > limit {
            return Err(SendError::TooLarge {
                found: bytes.len(),
                limit,
            });
        }
        Ok(())
    }
}

impl LaneReceiver {
    /// Waits for a message. `None` means: none will come.
    pub(crate) async fn recv(&mut self) -> Option<Item> {
        self.queue.recv().await
    }

    /// The next message if there is one now.
    pub(crate) fn try_recv(&mut self) -> Option<Item> {
        self.queue.try_recv().ok()
    }
}

impl Drop for LaneReceiver {
    fn drop(&mut self) {
        self.room.close();
    }
}
