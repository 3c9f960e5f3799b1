//! Who is let in, and who is not.

use std::task::Poll;
use std::time::Duration;

use cpe_network::{Certificate, CertificateError, Identity, MeshKey, Network, Refusal};
use futures::future::poll_fn;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, noise, tcp, yamux};

use crate::common::{Node, PATIENCE, config, config_of, unix_now};

/// Somebody who speaks to the door with bytes of our choice.
struct Stranger {
    keypair: Keypair,
}

impl Stranger {
    fn new() -> Self {
        Self {
            keypair: Keypair::generate_ed25519(),
        }
    }

    /// Dials, sends `bytes` on a first substream, and returns what is answered until the other
    /// side closes.
    async fn say(&self, to: &Network, bytes: &[u8]) -> Vec<u8> {
        let address: Multiaddr = to.addresses()[0].iter().take(2).collect();
        let noise = noise::Config::new(&self.keypair).unwrap();
        let mut transport = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1)
            .authenticate(noise)
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed();
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let (_, mut muxer) = transport.dial(address, opts).unwrap().await.unwrap();
        let stream = poll_fn(|cx| {
            if let Poll::Ready(stream) = muxer.poll_outbound_unpin(cx) {
                return Poll::Ready(stream);
            }
            let _ = muxer.poll_unpin(cx);
            Poll::Pending
        });
        // Whoever is cut unheard may see that at any step.
        let Ok(mut stream) = stream.await else {
            return Vec::new();
        };
        let talk = async {
            let mut answer = Vec::new();
            if stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() {
                let _ = stream.read_to_end(&mut answer).await;
            }
            answer
        };
        let mut talk = std::pin::pin!(talk);
        let driven = poll_fn(|cx| {
            let _ = muxer.poll_unpin(cx);
            talk.as_mut().poll(cx)
        });
        tokio::time::timeout(PATIENCE, driven)
            .await
            .expect("the door answers or hangs up")
    }
}

/// A hello as the door expects it.
fn hello(certificate: Option<&Certificate>) -> Vec<u8> {
    let certificate = certificate.map(Certificate::encode).unwrap_or_default();
    let mut body = b"cpe/hi/1".to_vec();
    body.extend([0; 9]);
    body.extend((certificate.len() as u16).to_be_bytes());
    body.extend(certificate);
    body.push(0);
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// The reason at the end of an answer: hello and verdict, each behind its length.
fn reason(answer: &[u8]) -> String {
    let length = u32::from_be_bytes(answer[..4].try_into().unwrap()) as usize;
    let verdict = &answer[4 + length + 4..];
    assert_eq!(verdict[0], 1, "the verdict is a refusal");
    String::from_utf8(verdict[3..].to_vec()).unwrap()
}

/// Lets `config` meet a node of `mesh` and tells why each refused.
async fn meet(mesh: &MeshKey, mut config: cpe_network::NetworkConfig) -> (Refusal, Refusal) {
    let mut member = Node::start(self::config(mesh)).await;
    config.bootstrap = vec![member.address()];
    let mut stranger = Node::start(config).await;
    let why = (member.refused().await, stranger.refused().await);
    assert!(member.network.links().is_empty());
    assert!(stranger.network.links().is_empty());
    why
}

#[tokio::test]
async fn a_node_of_another_mesh_is_refused_and_both_sides_are_told() {
    let mesh = MeshKey::generate();
    let (member, stranger) = meet(&mesh, config(&MeshKey::generate())).await;
    let wrong = Refusal::Certificate(CertificateError::WrongMesh);
    assert_eq!(member, wrong);
    // Each refuses the other, so the stranger tells its own reason.
    assert_eq!(stranger, wrong);
}

#[tokio::test]
async fn a_node_without_a_certificate_is_refused() {
    let mut member = Node::start(config(&MeshKey::generate())).await;
    let stranger = Stranger::new();
    let answer = stranger.say(&member.network, &hello(None)).await;
    assert!(
        reason(&answer).contains("no certificate"),
        "{}",
        reason(&answer)
    );
    assert_eq!(member.refused().await, Refusal::NoCertificate);
    // Whoever was refused is cut unheard for a while.
    let again = tokio::spawn({
        let network = member.network.clone();
        async move { stranger.say(&network, &hello(None)).await }
    });
    assert_eq!(again.await.unwrap(), b"");
}

#[tokio::test]
async fn certificates_that_do_not_hold_are_refused() {
    let mesh = MeshKey::generate();
    let mut member = Node::start(config(&mesh)).await;
    let now = unix_now();
    type Forge = Box<dyn Fn(&mut Certificate)>;
    let certify = |peer, from, to| mesh.certify(peer, "x", ["member"], from, to).unwrap();
    let cases: [(u64, u64, Forge, Refusal); 4] = [
        (
            0,
            now - 100,
            Box::new(|_| {}),
            CertificateError::Expired.into(),
        ),
        (
            now + 4000,
            now + 8000,
            Box::new(|_| {}),
            CertificateError::NotYetValid.into(),
        ),
        (
            0,
            now + 100,
            Box::new(|c| c.roles = vec!["admin".to_owned()]),
            CertificateError::BadSignature.into(),
        ),
        (
            0,
            now + 100,
            Box::new(move |c| c.not_after += 1_000_000),
            CertificateError::BadSignature.into(),
        ),
    ];
    for (from, to, forge, expected) in cases {
        let stranger = Stranger::new();
        let mut certificate = certify(stranger.keypair.public().to_peer_id(), from, to);
        forge(&mut certificate);
        let answer = stranger
            .say(&member.network, &hello(Some(&certificate)))
            .await;
        assert_eq!(reason(&answer), expected.to_string());
        assert_eq!(member.refused().await, expected);
    }
    let thief = Stranger::new();
    let stolen = certify(Identity::ephemeral().peer_id(), 0, now + 100);
    let answer = thief.say(&member.network, &hello(Some(&stolen))).await;
    assert_eq!(reason(&answer), Refusal::WrongPeer.to_string());
    assert_eq!(member.refused().await, Refusal::WrongPeer);
}

#[tokio::test]
async fn garbage_at_the_door_is_refused_and_the_node_lives_on() {
    let mesh = MeshKey::generate();
    let mut member = Node::start(config(&mesh)).await;
    let certificate = |peer| {
        mesh.certify(peer, "x", ["member"], 0, unix_now() + 100)
            .unwrap()
    };
    let multistream = b"\x13/multistream/1.0.0\n".to_vec();
    let mut bad_text = certificate(Identity::ephemeral().peer_id()).encode();
    bad_text[3] = 0xff;
    let mut with_bad_text = b"cpe/hi/1".to_vec();
    with_bad_text.extend([0; 9]);
    with_bad_text.extend((bad_text.len() as u16).to_be_bytes());
    with_bad_text.extend(&bad_text);
    with_bad_text.push(0);
    let cases = [
        ("another protocol", multistream),
        ("an enormous length", vec![0xff; 16]),
        ("another greeting", framed(&[7; 40])),
        ("a cut greeting", framed(b"cpe/hi/1")),
        (
            "bytes after the end",
            framed(&[&hello(None)[4..], b"more"].concat()),
        ),
        ("a name that is not text", framed(&with_bad_text)),
        ("too many addresses", {
            let mut body = hello(None)[4..].to_vec();
            *body.last_mut().unwrap() = 200;
            framed(&body)
        }),
    ];
    for (case, bytes) in cases {
        Stranger::new().say(&member.network, &bytes).await;
        let why = member.refused().await;
        assert!(matches!(why, Refusal::Garbage(_)), "{case}: {why:?}");
    }
    let mut good = config(&mesh);
    good.bootstrap = vec![member.address()];
    let good = Node::start(good).await;
    assert_eq!(member.up().await, good.id());
}

#[tokio::test]
async fn a_stranger_that_says_nothing_does_not_keep_others_out() {
    let mesh = MeshKey::generate();
    let mut member = config(&mesh);
    member.handshake_within = Duration::from_millis(500);
    let mut member = Node::start(member).await;
    let silent = tokio::spawn({
        let network = member.network.clone();
        async move { Stranger::new().say(&network, b"").await }
    });
    let mut raw = Vec::new();
    // More than there are places for connections in the making.
    for _ in 0..100 {
        let address = member.address().to_string();
        let port: u16 = address.split('/').nth(4).unwrap().parse().unwrap();
        raw.push(
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .unwrap(),
        );
    }
    let mut good = config(&mesh);
    good.bootstrap = vec![member.address()];
    let good = Node::start(good).await;
    assert_eq!(member.up().await, good.id());
    silent.abort();
}

#[tokio::test]
async fn a_mute_host_is_given_up_and_dialled_again() {
    use tokio::io::AsyncReadExt as _;

    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    let mut config = config(&MeshKey::generate());
    config.handshake_within = Duration::from_millis(100);
    config.bootstrap = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
    let _node = Node::start(config).await;
    // It takes the connection and says nothing. The node hangs up, and tries once more.
    let again = async {
        let (mut first, _) = mute.accept().await.unwrap();
        let mut heard = Vec::new();
        first.read_to_end(&mut heard).await.ok();
        assert!(!heard.is_empty(), "it began a handshake");
        mute.accept().await.unwrap();
    };
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("the node gives up in time");
}

#[tokio::test]
async fn a_certificate_that_runs_out_ends_the_link() {
    let mesh = MeshKey::generate();
    let mut member = Node::start(config(&mesh)).await;
    let identity = Identity::ephemeral();
    let mut brief = config_of(&mesh, identity.clone());
    brief.certificate = mesh
        .certify(identity.peer_id(), "brief", ["member"], 0, unix_now() + 2)
        .unwrap();
    brief.bootstrap = vec![member.address()];
    let mut brief = Node::start(brief).await;
    member.up().await;
    brief.up().await;
    assert_eq!(member.down().await, cpe_network::DownReason::Expired);
    // It dials again, and is told in words what the other side has against it.
    let expired = Refusal::Certificate(CertificateError::Expired);
    assert_eq!(member.refused().await, expired);
    let why = brief.refused().await;
    assert!(
        matches!(&why, Refusal::ByPeer(text) if text.contains("expired")),
        "{why:?}"
    );
}
