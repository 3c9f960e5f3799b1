//! What those who are gone leave behind is bounded.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use cpe_membership::{Incarnation, NodeId};
use cpe_mesh::{Ack, Command, Failure, Input, Message, Reply};
use cpe_space::MAX_UNACKNOWLEDGED_BYTES;
use cpe_tuple::{Tuple, Value};

use crate::facts::tuple;
use crate::{Net, SECOND};

/// Design, 1.3 (c): what shards remember of a node's lives does not grow with their number, and
/// still no store of theirs is admitted twice.
#[test]
fn the_counts_of_a_life_are_forgotten_some_time_after_the_next_one_came() {
    let mut net = crate::groups::grown();
    let stores = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&stores);
    net.wire = Some(Box::new(move |_, to, bytes| {
        if let Ok(Message::Store { .. }) = Message::decode(&bytes) {
            seen.borrow_mut().push((to, bytes.clone()));
        }
        Some(bytes)
    }));
    let variables = ["a", "b", "c", "d", "e", "f"];
    for variable in variables {
        net.out(3, variable, 1);
    }
    net.pass(SECOND);
    net.wire = None;
    net.kill(3);
    net.disks.remove(&NodeId(3));
    net.shelves.remove(&NodeId(3));
    net.start_with(3, |config| config.card.inc = Incarnation(2));
    net.link_all();
    net.pass(SECOND);
    for variable in variables {
        net.out(3, variable, 2);
    }
    let lives = |net: &Net| -> BTreeSet<u32> {
        let shards = net.peers.values().flat_map(cpe_mesh::Peer::shards);
        let origins = shards.flat_map(|shard| shard.sm().origins());
        let of_node = origins.filter(|life| life.node == NodeId(3));
        of_node.map(|life| life.inc.0).collect()
    };
    net.pass(Duration::from_secs(500));
    assert_eq!(lives(&net), [1, 2].into());
    net.pass(Duration::from_secs(200));
    assert_eq!(lives(&net), [2].into());
    // Copies that were long on their way.
    assert!(!stores.borrow().is_empty());
    for (_, bytes) in stores.borrow().iter() {
        for to in 1..=2 {
            let (from, bytes) = (NodeId(3), bytes.clone());
            net.input(NodeId(to), Input::Message { from, bytes });
        }
    }
    for variable in variables {
        let found: Vec<Option<i64>> = (0..3)
            .map(|_| {
                let taken = net.take(3, variable, false);
                net.pass(SECOND);
                tuple(&net, taken)
            })
            .collect();
        assert_eq!(found, [Some(1), Some(2), None]);
    }
}

/// Bytes of what `out_large` stores.
const LARGE: usize = 60 * 60_000;

/// Values that are too small, each, to be kept apart from their tuple.
fn out_large(net: &mut Net, n: u64, variable: &str) {
    let texts = (0..60).map(|_| Value::from("x".repeat(60_000)));
    let out = Command::Out {
        workspace: "w".to_owned(),
        tuple: Tuple::new(vec![Value::from(variable), Value::List(texts.collect())]).unwrap(),
        ack: Ack::Home,
        deadline: SECOND,
    };
    let stored = net.ask(n, out);
    net.pass(Duration::from_millis(100));
    assert!(matches!(net.reply(stored), Some(Reply::Stored { .. })));
}

/// Nodes died with so many tuples in their hands that no others can be taken beside them. After
/// some time they are given up, and the variable is as any other.
#[test]
fn a_variable_gives_again_some_time_after_a_taker_died_with_all_that_may_be_unacknowledged() {
    let mut net = crate::groups::grown();
    let most = MAX_UNACKNOWLEDGED_BYTES / 4 / LARGE + 1;
    for taker in 4..=7 {
        net.start(taker);
        net.link_all();
        net.pass(SECOND);
        for _ in 0..most {
            out_large(&mut net, 1, "v");
            let taken = net.take(taker, "v", false);
            net.pass(Duration::from_millis(100));
            assert!(matches!(net.reply(taken), Some(Reply::Tuple(Some(_)))));
        }
        // It has received nothing yet, and never will.
        net.kill(taker);
    }
    net.out(1, "v", 1_000);
    net.out(1, "v", 1_001);
    net.pass(Duration::from_secs(300));
    let refused = net.take(1, "v", false);
    net.pass(10 * SECOND);
    let failed = net.reply(refused);
    assert!(
        matches!(failed, Some(Reply::Failed(Failure::TimedOut(_)))),
        "{failed:?}"
    );
    net.pass(Duration::from_secs(500));
    let given = net.take(1, "v", false);
    net.pass(SECOND);
    assert_eq!(tuple(&net, given), Some(1_000));
    let given_up: u64 = net
        .peers
        .values()
        .map(|peer| peer.counter("outcomes_given_up"))
        .sum();
    assert_eq!(given_up, 4);
}
