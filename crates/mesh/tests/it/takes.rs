//! What durable actors take, asked for by their hosts (rule A6).

use std::cell::RefCell;
use std::rc::Rc;

use cpe_membership::NodeId;
use cpe_mesh::{Command, Failure, Input, Message, Operation, Reply, Took};
use cpe_space::{Effect, Name, OUTBOX_MAX, Taking};
use cpe_tuple::{Template, Tuple, Value};

use crate::groups::{grown, shards};
use crate::{Net, SECOND, pair};

fn take(request: u64, wait: bool) -> Effect {
    Effect::Take(Taking {
        workspace: Name::new("w").unwrap(),
        template: Template::named("v").unwrap(),
        wait,
        answer: "took".to_owned(),
        request,
    })
}

fn tuple(n: i64) -> Took {
    Took::Tuple(pair("v", n))
}

impl Net {
    /// What a node was told of takes, by number.
    fn told(&self, n: u64) -> Vec<(u64, Took)> {
        let of = self.took.iter().filter(|(node, ..)| *node == NodeId(n));
        of.map(|(_, n, took)| (*n, took.clone())).collect()
    }

    fn handled(&mut self, node: u64, token: u64, n: u64) {
        let done = Command::TakeDone {
            name: "a".to_owned(),
            born: 1,
            token,
            n,
        };
        self.ask(node, done);
        self.pass(SECOND);
    }

    /// Takes in the record of the actor, and outcomes that shards remember, as a replica has them.
    fn left(&self, n: u64) -> (usize, usize) {
        let peer = &self.peers[&NodeId(n)];
        let record = peer.shards().find_map(|shard| shard.sm().actor("a"));
        let kept = record.and_then(|record| record.kept.clone());
        let unreceived = peer.shards().map(|shard| shard.sm().unreceived().count());
        let takes = kept.map_or(0, |kept| kept.outbox.takes.len());
        (takes, unreceived.sum())
    }

    fn give_up(&mut self, node: u64, token: u64) -> Option<Reply> {
        let release = Command::Release {
            name: "a".to_owned(),
            token,
            keeps: true,
            deadline: SECOND,
        };
        let asked = self.ask(node, release);
        self.pass(SECOND);
        self.reply(asked).cloned()
    }

    fn there(&mut self, n: u64) -> Option<Tuple> {
        let asked = self.take(n, "v", false);
        self.pass(SECOND);
        match self.reply(asked) {
            Some(Reply::Tuple(tuple)) => tuple.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_an_actor_took_is_given_to_whoever_hosts_it_until_it_has_it() {
    let mut net = grown();
    for n in 1..=3 {
        net.enlist(n);
    }
    net.host(3, "a", 0);
    net.out(1, "v", 10);
    net.out(1, "v", 11);
    let commit = net.commit_with(3, (1, 1), 7, vec![take(1, false)]);
    assert_eq!(commit, Some(Reply::Done));
    assert_eq!(net.told(3), [(1, tuple(10))]);
    assert_eq!(net.left(1), (1, 1));
    net.kill(3);
    net.pass(10 * SECOND);
    let heir = net.heir("a", 3).expect("nobody took it over").0.0;
    assert_eq!(net.told(heir), [(1, tuple(10))], "the same tuple");
    net.handled(heir, 2, 1);
    assert_eq!(net.left(1), (0, 0), "nothing is remembered any more");
    net.commit_with(heir, (2, 2), 8, vec![take(2, true)]);
    assert_eq!(net.told(heir).last(), Some(&(2, tuple(11))));
    net.handled(heir, 2, 2);
    net.commit_with(heir, (2, 3), 8, vec![take(3, false)]);
    assert_eq!(net.told(heir).last(), Some(&(3, Took::Nothing)));
}

#[test]
fn a_take_waits_for_a_tuple_and_for_the_tuples_that_come_before_it() {
    let mut net = grown();
    net.enlist(2);
    net.host(2, "a", 0);
    net.commit_with(2, (1, 1), 7, vec![take(1, true)]);
    assert_eq!(net.told(2), []);
    let workspace = Name::new("w").unwrap();
    let out = Effect::Out {
        workspace,
        tuple: pair("v", 5),
    };
    // Neither fills the outbox, which others wait for.
    let mut effects = vec![out, take(2, false)];
    let tell = |n| Effect::Tell {
        actor: Name::new("b").unwrap(),
        message: Value::from(n),
    };
    effects.extend((1..OUTBOX_MAX as i64 - 1).map(tell));
    let commit = net.commit_with(2, (1, 2), 7, effects);
    assert_eq!(commit, Some(Reply::Done));
    let told = net.told(2);
    assert!(
        told.contains(&(1, tuple(5))) && told.contains(&(2, Took::Nothing)),
        "{told:?}"
    );
}

#[test]
fn an_actor_that_is_given_up_gives_back_what_it_took_and_waits_for_nothing_more() {
    let mut net = grown();
    net.enlist(3);
    net.host(3, "a", 0);
    net.out(1, "v", 10);
    net.commit_with(3, (1, 1), 7, vec![take(1, true), take(2, true)]);
    assert_eq!(net.told(3), [(1, tuple(10))]);
    let waits = Reply::Failed(Failure::Unsent { waiting: 2 });
    assert_eq!(net.give_up(3, 1), Some(waits));
    assert_eq!(net.give_up(3, 1), Some(Reply::Done));
    assert_eq!(net.there(1), Some(pair("v", 10)), "it went back");
    net.out(1, "v", 11);
    assert_eq!(net.there(1), Some(pair("v", 11)), "nobody waits for it");
    net.host(3, "a", 1);
    let given_up = |n| (n, Took::GivenUp);
    assert_eq!(net.told(3)[1..], [given_up(1), given_up(2)]);
    for n in [1, 2] {
        net.handled(3, 2, n);
    }
    assert_eq!(net.left(1), (0, 0));
}

/// The word of a host that was about to give its actor up comes when another one has the actor.
#[test]
fn what_a_former_host_says_of_takes_counts_no_more_once_another_has_asked() {
    let mut net = grown();
    let leader = leader_of_tuples(&mut net);
    let host = (1..=3).find(|n| *n != leader).unwrap();
    for n in 1..=3 {
        net.enlist(n);
    }
    net.host(host, "a", 0);
    net.out(1, "v", 10);
    net.commit_with(host, (1, 1), 7, vec![take(1, true)]);
    let held = Rc::new(RefCell::new(Vec::new()));
    let late = Rc::clone(&held);
    net.wire = Some(Box::new(move |_, to, bytes| {
        let said = Message::decode(&bytes).unwrap();
        let ends = matches!(
            said,
            Message::Operate {
                operation: Operation::EndTake { .. },
                ..
            }
        );
        if ends && to == leader {
            late.borrow_mut().push(bytes.clone());
        }
        (!ends).then_some(bytes)
    }));
    net.give_up(host, 1);
    net.wire = None;
    net.kill(host);
    net.pass(10 * SECOND);
    let heir = net.heir("a", host).expect("nobody took it over").0.0;
    assert_eq!(net.told(heir), [(1, tuple(10))]);
    let bytes = held.borrow().first().cloned().expect("nothing was said");
    let from = NodeId(host);
    net.input(NodeId(leader), Input::Message { from, bytes });
    net.pass(SECOND);
    assert_eq!(net.there(heir), None, "the actor has it");
}

/// Who leads the shard of the tuples.
fn leader_of_tuples(net: &mut Net) -> u64 {
    let (workspace, name) = (Name::new("w").unwrap(), Value::from("v"));
    let genesis = net.peers[&NodeId(1)].genesis().unwrap();
    let shard = genesis.shard_of(&workspace, &name).0;
    let shards = shards(net, 1);
    let info = shards.iter().find(|it| it.shard == shard).unwrap();
    info.leader.unwrap().0
}
