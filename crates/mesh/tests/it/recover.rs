//! Shards whose majority is lost for ever go on at an operator's word, and say so for ever.

use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{Command, FORK_EPOCHS, Failure, Input, Recovered, Reply};
use cpe_space::{Name, shard_of};
use cpe_tuple::Value;

use crate::groups::{grown, leader_of, shards, value};
use crate::{Net, SECOND};

fn shard(variable: &str) -> u16 {
    shard_of(&Name::new("w").unwrap(), &Value::from(variable), 4).0
}

impl Net {
    fn recover(&mut self, n: u64, shard: Option<u16>) -> Reply {
        let deadline = 10 * SECOND;
        let asked = self.ask(n, Command::Recover { shard, deadline });
        self.pass(deadline);
        self.reply(asked).unwrap().clone()
    }

    /// Takes a node away for ever.
    fn lose(&mut self, n: u64) {
        self.kill(n);
        self.disks.remove(&NodeId(n));
    }

    fn take_soon(&mut self, n: u64, variable: &str) -> Option<i64> {
        let taken = self.take(n, variable, false);
        self.pass(SECOND);
        let reply = self.reply(taken);
        assert!(matches!(reply, Some(Reply::Tuple(_))), "{reply:?}");
        value(self, taken)
    }
}

fn recovered(reply: Reply) -> Vec<Recovered> {
    match reply {
        Reply::Recovered(all) => all,
        other => panic!("{other:?}"),
    }
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Failed(Failure::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_shard_whose_majority_is_lost_goes_on_with_its_survivor_and_grows_again() {
    let mut net = grown();
    net.out(2, "a", 1);
    net.out(2, "a", 2);
    net.pass(SECOND);
    let leader = leader_of(&mut net, "a");
    let survivor = (1..=3).find(|n| *n != leader).unwrap();
    for n in (1..=3).filter(|n| *n != survivor) {
        net.lose(n);
    }
    net.pass(SECOND);
    let done = recovered(net.recover(survivor, Some(shard("a"))));
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].survivor, NodeId(survivor));
    assert_eq!(done[0].refused, None);
    assert!(done[0].epoch > FORK_EPOCHS);
    assert_eq!(net.take_soon(survivor, "a"), Some(1));
    // The others of the shards it had are still without a majority.
    let rest = recovered(net.recover(survivor, None));
    assert_eq!(rest.len(), 3, "{rest:?}");
    for n in [4, 5] {
        net.start(n);
    }
    net.link_all();
    net.pass(Duration::from_secs(10));
    for n in [survivor, 4, 5] {
        let all = shards(&mut net, n).into_iter();
        for info in all.filter(|info| info.generation.is_none()) {
            assert_eq!(info.members.len(), 3, "{info:?}");
            assert!(info.forked && info.epoch > FORK_EPOCHS, "{info:?}");
        }
    }
    assert_eq!(net.take_soon(4, "a"), Some(2));
    net.kill(survivor);
    net.start(survivor);
    net.link_all();
    net.pass(2 * SECOND);
    let all = shards(&mut net, survivor).into_iter();
    let mut durable = all.filter(|info| info.generation.is_none());
    assert!(durable.all(|info| info.forked));
}

#[test]
fn a_shard_with_a_majority_is_left_alone() {
    let mut net = grown();
    net.out(2, "a", 1);
    net.pass(SECOND);
    let leader = leader_of(&mut net, "a");
    let why = refusal(net.recover(leader, Some(shard("a"))));
    assert!(why.contains("3 of the 3 members"), "{why}");
    net.lose(leader);
    let other = (1..=3).find(|n| *n != leader).unwrap();
    let why = refusal(net.recover(other, Some(shard("a"))));
    assert!(why.contains("2 of the 3 members"), "{why}");
    assert_eq!(recovered(net.recover(other, None)), []);
    let why = refusal(net.recover(other, Some(99)));
    assert!(why.contains("no shard 99"), "{why}");
    assert!(shards(&mut net, other).iter().all(|info| !info.forked));
}

#[test]
fn what_the_survivor_accepted_and_an_observer_knows_survives() {
    for asked_is_home in [true, false] {
        let mut net = grown();
        net.start(4);
        net.link_all();
        for n in 1..=20 {
            net.out(4, "a", n);
        }
        net.pass(SECOND);
        let members = (1..=3).filter(|n| *n != leader_of(&mut net, "a"));
        let survivor = members.last().unwrap();
        for n in (1..=3).filter(|n| *n != survivor) {
            net.lose(n);
        }
        net.pass(SECOND);
        let asked = if asked_is_home { survivor } else { 4 };
        let done = recovered(net.recover(asked, Some(shard("a"))));
        assert_eq!(
            done[0].survivor,
            NodeId(survivor),
            "a member goes before others"
        );
        for n in 1..=20 {
            assert_eq!(net.take_soon(4, "a"), Some(n));
        }
        assert_eq!(net.take_soon(4, "a"), None);
    }
}

#[test]
fn an_observer_goes_on_when_no_member_is_left() {
    let mut net = Net::of(2, true);
    net.out(1, "a", 7);
    net.pass(SECOND);
    net.lose(1);
    let done = recovered(net.recover(2, Some(shard("a"))));
    assert_eq!(done[0].survivor, NodeId(2));
    assert_eq!(net.take_soon(2, "a"), Some(7));
    let stored = net.out(2, "a", 8);
    net.pass(SECOND);
    assert!(matches!(net.reply(stored), Some(Reply::Stored { .. })));
}

#[test]
fn members_that_come_back_after_all_follow_the_fork() {
    let mut net = grown();
    net.out(2, "a", 1);
    net.pass(SECOND);
    let leader = leader_of(&mut net, "a");
    let survivor = (1..=3).find(|n| *n != leader).unwrap();
    net.kill(survivor);
    // Decided without the survivor: more than it will ever have.
    for n in 2..=40 {
        net.out(leader, "a", n);
    }
    net.pass(SECOND);
    for n in (1..=3).filter(|n| *n != survivor) {
        net.kill(n);
    }
    net.start(survivor);
    net.pass(SECOND);
    recovered(net.recover(survivor, None));
    let stored = net.out(survivor, "a", 100);
    net.pass(SECOND);
    assert!(matches!(net.reply(stored), Some(Reply::Stored { .. })));
    for n in 1..=3 {
        if n != survivor {
            net.start(n);
        }
    }
    net.link_all();
    net.pass(Duration::from_secs(20));
    let all: Vec<_> = (1..=3).map(|n| shards(&mut net, n)).collect();
    for infos in &all {
        let info = infos.iter().find(|info| info.shard == shard("a")).unwrap();
        assert!(info.forked, "{info:?}");
    }
    let applied = |n: usize| all[n].iter().map(|info| info.applied).collect::<Vec<_>>();
    assert_eq!(applied(0), applied(1));
    assert_eq!(applied(0), applied(2));
    assert_eq!(net.take_soon(leader, "a"), Some(1));
    assert_eq!(net.take_soon(leader, "a"), Some(100));
    assert_eq!(net.take_soon(leader, "a"), None);
    let again = net.out(leader, "a", 200);
    net.pass(5 * SECOND);
    let reply = net.reply(again);
    assert!(matches!(reply, Some(Reply::Stored { .. })), "{reply:?}");
    assert_eq!(net.take_soon(survivor, "a"), Some(200));
}

#[test]
fn a_survivor_that_hears_from_a_majority_does_not_go_on_alone() {
    use cpe_mesh::Message;
    let mut net = grown();
    net.out(2, "a", 1);
    net.pass(SECOND);
    let fork = Message::Fork {
        query: 1,
        shard: cpe_space::ShardId(shard("a")),
        epoch: 2 * FORK_EPOCHS,
        index: 1,
        hash: 1,
    };
    let bytes = fork.encode().unwrap();
    for to in [1, 2, 3] {
        let (from, bytes) = (NodeId(to % 3 + 1), bytes.clone());
        net.input(NodeId(to), Input::Message { from, bytes });
    }
    net.pass(SECOND);
    assert!(shards(&mut net, 1).iter().all(|info| !info.forked));
    assert_eq!(net.take_soon(3, "a"), Some(1));
}

/// A replica that has what the lost members decided, and hears by gossip alone of a fork of another
/// history, does not go on with that: it starts over.
#[test]
fn a_fork_of_another_history_is_not_applied_although_its_index_fits() {
    use cpe_mesh::{FeedPart, Message};
    use cpe_space::{Config, Entry, ShardId, Version};
    let mut net = grown();
    net.start(4);
    net.link_all();
    net.out(2, "a", 1);
    net.pass(2 * SECOND);
    let infos = shards(&mut net, 4);
    let info = infos.iter().find(|info| info.shard == shard("a")).unwrap();
    let (epoch, index) = (2 * FORK_EPOCHS, info.applied);
    let config = Config {
        epoch,
        members: info.members.clone(),
    };
    let after = 11;
    let fork = Entry::new(&cpe_space::Command::Fork { config, after }).unwrap();
    let part = FeedPart {
        shard: ShardId(shard("a")),
        from: index,
        entries: vec![fork],
        version: Version {
            epoch,
            index: index + 1,
            hash: 12,
        },
    };
    let bytes = Message::Feeds(vec![part]).encode().unwrap();
    net.input(NodeId(4), Input::Gossip(bytes));
    assert_eq!(net.peers[&NodeId(4)].counter("overruled"), 1);
    // Nobody else knows of a fork: it comes back with what they have.
    net.pass(5 * SECOND);
    let infos = shards(&mut net, 4);
    let info = infos.iter().find(|info| info.shard == shard("a")).unwrap();
    assert_eq!((info.forked, info.applied), (false, index));
    assert_eq!(net.take_soon(4, "a"), Some(1));
}
