//! The task that owns the swarm. It decides which connection serves as a peer's link, dials who
//! is wanted, and does nothing slow: messages never pass through it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::TransportError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, kad, mdns, ping};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::blocks;
use crate::clock::{Clock, unix_now};
use crate::config::ADDRESSES_MAX;
use crate::dialing::{Dial, Target};
use crate::door::{Door, Refused};
use crate::event::{DownReason, Event, Refusal};
use crate::gossip::{self, MessageKey};
use crate::identity::node_id;
use crate::link::{Link, LinkParts};
use crate::shared::{lock, read, write};
use crate::streams::Opened;
use crate::traffic::{self, PARTING, Surroundings};

/// Two connections that come up within this time of each other are taken for a mutual dial, of
/// which the first is kept. Later ones come from a peer that has lost the first.
const MUTUAL_DIAL: Duration = Duration::from_secs(3);
/// A connection whose lanes are not open after this long is closed.
const LANES_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How often certificates, tables and slow connections are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long connections may take to close when the network stops.
const CLOSING: Duration = Duration::from_millis(500);

/// News to spread.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) topic: u16,
    pub(crate) key: MessageKey,
    pub(crate) bytes: Bytes,
}

/// A connection with an admitted peer.
#[derive(Debug)]
struct Connection {
    peer: PeerId,
    endpoint: ConnectedPoint,
    since: Duration,
    instance: u64,
    has_link: bool,
}

pub(crate) struct Driver {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) door: Arc<Door>,
    pub(crate) clock: Clock,
    pub(crate) around: Surroundings,
    pub(crate) broadcasts: mpsc::Receiver<Broadcast>,
    pub(crate) done: mpsc::Receiver<ConnectionId>,
    pub(crate) stop: CancellationToken,
    pub(crate) blocks: Option<watch::Receiver<BTreeSet<PeerId>>>,
    pub(crate) state: State,
}

/// What the driver remembers. Bounded by the connection limits.
#[derive(Debug, Default)]
pub(crate) struct State {
    connections: BTreeMap<ConnectionId, Connection>,
    /// For each peer that we open the lanes of (its id is higher): the connection that serves.
    chosen: BTreeMap<PeerId, ConnectionId>,
    dials: BTreeMap<ConnectionId, Target>,
    links: BTreeMap<PeerId, JoinHandle<()>>,
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            self.dial_who_is_due();
            let due = lock(&self.around.shared.dialer).next_due();
            let due = self.clock.at(due.unwrap_or(Duration::from_secs(3600)));
            tokio::select! {
                () = stop.cancelled() => break,
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(broadcast) = self.broadcasts.recv() => self.publish(broadcast),
                Some(connection) = self.done.recv() => {
                    self.swarm.close_connection(connection);
                }
                () = self.around.shared.changed.notified() => self.cut_unwanted(),
                () = blocks::changed(&mut self.blocks) => self.cut_blocked(),
                () = sleep_until(due) => {}
                _ = tick.tick() => self.on_tick(),
            }
        }
        self.shut_down().await;
    }

    pub(crate) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.on_established(peer_id, connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                let cause = cause.map(|cause| chain(&cause));
                self.on_closed(peer_id, connection_id, num_established, cause);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                self.on_dial_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError {
                error,
                send_back_addr,
                ..
            } => {
                let why = chain(&error);
                tracing::debug!(%send_back_addr, error = %why, "incoming connection failed");
                if let ListenError::Transport(error) = &error
                    && let Some(refused) = refused(error)
                {
                    self.tell_refused(refused);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let address = self.with_peer(address);
                write(&self.around.shared.addresses).retain(|known| *known != address);
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::warn!(?addresses, ?reason, "a listener closed");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed");
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Streams(opened) => self.on_lanes(opened),
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result,
            }) => match result {
                Ok(time) => {
                    if let Some(link) = self.around.shared.link(node_id(&peer)) {
                        link.set_round_trip(time);
                    }
                }
                Err(ping::Failure::Unsupported) => {}
                Err(error) => {
                    tracing::debug!(%peer, %error, "a ping was not answered");
                    self.end_connection(connection, DownReason::Lost(error.to_string()));
                }
            },
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                for address in info.listen_addrs.into_iter().take(ADDRESSES_MAX) {
                    self.swarm
                        .behaviour_mut()
                        .kad
                        .add_address(&peer_id, address);
                }
            }
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetClosestPeers(Ok(found)),
                ..
            }) => self.on_found(found.peers),
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => self.on_gossip(propagation_source, &message_id, message),
            BehaviourEvent::Gossip(gossipsub::Event::SlowPeer {
                peer_id,
                failed_messages,
            }) => {
                let dropped = failed_messages;
                tracing::debug!(%peer_id, ?dropped, "broadcasts to a slow peer were dropped");
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(seen)) => self.on_discovered(seen),
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: ConnectedPoint) {
        if let Some(target) = self.state.dials.remove(&id) {
            lock(&self.around.shared.dialer).led_to(&target, peer);
        }
        if self.around.shared.is_blocked(&peer) {
            self.swarm.close_connection(id);
            return;
        }
        let Some(admitted) = self.door.admitted(&peer) else {
            // The door forgot it in the meantime; the peer may dial again.
            self.swarm.close_connection(id);
            return;
        };
        for address in admitted.addresses {
            self.swarm.behaviour_mut().kad.add_address(&peer, address);
        }
        let since = self.clock.now();
        let instance = admitted.instance;
        let connection = Connection {
            peer,
            endpoint,
            since,
            instance,
            has_link: false,
        };
        self.state.connections.insert(id, connection);
        if self.around.shared.peer > peer {
            return;
        }
        // The choice between connections is ours alone, so both sides always agree on it.
        if let Some(serving) = self.state.chosen.get(&peer).copied()
            && let Some(old) = self.state.connections.get(&serving)
        {
            let mutual = since.saturating_sub(old.since) < MUTUAL_DIAL;
            if old.instance == instance && (mutual || admitted.linked) {
                tracing::debug!(%peer, "closing a second connection");
                self.swarm.close_connection(id);
                return;
            }
            self.end_connection(serving, DownReason::Replaced);
        }
        self.state.chosen.insert(peer, id);
        self.swarm.behaviour_mut().streams.open(peer, id);
    }

    fn on_lanes(
        &mut self,
        Opened {
            peer,
            connection: id,
            streams,
        }: Opened,
    ) {
        let Some(connection) = self.state.connections.get_mut(&id) else {
            return;
        };
        let streams = match streams {
            Ok(streams) => streams,
            Err(why) => {
                tracing::debug!(%peer, why, "the lanes could not be opened");
                self.end_connection(id, DownReason::Lost(why));
                return;
            }
        };
        let Some(admitted) = self.door.admitted(&peer) else {
            self.swarm.close_connection(id);
            return;
        };
        connection.has_link = true;
        let (link, queues) = Link::new(LinkParts {
            node: node_id(&peer),
            peer,
            certificate: admitted.certificate,
            addresses: admitted.addresses,
            connection: id,
            remote: connection.endpoint.get_remote_address().clone(),
            dialled: connection.endpoint.is_dialer(),
        });
        tracing::info!(node = %link.node, %peer, address = %link.remote, "link up");
        let old = write(&self.around.shared.links).insert(link.node, Arc::clone(&link));
        if let Some(old) = old {
            old.end(DownReason::Replaced);
        }
        lock(&self.around.shared.dialer).up(&peer, self.clock.now());
        let before = self.state.links.remove(&peer);
        let task = traffic::carry(link, streams, queues, self.around.clone(), before);
        self.state.links.insert(peer, tokio::spawn(task));
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, left: u32, cause: Option<String>) {
        self.state.connections.remove(&id);
        if self.state.chosen.get(&peer) == Some(&id) {
            self.state.chosen.remove(&peer);
        }
        if let Some(link) = self.around.shared.link(node_id(&peer))
            && link.connection == id
        {
            link.end(cause.map_or(DownReason::Closed, DownReason::Lost));
        }
        if left == 0 {
            let now = self.clock.now();
            lock(&self.around.shared.dialer).down(&peer, now, rand::random());
        }
    }

    /// Ends the link that a connection carries, or closes a connection without one.
    fn end_connection(&mut self, id: ConnectionId, reason: DownReason) {
        let connection = self.state.connections.get(&id);
        let link = connection.and_then(|c| self.around.shared.link(node_id(&c.peer)));
        match link {
            Some(link) if link.connection == id => link.end(reason),
            _ => {
                self.swarm.close_connection(id);
            }
        }
    }

    fn dial_who_is_due(&mut self) {
        let dials = lock(&self.around.shared.dialer).due(self.clock.now());
        for Dial {
            target,
            peer,
            addresses,
            ask,
        } in dials
        {
            if peer.is_some_and(|peer| self.around.shared.is_blocked(&peer)) {
                let now = self.clock.now();
                lock(&self.around.shared.dialer).failed(&target, false, now, rand::random());
                continue;
            }
            if let Some(peer) = peer.filter(|_| ask) {
                self.swarm.behaviour_mut().kad.get_closest_peers(peer);
            }
            let options = match (peer, addresses.first()) {
                (Some(peer), _) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(addresses)
                    .extend_addresses_through_behaviour()
                    .allocate_new_port()
                    .build(),
                (None, Some(address)) => DialOpts::unknown_peer_id()
                    .address(address.clone())
                    .allocate_new_port()
                    .build(),
                (None, None) => continue,
            };
            let id = options.connection_id();
            self.state.dials.insert(id, target);
            if let Err(error) = self.swarm.dial(options) {
                self.on_dial_failed(id, &error);
            }
        }
    }

    fn on_dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        let Some(target) = self.state.dials.remove(&id) else {
            return;
        };
        let now = self.clock.now();
        let dialer = || lock(&self.around.shared.dialer);
        let refused = match error {
            DialError::LocalPeerId { .. } => {
                dialer().is_self(&target);
                return;
            }
            // Kademlia or the peer itself was faster. `up` or `down` will follow.
            DialError::DialPeerConditionFalse(_) => {
                dialer().failed(&target, false, now, rand::random());
                return;
            }
            DialError::Transport(errors) => errors.iter().find_map(|(_, error)| refused(error)),
            _ => None,
        };
        let error = chain(error);
        let is_a_no = refused
            .as_ref()
            .is_some_and(|refused| refused.why.is_a_no());
        let failures = dialer().failed(&target, is_a_no, now, rand::random());
        match &target {
            // Who cannot join wants to know why, and not every second.
            Target::Bootstrap(address) if !is_a_no && failures.is_power_of_two() => {
                let what = "no node answers at a bootstrap address";
                tracing::warn!(%address, %error, failures, "{what}");
            }
            _ => tracing::debug!(?target, %error, failures, "a dial failed"),
        }
        if let Some(refused) = refused {
            self.tell_refused(refused);
        }
    }

    fn tell_refused(&self, Refused { peer, why }: Refused) {
        match why {
            // Told once already; and a line that broke is no refusal.
            Refusal::TooSoon(_) | Refusal::Unfinished(_) | Refusal::Blocked => {}
            why => {
                tracing::warn!(%peer, %why, "a peer was not admitted");
                self.around.inbox.offer(Event::Refused {
                    peer: Some(peer),
                    why,
                });
            }
        }
    }

    fn cut_unwanted(&mut self) {
        let unwanted = std::mem::take(&mut *lock(&self.around.shared.unwanted));
        for peer in unwanted {
            let of_peer = |(id, c): (&ConnectionId, &Connection)| (c.peer == peer).then_some(*id);
            let ids: Vec<_> = self.state.connections.iter().filter_map(of_peer).collect();
            for id in ids {
                self.end_connection(id, DownReason::Requested);
            }
        }
    }

    /// Parts the node from the peers that a test has blocked, as a cut line would: at once.
    fn cut_blocked(&mut self) {
        let shared = &self.around.shared;
        let connections = self.state.connections.iter();
        let blocked = connections.filter(|(_, c)| shared.is_blocked(&c.peer));
        let blocked: Vec<_> = blocked.map(|(id, c)| (*id, c.peer)).collect();
        for (id, peer) in blocked {
            tracing::warn!(%peer, "a peer is blocked by a test");
            self.end_connection(id, DownReason::Blocked);
            self.swarm.close_connection(id);
        }
    }

    pub(crate) fn on_listening(&self, address: Multiaddr) {
        let address = self.with_peer(address);
        {
            let mut addresses = write(&self.around.shared.addresses);
            if addresses.contains(&address) {
                return;
            }
            addresses.push(address.clone());
        }
        self.around.inbox.offer(Event::Listening { address });
    }

    fn with_peer(&self, address: Multiaddr) -> Multiaddr {
        address
            .with_p2p(self.around.shared.peer)
            .unwrap_or_else(|address| address)
    }

    fn on_found(&mut self, peers: Vec<kad::PeerInfo>) {
        let now = self.clock.now();
        let mut dialer = lock(&self.around.shared.dialer);
        for found in peers {
            dialer.learn(&found.peer_id, found.addrs, now);
        }
    }

    fn on_discovered(&mut self, seen: Vec<(PeerId, Multiaddr)>) {
        let mut peers = BTreeMap::<PeerId, Vec<Multiaddr>>::new();
        for (peer, address) in seen {
            peers.entry(peer).or_default().push(address);
        }
        for (peer, addresses) in peers {
            let up = self.around.shared.link(node_id(&peer)).is_some();
            let now = self.clock.now();
            lock(&self.around.shared.dialer).want(peer, addresses.clone(), up, now);
            self.around
                .inbox
                .offer(Event::Discovered { peer, addresses });
        }
    }

    fn publish(&mut self, Broadcast { topic, key, bytes }: Broadcast) {
        let data = gossip::encode(key, &bytes);
        match self
            .swarm
            .behaviour_mut()
            .gossip
            .publish(gossip::topic(topic), data)
        {
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => {}
            // Alone, or all others are busy: anti-entropy brings it to them later.
            Err(error) => tracing::debug!(topic, %error, "a broadcast reached nobody"),
        }
    }

    fn on_gossip(&mut self, from: PeerId, id: &gossipsub::MessageId, message: gossipsub::Message) {
        let contents = gossip::decode(message.data);
        let judged = gossip::topic_number(&message.topic).zip(contents.ok());
        let acceptance = match judged {
            Some(_) => gossipsub::MessageAcceptance::Accept,
            None => gossipsub::MessageAcceptance::Reject,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, &from, acceptance);
        if let Some((topic, bytes)) = judged {
            let from_link = self
                .around
                .shared
                .link(node_id(&from))
                .map(|link| link.node);
            if !self.around.inbox.offer_gossip(from_link, topic, bytes) {
                tracing::debug!(topic, "a broadcast was dropped: the program is busy");
            }
        }
    }

    fn on_tick(&mut self) {
        let now = self.clock.now();
        let unix = unix_now();
        for link in read(&self.around.shared.links).values() {
            if unix > link.certificate.not_after {
                link.end(DownReason::Expired);
            }
        }
        let slow = |(id, c): (&ConnectionId, &Connection)| {
            let late = now.saturating_sub(c.since) > LANES_TIMEOUT;
            (late && !c.has_link).then_some(*id)
        };
        let slow: Vec<_> = self.state.connections.iter().filter_map(slow).collect();
        for id in slow {
            self.swarm.close_connection(id);
        }
        self.state.links.retain(|_, task| !task.is_finished());
        let swarm = &self.swarm;
        self.door.forget_all_but(|peer| swarm.is_connected(peer));
    }

    async fn shut_down(mut self) {
        for link in read(&self.around.shared.links).values() {
            link.end(DownReason::Shutdown);
        }
        let mut tasks: Vec<_> = std::mem::take(&mut self.state.links)
            .into_values()
            .collect();
        let finished = async {
            for task in &mut tasks {
                drop(task.await);
            }
        };
        // The connections work only while the swarm is polled.
        let until = PARTING + CLOSING;
        tokio::select! {
            _ = timeout(until, finished) => {}
            () = async { loop { self.swarm.select_next_some().await; } } => {}
        }
        tasks.iter().for_each(JoinHandle::abort);
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error means that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        drop(timeout(CLOSING, closing).await);
    }
}

/// An error with its sources, which libp2p's texts leave out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

/// Finds our own word inside libp2p's wrappings.
fn refused(error: &TransportError<io::Error>) -> Option<Refused> {
    let TransportError::Other(error) = error else {
        return None;
    };
    let mut at: Option<&(dyn Error + 'static)> = error.get_ref().map(|error| error as _);
    while let Some(error) = at {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused.clone());
        }
        at = error.source();
    }
    None
}
