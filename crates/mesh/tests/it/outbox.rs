//! What durable actors want done, sent on by their hosts (rule A5).

use cpe_membership::NodeId;
use cpe_mesh::{Command, Failure, Message, Operation, Reply};
use cpe_space::{Effect, Name, OUTBOX_MAX, Outbox};
use cpe_tuple::Value;

use crate::groups::{grown, shards};
use crate::{Net, SECOND, pair};

fn out(n: i64) -> Effect {
    Effect::Out {
        workspace: Name::new("w").unwrap(),
        tuple: pair("v", n),
    }
}

fn tell(n: i64) -> Effect {
    Effect::Tell {
        actor: Name::new("b").unwrap(),
        message: Value::from(n),
    }
}

impl Net {
    /// The values of the tuples of actors, as a replica has them, in order.
    fn values(&self, n: u64) -> Vec<i64> {
        let (workspace, template) = (
            Name::new("w").unwrap(),
            cpe_tuple::Template::named("v").unwrap(),
        );
        let shards = self.peers[&NodeId(n)].shards();
        let found = shards.flat_map(|shard| {
            let there = shard.sm().matches(&workspace, &template);
            there
                .filter_map(|(_, tuple)| tuple.fields().get(1)?.as_int())
                .collect::<Vec<_>>()
        });
        found.collect()
    }

    fn outbox(&self, n: u64) -> Outbox {
        let mut shards = self.peers[&NodeId(n)].shards();
        let record = shards.find_map(|shard| shard.sm().actor("a")).unwrap();
        let kept = record.kept.clone();
        kept.map_or_else(Outbox::default, |kept| kept.outbox)
    }

    /// What a node was asked to do, by birth and number.
    fn asked_of(&self, n: u64) -> Vec<(u64, u64)> {
        let of = self.effects.iter().filter(|(node, ..)| *node == NodeId(n));
        of.map(|(_, _, which, _)| *which).collect()
    }

    fn done(&mut self, node: u64, (born, n): (u64, u64)) {
        let name = "a".to_owned();
        self.ask(node, Command::EffectDone { name, born, n });
        self.pass(SECOND);
    }

    fn release(&mut self, node: u64, token: u64) -> Option<Reply> {
        let release = Command::Release {
            name: "a".to_owned(),
            token,
            keeps: false,
            deadline: SECOND,
        };
        let asked = self.ask(node, release);
        self.pass(SECOND);
        self.reply(asked).cloned()
    }
}

#[test]
fn what_a_dead_host_had_committed_is_done_in_order_and_once_by_whoever_has_the_actor() {
    let mut net = grown();
    for n in 1..=3 {
        net.enlist(n);
    }
    net.host(3, "a", 0);
    let effects = vec![out(1), tell(2), out(3), tell(4)];
    assert_eq!(net.commit_with(3, (1, 1), 7, effects), Some(Reply::Done));
    assert_eq!(net.values(1), [1, 3], "they wait for nobody");
    assert_eq!(net.asked_of(3), [(1, 2)], "the next for that actor waits");
    net.kill(3);
    net.pass(10 * SECOND);
    let heir = net.heir("a", 3).expect("nobody took it over").0.0;
    assert_eq!(net.asked_of(heir), [(1, 2)], "under the same number");
    net.done(heir, (1, 2));
    net.done(heir, (1, 2));
    assert_eq!(net.asked_of(heir), [(1, 2), (1, 4)]);
    net.done(heir, (1, 4));
    let commit = net.commit_with(heir, (2, 2), 8, vec![out(5)]);
    assert_eq!(commit, Some(Reply::Done));
    for n in [1, 2] {
        assert_eq!(net.values(n), [1, 3, 5], "each once");
        assert!(net.outbox(n).is_empty() && net.outbox(n).last() == 5);
    }
}

#[test]
fn a_name_is_given_up_once_what_its_actor_asked_for_is_done() {
    let mut net = grown();
    net.enlist(3);
    net.host(3, "a", 0);
    net.commit_with(3, (1, 1), 7, vec![tell(1)]);
    let refused = net.release(3, 1);
    let unsent = Failure::Unsent { waiting: 1 };
    assert_eq!(refused, Some(Reply::Failed(unsent)));
    net.done(3, (1, 1));
    assert_eq!(net.release(3, 1), Some(Reply::Done));
}

#[test]
fn a_commit_waits_for_room_in_the_outbox() {
    let mut net = grown();
    net.enlist(2);
    net.host(2, "a", 0);
    let most = (1..).take(OUTBOX_MAX).map(tell).collect();
    assert_eq!(net.commit_with(2, (1, 1), 7, most), Some(Reply::Done));
    let refused = net.commit_with(2, (1, 2), 8, vec![tell(0)]);
    let waiting = OUTBOX_MAX as u64;
    assert_eq!(refused, Some(Reply::Failed(Failure::Unsent { waiting })));
    let all = (0..=OUTBOX_MAX).map(|_| tell(0)).collect();
    let never = net.commit_with(2, (1, 2), 8, all);
    assert!(
        matches!(&never, Some(Reply::Failed(Failure::Refused(why))) if why.contains("257")),
        "{never:?}"
    );
    net.done(2, (1, 1));
    let commit = net.commit_with(2, (1, 2), 8, vec![tell(0)]);
    assert_eq!(commit, Some(Reply::Done));
}

/// The word comes so late that another actor has the name.
#[test]
fn what_is_said_of_the_effects_of_an_actor_that_ended_says_nothing_of_the_next() {
    let mut net = grown();
    let leader = leader_of_actor(&mut net);
    let host = (1..=3).find(|n| *n != leader).unwrap();
    net.enlist(host);
    net.host(host, "a", 0);
    net.wire = Some(Box::new(|_, _, bytes| {
        let said = Message::decode(&bytes).unwrap();
        let late = matches!(
            said,
            Message::Operate {
                operation: Operation::Sent { .. },
                ..
            }
        );
        (!late).then_some(bytes)
    }));
    net.commit_with(host, (1, 1), 7, vec![tell(1)]);
    net.done(host, (1, 1));
    assert_eq!(net.outbox(leader).len(), 1);
    assert_eq!(net.release(host, 1), Some(Reply::Done), "it says as much");
    net.host(host, "a", 1);
    net.commit_with(host, (2, 1), 7, vec![tell(1)]);
    net.wire = None;
    net.pass(5 * SECOND);
    assert_eq!(net.outbox(leader).len(), 1, "it is not done");
    net.done(host, (2, 1));
    assert!(net.outbox(leader).is_empty());
}

/// Who leads the shard of the actor's name.
fn leader_of_actor(net: &mut Net) -> u64 {
    let (workspace, name) = (Name::new("#actor").unwrap(), Value::from("a"));
    let genesis = net.peers[&NodeId(1)].genesis().unwrap();
    let shard = genesis.shard_of(&workspace, &name).0;
    let shards = shards(net, 1);
    let info = shards.iter().find(|it| it.shard == shard).unwrap();
    info.leader.unwrap().0
}
