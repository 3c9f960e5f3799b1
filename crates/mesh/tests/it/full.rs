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
    out_at(net, 2, bytes)
}

fn out_at(net: &mut Net, n: u64, bytes: usize) -> RequestId {
    let fields = vec![Value::from("v"), Value::from("x".repeat(bytes))];
    let out = Command::Out {
        workspace: "w".to_owned(),
        tuple: Tuple::new(fields).unwrap(),
        ack: Ack::Home,
        deadline: SECOND,
    };
    let asked = net.ask(n, out);
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

/// The home of a group of one decides by writing, without an outbox; a store that it has no room
/// for must not be in memory alone once it was said to be on its way.
#[test]
fn what_a_node_alone_has_no_room_for_survives_its_crash() {
    const EACH: usize = 1_000;
    let set = |config: &mut PeerConfig| config.shard_bytes_max = 10 * EACH;
    let mut net = Net::of(0, true);
    net.start_with(1, set);
    net.pass(SECOND);
    let mut pending = 0;
    for _ in 0..20 {
        let asked = out_at(&mut net, 1, EACH);
        net.pass(2 * SECOND);
        pending += usize::from(matches!(net.reply(asked), Some(Reply::Pending)));
    }
    assert!(pending > 5, "{pending}");
    net.kill(1);
    net.start_with(1, set);
    net.pass(SECOND);
    for n in 0..20 {
        let asked = net.take(1, "v", false);
        net.pass(SECOND);
        let reply = net.reply(asked);
        assert!(
            matches!(reply, Some(Reply::Tuple(Some(_)))),
            "{n}: {reply:?}"
        );
        net.input(NodeId(1), cpe_mesh::Input::Received(asked));
        net.pass(SECOND);
    }
}

#[test]
fn stores_that_no_home_admits_are_refused_when_they_take_too_much_room() {
    const EACH: usize = 1_000;
    let mut net = net(|config| config.outbox_bytes_max = 20 * EACH);
    let refused = |net: &Net, asked| match net.reply(asked) {
        Some(Reply::Failed(cpe_mesh::Failure::Busy(why))) => why.contains("stores wait"),
        _ => false,
    };
    net.kill(1);
    net.kill(3);
    let stores: Vec<RequestId> = (0..30).map(|_| out(&mut net, EACH)).collect();
    let some = stores.iter().filter(|asked| refused(&net, **asked)).count();
    assert!((10..20).contains(&some), "{some}");
    for n in [1, 3] {
        net.start(n);
    }
    net.link_all();
    net.pass(20 * SECOND);
    let asked = out(&mut net, EACH);
    net.pass(SECOND);
    let reply = net.reply(asked);
    assert!(matches!(reply, Some(Reply::Stored { .. })), "{reply:?}");
}
