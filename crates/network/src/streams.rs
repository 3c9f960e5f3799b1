//! The libp2p protocol that opens a link's three substreams on one given connection.
//!
//! `libp2p-stream` would do it on any connection of a peer; with two at a time (both sides
//! dialled) the lanes must not be spread over them. The side with the lower peer id opens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::lane::Lane;

const OPEN_TIMEOUT: Duration = Duration::from_secs(8);

const fn protocol(lane: Lane) -> StreamProtocol {
    match lane {
        Lane::Control => StreamProtocol::new("/cpe/control/1"),
        Lane::Message => StreamProtocol::new("/cpe/message/1"),
        Lane::Bulk => StreamProtocol::new("/cpe/bulk/1"),
    }
}

/// The lanes of a connection are open, or will never be.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) streams: Result<[Stream; 3], String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Behaviour {
    own: PeerId,
    /// Drained at each poll; at most two entries for each connection.
    queue: VecDeque<ToSwarm<Opened, Open>>,
}

impl Behaviour {
    pub(crate) fn new(own: PeerId) -> Self {
        Self {
            own,
            queue: VecDeque::new(),
        }
    }

    /// Opens the lanes on this connection. The caller polls the swarm afterwards.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler,
            event: Open,
        });
    }

    fn handler(&self, peer: &PeerId) -> Handler {
        Handler {
            accepts: *peer < self.own,
            requests: VecDeque::new(),
            streams: [const { None }; 3],
            outcome: Outcome::Open,
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Opened;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        streams: THandlerOutEvent<Self>,
    ) {
        self.queue.push_back(ToSwarm::GenerateEvent(Opened {
            peer,
            connection,
            streams,
        }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.queue.pop_front() {
            Some(action) => Poll::Ready(action),
            None => Poll::Pending,
        }
    }
}

/// Tells a handler to open the lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open;

#[derive(Debug)]
enum Outcome {
    /// Some lanes are missing.
    Open,
    /// To be told.
    Failed(String),
    /// Told; later streams are dropped.
    Told,
}

/// The part that lives with a connection.
#[derive(Debug)]
pub(crate) struct Handler {
    /// Whether the other side opens the lanes.
    accepts: bool,
    requests: VecDeque<Lane>,
    streams: [Option<Stream>; 3],
    outcome: Outcome,
}

impl Handler {
    fn add(&mut self, lane: Lane, stream: Stream) {
        if !matches!(self.outcome, Outcome::Open) {
            return;
        }
        if let Some(slot) = self.streams.get_mut(lane.index())
            && slot.replace(stream).is_some()
        {
            self.outcome = Outcome::Failed(format!("the {} lane was opened twice", lane.name()));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Result<[Stream; 3], String>;
    type InboundProtocol = Lanes;
    type OutboundProtocol = Lanes;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Lanes> {
        let lanes = if self.accepts {
            Lane::ALL.to_vec()
        } else {
            Vec::new()
        };
        SubstreamProtocol::new(Lanes(lanes), ()).with_timeout(OPEN_TIMEOUT)
    }

    /// A member's connection is kept until the driver closes it.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Lanes, (), Self::ToBehaviour>> {
        if let Some(lane) = self.requests.pop_front() {
            let protocol = SubstreamProtocol::new(Lanes(vec![lane]), ()).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match std::mem::replace(&mut self.outcome, Outcome::Told) {
            Outcome::Told => Poll::Pending,
            Outcome::Failed(why) => {
                self.streams = [const { None }; 3];
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Err(why)))
            }
            Outcome::Open => match &mut self.streams {
                [control @ Some(_), message @ Some(_), bulk @ Some(_)] => {
                    match (control.take(), message.take(), bulk.take()) {
                        (Some(c), Some(m), Some(b)) => {
                            Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Ok([c, m, b])))
                        }
                        _ => Poll::Pending,
                    }
                }
                _ => {
                    self.outcome = Outcome::Open;
                    Poll::Pending
                }
            },
        }
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.requests.extend(Lane::ALL);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Lanes, Lanes>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                info: (),
            })
            | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (lane, stream),
                info: (),
            }) => self.add(lane, stream),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: () }) => {
                if matches!(self.outcome, Outcome::Open) {
                    self.outcome = Outcome::Failed(error.to_string());
                }
            }
            _ => {}
        }
    }
}

/// Negotiates one of these lanes.
#[derive(Clone, Debug)]
pub(crate) struct Lanes(Vec<Lane>);

/// A lane's protocol name.
#[derive(Clone, Debug)]
pub(crate) struct LaneProtocol(Lane, StreamProtocol);

impl AsRef<str> for LaneProtocol {
    fn as_ref(&self) -> &str {
        self.1.as_ref()
    }
}

impl UpgradeInfo for Lanes {
    type Info = LaneProtocol;
    type InfoIter = std::vec::IntoIter<LaneProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let named = |lane: &Lane| LaneProtocol(*lane, protocol(*lane));
        self.0.iter().map(named).collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<Stream> for Lanes {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, chosen: LaneProtocol) -> Self::Future {
        ready(Ok((chosen.0, stream)))
    }
}

impl OutboundUpgrade<Stream> for Lanes {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, chosen: LaneProtocol) -> Self::Future {
        ready(Ok((chosen.0, stream)))
    }
}
