//! The task that owns the peer: it moves messages, time, writes and answers, and decides nothing.
//!
//! Each turn waits for something to happen, gives the peer everything that is ready (up to
//! [`TURN_MAX`] of each sort), and then does what the peer wants done, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cpe_membership::{CardError, NodeCard, NodeId};
use cpe_mesh::{Batch, BodyDone, BodyWork, Event, Input, Output, Peer, RequestId};
use cpe_network::{Events, MessageKey, Multiaddr, Network, PeerId, TOPICS};
use cpe_storage::{BodyQueueFull, BodyWorker, Completion, Failed, Storage, WriteError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::actors::Inner;
use crate::actors::location_cache::Named;
use crate::actors::took::Due;
use crate::clock::Clock;
use crate::desk::{Answer, Desk, Order};
use crate::state::State;

/// Things of one sort given to the peer in one turn. Enough that a turn's fixed cost does not
/// count, few enough that nothing waits long for its turn.
const TURN_MAX: usize = 256;

/// Actor frames and link changes on their way to the post office; the driver waits beyond it, and
/// with it the links (back-pressure). Handling one never waits.
pub(crate) const MAIL_MAX: usize = 256;

/// What the driver passes on without looking at it.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A frame of the message lane.
    Frame(NodeId, Bytes),
    /// A link is gone: no answer will come over it.
    LinkDown(NodeId),
}

/// The task's state.
pub(crate) struct Driver {
    pub(crate) peer: Peer,
    /// What runs under the node's lease as a host.
    pub(crate) actors: Arc<Inner>,
    pub(crate) clock: Clock,
    pub(crate) network: Network,
    pub(crate) events: Events,
    pub(crate) storage: Storage,
    pub(crate) completions: mpsc::Receiver<Completion>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) mail: mpsc::Sender<Mail>,
    pub(crate) card: NodeCard,
    pub(crate) state: Arc<State>,
    pub(crate) stop: CancellationToken,
    pub(crate) answers: BTreeMap<RequestId, Answer>,
    /// Batches the storage had no room for. While there are any, nothing else is taken in.
    pub(crate) unwritten: VecDeque<(u64, Batch, bool)>,
    pub(crate) bodies: BodyWorker,
    pub(crate) bodies_done: mpsc::Receiver<BodyDone>,
    /// What the bodies' thread had no room for. The peer bounds it: chunks and parts under way,
    /// deletions of a round, and an adoption for each request. A slow disk makes nothing else wait.
    pub(crate) unworked: VecDeque<BodyWork>,
}

impl Driver {
    /// Runs until told to stop, or until the storage fails.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let failed = loop {
            if let Err(failed) = self.outputs() {
                break Some(failed);
            }
            if stop.is_cancelled() {
                break None;
            }
            match self.turn(&stop).await {
                Ok(true) => {}
                Ok(false) => break None,
                Err(failed) => break Some(failed),
            }
        };
        if let Some(failed) = &failed {
            tracing::error!(%failed, "the node stops: its state cannot be written");
        }
        self.end(failed).await;
    }

    /// Waits for something and takes in what is there; false when the network has ended.
    async fn turn(&mut self, stop: &CancellationToken) -> Result<bool, Failed> {
        let open = self.unwritten.is_empty();
        let wake = self.peer.next_wake().map(|at| self.clock.at(at));
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(true),
            Some(done) = self.completions.recv() => self.completed(done)?,
            done = self.bodies_done.recv() => match done {
                Some(done) => self.body_done(done),
                None => return Err(Failed { cause: "the bodies' thread has ended".into() }),
            },
            event = self.events.recv(), if open => match event {
                Some(event) => self.network_says(event).await,
                None => return Ok(false),
            },
            Some(order) = self.orders.recv(), if open => self.ordered(order),
            () = self.desk.noted() => {}
            () = sleep => self.input(Input::Tick),
        }
        for _ in 0..TURN_MAX {
            let Ok(done) = self.completions.try_recv() else {
                break;
            };
            self.completed(done)?;
        }
        for _ in 0..TURN_MAX {
            let Ok(done) = self.bodies_done.try_recv() else {
                break;
            };
            self.body_done(done);
        }
        self.work_on();
        if open {
            for _ in 0..TURN_MAX {
                let Some(event) = self.events.try_recv() else {
                    break;
                };
                self.network_says(event).await;
            }
            for _ in 0..TURN_MAX {
                let Ok(order) = self.orders.try_recv() else {
                    break;
                };
                self.ordered(order);
            }
        }
        self.take_notes();
        Ok(true)
    }

    /// Gives the peer one of the inputs of this turn; [`outputs`](Self::outputs) ends it.
    fn input(&mut self, input: Input) {
        self.peer.take_in(self.clock.now(), input);
    }

    fn completed(&mut self, done: Completion) -> Result<(), Failed> {
        done.result?;
        self.input(Input::Persisted(done.token));
        while let Some((token, batch, sync)) = self.unwritten.pop_front() {
            if let Some(batch) = self.write(token, batch, sync)? {
                self.unwritten.push_front((token, batch, sync));
                break;
            }
        }
        Ok(())
    }

    fn body_done(&mut self, done: BodyDone) {
        self.input(Input::Body(done));
    }

    /// Hands the bodies' thread what it has room for.
    fn work_on(&mut self) {
        while let Some(work) = self.unworked.pop_front() {
            if let Err(BodyQueueFull(work)) = self.bodies.submit(work) {
                self.unworked.push_front(work);
                break;
            }
        }
    }

    async fn network_says(&mut self, event: cpe_network::Event) {
        use cpe_network::{Event as Said, Lane};
        match event {
            Said::Message {
                from,
                lane: Lane::Message,
                bytes,
            } => self.post(Mail::Frame(from, bytes)).await,
            Said::Message { from, bytes, .. } => {
                let bytes = bytes.into();
                self.input(Input::Message { from, bytes });
            }
            Said::Gossip { bytes, .. } => self.input(Input::Gossip(bytes.into())),
            Said::LinkUp { node, peer, .. } => {
                tracing::info!(%node, %peer, "linked");
                self.input(Input::LinkUp(node));
                self.state.changed();
            }
            Said::LinkDown { node, reason } => {
                tracing::info!(%node, %reason, "link lost");
                self.post(Mail::LinkDown(node)).await;
                self.input(Input::LinkDown(node));
                self.state.changed();
            }
            Said::Listening { address } => {
                tracing::info!(%address, "listening");
                self.card.addresses = addresses(&self.network);
                self.input(Input::Card(Box::new(self.card.clone())));
            }
            Said::Refused { peer, why } => {
                let who = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
                tracing::warn!(peer = %who, %why, "refused");
                self.state.refused(format!("{who}: {why}"));
            }
            other => tracing::debug!(?other, "network"),
        }
    }

    async fn post(&self, mail: Mail) {
        // An error means that the post office has closed: the node is stopping.
        drop(self.mail.send(mail).await);
    }

    fn ordered(&mut self, order: Order) {
        match order {
            Order::Command {
                request,
                command,
                answer,
            } => {
                if !answer.is_closed() {
                    self.answers.insert(request, answer);
                    self.input(Input::Command(request, command));
                }
            }
            Order::Capability { key, value, done } => {
                // Nobody waiting is no harm.
                let _ = done.send(self.capability(key, value));
            }
            Order::Leave(done) => {
                self.input(Input::Leave);
                self.said_goodbye(done);
            }
        }
    }

    fn capability(&mut self, key: String, value: Option<String>) -> Result<(), CardError> {
        let mut card = self.card.clone();
        match value {
            Some(value) => drop(card.capabilities.insert(key, value)),
            None => drop(card.capabilities.remove(&key)),
        }
        card.check()?;
        self.card = card;
        self.input(Input::Card(Box::new(self.card.clone())));
        self.state.changed();
        Ok(())
    }

    /// The good-bye is among the outputs: hand it to the network before answering.
    fn said_goodbye(&mut self, done: oneshot::Sender<()>) {
        if let Err(failed) = self.outputs() {
            tracing::error!(%failed, "cannot write while leaving");
        }
        // Nobody waiting is no harm.
        let _ = done.send(());
    }

    /// What became of requests whose handles are gone.
    fn take_notes(&mut self) {
        for note in self.desk.take_notes() {
            self.answers.remove(&note.request);
            self.input(if note.received {
                Input::Received(note.request)
            } else {
                Input::Cancel(note.request)
            });
        }
    }

    /// Ends a turn: does all that the peer wants done.
    fn outputs(&mut self) -> Result<(), Failed> {
        while let Some(output) = self.next_output() {
            match output {
                Output::Send { to, lane, bytes } => self.send(to, lane, bytes),
                Output::Broadcast { topic, id, bytes } => {
                    let key = MessageKey {
                        shard: u64::from(topic),
                        index: id,
                    };
                    let sent = self
                        .network
                        .broadcast(topic % TOPICS, key, Bytes::from(bytes));
                    if let Err(error) = sent {
                        tracing::debug!(%error, "broadcast dropped");
                    }
                }
                Output::Persist { token, batch, sync } => {
                    // Batches never overtake each other: a token speaks for all before it.
                    if !self.unwritten.is_empty() {
                        self.unwritten.push_back((token, batch, sync));
                    } else if let Some(batch) = self.write(token, batch, sync)? {
                        self.unwritten.push_back((token, batch, sync));
                    }
                }
                Output::Reply(request, reply) => self.reply(request, reply),
                Output::Connect {
                    peer, addresses, ..
                } => self.connect(&peer, &addresses),
                Output::Event(event) => self.happened(event),
                Output::MayAct { life, until } => {
                    self.actors.may_act(life, self.clock.at(until));
                }
                Output::Voided { life } => self.actors.lost_life(life),
                Output::Effect {
                    name,
                    born,
                    n,
                    effect,
                } => self.actors.carry_out(&name, (born, n), *effect),
                Output::Took {
                    name,
                    born,
                    token,
                    n,
                    workspace,
                    answer,
                    request,
                    took,
                } => {
                    let due = Due {
                        name,
                        born,
                        token,
                        n,
                        workspace,
                        answer,
                        request,
                    };
                    self.actors.took(due, *took);
                }
                Output::Named {
                    name,
                    token,
                    host,
                    leased,
                    from,
                } => {
                    let now = Named {
                        token,
                        host,
                        leased,
                        from,
                    };
                    self.actors.named(&name, now);
                }
                Output::Host { name, record } => self.actors.take_over(&name, &record),
                Output::Body(work) => {
                    self.unworked.push_back(work);
                    self.work_on();
                } // Outputs of a newer peer that this shell does not know: none today.
            }
        }
        Ok(())
    }

    fn next_output(&mut self) -> Option<Output> {
        self.peer.poll_output().or_else(|| {
            // Doing the outputs may have made inputs.
            self.peer.settle();
            self.peer.poll_output()
        })
    }

    fn send(&self, to: NodeId, lane: cpe_mesh::Lane, bytes: Vec<u8>) {
        let lane = match lane {
            cpe_mesh::Lane::Control => cpe_network::Lane::Control,
            cpe_mesh::Lane::Bulk => cpe_network::Lane::Bulk,
        };
        // The protocol repeats what is lost.
        if let Err(error) = self.network.try_send(to, lane, bytes.into()) {
            tracing::debug!(%error, "message dropped");
        }
    }

    /// Queues a batch, behind those that wait; gives it back when there is no room.
    fn write(&self, token: u64, batch: Batch, sync: bool) -> Result<Option<Batch>, Failed> {
        match self.storage.write(token, batch, sync) {
            Ok(()) => Ok(None),
            Err(WriteError::Full { batch }) => Ok(Some(batch)),
            Err(WriteError::Failed(failed)) => Err(failed),
            Err(other) => Err(Failed {
                cause: other.to_string().into(),
            }),
        }
    }

    fn reply(&mut self, request: RequestId, reply: cpe_mesh::Reply) {
        use cpe_mesh::Reply;
        match self.answers.remove(&request) {
            // A handle that is gone has left a note, which gives back what this is.
            Some(Answer::Once(sender)) => drop(sender.send(reply)),
            Some(Answer::Watch(sender)) => {
                let goes_on = match reply {
                    Reply::Tuple(Some(tuple)) => sender.send(tuple),
                    Reply::Failed(failure) => {
                        tracing::warn!(%failure, "a watch was refused");
                        false
                    }
                    _ => true,
                };
                if goes_on {
                    self.answers.insert(request, Answer::Watch(sender));
                } else {
                    self.input(Input::Cancel(request));
                }
            }
            None => {}
        }
    }

    fn connect(&self, peer: &str, addresses: &[String]) {
        let Ok(peer) = peer.parse::<PeerId>() else {
            return;
        };
        let addresses: Vec<Multiaddr> = addresses
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect();
        self.network.connect(peer, addresses);
    }

    fn happened(&self, event: Event) {
        match event {
            Event::Joined(genesis) => {
                tracing::info!(mesh = %genesis.mesh, shards = genesis.shards, "joined");
                self.state.joined();
            }
            Event::Up(member) => tracing::info!(%member, "member up"),
            Event::Down(member) => tracing::warn!(%member, "member down"),
            Event::Left(member) => tracing::info!(%member, "member left"),
            Event::Moved(shard, config) => tracing::debug!(%shard, ?config, "home moved"),
            Event::Forked(shard, config) => tracing::warn!(
                %shard,
                ?config,
                "shard forked: it goes on without its majority, which an operator called lost; \
                 what was acknowledged before may be gone, and be taken twice"
            ),
            Event::Begun { shard, generation } if generation > 1 => tracing::warn!(
                %shard,
                generation,
                "volatile shard begins anew, empty: it lost the majority of its home"
            ),
            Event::Begun { shard, .. } => tracing::debug!(%shard, "volatile shard begins"),
            Event::Overruled { shard, by } => tracing::warn!(
                %shard,
                %by,
                "the history of this shard here was given up for that of its fork"
            ),
            Event::Malformed { from, reason } => tracing::warn!(?from, %reason, "malformed"),
            Event::Diverged { shard, with } => {
                tracing::error!(%shard, %with, "histories differ: a node lost durable state");
            }
            Event::Voided(life) => self.actors.life_over(life),
            Event::Defunct => {
                tracing::error!("a later life of this node is running: this one stops");
                self.stop.cancel();
            }
            other => tracing::info!(?other, "peer"),
        }
        self.state.changed();
    }

    /// Closes everything, even after a failure.
    async fn end(self, failed: Option<Failed>) {
        let Self {
            network,
            storage,
            orders,
            answers,
            mail,
            state,
            stop,
            bodies,
            bodies_done,
            ..
        } = self;
        stop.cancel();
        // The thread may wait to report.
        drop((orders, answers, mail, bodies_done));
        network.shutdown().await;
        // Closing waits for the disk.
        let close = move || {
            drop(bodies);
            storage.close()
        };
        let closed = tokio::task::spawn_blocking(close).await;
        let failed = match closed {
            Ok(Err(late)) => failed.or(Some(late)),
            _ => failed,
        };
        state.ended(failed.map(|failed| failed.to_string()));
    }
}

/// Where others reach this node, as its card says it, best first: addresses other machines can
/// use before loopback, TCP before QUIC (it costs half the processor time on a LAN).
pub(crate) fn addresses(network: &Network) -> Vec<String> {
    let mut addresses: Vec<String> = network
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    addresses.sort_by_key(|address| {
        let loopback = address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
        (loopback, !address.contains("/tcp/"))
    });
    addresses.truncate(cpe_membership::CARD_ENTRIES_MAX);
    addresses
}
