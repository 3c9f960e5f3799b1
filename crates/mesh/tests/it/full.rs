//! What a shard holds, and what of its history stays in memory, is bounded by bytes.

use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{Ack, Command, PeerConfig, Reply, RequestId};
use cpe_space::{Name, Shard, shard_of};
use cpe_tuple::{Tuple, Value};

use crate::{Net, SECOND};

fn net(set: impl Fn(&mut PeerConfig)) -> Net {
    let mut net = Net::of(0, true);
    for n in 1..=3 {
        net.start_with(n, &set);
    }
    net.link_all();
    net.pass(Duration::from_secs(6));
    net
}

fn out(net: &mut Net, bytes: usize) -> RequestId {
    let fields = vec![Value::from("v"), Value::from("x".repeat(bytes))];
    let out = Command::Out {
        workspace: "w".to_owned(),
        tuple: Tuple::new(fields).unwrap(),
        ack: Ack::Home,
        deadline: SECOND,
    };
    let asked = net.ask(2, out);
    net.pass(Duration::from_millis(50));
    asked
}

/// Takes one and says that it has it.
fn took(net: &mut Net) -> bool {
    let asked = net.take(3, "v", false);
    net.pass(Duration::from_millis(50));
    let took = matches!(net.reply(asked), Some(Reply::Tuple(Some(_))));
    net.input(NodeId(3), cpe_mesh::Input::Received(asked));
    took
}

fn replicas(net: &Net) -> impl Iterator<Item = &Shard> {
    let shard = shard_of(&Name::new("w").unwrap(), &Value::from("v"), 4);
    let peers = net.peers.values();
    peers.flat_map(move |peer| peer.shards().filter(move |it| it.id() == shard))
}

#[test]
fn a_full_shard_leaves_stores_pending_until_tuples_are_taken() {
    const EACH: usize = 1_000;
    const MOST: usize = 40 * EACH;
    let mut net = net(|config| config.shard_bytes_max = MOST);
    let stores: Vec<RequestId> = (0..60).map(|_| out(&mut net, EACH)).collect();
    net.pass(2 * SECOND);
    let of = |net: &Net, wanted: fn(&Reply) -> bool| {
        let replies = stores.iter().filter_map(|asked| net.reply(*asked));
        replies.filter(|reply| wanted(reply)).count()
    };
    let stored = of(&net, |reply| matches!(reply, Reply::Stored { .. }));
    assert!((30..=40).contains(&stored), "{stored}");
    assert_eq!(
        of(&net, |reply| matches!(reply, Reply::Pending)),
        60 - stored
    );
    for shard in replicas(&net) {
        assert_eq!(shard.sm().len(), stored);
    }
    // All of them can be had, those that had to wait too, and each once.
    for n in 0..60 {
        assert!(took(&mut net), "{n}");
        net.pass(SECOND);
    }
    assert!(!took(&mut net), "nothing is there twice");
}

#[test]
fn entries_in_memory_are_bounded_by_bytes_whatever_their_number() {
    const MOST: usize = 100_000;
    let mut net = net(|config| {
        config.log_entries_max = 4_096;
        config.log_bytes_max = MOST;
    });
    for _ in 0..60 {
        out(&mut net, 20_000);
        assert!(took(&mut net));
    }
    for shard in replicas(&net) {
        assert!(shard.log_bytes() <= MOST, "{}", shard.log_bytes());
        assert!(shard.version().index > 120, "{:?}", shard.version());
    }
}
