//! What a peer does with bytes and numbers that make no sense.

use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{Input, Part, Want};

use crate::facts::tuple;
use crate::{Net, SECOND, pair};

#[test]
fn garbage_from_a_peer_changes_nothing() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    for bytes in [vec![], vec![0xff; 40], vec![0x9f; 200], b"hello".to_vec()] {
        net.input(
            NodeId(1),
            Input::Message {
                from: NodeId(2),
                bytes: bytes.clone(),
            },
        );
        net.input(NodeId(1), Input::Gossip(bytes));
    }
    let taken = net.take(2, "v", false);
    assert_eq!(tuple(&net, taken), Some(1));
    net.pass(Duration::from_millis(10));
}

#[test]
fn messages_with_numbers_at_the_edge_change_nothing() {
    use cpe_mesh::{FeedPart, Message};
    use cpe_space::{Config, Entry, Item, Name, ShardId, Version};

    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    net.pass(SECOND);
    let shards = (0..5).map(ShardId);
    let item = Item {
        workspace: Name::new("w").unwrap(),
        tuple: pair("v", 9),
    };
    let entry = Entry::new(&cpe_space::Command::Noop).unwrap();
    for shard in shards {
        for edge in [0, u64::MAX - 1, u64::MAX] {
            let origin = crate::member(2);
            let version = Version {
                epoch: edge,
                index: edge,
                hash: 3,
            };
            let (items, entries) = (vec![item.clone(); 3], vec![entry.clone(); 3]);
            let part = FeedPart {
                shard,
                from: edge,
                entries: entries.clone(),
                version,
            };
            let config = Config {
                epoch: edge,
                members: vec![],
            };
            let messages = [
                Message::Store {
                    shard,
                    origin,
                    first: edge,
                    items: items.clone(),
                },
                Message::Pending {
                    shard,
                    origin: crate::member(7),
                    first: edge,
                    items,
                },
                Message::Feed {
                    shard,
                    from: edge,
                    entries,
                    version,
                },
                Message::Feeds(vec![part]),
                Message::FeedReq { shard, from: edge },
                Message::Digest {
                    reply: false,
                    versions: vec![(shard, version)],
                },
                Message::Trimmed { shard, index: edge },
                Message::StateReq {
                    shard,
                    index: edge,
                    after: edge,
                    want: Want::Begin,
                },
                Message::State {
                    shard,
                    index: edge,
                    parts: garbage_parts(edge),
                },
                Message::EpochStart {
                    shard,
                    config: config.clone(),
                    index: edge,
                },
                Message::WrongHome { shard, config },
                Message::Admitted {
                    shard,
                    origin,
                    upto: edge,
                    index: edge,
                },
            ];
            for message in messages {
                let bytes = message.encode().unwrap();
                for (to, from) in [(1, 2), (2, 1)] {
                    let input = Input::Message {
                        from: NodeId(from),
                        bytes: bytes.clone(),
                    };
                    net.input(NodeId(to), input);
                    net.input(NodeId(to), Input::Gossip(bytes.clone()));
                }
            }
        }
    }
    net.pass(3 * SECOND);
    let taken = net.take(2, "v", false);
    assert!(tuple(&net, taken).is_some(), "{:?}", net.reply(taken));
}

/// Parts of no state.
fn garbage_parts(edge: u64) -> Vec<Part> {
    vec![
        Part::Head {
            digest: edge,
            live: edge,
            packed: edge,
            raw: edge,
        },
        Part::Outline {
            offset: edge,
            bytes: vec![1],
        },
        Part::Symbols {
            from: u32::try_from(edge).unwrap_or(u32::MAX),
            bytes: vec![1; 40],
        },
        Part::Page {
            after: edge,
            upto: edge,
            tuples: Vec::new(),
            end: true,
        },
        Part::Bodies(Vec::new()),
    ]
}
