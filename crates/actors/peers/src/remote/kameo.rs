//! kameo's remote actors over libp2p, as its documentation sets them up: its behaviour in a swarm
//! with TCP, Noise and yamux, here without discovery, as the client is told the address.

use futures::StreamExt as _;
use kameo::actor::{ActorRef, RemoteActorRef, Spawn as _};
use kameo::message::{Context, Message};
use kameo::{Actor, RemoteActor, Reply, mailbox, remote, remote_message};
use kameo_libp2p::swarm::SwarmEvent;
use kameo_libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;

use super::{Case, Outcome, Timer, Way, end, many, ready};
use crate::MAILBOX;

/// Streams at once, in and out: more than are ever in flight.
const STREAMS_MAX: usize = 1_024;

/// Connections that are told of: the first is waited for.
const CONNECTIONS_MAX: usize = 16;

/// Times that the server is asked for its count, before none counts as arrived.
const TRIES: usize = 100;

#[derive(Actor, RemoteActor)]
struct Echo(u64);

/// What is sent, and comes back when it is asked.
#[derive(Serialize, Deserialize, Reply)]
struct Payload(ByteBuf);

/// Asks how many there were since the last time.
#[derive(Serialize, Deserialize)]
struct Count;

#[remote_message]
impl Message<Payload> for Echo {
    type Reply = Payload;

    async fn handle(&mut self, it: Payload, _: &mut Context<Self, Self::Reply>) -> Payload {
        self.0 += 1;
        it
    }
}

#[remote_message]
impl Message<Count> for Echo {
    type Reply = u64;

    async fn handle(&mut self, _: Count, _: &mut Context<Self, Self::Reply>) -> u64 {
        std::mem::take(&mut self.0)
    }
}

fn swarm() -> Swarm<remote::Behaviour> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("a transport")
        .with_behaviour(|keys| {
            let config = remote::messaging::Config::default();
            let config = config.with_max_concurrent_streams(STREAMS_MAX);
            remote::Behaviour::new(keys.public().to_peer_id(), config)
        })
        .expect("a behaviour")
        .build();
    swarm.behaviour().init_global();
    swarm
}

/// Runs a swarm; says where it listens and when it is connected.
fn run(mut swarm: Swarm<remote::Behaviour>, connected: mpsc::Sender<()>) {
    tokio::spawn(async move {
        let me = *swarm.local_peer_id();
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => ready(&format!("{address}/p2p/{me}")),
                SwarmEvent::ConnectionEstablished {
                    peer_id, endpoint, ..
                } => {
                    // What discovery does otherwise: its registry asks the peers it has addresses
                    // of.
                    swarm.add_peer_address(peer_id, endpoint.get_remote_address().clone());
                    // Nobody waiting is no harm.
                    let _ = connected.try_send(());
                }
                _ => {}
            }
        }
    });
}

pub(super) async fn serve() {
    let mut swarm = swarm();
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    swarm.listen_on(any).expect("a port");
    let echo: ActorRef<Echo> = Echo::spawn_with_mailbox(Echo(0), mailbox::bounded(MAILBOX));
    let (connected, mut client) = mpsc::channel(CONNECTIONS_MAX);
    run(swarm, connected);
    let registering = async {
        // Its registry is a hash table over all nodes: there has to be another one.
        client.recv().await;
        while let Err(error) = echo.register("echo").await {
            tracing::debug!(%error, "not registered yet");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(registering, end());
}

pub(super) async fn drive(address: &str, case: Case) -> Outcome {
    let mut swarm = swarm();
    let address: Multiaddr = address.parse().expect("an address");
    swarm.dial(address).expect("it dials");
    let (connected, mut server) = mpsc::channel(CONNECTIONS_MAX);
    run(swarm, connected);
    server.recv().await;
    let echo = loop {
        match RemoteActorRef::<Echo>::lookup("echo").await {
            Ok(Some(echo)) => break echo,
            _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    let message = || Payload(ByteBuf::from(vec![7; case.bytes]));
    let mut timer = Timer::start(case);
    let arrived = match case.way {
        Way::Ask => {
            let ask = || async {
                let answer = echo.ask(&message()).await;
                answer.is_ok_and(|it| it.0.len() == case.bytes)
            };
            let done = many(case, &mut timer, ask).await;
            count(&echo).await;
            done
        }
        Way::TellEach => {
            let send = || async { echo.tell(&message()).send_ack().await.is_ok() };
            many(case, &mut timer, send).await;
            count(&echo).await
        }
        Way::Tell => {
            for _ in 0..case.count {
                echo.tell(&message()).send().expect("the swarm runs");
            }
            arrived(&echo, case.count).await
        }
    };
    timer.stop(arrived)
}

/// How many came since the last time. Its connection may just have been lost: it is asked again
/// until there is another.
async fn count(echo: &RemoteActorRef<Echo>) -> u64 {
    for _ in 0..TRIES {
        match echo.ask(&Count).await {
            Ok(count) => return count,
            Err(error) => tracing::debug!(%error, "asked again"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    0
}

/// How many came, once no more do: some never do, and the question overtakes others.
async fn arrived(echo: &RemoteActorRef<Echo>, of: u64) -> u64 {
    let mut all = 0;
    let mut without = 0;
    while all < of && without < 10 {
        let more = echo.ask(&Count).await.unwrap_or_default();
        without = if more == 0 { without + 1 } else { 0 };
        all += more;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    all
}
