//! Two nodes in one process: 100-byte messages over the message lane and back, as fast as the
//! link takes them. Prints messages per second. Run with `--release`.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cpe_network::{Event, Events, Identity, Lane, MeshKey, Network, NetworkConfig, start};
use tokio::time::Instant;

const MESSAGES: usize = 500_000;
const BYTES: usize = 100;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example prints its result")]
async fn main() -> Result<(), Box<dyn Error>> {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let mesh = MeshKey::generate();
        let (server, mut served) = node(&mesh, listen, None).await?;
        let (client, mut replies) = node(&mesh, listen, Some(&server)).await?;
        let (to, from) = (server.node_id(), client.node_id());
        up(&mut served).await;
        up(&mut replies).await;

        // The server answers each message with the same bytes.
        let echo = server.clone();
        let echoing = tokio::spawn(async move {
            while let Some(event) = served.recv().await {
                if let Event::Message { from, bytes, .. } = event
                    && echo.send(from, Lane::Message, bytes).await.is_err()
                {
                    break;
                }
            }
        });
        for round in 1..=3 {
            let sender = client.clone();
            let begin = Instant::now();
            let sending = tokio::spawn(async move {
                let message = Bytes::from(vec![7; BYTES]);
                for _ in 0..MESSAGES {
                    sender.send(to, Lane::Message, message.clone()).await?;
                }
                Ok::<_, cpe_network::SendError>(())
            });
            let mut received = 0;
            while received < MESSAGES {
                match replies.recv().await {
                    Some(Event::Message { .. }) => received += 1,
                    Some(Event::LinkDown { reason, .. }) => return Err(reason.into()),
                    Some(_) => {}
                    None => return Err("the network stopped".into()),
                }
            }
            sending.await??;
            let rate = MESSAGES as f64 / begin.elapsed().as_secs_f64();
            println!("{listen} round {round}: {rate:.0} echoes/s of {BYTES} B, pipelined");
        }
        // One at a time: the time of a round trip.
        let begin = Instant::now();
        let trips = 2000;
        for _ in 0..trips {
            client
                .send(to, Lane::Message, Bytes::from_static(&[7; BYTES]))
                .await?;
            while !matches!(replies.recv().await, Some(Event::Message { .. }) | None) {}
        }
        println!("{listen}: {:?} a round trip", begin.elapsed() / trips);
        assert_eq!(client.node_id(), from);
        client.shutdown().await;
        server.shutdown().await;
        echoing.abort();
    }
    Ok(())
}

async fn node(
    mesh: &MeshKey,
    listen: &str,
    bootstrap: Option<&Network>,
) -> Result<(Network, Events), Box<dyn Error>> {
    let identity = Identity::ephemeral();
    #[expect(clippy::disallowed_methods, reason = "a certificate needs a date")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let certificate = mesh.certify(identity.peer_id(), "echo", ["member"], now, now + 3600)?;
    let mut config = NetworkConfig::new(identity, certificate, mesh.public());
    config.listen = vec![listen.parse()?];
    config.bootstrap = bootstrap.map(Network::addresses).unwrap_or_default();
    config.redial_min = Duration::from_millis(50);
    Ok(start(config).await?)
}

async fn up(events: &mut Events) {
    while !matches!(events.recv().await, Some(Event::LinkUp { .. }) | None) {}
}
