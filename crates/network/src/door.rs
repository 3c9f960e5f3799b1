//! Admission: both ends of a fresh connection show their certificates before anything else.
//!
//! The talk takes place on the first substream, before the connection is handed to the swarm, so
//! that no protocol of ours or libp2p's ever runs with a stranger, on any transport. Both sides
//! say hello, look at the other's hello, and say `welcome` or why not. A connection exists when
//! both said welcome.
//!
//! ```text
//! hello:   u32 length | MAGIC | u64 instance | u8 linked | certificate | u8 count | addresses
//! verdict: u32 length | u8 0 = welcome, 1 = refused | reason
//! ```
//! Certificate, addresses and reason stand behind a `u16` length each; no certificate is length 0.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use cpe_membership::NodeId;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, StreamMuxerExt};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout};

use crate::certificate::{CERTIFICATE_MAX, Certificate, MeshPublicKey};
use crate::clock::unix_now;
use crate::config::ADDRESSES_MAX;
use crate::event::Refusal;
use crate::identity::node_id;
use crate::shared::{Shared, lock, read};
use crate::wire::{self, Reader, WireError};

const MAGIC: &[u8; 8] = b"cpe/hi/1";
/// Bytes of a hello, at most.
const HELLO_MAX: usize = 8 * 1024;
/// Bytes of an address in a hello.
const ADDRESS_MAX: usize = 256;
/// Bytes of the reason in a verdict.
const REASON_MAX: usize = 256;
/// Bytes of a verdict, at most.
const VERDICT_MAX: usize = REASON_MAX + 3;
const WELCOME: u8 = 0;
const REFUSED: u8 = 1;
/// The whole talk takes three flights; members on slow lines need a second.
const TALK_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the last words may take to arrive.
const PARTING_TIMEOUT: Duration = Duration::from_secs(1);
/// A refused peer's next connections are cut unheard for this long.
pub(crate) const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Refused peers remembered, at most. Beyond it the longest remembered are forgotten.
const REFUSED_MAX: usize = 1024;
/// Admitted peers remembered until their connection is seen, at most. The connection limits are
/// lower.
const ADMITTED_MAX: usize = 8192;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Random per process: tells a restarted peer from a second connection.
    pub(crate) instance: u64,
    /// Whether the speaker has a link to the listener already.
    pub(crate) linked: bool,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// An admitted peer.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) instance: u64,
    /// Whether both sides had a link already.
    pub(crate) linked: bool,
    pub(crate) addresses: Vec<Multiaddr>,
    since: Instant,
}

/// Who was refused and why. The transport carries it to the swarm's events inside [`Shut`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refused {
    pub(crate) peer: PeerId,
    pub(crate) why: Refusal,
}

/// The admission's error; [`Refused`] is its source, to be found through libp2p's wrappings.
#[derive(Debug, thiserror::Error)]
#[error("not admitted: {0}")]
pub(crate) struct Shut(#[source] Refused);

/// The door of this node.
#[derive(Debug)]
pub(crate) struct Door {
    shared: Arc<Shared>,
    mesh: MeshPublicKey,
    certificate: Option<Certificate>,
    instance: u64,
    admitted: Mutex<BTreeMap<PeerId, Admitted>>,
    refused: Mutex<BTreeMap<PeerId, Instant>>,
}

impl Door {
    pub(crate) fn new(
        shared: Arc<Shared>,
        mesh: MeshPublicKey,
        certificate: Option<Certificate>,
    ) -> Self {
        Self {
            shared,
            mesh,
            certificate,
            instance: rand::random(),
            admitted: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// What is known of an admitted peer.
    pub(crate) fn admitted(&self, peer: &PeerId) -> Option<Admitted> {
        lock(&self.admitted).get(peer).cloned()
    }

    /// Forgets admitted peers that are not connected any more.
    pub(crate) fn forget_all_but(&self, connected: impl Fn(&PeerId) -> bool) {
        let fresh = 2 * TALK_TIMEOUT;
        lock(&self.admitted).retain(|peer, who| who.since.elapsed() < fresh || connected(peer));
        lock(&self.refused).retain(|_, since| since.elapsed() < REFUSED_FOR);
    }

    /// Lets a connection in, or says why not. It drives the connection meanwhile.
    pub(crate) async fn admit(
        self: Arc<Self>,
        peer: PeerId,
        mut muxer: StreamMuxerBox,
        point: ConnectedPoint,
    ) -> Result<(PeerId, StreamMuxerBox), Shut> {
        match self.talk_over(peer, &mut muxer, &point).await {
            Ok(()) => Ok((peer, muxer)),
            Err(why) => Err(Shut(Refused { peer, why })),
        }
    }

    async fn talk_over(
        &self,
        peer: PeerId,
        muxer: &mut StreamMuxerBox,
        point: &ConnectedPoint,
    ) -> Result<(), Refusal> {
        if self.shared.is_blocked(&peer) {
            return Err(Refusal::Blocked);
        }
        self.check_patience(&peer)?;
        let unfinished = |error: &dyn std::fmt::Display| Refusal::Unfinished(error.to_string());
        let talk = async {
            let stream = poll_fn(|cx| {
                let stream = match point {
                    ConnectedPoint::Dialer { .. } => muxer.poll_outbound_unpin(cx),
                    ConnectedPoint::Listener { .. } => muxer.poll_inbound_unpin(cx),
                };
                if stream.is_pending() {
                    drive(muxer, cx)?;
                }
                stream
            });
            let stream = stream.await.map_err(|error| unfinished(&error))?;
            let mut talk = pin!(self.talk(peer, stream, point.is_dialer()));
            poll_fn(|cx| {
                if let Poll::Ready(result) = talk.as_mut().poll(cx) {
                    return Poll::Ready(result);
                }
                let Err(error) = drive(muxer, cx) else {
                    return Poll::Pending;
                };
                // The last words may have come with the end.
                match talk.as_mut().poll(cx) {
                    Poll::Pending => Poll::Ready(Err(unfinished(&error))),
                    ready => ready,
                }
            })
            .await
        };
        match timeout(TALK_TIMEOUT, talk).await {
            Ok(result) => result,
            Err(_) => Err(Refusal::Unfinished("it took too long".to_owned())),
        }
    }

    /// The talk itself, over a stream of bytes.
    pub(crate) async fn talk<S>(
        &self,
        peer: PeerId,
        mut stream: S,
        dialer: bool,
    ) -> Result<(), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let unfinished = |error: std::io::Error| Refusal::Unfinished(error.to_string());
        let own = self.hello(&peer);
        write_framed(&mut stream, &own.encode())
            .await
            .map_err(unfinished)?;
        let judged = match read_framed(&mut stream, HELLO_MAX).await {
            Ok(bytes) => Hello::decode(&bytes)
                .map_err(|error| Refusal::Garbage(error.to_string()))
                .and_then(|hello| self.judge(peer, hello, own.linked, unix_now())),
            Err(refusal) => Err(refusal),
        };
        let admitted = match judged {
            Ok(admitted) => admitted,
            Err(why) => {
                if why.is_a_no() {
                    self.remember_refused(peer);
                }
                // Whether it listens is its own affair.
                let farewell = async {
                    drop(write_framed(&mut stream, &encode_verdict(Some(&why))).await);
                    hang_up(&mut stream).await;
                };
                drop(timeout(PARTING_TIMEOUT, farewell).await);
                return Err(why);
            }
        };
        write_framed(&mut stream, &encode_verdict(None))
            .await
            .map_err(unfinished)?;
        let verdict = read_framed(&mut stream, VERDICT_MAX).await?;
        let result = decode_verdict(&verdict).and_then(|()| self.remember_admitted(peer, admitted));
        if result.is_ok() && dialer {
            // Nothing more to hear.
            drop(stream.close().await);
        } else {
            drop(timeout(PARTING_TIMEOUT, hang_up(&mut stream)).await);
        }
        result
    }

    fn hello(&self, to: &PeerId) -> Hello {
        Hello {
            instance: self.instance,
            linked: self.shared.link(node_id(to)).is_some(),
            certificate: self.certificate.clone(),
            addresses: read(&self.shared.addresses)
                .iter()
                .take(ADDRESSES_MAX)
                .cloned()
                .collect(),
        }
    }

    pub(crate) fn judge(
        &self,
        peer: PeerId,
        hello: Hello,
        own_linked: bool,
        now_unix: u64,
    ) -> Result<Admitted, Refusal> {
        let certificate = hello.certificate.ok_or(Refusal::NoCertificate)?;
        certificate.verify(&self.mesh, now_unix)?;
        if certificate.peer != peer {
            return Err(Refusal::WrongPeer);
        }
        let node = node_id(&peer);
        if node_id_taken(&self.shared, node, &peer) {
            return Err(Refusal::NodeIdTaken(node));
        }
        Ok(Admitted {
            certificate: Arc::new(certificate),
            instance: hello.instance,
            linked: hello.linked && own_linked,
            addresses: hello.addresses,
            since: Instant::now(),
        })
    }

    fn check_patience(&self, peer: &PeerId) -> Result<(), Refusal> {
        match lock(&self.refused).get(peer).map(Instant::elapsed) {
            Some(ago) if ago < REFUSED_FOR => Err(Refusal::TooSoon(REFUSED_FOR - ago)),
            _ => Ok(()),
        }
    }

    fn remember_refused(&self, peer: PeerId) {
        let mut refused = lock(&self.refused);
        if refused.len() >= REFUSED_MAX {
            let oldest = refused
                .iter()
                .min_by_key(|(_, since)| **since)
                .map(|(peer, _)| *peer);
            oldest.and_then(|peer| refused.remove(&peer));
        }
        refused.insert(peer, Instant::now());
    }

    fn remember_admitted(&self, peer: PeerId, who: Admitted) -> Result<(), Refusal> {
        let mut admitted = lock(&self.admitted);
        if admitted.len() >= ADMITTED_MAX && !admitted.contains_key(&peer) {
            return Err(Refusal::Unfinished("too many peers at the door".to_owned()));
        }
        admitted.insert(peer, who);
        Ok(())
    }
}

/// Whether a short id belongs to this node or to another linked peer.
fn node_id_taken(shared: &Shared, node: NodeId, peer: &PeerId) -> bool {
    let own = node == shared.node && *peer != shared.peer;
    own || shared.link(node).is_some_and(|link| link.peer != *peer)
}

/// Lets the connection's own work proceed: without it no byte of a substream moves.
fn drive(muxer: &mut StreamMuxerBox, cx: &mut Context<'_>) -> std::io::Result<()> {
    loop {
        match muxer.poll_unpin(cx) {
            Poll::Ready(Ok(StreamMuxerEvent::AddressChange(_))) => {}
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(()),
        }
    }
}

async fn write_framed<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    let mut out = BytesMut::with_capacity(4 + bytes.len());
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
    stream.write_all(&out).await?;
    stream.flush().await
}

async fn read_framed<S: AsyncRead + Unpin>(stream: &mut S, max: usize) -> Result<Vec<u8>, Refusal> {
    let unfinished = |error: std::io::Error| Refusal::Unfinished(error.to_string());
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(unfinished)?;
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > max {
        return Err(Refusal::Garbage(format!(
            "a frame of {length} bytes, at most {max} allowed"
        )));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(unfinished)?;
    Ok(bytes)
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::with_capacity(512);
        out.put_slice(MAGIC);
        out.put_u64(self.instance);
        out.put_u8(u8::from(self.linked));
        let certificate = self
            .certificate
            .as_ref()
            .map(Certificate::encode)
            .unwrap_or_default();
        wire::put_bytes(&mut out, &certificate);
        let fit = |address: &&Multiaddr| address.as_ref().len() <= ADDRESS_MAX;
        let addresses: Vec<_> = self
            .addresses
            .iter()
            .filter(fit)
            .take(ADDRESSES_MAX)
            .collect();
        out.put_u8(u8::try_from(addresses.len()).unwrap_or(0));
        for address in addresses {
            wire::put_bytes(&mut out, address.as_ref());
        }
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        if reader.array("greeting")? != *MAGIC {
            return Err(WireError::invalid(
                "greeting",
                "another protocol or version",
            ));
        }
        let instance = reader.u64("instance")?;
        let linked = match reader.u8("linked")? {
            0 => false,
            1 => true,
            other => return Err(WireError::invalid("linked", other)),
        };
        let certificate = match reader.bytes(CERTIFICATE_MAX, "certificate")? {
            [] => None,
            bytes => Some(Certificate::decode(bytes)?),
        };
        let count = usize::from(reader.u8("address count")?);
        if count > ADDRESSES_MAX {
            let what = "address count";
            return Err(WireError::TooLong {
                what,
                found: count,
                limit: ADDRESSES_MAX,
            });
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let bytes = reader.bytes(ADDRESS_MAX, "address")?.to_vec();
            let address = Multiaddr::try_from(bytes);
            addresses.push(address.map_err(|error| WireError::invalid("address", error))?);
        }
        reader.end("greeting")?;
        Ok(Self {
            instance,
            linked,
            certificate,
            addresses,
        })
    }
}

/// Closes this side and waits for the other to do the same, so that the last words are not lost
/// with the connection.
async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    if stream.close().await.is_ok() {
        while stream.read(&mut [0; 64]).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

fn encode_verdict(refused: Option<&Refusal>) -> Vec<u8> {
    let Some(refusal) = refused else {
        return vec![WELCOME, 0, 0];
    };
    let reason = refusal.to_string();
    let end = (0..=REASON_MAX.min(reason.len()))
        .rev()
        .find(|end| reason.is_char_boundary(*end));
    let mut out = BytesMut::new();
    out.put_u8(REFUSED);
    wire::put_bytes(&mut out, reason.as_bytes().split_at(end.unwrap_or(0)).0);
    out.into()
}

fn decode_verdict(bytes: &[u8]) -> Result<(), Refusal> {
    let garbage = |error: WireError| Refusal::Garbage(error.to_string());
    let mut reader = Reader::new(bytes);
    let verdict = reader.u8("verdict").map_err(garbage)?;
    let reason = reader.text(REASON_MAX, "reason").map_err(garbage)?;
    reader.end("verdict").map_err(garbage)?;
    match verdict {
        WELCOME => Ok(()),
        REFUSED => Err(Refusal::ByPeer(reason)),
        other => Err(garbage(WireError::invalid("verdict", other))),
    }
}
