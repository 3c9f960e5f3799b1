//! Nodes as hosts of actors (rules A1 and A2): across leaders, cuts and time.

use std::time::Duration;

use cpe_membership::{Incarnation, NodeId};
use cpe_mesh::{Command, Message, Reply};

use crate::groups::grown;
use crate::{Net, SECOND};

const LEASE: Duration = Duration::from_secs(5);

impl Net {
    fn enlist(&mut self, n: u64) -> Option<Reply> {
        let deadline = 10 * SECOND;
        let asked = self.ask(n, Command::Enlist { deadline });
        self.pass(2 * SECOND);
        self.reply(asked).cloned()
    }

    fn acts(&self, n: u64) -> bool {
        let until = self.may_act.get(&NodeId(n)).map(|(_, until)| *until);
        until.is_some_and(|until| self.now < until)
    }

    /// The newest life of a node that a replica of another shows to be over.
    fn over(&self, n: u64, at: u64) -> Incarnation {
        let mut shards = self.peers[&NodeId(at)].shards();
        let record = shards.find_map(|shard| shard.sm().host(NodeId(n)));
        record.unwrap().newest_over()
    }
}

#[test]
fn a_host_holds_its_lease_and_loses_it_a_lease_after_its_death() {
    let mut net = grown();
    assert!(matches!(net.enlist(3), Some(Reply::Enlisted(life)) if life.inc == Incarnation(1)));
    for _ in 0..20 {
        net.pass(SECOND);
        assert!(net.acts(3), "at {:?}", net.now);
    }
    assert!(!net.acts(1), "nobody asked it to host anything");
    net.kill(3);
    net.pass(LEASE - SECOND);
    assert_eq!(net.over(3, 1), Incarnation(0));
    net.pass(3 * SECOND);
    assert_eq!(net.over(3, 1), Incarnation(1));
}

#[test]
fn a_host_that_hears_nobody_stops_before_its_life_is_over_and_comes_back_in_another() {
    let mut net = grown();
    net.enlist(2);
    net.wire = Some(Box::new(|from, to, bytes| {
        (from != 2 && to != 2).then_some(bytes)
    }));
    let cut = net.now;
    while net.acts(2) {
        net.pass(SECOND / 10);
        assert_eq!(net.over(2, 1), Incarnation(0));
    }
    assert!(net.now < cut + LEASE);
    net.pass(2 * LEASE);
    assert_eq!(net.over(2, 1), Incarnation(1));
    net.wire = None;
    net.pass(2 * SECOND);
    assert!(!net.acts(2), "it was told, and has to ask anew");
    assert!(matches!(net.enlist(2), Some(Reply::Enlisted(life)) if life.inc == Incarnation(2)));
    assert!(net.acts(2));
}

#[test]
fn the_life_of_a_host_that_says_good_bye_is_over_at_once() {
    let mut net = grown();
    net.enlist(3);
    net.ask(3, Command::Delist);
    assert!(!net.acts(3));
    net.pass(SECOND / 2);
    assert_eq!(net.over(3, 1), Incarnation(1));
}

#[test]
fn a_mesh_without_hosts_says_nothing_about_leases() {
    let mut net = grown();
    net.wire = Some(Box::new(|_, _, bytes| {
        let said = Message::decode(&bytes).unwrap();
        assert!(!matches!(
            said,
            Message::Renew { .. } | Message::Granted { .. }
        ));
        Some(bytes)
    }));
    net.pass(20 * SECOND);
}
