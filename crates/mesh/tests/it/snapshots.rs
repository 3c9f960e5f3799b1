//! Snapshots on their way.

use cpe_mesh::{Genesis, Input, Message};
use cpe_space::{Config, ShardId, Version};

use cpe_membership::NodeId;

use crate::{Net, SECOND, member};

/// Every member of a home group whose epoch a node has not reached tells it so, again and again.
/// A snapshot from one of them used to begin anew each time another one did.
#[test]
fn a_snapshot_on_its_way_is_not_begun_anew_because_another_node_has_one_too() {
    let mut net = Net::of(0, true);
    net.start(3);
    for node in [1, 2].map(NodeId) {
        net.input(NodeId(3), Input::LinkUp(node));
    }
    let tell = |net: &mut Net, from: u64, message: Message| {
        let (from, bytes) = (NodeId(from), message.encode().unwrap());
        net.input(NodeId(3), Input::Message { from, bytes });
    };
    let shard = ShardId(0);
    let genesis = Genesis {
        mesh: "test".to_owned(),
        shards: 1,
        founder: member(1),
    };
    let hello = Message::Hello {
        genesis: Some(genesis),
        map: Vec::new(),
    };
    tell(&mut net, 1, hello);
    let version = Version {
        epoch: 1,
        index: 100,
        hash: 1,
    };
    let digest = Message::Digest {
        reply: false,
        versions: vec![(shard, version)],
    };
    tell(&mut net, 1, digest);
    let part = Message::SnapPart {
        shard,
        index: 100,
        total: 1_000,
        offset: 0,
        bytes: vec![0; 400],
    };
    tell(&mut net, 1, part);
    net.unheard.clear();
    let config = Config {
        epoch: 2,
        members: [1, 2, 3].map(member).into(),
    };
    for index in 101..110 {
        let epoch = Message::EpochStart {
            shard,
            config: config.clone(),
            index,
        };
        tell(&mut net, 2, epoch);
        net.pass(SECOND / 2);
    }
    let asked: Vec<(NodeId, Message)> = net
        .unheard
        .iter()
        .map(|(to, bytes)| (*to, Message::decode(bytes).unwrap()))
        .filter(|(_, message)| matches!(message, Message::SnapReq { .. } | Message::FeedReq { .. }))
        .collect();
    assert!(asked.len() > 2, "it goes on asking: {asked:?}");
    let next = Message::SnapReq {
        shard,
        index: 100,
        offset: 400,
    };
    for asked in asked {
        assert_eq!(asked, (NodeId(1), next.clone()));
    }
}
