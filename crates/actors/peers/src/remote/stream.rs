//! A bare libp2p stream: TCP, Noise and yamux, without a swarm or a protocol.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt as _, SubstreamBox};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p::core::{Endpoint, Transport as _, upgrade};
use libp2p::{PeerId, identity, noise, tcp, yamux};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use super::{Case, Outcome, echo, end, over_bytes, ready};

type Transport = Boxed<(PeerId, StreamMuxerBox)>;

fn transport() -> Transport {
    let keys = identity::Keypair::generate_ed25519();
    let noise = noise::Config::new(&keys).expect("keys");
    tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .boxed()
}

/// One stream of a connection; nothing else comes over that.
async fn stream(mut muxer: StreamMuxerBox, opens: bool) -> Compat<SubstreamBox> {
    let stream = poll_fn(|cx| {
        loop {
            let stream = if opens {
                muxer.poll_outbound_unpin(cx)
            } else {
                muxer.poll_inbound_unpin(cx)
            };
            if let Poll::Ready(stream) = stream {
                return Poll::Ready(stream.expect("a stream"));
            }
            if step(&mut muxer, cx).is_pending() {
                return Poll::Pending;
            }
        }
    });
    let stream = stream.await;
    // The connection reads and writes only while it is looked after.
    tokio::spawn(poll_fn(move |cx| {
        loop {
            match step(&mut muxer, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }));
    stream.compat()
}

/// Whether the connection goes on.
fn step(muxer: &mut StreamMuxerBox, cx: &mut Context<'_>) -> Poll<bool> {
    muxer.poll_unpin(cx).map(|event| event.is_ok())
}

pub(super) async fn serve() {
    let mut transport = transport();
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    transport
        .listen_on(ListenerId::next(), any)
        .expect("a port");
    let serving = async {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
            match event {
                TransportEvent::NewAddress { listen_addr, .. } => ready(&listen_addr.to_string()),
                TransportEvent::Incoming { upgrade, .. } => {
                    let (_, muxer) = upgrade.await.expect("a client");
                    return echo(stream(muxer, false).await).await;
                }
                _ => {}
            }
        }
    };
    tokio::join!(serving, end());
}

pub(super) async fn drive(address: &str, case: Case) -> Outcome {
    let mut transport = transport();
    let options = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let address = address.parse().expect("an address");
    let dialled = transport.dial(address, options).expect("it dials").await;
    let (_, muxer) = dialled.expect("it listens");
    let mut stream = stream(muxer, true).await;
    over_bytes(&mut stream, case).await
}
