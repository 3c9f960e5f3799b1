//! Broadcasts: small news for every member that may be lost, repeated or reordered.
//!
//! A broadcast carries a key in front of its contents, and the key within its topic is the gossip
//! message's id: the same news from two nodes is passed on once. What the key says is the
//! program's affair (`docs/decisions/004-the-id-of-a-gossiped-frame.md` tells what a node takes).
//! Nothing is signed here, since all neighbours are admitted members and verifying each copy would
//! cost more than everything else.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, Message, MessageAuthenticity, MessageId, TopicHash,
    ValidationMode,
};

use crate::wire::{Reader, WireError};

/// Topics. Every node listens to all of them; libp2p refuses subscriptions above 100.
pub const TOPICS: u16 = 32;
/// Bytes of one broadcast's contents, at most.
pub const GOSSIP_MAX: usize = 48 * 1024;
/// Bytes of one gossip packet. libp2p-gossipsub 0.50.1 measures its whole read buffer against
/// this, up to 8 KiB more than one packet, and cuts the stream beyond: hence the slack.
const PACKET_MAX: usize = GOSSIP_MAX + 32 * 1024;
/// For how long a repetition is recognised.
const DUPLICATES_FOR: Duration = Duration::from_secs(120);
const KEY_BYTES: usize = 16;

/// What makes a broadcast the same as another one of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    /// What the news is about, as the program numbers it. A node takes the number of the topic,
    /// which stands for all shards of that topic: a frame carries the feeds of several.
    pub shard: u64,
    /// Tells this news from all other of the same `shard`: a counter, or a hash of the contents,
    /// as a node takes it.
    pub index: u64,
}

pub(crate) fn topic(number: u16) -> IdentTopic {
    IdentTopic::new(format!("cpe/1/{number}"))
}

/// The number of a topic of ours.
pub(crate) fn topic_number(hash: &TopicHash) -> Option<u16> {
    hash.as_str()
        .strip_prefix("cpe/1/")?
        .parse()
        .ok()
        .filter(|number| *number < TOPICS)
}

pub(crate) fn encode(key: MessageKey, contents: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(KEY_BYTES + contents.len());
    out.put_u64(key.shard);
    out.put_u64(key.index);
    out.put_slice(contents);
    out.into()
}

/// The contents of a broadcast, without its key.
pub(crate) fn decode(data: Vec<u8>) -> Result<Bytes, WireError> {
    Reader::new(&data).take(KEY_BYTES, "broadcast key")?;
    let mut contents = Bytes::from(data);
    let contents = contents.split_off(KEY_BYTES);
    if contents.len() > GOSSIP_MAX {
        let found = contents.len();
        return Err(WireError::TooLong {
            what: "broadcast",
            found,
            limit: GOSSIP_MAX,
        });
    }
    Ok(contents)
}

fn message_id(message: &Message) -> MessageId {
    let topic = message.topic.as_str().as_bytes();
    match message.data.get(..KEY_BYTES) {
        Some(key) => MessageId::new(&[key, topic].concat()),
        // Refused when it is looked at; until then any id will do that others cannot foresee.
        None => MessageId::new(blake3::hash(&message.data).as_bytes()),
    }
}

pub(crate) fn behaviour() -> Result<Behaviour, String> {
    let config = ConfigBuilder::default()
        .max_transmit_size(PACKET_MAX)
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .flood_publish(false)
        .duplicate_cache_time(DUPLICATES_FOR)
        // Small meshes are the rule: start early, and repair a thin overlay soon.
        .heartbeat_initial_delay(Duration::from_millis(200))
        .heartbeat_interval(Duration::from_millis(700))
        .build()
        .map_err(|error| error.to_string())?;
    let mut gossip = Behaviour::new(MessageAuthenticity::Anonymous, config)?;
    for number in 0..TOPICS {
        gossip
            .subscribe(&topic(number))
            .map_err(|error| error.to_string())?;
    }
    Ok(gossip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_survive_and_short_or_large_ones_are_refused() {
        let key = MessageKey {
            shard: 1,
            index: u64::MAX,
        };
        assert_eq!(
            decode(encode(key, b"news")),
            Ok(Bytes::from_static(b"news"))
        );
        assert_eq!(decode(encode(key, b"")), Ok(Bytes::new()));
        assert!(decode(vec![0; KEY_BYTES - 1]).is_err());
        assert!(decode(encode(key, &vec![0; GOSSIP_MAX + 1])).is_err());
    }

    #[test]
    fn topics_have_numbers_below_the_limit() {
        for number in 0..TOPICS {
            assert_eq!(topic_number(&topic(number).hash()), Some(number));
        }
        for name in ["cpe/1/32", "cpe/1/-1", "cpe/1/", "other"] {
            assert_eq!(topic_number(&TopicHash::from_raw(name)), None);
        }
    }

    #[test]
    fn the_id_is_the_key_within_a_topic() {
        let message = |number: u16, key, contents: &[u8]| {
            let topic = topic(number).hash();
            let data = encode(key, contents);
            message_id(&Message {
                source: None,
                data,
                sequence_number: None,
                topic,
            })
        };
        let key = MessageKey { shard: 1, index: 2 };
        assert_eq!(message(0, key, b"a"), message(0, key, b"b"));
        assert_ne!(message(0, key, b"a"), message(1, key, b"a"));
        assert_ne!(
            message(0, key, b"a"),
            message(0, MessageKey { index: 3, ..key }, b"a")
        );
    }
}
