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

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    #[test]
    fn the_queue_is_bounded_in_messages_and_in_bytes() {
        let limits = Lane::Message.limits();
        let (sender, receiver) = lane_queue(NODE, Lane::Message);
        for _ in 0..limits.queue_messages {
            sender.try_send(Bytes::new()).unwrap();
        }
        assert_eq!(sender.try_send(Bytes::new()), Err(SendError::Full(NODE)));
        drop(receiver);
        assert_eq!(sender.try_send(Bytes::new()), Err(SendError::NoLink(NODE)));

        let (sender, _receiver) = lane_queue(NODE, Lane::Message);
        let large = Bytes::from(vec![0; limits.message_bytes]);
        for _ in 0..limits.queue_bytes / (limits.message_bytes + MESSAGE_OVERHEAD) {
            sender.try_send(large.clone()).unwrap();
        }
        assert_eq!(sender.try_send(large), Err(SendError::Full(NODE)));
        assert!(sender.queued_bytes() > limits.queue_bytes - limits.message_bytes - 1000);
        sender.try_send(Bytes::new()).unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_room_goes_on_when_there_is_some_and_fails_when_the_link_ends() {
        let (sender, mut receiver) = lane_queue(NODE, Lane::Bulk);
        let large = Bytes::from(vec![0; Lane::Bulk.limits().message_bytes]);
        sender.try_send(large.clone()).unwrap();
        let taken = async { drop(receiver.recv().await) };
        let (sent, ()) = tokio::join!(sender.send(large.clone()), taken);
        assert_eq!(sent, Ok(()));
        let end = async { drop(receiver) };
        let (sent, ()) = tokio::join!(sender.send(large), end);
        assert_eq!(sent, Err(SendError::NoLink(NODE)));
    }

    #[tokio::test]
    async fn control_never_waits() {
        let (sender, _receiver) = lane_queue(NODE, Lane::Control);
        while sender.send(Bytes::new()).await.is_ok() {}
        assert_eq!(sender.send(Bytes::new()).await, Err(SendError::Full(NODE)));
    }
}
