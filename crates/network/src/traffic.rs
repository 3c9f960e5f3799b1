//! The tasks of a link: a reader and a writer for each lane, and one that watches over them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cpe_membership::NodeId;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::event::{DownReason, Event, Queued};
use crate::frame::{CHUNK_MAX, FrameReader, frames, put_frame};
use crate::lane::Lane;
use crate::link::Link;
use crate::queue::{LaneReceiver, weight};
use crate::shared::{Shared, write};

/// Bytes that are gathered before a write. Measured: one write and flush for each 100-byte
/// message costs fifteen times the throughput.
const BATCH: usize = CHUNK_MAX;
/// Bytes of broadcasts that the program has not taken, at most; more are dropped.
const GOSSIP_INBOUND_BYTES: usize = 8 * 1024 * 1024;
/// How long an ending link may go on writing what was queued and reading what was sent.
pub(crate) const PARTING: Duration = Duration::from_secs(1);

/// The way of events to the program.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    events: mpsc::Sender<Queued>,
    room: [Arc<Semaphore>; 3],
    gossip_room: Arc<Semaphore>,
}

impl Inbox {
    pub(crate) fn new(events: mpsc::Sender<Queued>) -> Self {
        let room = Lane::ALL.map(|lane| Arc::new(Semaphore::new(lane.limits().inbound_bytes)));
        Self {
            events,
            room,
            gossip_room: Arc::new(Semaphore::new(GOSSIP_INBOUND_BYTES)),
        }
    }

    /// Hands over what may be lost, or drops it.
    pub(crate) fn offer(&self, event: Event) -> bool {
        self.events.try_send((event, None)).is_ok()
    }

    /// Hands over a broadcast, or drops it when the program has not taken earlier ones.
    pub(crate) fn offer_gossip(&self, from_link: Option<NodeId>, topic: u16, bytes: Bytes) -> bool {
        let room = Arc::clone(&self.gossip_room).try_acquire_many_owned(weight(&bytes));
        let event = Event::Gossip {
            from_link,
            topic,
            bytes,
        };
        room.is_ok_and(|room| self.events.try_send((event, Some(room))).is_ok())
    }

    /// Hands over the start or the end of a link. Fails when nobody listens any more.
    async fn tell(&self, event: Event) -> Result<(), ()> {
        self.events.send((event, None)).await.map_err(drop)
    }

    async fn deliver(&self, from: NodeId, lane: Lane, bytes: Bytes) -> Result<(), ()> {
        let [control, message, bulk] = &self.room;
        let room = match lane {
            Lane::Control => control,
            Lane::Message => message,
            Lane::Bulk => bulk,
        };
        let room = Arc::clone(room)
            .acquire_many_owned(weight(&bytes))
            .await
            .map_err(drop)?;
        let event = Event::Message { from, lane, bytes };
        self.events.send((event, Some(room))).await.map_err(drop)
    }
}

/// What a link's tasks need from the node.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Inbox,
    /// Tells the driver which connection has served its purpose.
    pub(crate) done: mpsc::Sender<ConnectionId>,
}

/// Carries messages until the link ends, and tells its start and its end.
///
/// `before` is the task of the link that this one replaces: its end is told first.
pub(crate) async fn carry(
    link: Arc<Link>,
    streams: [Stream; 3],
    queues: [LaneReceiver; 3],
    around: Surroundings,
    before: Option<JoinHandle<()>>,
) {
    if let Some(before) = before {
        // A panic in there was reported where it happened.
        drop(before.await);
    }
    let up = Event::LinkUp {
        node: link.node,
        peer: link.peer,
        certificate: Arc::clone(&link.certificate),
        addresses: link.addresses.clone(),
    };
    if around.inbox.tell(up).await.is_ok() {
        exchange(&link, streams, queues, &around.inbox).await;
    }
    link.end(DownReason::Closed);
    let reason = link.ended().await;
    tracing::info!(node = %link.node, peer = %link.peer, %reason, "link down");
    {
        let mut links = write(&around.shared.links);
        if links
            .get(&link.node)
            .is_some_and(|current| Arc::ptr_eq(current, &link))
        {
            links.remove(&link.node);
        }
    }
    // Errors here mean that the driver or the program is gone, and needs no telling.
    let _ = around.done.send(link.connection).await;
    let down = Event::LinkDown {
        node: link.node,
        reason,
    };
    let _ = around.inbox.tell(down).await;
}

async fn exchange(
    link: &Arc<Link>,
    streams: [Stream; 3],
    queues: [LaneReceiver; 3],
    inbox: &Inbox,
) {
    let mut tasks = JoinSet::new();
    for ((lane, stream), queue) in Lane::ALL.into_iter().zip(streams).zip(queues) {
        let (reading, writing) = stream.split();
        tasks.spawn(read_lane(Arc::clone(link), lane, reading, inbox.clone()));
        tasks.spawn(write_lane(Arc::clone(link), writing, queue));
    }
    let reason = tokio::select! {
        reason = link.ended() => reason,
        Some(ended) = tasks.join_next() => ended.unwrap_or_else(|panic| {
            DownReason::Lost(format!("a task of the link failed: {panic}"))
        }),
    };
    link.end(reason);
    let in_peace = match link.ended().await {
        DownReason::Violation(_)
        | DownReason::Replaced
        | DownReason::Expired
        | DownReason::Blocked => false,
        DownReason::Closed | DownReason::Lost(_) | DownReason::Requested | DownReason::Shutdown => {
            true
        }
    };
    if in_peace {
        // Writers write what is queued and close, readers read to the end.
        let rest = async { while tasks.join_next().await.is_some() {} };
        drop(timeout(PARTING, rest).await);
    }
}

/// Writes what is queued, in batches, until the link ends and its queue is empty.
async fn write_lane(
    link: Arc<Link>,
    mut stream: WriteHalf<Stream>,
    mut queue: LaneReceiver,
) -> DownReason {
    let mut out = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            item = queue.recv() => item,
            _ = link.ended() => queue.try_recv(),
        };
        let mut next = first;
        if next.is_none() {
            drop(stream.close().await);
            return link.ended().await;
        }
        let (mut messages, mut bytes) = (0, 0);
        while let Some(item) = next {
            messages += 1;
            bytes += item.bytes.len() as u64;
            for (kind, contents) in frames(&item.bytes) {
                put_frame(&mut out, kind, contents);
                if out.len() >= BATCH {
                    if let Err(error) = stream.write_all(&out).await {
                        return lost(&error);
                    }
                    out.clear();
                }
            }
            // The room of this message is free from here on: at most a batch more is in memory.
            drop(item);
            next = if bytes < BATCH as u64 {
                queue.try_recv()
            } else {
                None
            };
        }
        if let Err(error) = stream.write_all(&out).await {
            return lost(&error);
        }
        out.clear();
        if let Err(error) = stream.flush().await {
            return lost(&error);
        }
        link.sent.count(messages, bytes);
    }
}

/// Reads messages and hands them over. A program that does not take them stops the reading.
async fn read_lane(
    link: Arc<Link>,
    lane: Lane,
    mut stream: ReadHalf<Stream>,
    inbox: Inbox,
) -> DownReason {
    let mut reader = FrameReader::new(lane.limits().message_bytes);
    loop {
        match stream.read(reader.space()).await {
            Ok(0) if reader.unfinished() => {
                return DownReason::Lost(format!("the {} lane was cut in a frame", lane.name()));
            }
            Ok(0) => return DownReason::Closed,
            Ok(bytes) => reader.filled(bytes),
            Err(error) => return lost(&error),
        }
        loop {
            match reader.next() {
                Ok(Some(bytes)) => {
                    link.received.count(1, bytes.len() as u64);
                    if inbox.deliver(link.node, lane, bytes).await.is_err() {
                        return DownReason::Shutdown;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    return DownReason::Violation(format!("{} lane: {error}", lane.name()));
                }
            }
        }
    }
}

fn lost(error: &std::io::Error) -> DownReason {
    DownReason::Lost(error.to_string())
}
