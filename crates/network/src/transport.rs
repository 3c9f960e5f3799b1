//! The transport: TCP with Noise and Yamux, QUIC beside it, names resolved, the door in front.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OptionalTransport, Transport};
use libp2p::core::upgrade::Version;
use libp2p::futures::future::Either;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, dns, noise, quic, tcp, yamux};

use crate::config::NetworkConfig;
use crate::door::Door;
use crate::error::StartError;

/// Substreams of one connection: three lanes and a few of libp2p's own protocols.
const SUBSTREAMS_MAX: usize = 128;

pub(crate) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// All that is below the door, for numeric addresses.
pub(crate) fn secured(config: &NetworkConfig) -> Result<Connections, StartError> {
    let keypair = config.identity.keypair();
    let setup = |what, why: &dyn ToString| StartError::Setup {
        what,
        why: why.to_string(),
    };
    let noise = noise::Config::new(keypair).map_err(|error| setup("noise", &error))?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(SUBSTREAMS_MAX);
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = if config.quic {
        let quic = quic::tokio::Transport::new(quic::Config::new(keypair));
        OptionalTransport::some(quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))))
    } else {
        OptionalTransport::none()
    };
    let both = quic.or_transport(tcp).map(|either, _| match either {
        Either::Left(connection) | Either::Right(connection) => connection,
    });
    // Neither protocol limits all of this itself. Without a limit, a few silent strangers would
    // occupy every place for connections in the making, and a mute host be waited for for ever.
    Ok(TransportTimeout::new(both, config.handshake_within).boxed())
}

/// Adds the resolution of `/dns` addresses, when this machine has a resolver.
pub(crate) fn named(config: &NetworkConfig) -> Result<Connections, StartError> {
    match dns::tokio::Transport::system(secured(config)?) {
        Ok(named) => Ok(named.boxed()),
        // Numeric addresses still work. The first transport went with the resolver.
        Err(error) => {
            tracing::warn!(%error, "no name resolution: /dns addresses cannot be dialled");
            secured(config)
        }
    }
}

/// Puts the door in front: a connection that comes out is with an admitted peer.
pub(crate) fn admitted(connections: Connections, door: Arc<Door>) -> Connections {
    connections
        .and_then(move |(peer, muxer), point| Arc::clone(&door).admit(peer, muxer, point))
        .boxed()
}

/// Fails when another process listens on the port. libp2p would share it (`SO_REUSEPORT`), and
/// half of the connections would go to the other process.
pub(crate) fn check_port_is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => {
            TcpListener::bind(SocketAddr::new(ip, port)).map(drop)
        }
        _ => Ok(()),
    }
}
