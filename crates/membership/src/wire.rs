//! Bytes between members: SWIM packets and node cards.
//!
//! ```text
//! frame    kind:u8 body
//! 1 swim   src:id src_inc:u16 dst:id message:u8 [target:id] [probe:u8] [count:u16 member*count]
//! 2 digest count:u8 (node:u64 inc:u32 version:u64)*count
//! 3 want   count:u8 node:u64*count
//! 4 card   node:u64 inc:u32 version:u64 started:u64 load:u32 text*3 list pairs pairs
//! id       node:u64 inc:u32 bump:u32            member  id inc:u16 state:u8
//! text     bytes:u16 utf-8                      list, pairs  count:u8 then text, text text
//! ```
//!
//! All numbers are big-endian. A frame that is too short, too long or out of bounds is refused as a
//! whole; nothing is allocated on the word of a count.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use foca::{Header, Message, State};

use crate::card::{CARD_BYTES_MAX, CARD_ENTRIES_MAX, CARD_TEXT_BYTES_MAX};
use crate::identity::SwimId;
use crate::{Incarnation, NodeCard, NodeId};

/// Bytes of the largest frame: a card and its kind.
pub const FRAME_BYTES_MAX: usize = CARD_BYTES_MAX + 1;

/// Bytes of a SWIM packet: one datagram of an ordinary network (1,400) less the kind.
pub(crate) const SWIM_BYTES_MAX: usize = 1_399;

/// Entries of a digest or a request: 64 * 20 bytes and the kind stay within 1,400 bytes.
pub(crate) const DIGEST_ENTRIES_MAX: usize = 64;

const ID_BYTES: usize = 16;
const MEMBER_BYTES: usize = ID_BYTES + 3;

const SWIM: u8 = 1;
const DIGEST: u8 = 2;
const WANT: u8 = 3;
const CARD: u8 = 4;

/// The version of a card somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) node: NodeId,
    pub(crate) inc: Incarnation,
    pub(crate) version: u64,
}

/// A frame as read.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame<'a> {
    Swim(&'a [u8]),
    Digest(Vec<Offer>),
    Want(Vec<NodeId>),
    Card(Box<NodeCard>),
}

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a membership packet ends early")]
    Short,
    #[error("a membership packet has bytes after its end")]
    Trailing,
    #[error("a membership packet holds a value out of bounds")]
    Bounds,
    #[error("no room left in a membership packet")]
    Full,
}

impl From<bytes::TryGetError> for WireError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

pub(crate) fn swim_frame(packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(packet.len() + 1);
    out.push(SWIM);
    out.extend_from_slice(packet);
    out
}

/// A digest; the caller gives at most [`DIGEST_ENTRIES_MAX`] offers, the rest is left out.
pub(crate) fn digest_frame(offers: &[Offer]) -> Vec<u8> {
    let count = offers.len().min(DIGEST_ENTRIES_MAX);
    let mut out = vec![DIGEST, count as u8];
    for offer in offers.iter().take(count) {
        out.put_u64(offer.node.0);
        out.put_u32(offer.inc.0);
        out.put_u64(offer.version);
    }
    out
}

/// A request; at most [`DIGEST_ENTRIES_MAX`] nodes, the rest is left out.
pub(crate) fn want_frame(nodes: &[NodeId]) -> Vec<u8> {
    let count = nodes.len().min(DIGEST_ENTRIES_MAX);
    let mut out = vec![WANT, count as u8];
    for node in nodes.iter().take(count) {
        out.put_u64(node.0);
    }
    out
}

/// A card that has passed [`NodeCard::check`].
pub(crate) fn card_frame(card: &NodeCard) -> Vec<u8> {
    let mut out = Vec::with_capacity(card_bytes(card) + 1);
    out.push(CARD);
    out.put_u64(card.node.0);
    out.put_u32(card.inc.0);
    out.put_u64(card.version);
    out.put_u64(card.started_unix_ms);
    out.put_u32(card.load_milli);
    for text in [&card.name, &card.peer_id, &card.software] {
        put_text(&mut out, text);
    }
    out.put_u8(card.addresses.len() as u8);
    for text in &card.addresses {
        put_text(&mut out, text);
    }
    for pairs in [&card.capabilities, &card.services] {
        out.put_u8(pairs.len() as u8);
        for (key, value) in pairs {
            put_text(&mut out, key);
            put_text(&mut out, value);
        }
    }
    out
}

/// Length of an encoded card, without its kind.
pub(crate) fn card_bytes(card: &NodeCard) -> usize {
    let fixed = 8 + 4 + 8 + 8 + 4 + 3;
    let single = [&card.name, &card.peer_id, &card.software];
    let texts = single.into_iter().chain(&card.addresses);
    let pairs = card.capabilities.iter().chain(&card.services);
    fixed
        + texts.map(|text| 2 + text.len()).sum::<usize>()
        + pairs
            .map(|(key, value)| 4 + key.len() + value.len())
            .sum::<usize>()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

pub(crate) fn read_frame(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(WireError::Bounds);
    }
    let (kind, mut body) = bytes.split_first().ok_or(WireError::Short)?;
    let frame = match *kind {
        SWIM => return Ok(Frame::Swim(body)),
        DIGEST => {
            let mut offers = Vec::new();
            for _ in 0..get_count(&mut body, DIGEST_ENTRIES_MAX)? {
                let node = NodeId(body.try_get_u64()?);
                let inc = Incarnation(body.try_get_u32()?);
                offers.push(Offer {
                    node,
                    inc,
                    version: body.try_get_u64()?,
                });
            }
            Frame::Digest(offers)
        }
        WANT => {
            let mut nodes = Vec::new();
            for _ in 0..get_count(&mut body, DIGEST_ENTRIES_MAX)? {
                nodes.push(NodeId(body.try_get_u64()?));
            }
            Frame::Want(nodes)
        }
        CARD => Frame::Card(Box::new(get_card(&mut body)?)),
        _ => return Err(WireError::Bounds),
    };
    if body.is_empty() {
        Ok(frame)
    } else {
        Err(WireError::Trailing)
    }
}

fn get_card(body: &mut &[u8]) -> Result<NodeCard, WireError> {
    let node = NodeId(body.try_get_u64()?);
    let inc = Incarnation(body.try_get_u32()?);
    let version = body.try_get_u64()?;
    let started_unix_ms = body.try_get_u64()?;
    let load_milli = body.try_get_u32()?;
    let name = get_text(body)?;
    let peer_id = get_text(body)?;
    let software = get_text(body)?;
    let mut addresses = Vec::new();
    for _ in 0..get_count(body, CARD_ENTRIES_MAX)? {
        addresses.push(get_text(body)?);
    }
    let capabilities = get_pairs(body)?;
    let services = get_pairs(body)?;
    Ok(NodeCard {
        node,
        inc,
        version,
        name,
        peer_id,
        addresses,
        capabilities,
        services,
        software,
        started_unix_ms,
        load_milli,
    })
}

fn get_pairs(body: &mut &[u8]) -> Result<BTreeMap<String, String>, WireError> {
    let mut pairs = BTreeMap::new();
    for _ in 0..get_count(body, CARD_ENTRIES_MAX)? {
        let key = get_text(body)?;
        if pairs.insert(key, get_text(body)?).is_some() {
            return Err(WireError::Bounds);
        }
    }
    Ok(pairs)
}

fn get_count(body: &mut &[u8], max: usize) -> Result<usize, WireError> {
    let count = usize::from(body.try_get_u8()?);
    if count > max {
        Err(WireError::Bounds)
    } else {
        Ok(count)
    }
}

fn get_text(body: &mut &[u8]) -> Result<String, WireError> {
    let bytes = usize::from(body.try_get_u16()?);
    if bytes > CARD_TEXT_BYTES_MAX {
        return Err(WireError::Bounds);
    }
    let (text, rest) = body.split_at_checked(bytes).ok_or(WireError::Short)?;
    *body = rest;
    std::str::from_utf8(text)
        .map(str::to_owned)
        .map_err(|_| WireError::Bounds)
}

/// What a SWIM packet says, read before foca acts on it.
#[derive(Debug, PartialEq)]
pub(crate) struct SwimPacket {
    pub(crate) header: Header<SwimId>,
    pub(crate) updates: Vec<foca::Member<SwimId>>,
}

/// Reads a whole SWIM packet, so that foca never sees a malformed one.
pub(crate) fn read_swim(mut body: &[u8]) -> Result<SwimPacket, WireError> {
    if body.len() > SWIM_BYTES_MAX {
        return Err(WireError::Bounds);
    }
    let header = get_header(&mut body)?;
    let mut updates = Vec::new();
    match header.message {
        Message::Announce | Message::TurnUndead => {}
        Message::Broadcast => return Err(WireError::Bounds),
        _ => {
            for _ in 0..body.try_get_u16()? {
                updates.push(get_member(&mut body)?);
            }
        }
    }
    if body.is_empty() {
        Ok(SwimPacket { header, updates })
    } else {
        Err(WireError::Trailing)
    }
}

/// News of one member as a packet of its own.
pub(crate) fn gossip_packet(
    src: SwimId,
    src_incarnation: u16,
    dst: SwimId,
    news: &foca::Member<SwimId>,
) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    let header = Header {
        src,
        src_incarnation,
        dst,
        message: Message::Gossip,
    };
    put_header(&header, &mut (&mut out).limit(SWIM_BYTES_MAX))?;
    out.put_u16(1);
    put_member(news, &mut out)?;
    Ok(out)
}

/// foca's view of this format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwimCodec;

impl foca::Codec<SwimId> for SwimCodec {
    type Error = WireError;

    fn encode_header(
        &mut self,
        header: &Header<SwimId>,
        mut buf: impl BufMut,
    ) -> Result<(), WireError> {
        put_header(header, &mut buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<SwimId>, WireError> {
        get_header(&mut buf)
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<SwimId>,
        mut buf: impl BufMut,
    ) -> Result<(), WireError> {
        put_member(member, &mut buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<foca::Member<SwimId>, WireError> {
        get_member(&mut buf)
    }
}

fn put_header(header: &Header<SwimId>, buf: &mut impl BufMut) -> Result<(), WireError> {
    // The longest: source, its incarnation, destination, message, target and probe number.
    if buf.remaining_mut() < 3 * ID_BYTES + 4 {
        return Err(WireError::Full);
    }
    put_id(header.src, buf);
    buf.put_u16(header.src_incarnation);
    put_id(header.dst, buf);
    match &header.message {
        Message::Ping(probe) => put_probe(0, None, *probe, buf),
        Message::Ack(probe) => put_probe(1, None, *probe, buf),
        Message::PingReq {
            target,
            probe_number,
        } => {
            put_probe(2, Some(*target), *probe_number, buf);
        }
        Message::IndirectPing {
            origin,
            probe_number,
        } => {
            put_probe(3, Some(*origin), *probe_number, buf);
        }
        Message::IndirectAck {
            target,
            probe_number,
        } => {
            put_probe(4, Some(*target), *probe_number, buf);
        }
        Message::ForwardedAck {
            origin,
            probe_number,
        } => {
            put_probe(5, Some(*origin), *probe_number, buf);
        }
        Message::Announce => buf.put_u8(6),
        Message::Feed => buf.put_u8(7),
        Message::Gossip => buf.put_u8(8),
        Message::TurnUndead => buf.put_u8(9),
        Message::Broadcast => return Err(WireError::Bounds),
    }
    Ok(())
}

fn put_probe(kind: u8, other: Option<SwimId>, probe: u8, buf: &mut impl BufMut) {
    buf.put_u8(kind);
    if let Some(id) = other {
        put_id(id, buf);
    }
    buf.put_u8(probe);
}

fn get_header(buf: &mut impl Buf) -> Result<Header<SwimId>, WireError> {
    let src = get_id(buf)?;
    let src_incarnation = buf.try_get_u16()?;
    let dst = get_id(buf)?;
    let message = match buf.try_get_u8()? {
        0 => Message::Ping(buf.try_get_u8()?),
        1 => Message::Ack(buf.try_get_u8()?),
        2 => Message::PingReq {
            target: get_id(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        3 => Message::IndirectPing {
            origin: get_id(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        4 => Message::IndirectAck {
            target: get_id(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        5 => Message::ForwardedAck {
            origin: get_id(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::TurnUndead,
        _ => return Err(WireError::Bounds),
    };
    Ok(Header {
        src,
        src_incarnation,
        dst,
        message,
    })
}

fn put_member(member: &foca::Member<SwimId>, buf: &mut impl BufMut) -> Result<(), WireError> {
    if buf.remaining_mut() < MEMBER_BYTES {
        return Err(WireError::Full);
    }
    put_id(*member.id(), buf);
    buf.put_u16(member.incarnation());
    buf.put_u8(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
    Ok(())
}

fn get_member(buf: &mut impl Buf) -> Result<foca::Member<SwimId>, WireError> {
    let id = get_id(buf)?;
    let incarnation = buf.try_get_u16()?;
    let state = match buf.try_get_u8()? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(WireError::Bounds),
    };
    Ok(foca::Member::new(id, incarnation, state))
}

fn put_id(id: SwimId, buf: &mut impl BufMut) {
    buf.put_u64(id.node.0);
    buf.put_u32(id.inc.0);
    buf.put_u32(id.bump);
}

fn get_id(buf: &mut impl Buf) -> Result<SwimId, WireError> {
    let node = NodeId(buf.try_get_u64()?);
    let inc = Incarnation(buf.try_get_u32()?);
    Ok(SwimId {
        node,
        inc,
        bump: buf.try_get_u32()?,
    })
}
