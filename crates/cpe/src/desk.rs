//! The handles' side of the peer: asking it something, and giving up.
//!
//! A request that is dropped gives back what it has not delivered. Each one is a [`Ticket`] that
//! leaves a [`Note`] for the driver when it goes: *cancelled* if its answer was not taken out,
//! *received* if it was a tuple that was. A ticket holds a permit of a fixed number, which travels
//! on in the note: so there are never more notes than requests may be under way.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cpe_membership::CardError;
use cpe_mesh::{Command, Failure, Reply, RequestId};
use cpe_space::Bound;
use cpe_storage::Bodies;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{CapabilityError, SpaceError};

/// Requests of one node under way at a time. More are refused as busy: waiting for a place could
/// mean waiting for oneself.
pub(crate) const REQUESTS_MAX: usize = 65_536;

/// Commands on their way to the driver; senders wait beyond it.
pub(crate) const COMMANDS_MAX: usize = 1_024;

/// Tuples a watch holds until they are looked at. A watch that is further behind is ended.
pub(crate) const WATCH_TUPLES_MAX: usize = 65_536;

/// Bytes, the same: one watch must not fill the memory with large tuples.
pub(crate) const WATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest deadline; longer ones are cut to it. A year: beyond any run of a node, and far from
/// where adding times overflows.
const DEADLINE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the driver is told by handles.
pub(crate) enum Order {
    /// Ask the peer.
    Command {
        request: RequestId,
        command: Command,
        answer: Answer,
    },
    /// Set a capability of this node's card, or take it out, then answer.
    Capability {
        key: String,
        value: Option<String>,
        done: oneshot::Sender<Result<(), CardError>>,
    },
    /// Say good-bye to the mesh, then answer once that is on its way.
    Leave(oneshot::Sender<()>),
}

/// Where an answer goes.
pub(crate) enum Answer {
    Once(oneshot::Sender<Reply>),
    Watch(WatchSender),
}

impl Answer {
    /// True when nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Once(sender) => sender.is_closed(),
            Self::Watch(sender) => sender.tuples.is_closed(),
        }
    }
}

/// What became of a request whose ticket is gone.
pub(crate) struct Note {
    pub(crate) request: RequestId,
    /// The local program has the tuple; otherwise nobody waits any more.
    pub(crate) received: bool,
    _permit: OwnedSemaphorePermit,
}

/// Shared by all handles and the driver.
#[derive(Debug)]
pub(crate) struct Desk {
    orders: mpsc::Sender<Order>,
    permits: Arc<Semaphore>,
    notes: Mutex<Vec<Note>>,
    noted: Notify,
    next: AtomicU64,
    /// Bodies of large values: handles read and write them without the peer.
    pub(crate) bodies: Bodies,
}

impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Note({}, received: {})", self.request.0, self.received)
    }
}

impl Desk {
    pub(crate) fn new(bodies: Bodies) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, queue) = mpsc::channel(COMMANDS_MAX);
        let desk = Self {
            orders,
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            notes: Mutex::default(),
            noted: Notify::new(),
            next: AtomicU64::new(1),
            bodies,
        };
        (Arc::new(desk), queue)
    }

    /// Asks the peer and waits for its answer, which comes at the command's deadline at the
    /// latest.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the request is cancelled, and a tuple it took goes back.
    pub(crate) async fn ask(self: &Arc<Self>, command: Command) -> Result<Reply, SpaceError> {
        let (reply, receipt) = self.ask_held(command).await?;
        if let Some(receipt) = receipt {
            receipt.confirm();
        }
        Ok(reply)
    }

    /// As [`ask`](Self::ask); but a tuple that was taken goes back unless the receipt that comes
    /// with it is confirmed.
    pub(crate) async fn ask_held(
        self: &Arc<Self>,
        command: Command,
    ) -> Result<(Reply, Option<Receipt>), SpaceError> {
        let takes = matches!(
            command,
            Command::Take { .. }
                | Command::TakeLeased { .. }
                | Command::Bound {
                    act: Bound::Take { leave: false, .. },
                    ..
                }
        );
        let (sender, mut receiver) = oneshot::channel();
        let ticket = self.ticket()?;
        let place = self.orders.reserve().await;
        let place = place.map_err(|_| SpaceError::Closed)?;
        let mut open = OpenRequest {
            ticket: Some(ticket),
            receiver: &mut receiver,
            desk: self,
            takes,
        };
        place.send(Order::Command {
            request: open.request(),
            command: bounded(command),
            answer: Answer::Once(sender),
        });
        match (&mut *open.receiver).await {
            Ok(Reply::Failed(failure)) => {
                open.done(false);
                Err(SpaceError::Failed(failure))
            }
            Ok(reply) => {
                let tuple = matches!(reply, Reply::Tuple(Some(_)) | Reply::Leased { .. });
                let receipt = open.done(tuple);
                Ok((reply, receipt))
            }
            Err(_) => {
                open.done(false);
                Err(SpaceError::Closed)
            }
        }
    }

    /// Starts a watch.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        command: Command,
    ) -> Result<WatchReceiver, SpaceError> {
        let (sender, tuples) = mpsc::channel(WATCH_TUPLES_MAX);
        let held = Arc::new(Held::default());
        let ticket = self.ticket()?;
        let place = self.orders.reserve().await;
        let place = place.map_err(|_| SpaceError::Closed)?;
        place.send(Order::Command {
            request: ticket.request,
            command,
            answer: Answer::Watch(WatchSender {
                tuples: sender,
                held: Arc::clone(&held),
            }),
        });
        Ok(WatchReceiver {
            tuples,
            held,
            ticket: Some(ticket),
            desk: Arc::clone(self),
        })
    }

    /// Says good-bye to the mesh.
    pub(crate) async fn capability(
        &self,
        key: String,
        value: Option<String>,
    ) -> Result<(), CapabilityError> {
        let (done, receiver) = oneshot::channel();
        let order = Order::Capability { key, value, done };
        let sent = self.orders.send(order).await;
        sent.map_err(|_| CapabilityError::Closed)?;
        let set = receiver.await.map_err(|_| CapabilityError::Closed)?;
        Ok(set?)
    }

    pub(crate) async fn leave(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.orders.send(Order::Leave(sender)).await.is_ok() {
            // An error means that the driver has ended, and with it everything there is to leave.
            drop(receiver.await);
        }
    }

    fn ticket(&self) -> Result<Ticket, SpaceError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            let why = format!("{REQUESTS_MAX} requests");
            SpaceError::Failed(Failure::Busy(why))
        })?;
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        Ok(Ticket { request, permit })
    }

    fn note(&self, ticket: Ticket, received: bool) {
        let note = Note {
            request: ticket.request,
            received,
            _permit: ticket.permit,
        };
        self.notes().push(note);
        self.noted.notify_one();
    }

    /// Takes the notes there are.
    pub(crate) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.notes())
    }

    /// Waits until there may be notes.
    pub(crate) async fn noted(&self) {
        self.noted.notified().await;
    }

    fn notes(&self) -> MutexGuard<'_, Vec<Note>> {
        // Nothing under this lock panics half-way.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one request.
struct Ticket {
    request: RequestId,
    permit: OwnedSemaphorePermit,
}

/// A request the driver has been given and that may still be dropped.
struct OpenRequest<'a> {
    /// `None` once the answer was taken out.
    ticket: Option<Ticket>,
    receiver: &'a mut oneshot::Receiver<Reply>,
    desk: &'a Arc<Desk>,
    takes: bool,
}

impl OpenRequest<'_> {
    fn request(&self) -> RequestId {
        self.ticket
            .as_ref()
            .map_or(RequestId(0), |ticket| ticket.request)
    }

    /// The answer was taken out; the receipt for the tuple if it took one.
    fn done(&mut self, tuple: bool) -> Option<Receipt> {
        let ticket = self.ticket.take()?;
        (tuple && self.takes).then(|| Receipt {
            ticket: Some(ticket),
            desk: Arc::clone(self.desk),
        })
    }
}

/// A tuple that was taken and is to be confirmed. Dropped before, the tuple goes back.
pub(crate) struct Receipt {
    ticket: Option<Ticket>,
    desk: Arc<Desk>,
}

impl Receipt {
    pub(crate) fn confirm(mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.desk.note(ticket, true);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.desk.note(ticket, false);
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let request = self.ticket.as_ref().map(|ticket| ticket.request);
        f.debug_struct("Receipt")
            .field("request", &request)
            .finish()
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            // Closed first: a driver that has not begun the command yet sees this and leaves it.
            self.receiver.close();
            self.desk.note(ticket, false);
        }
    }
}

/// What a watch holds, and whether it was ended for falling behind.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: AtomicUsize,
    missed: AtomicU64,
}

/// The driver's end of a watch.
pub(crate) struct WatchSender {
    tuples: mpsc::Sender<cpe_tuple::Tuple>,
    held: Arc<Held>,
}

impl WatchSender {
    /// Hands on a tuple; false when the watch is gone or too far behind, and ends with that.
    pub(crate) fn send(&self, tuple: cpe_tuple::Tuple) -> bool {
        let size = tuple.size();
        let held = self.held.bytes.fetch_add(size, Ordering::Relaxed);
        if held > 0 && held.saturating_add(size) > WATCH_BYTES_MAX {
            self.held.missed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match self.tuples.try_send(tuple) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.held.missed.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// The handle's end of a watch. Dropping it ends the watch.
pub(crate) struct WatchReceiver {
    tuples: mpsc::Receiver<cpe_tuple::Tuple>,
    held: Arc<Held>,
    ticket: Option<Ticket>,
    desk: Arc<Desk>,
}

impl WatchReceiver {
    pub(crate) async fn next(&mut self) -> Option<cpe_tuple::Tuple> {
        let tuple = self.tuples.recv().await?;
        self.held.bytes.fetch_sub(tuple.size(), Ordering::Relaxed);
        Some(tuple)
    }

    pub(crate) fn fell_behind(&self) -> bool {
        self.held.missed.load(Ordering::Relaxed) > 0
    }
}

impl Drop for WatchReceiver {
    fn drop(&mut self) {
        self.tuples.close();
        if let Some(ticket) = self.ticket.take() {
            self.desk.note(ticket, false);
        }
    }
}

/// Cuts the command's deadline to [`DEADLINE_MAX`].
fn bounded(mut command: Command) -> Command {
    match &mut command {
        Command::Out { deadline, .. }
        | Command::Read { deadline, .. }
        | Command::Take { deadline, .. }
        | Command::TakeLeased { deadline, .. }
        | Command::ActOnLease { deadline, .. }
        | Command::Inquire { deadline, .. }
        | Command::Declare { deadline, .. }
        | Command::Delete { deadline, .. }
        | Command::Claim { deadline, .. }
        | Command::Release { deadline, .. }
        | Command::Recover { deadline, .. }
        | Command::Adopt { deadline, .. }
        | Command::Enlist { deadline }
        | Command::Host { deadline, .. }
        | Command::Commit { deadline, .. }
        | Command::Gather { deadline, .. }
        | Command::Bound { deadline, .. }
        | Command::Sync { deadline, .. }
        | Command::Drain { deadline, .. } => *deadline = (*deadline).min(DEADLINE_MAX),
        _ => {}
    }
    command
}
