//! Volatile workspaces: nothing on disk, nothing lost with a minority, nothing taken twice when the
//! rest is.

use cpe_mesh::{Failure, Genesis, ShardInfo};
use cpe_space::{Name, first_of};

use super::*;

const SCRATCH: &str = "tmp:scratch";

fn genesis() -> Genesis {
    Genesis {
        mesh: "test".to_owned(),
        shards: 4,
        volatile: 2,
        founder: member(1),
        group_size: Genesis::GROUP_SIZE,
    }
}

/// The volatile shard of a variable of the scratch workspace.
fn shard(variable: &str) -> u16 {
    let workspace = Name::new(SCRATCH).unwrap();
    genesis().shard_of(&workspace, &Value::from(variable)).0
}

impl Net {
    fn scratch(&mut self, n: u64, value: i64, ack: Ack) -> RequestId {
        let out = Command::Out {
            workspace: SCRATCH.to_owned(),
            tuple: pair("v", value),
            ack,
            deadline: SECOND,
        };
        self.ask(n, out)
    }

    fn fetch(&mut self, n: u64, wait: bool, deadline: Duration) -> RequestId {
        let take = Command::Take {
            workspace: SCRATCH.to_owned(),
            template: Template::named("v").unwrap(),
            wait,
            deadline,
        };
        self.ask(n, take)
    }

    fn info(&mut self, n: u64) -> ShardInfo {
        let request = self.ask(n, Command::Shards);
        match self.reply(request) {
            Some(Reply::Shards(all)) => {
                let mut all = all.iter();
                all.find(|info| info.shard == shard("v")).unwrap().clone()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a group of three starts that are there serves the scratch workspace.
    fn whole(&mut self) {
        for _ in 0..40 {
            self.pass(SECOND);
            let info = self.info(1);
            let there = self.peers.keys().all(|node| {
                let mut members = info.members.iter();
                members.any(|member| member.node == *node)
            });
            let stored = self.scratch(1, 0, Ack::Home);
            let taken = self.fetch(1, true, SECOND);
            self.pass(SECOND);
            let stored = matches!(self.reply(stored), Some(Reply::Stored { .. }));
            let taken = matches!(self.reply(taken), Some(Reply::Tuple(Some(_))));
            if there && info.members.len() == 3 && stored && taken {
                return;
            }
        }
        panic!("no group of three serves: {:?}", self.info(1));
    }

    fn restart(&mut self, n: u64) {
        self.kill(n);
        self.start(n);
        for other in self.peers.keys().copied().collect::<Vec<_>>() {
            if other != NodeId(n) {
                self.input(other, Input::LinkUp(NodeId(n)));
                self.input(NodeId(n), Input::LinkUp(other));
            }
        }
    }
}

#[test]
fn a_volatile_store_is_acknowledged_without_a_write() {
    let mut net = Net::of(1, true);
    net.pass(SECOND);
    let before = net.disks[&NodeId(1)].clone();
    let home = net.scratch(1, 1, Ack::Home);
    let local = net.scratch(1, 2, Ack::Local);
    assert!(matches!(net.reply(home), Some(Reply::Stored { .. })));
    assert_eq!(net.reply(local), Some(&Reply::Pending));
    for value in [1, 2] {
        let taken = net.fetch(1, false, SECOND);
        let tuple = pair("v", value);
        assert_eq!(net.reply(taken), Some(&Reply::Tuple(Some(tuple))));
    }
    assert_eq!(net.disks[&NodeId(1)], before, "nothing was written");
    assert!(shard("v") >= 4, "beside the durable shards");
}

#[test]
fn a_node_that_restarts_alone_finds_durable_tuples_and_no_volatile_ones() {
    let mut net = Net::of(1, true);
    net.pass(SECOND);
    net.out(1, "v", 7);
    net.scratch(1, 8, Ack::Home);
    assert_eq!(net.info(1).generation, Some(1));
    net.restart(1);
    net.pass(3 * SECOND);
    assert_eq!(net.info(1).generation, Some(2));
    let kept = net.take(1, "v", false);
    assert_eq!(net.reply(kept), Some(&Reply::Tuple(Some(pair("v", 7)))));
    let lost = net.fetch(1, false, SECOND);
    assert_eq!(net.reply(lost), Some(&Reply::Tuple(None)));
    let stored = net.scratch(1, 9, Ack::Home);
    assert!(matches!(net.reply(stored), Some(Reply::Stored { .. })));
    let taken = net.fetch(1, false, SECOND);
    assert_eq!(net.reply(taken), Some(&Reply::Tuple(Some(pair("v", 9)))));
}

#[test]
fn a_restarted_minority_loses_nothing_and_comes_back_as_another_member() {
    let mut net = Net::of(3, true);
    net.whole();
    let before = net.info(1);
    net.scratch(1, 1, Ack::Home);
    for n in [2, 3, 1] {
        net.restart(n);
        net.whole_with(1);
    }
    let after = net.info(1);
    assert_eq!(after.generation, before.generation, "one after the other");
    for member in &after.members {
        assert!(
            !before.members.contains(member),
            "{member} is another start"
        );
    }
    let taken = net.fetch(2, true, SECOND);
    net.pass(SECOND);
    assert_eq!(net.reply(taken), Some(&Reply::Tuple(Some(pair("v", 1)))));
}

impl Net {
    /// Waits until three starts that are there are the group, with this tuple still in it.
    fn whole_with(&mut self, value: i64) {
        for _ in 0..40 {
            self.pass(SECOND);
            let info = self.info(1);
            let current: Vec<_> = info.members.iter().map(|member| member.node).collect();
            let all: Vec<NodeId> = self.peers.keys().copied().collect();
            let there = all.iter().all(|node| current.contains(node));
            let read = self.ask(
                2,
                Command::Read {
                    workspace: SCRATCH.to_owned(),
                    template: Template::named("v").unwrap(),
                    wait: false,
                    fresh: true,
                    deadline: SECOND,
                },
            );
            self.pass(SECOND);
            let found = Some(&Reply::Tuple(Some(pair("v", value))));
            if there && info.members.len() == 3 && self.reply(read) == found {
                return;
            }
        }
        panic!("the group is not whole: {:?}", self.info(1));
    }
}

#[test]
fn a_lost_majority_begins_the_next_generation_by_itself_and_empty() {
    let mut net = Net::of(3, true);
    net.whole();
    let before = net.info(1).generation;
    net.scratch(1, 1, Ack::Home);
    let waiting = net.fetch(3, true, 60 * SECOND);
    assert!(net.reply(waiting).is_some(), "it took the one there was");
    let waiting = net.fetch(3, true, 60 * SECOND);
    net.scratch(1, 2, Ack::Local);
    assert!(net.reply(waiting).is_some());
    net.scratch(1, 3, Ack::Home);
    net.kill(1);
    net.kill(2);
    net.start(1);
    net.start(2);
    net.link_all();
    net.whole();
    let after = net.info(3);
    assert!(after.generation > before, "{after:?}");
    let taken = net.fetch(3, false, SECOND);
    net.pass(SECOND);
    assert_eq!(net.reply(taken), Some(&Reply::Tuple(None)), "3 is gone");
}

#[test]
fn a_take_that_waits_goes_on_waiting_in_the_next_generation() {
    let mut net = Net::of(3, true);
    net.whole();
    let waiting = net.fetch(3, true, 100 * SECOND);
    net.kill(1);
    net.kill(2);
    net.start(1);
    net.start(2);
    net.link_all();
    net.pass(15 * SECOND);
    assert_eq!(net.reply(waiting), None);
    net.scratch(1, 5, Ack::Home);
    net.pass(2 * SECOND);
    assert_eq!(net.reply(waiting), Some(&Reply::Tuple(Some(pair("v", 5)))));
}

#[test]
fn a_store_of_an_earlier_generation_is_not_admitted_in_a_later_one() {
    let mut net = Net::of(3, true);
    net.whole();
    let first = net.info(1).generation.unwrap();
    let leader = net.info(1).leader.unwrap().0;
    let from = (1..=3).find(|n| *n != leader).unwrap();
    // A node stores, and its message waits on the wire until the shard has begun anew.
    net.wire = Some(Box::new(move |n, _, bytes| {
        let message = cpe_mesh::Message::decode(&bytes).unwrap();
        let store = matches!(&message, cpe_mesh::Message::Store { shard, .. } if shard.0 >= 4);
        (n != from || !store).then_some(bytes)
    }));
    let stored = net.scratch(from, 1, Ack::Home);
    assert_eq!(net.reply(stored), None);
    for n in (1..=3).filter(|n| *n != from) {
        net.kill(n);
        net.start(n);
    }
    net.link_all();
    net.wire = None;
    net.pass(20 * SECOND);
    assert!(net.info(from).generation.unwrap() > first);
    let lost = Reply::Failed(Failure::Lost { shard: shard("v") });
    let reply = net.reply(stored).unwrap();
    assert!([Reply::Pending, lost].contains(reply), "{reply:?}");
    // What was under way then arrives now, at every node.
    let late = cpe_mesh::Message::Store {
        shard: cpe_space::ShardId(shard("v")),
        origin: net.peers[&NodeId(from)].own_start(),
        first: first_of(first) + 2,
        items: vec![cpe_space::Item {
            workspace: Name::new(SCRATCH).unwrap(),
            tuple: pair("v", 1),
        }],
    };
    for n in [1, 2, 3] {
        let (from, bytes) = (NodeId(from), late.encode().unwrap());
        net.input(NodeId(n), Input::Message { from, bytes });
    }
    net.pass(3 * SECOND);
    let taken = net.fetch(2, false, SECOND);
    net.pass(SECOND);
    assert_eq!(net.reply(taken), Some(&Reply::Tuple(None)));
}

/// One member is another start by now, and one stays away: the third waits for it.
fn waiting_for_the_silent() -> (Net, Option<u64>) {
    let mut net = Net::of(3, true);
    net.whole();
    let before = net.info(1).generation;
    net.scratch(1, 1, Ack::Home);
    net.kill(2);
    net.kill(3);
    net.start(2);
    net.link_all();
    net.pass(20 * SECOND);
    assert_eq!(net.info(1).generation, before, "node 3 may come back");
    (net, before)
}

#[test]
fn a_majority_that_is_silent_for_a_minute_is_given_up() {
    let (mut net, before) = waiting_for_the_silent();
    net.pass(50 * SECOND);
    assert!(net.info(1).generation > before, "{:?}", net.info(1));
    let stored = net.scratch(2, 2, Ack::Home);
    net.pass(SECOND);
    assert!(matches!(net.reply(stored), Some(Reply::Stored { .. })));
}

#[test]
fn an_operator_need_not_wait_for_the_silent_but_for_a_majority() {
    let (mut net, before) = waiting_for_the_silent();
    let recover = Command::Recover {
        shard: Some(shard("v")),
        deadline: 5 * SECOND,
    };
    let asked = net.ask(1, recover.clone());
    net.pass(2 * SECOND);
    let done = net.reply(asked);
    assert!(
        matches!(done, Some(Reply::Recovered(all)) if all.len() == 1),
        "{done:?}"
    );
    assert!(net.info(1).generation > before);
    let asked = net.ask(1, recover);
    let refused = net.reply(asked);
    let refused = matches!(refused, Some(Reply::Failed(Failure::Refused(_))));
    assert!(refused, "a majority goes on by itself");
}

/// More than are moved at a time: when the last of them go, the shards that keep their registers
/// have left before, and who leads those now was never told here.
#[test]
fn a_founder_hands_over_many_volatile_shards_after_their_registers() {
    let mut net = Net::of(0, true);
    net.start_with(1, |config| {
        let genesis = config.genesis.as_mut().unwrap();
        genesis.volatile = 80;
    });
    net.start(2);
    net.link_all();
    net.pass(2 * SECOND);
    let (deadline, whole) = (20 * SECOND, true);
    let drained = net.ask(1, Command::Drain { deadline, whole });
    net.pass(deadline);
    assert_eq!(net.reply(drained), Some(&Reply::Done));
}

#[test]
fn a_mesh_without_volatile_shards_keeps_such_workspaces_durable() {
    let mut net = Net::of(0, true);
    net.start_with(1, |config| {
        let genesis = config.genesis.as_mut().unwrap();
        genesis.volatile = 0;
    });
    net.pass(SECOND);
    net.scratch(1, 1, Ack::Home);
    net.restart(1);
    net.pass(3 * SECOND);
    let taken = net.fetch(1, false, SECOND);
    assert_eq!(net.reply(taken), Some(&Reply::Tuple(Some(pair("v", 1)))));
}

/// Simulation, seed 891: who learned of a generation late began it with the group registered last.
/// That was a member's place before it held the state (rule R12), and another state for ever.
#[test]
fn who_comes_late_to_a_generation_begins_where_all_began() {
    let mut net = Net::of(3, true);
    net.whole();
    net.scratch(1, 1, Ack::Home);
    net.start(4);
    net.link_all();
    net.pass(3 * SECOND);
    let nth = usize::from(shard("v"));
    let states = || {
        let replicas = net.peers.values().map(|peer| peer.shards().nth(nth));
        replicas.map(|shard| shard.unwrap().sm())
    };
    assert!(states().all(|sm| sm.len() == 1));
    let (first, _) = states().next().unwrap().previous().unwrap();
    assert_eq!(first.epoch, first_of(1), "the group has changed once");
    for (one, other) in states().zip(states().skip(1)) {
        assert_eq!(one, other);
    }
}
