//! Nodes as hosts of actors (rules A1 and A2): across leaders, cuts and time.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_consensus::Message as GroupMessage;
use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{Command, Failure, Input, Message, Reply};
use cpe_space::{ActorRecord, Effect, Marked, Sender, Session};
use cpe_tuple::Value;

use crate::groups::grown;
use crate::{Net, SECOND};

const LEASE: Duration = Duration::from_secs(5);

impl Net {
    pub(crate) fn enlist(&mut self, n: u64) -> Option<Reply> {
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

#[test]
fn a_name_is_given_up_for_a_dead_host_once_its_lease_ran_out_and_not_before() {
    let mut net = grown();
    net.enlist(3);
    let record = net.host(3, "a", 0);
    assert!(matches!(record, Some(Reply::Hosted(_))), "{record:?}");
    net.kill(3);
    let give_up = |net: &mut Net| {
        let release = Command::Release {
            name: "a".to_owned(),
            token: 1,
            keeps: false,
            deadline: SECOND,
        };
        let asked = net.ask(1, release);
        net.pass(SECOND);
        net.reply(asked).cloned()
    };
    net.pass(2 * SECOND);
    // Membership has known for a while that it is gone.
    let early = give_up(&mut net);
    assert!(
        matches!(
            early,
            Some(Reply::Failed(Failure::Fenced {
                token: 1,
                host: Some(_)
            }))
        ),
        "{early:?}"
    );
    net.pass(LEASE);
    assert_eq!(give_up(&mut net), Some(Reply::Done));
}

impl Net {
    pub(crate) fn host(&mut self, n: u64, name: &str, expect: u64) -> Option<Reply> {
        self.host_needing(n, name, expect, BTreeMap::new())
    }

    fn host_needing(
        &mut self,
        n: u64,
        name: &str,
        expect: u64,
        needs: BTreeMap<String, String>,
    ) -> Option<Reply> {
        let command = Command::Host {
            name: name.to_owned(),
            expect,
            spec: Value::from("counter"),
            needs,
            deadline: SECOND,
        };
        let asked = self.ask(n, command);
        self.pass(SECOND);
        self.reply(asked).cloned()
    }

    fn commit(&mut self, n: u64, token: u64, seq: u64, state: i64) -> Option<Reply> {
        self.commit_with(n, (token, seq), state, Vec::new())
    }

    pub(crate) fn commit_with(
        &mut self,
        n: u64,
        (token, seq): (u64, u64),
        state: i64,
        effects: Vec<Effect>,
    ) -> Option<Reply> {
        let command = Command::Commit {
            name: "a".to_owned(),
            token,
            seq,
            snapshot: Value::from(state),
            marks: vec![Marked {
                sender: sender(),
                seq,
                low: 1,
            }],
            effects,
            rest_over: true,
            deadline: SECOND,
        };
        let asked = self.ask(n, command);
        self.pass(SECOND);
        self.reply(asked).cloned()
    }

    /// Who was given an actor, but for one node.
    pub(crate) fn heir(&self, name: &str, not: u64) -> Option<(NodeId, &ActorRecord)> {
        let mut given = self.hosted.iter();
        given
            .find(|((node, of), _)| of == name && *node != NodeId(not))
            .map(|((node, _), record)| (*node, record))
    }
}

fn sender() -> Sender {
    let (member, boot) = (crate::member(9), 1);
    Sender::Start(Session { member, boot })
}

fn token(reply: Option<&Reply>) -> u64 {
    match reply {
        Some(Reply::Hosted(record)) => record.token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_actor_of_a_dead_host_goes_on_elsewhere_from_what_it_committed() {
    let mut net = grown();
    for n in 1..=3 {
        net.enlist(n);
    }
    assert_eq!(token(net.host(3, "a", 0).as_ref()), 1);
    assert_eq!(net.commit(3, 1, 1, 7), Some(Reply::Done));
    let rival = net.host(1, "a", 1);
    assert!(
        matches!(rival, Some(Reply::Failed(Failure::Fenced { token: 1, .. }))),
        "its host lives: {rival:?}"
    );
    net.kill(3);
    net.pass(2 * LEASE);
    let (heir, record) = net.heir("a", 2).expect("nobody took it over");
    assert_eq!(
        (record.token, record.host.map(|it| it.node)),
        (2, Some(heir))
    );
    let kept = record.kept.clone().unwrap();
    assert_eq!((kept.seq, kept.snapshot.clone()), (1, Value::from(7)));
    assert!(kept.has(&sender(), 1) && !kept.has(&sender(), 2));
    // Whatever the former host still says is refused.
    assert_eq!(net.commit(heir.0, 2, 2, 8), Some(Reply::Done));
    let late = net.commit(heir.0, 1, 3, 9);
    assert!(matches!(
        late,
        Some(Reply::Failed(Failure::Fenced { token: 2, .. }))
    ));
}

#[test]
fn a_commit_counts_in_its_turn_and_once() {
    let mut net = grown();
    net.enlist(2);
    net.host(2, "a", 0);
    assert_eq!(net.commit(2, 1, 1, 7), Some(Reply::Done));
    assert_eq!(net.commit(2, 1, 1, 7), Some(Reply::Done), "asked again");
    let ahead = net.commit(2, 1, 3, 9);
    assert_eq!(ahead, Some(Reply::Failed(Failure::OutOfTurn { last: 1 })));
    let snapshot = Value::Bytes(vec![0; cpe_space::SNAPSHOT_BYTES_MAX]);
    let asked = net.ask(
        2,
        Command::Commit {
            name: "a".to_owned(),
            token: 1,
            seq: 2,
            snapshot,
            marks: Vec::new(),
            effects: Vec::new(),
            rest_over: true,
            deadline: SECOND,
        },
    );
    assert!(matches!(
        net.reply(asked),
        Some(Reply::Failed(Failure::Refused(_)))
    ));
}

#[test]
fn only_a_host_that_meets_an_actors_needs_takes_it_over() {
    let mut net = grown();
    for n in 1..=3 {
        net.enlist(n);
    }
    let needs = BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]);
    let mut card = NodeCard::new(crate::member(2), "n2".to_owned());
    card.capabilities
        .insert("gpu".to_owned(), "no,yes".to_owned());
    net.input(NodeId(2), Input::Card(Box::new(card)));
    net.pass(2 * SECOND);
    assert_eq!(token(net.host_needing(3, "b", 0, needs).as_ref()), 1);
    net.kill(3);
    net.pass(3 * LEASE);
    assert_eq!(net.heir("b", 3).map(|(node, _)| node), Some(NodeId(2)));
}

#[test]
fn the_actors_of_a_mesh_that_was_all_down_are_taken_over_when_it_is_back() {
    let mut net = grown();
    net.enlist(2);
    net.host(2, "a", 0);
    net.commit(2, 1, 1, 7);
    for n in 1..=3 {
        net.kill(n);
    }
    for n in 1..=3 {
        net.start(n);
    }
    net.link_all();
    net.pass(3 * SECOND);
    net.hosted.clear();
    net.enlist(2);
    net.pass(LEASE);
    let record = net.hosted.get(&(NodeId(2), "a".to_owned())).unwrap();
    assert_eq!((record.token, record.kept.as_ref().unwrap().seq), (2, 1));
}

impl Net {
    fn migrate(&mut self, n: u64, token: u64, seq: u64, to: Member) -> Option<Reply> {
        let command = Command::Migrate {
            name: "a".to_owned(),
            token,
            seq,
            to,
            deadline: SECOND,
        };
        let asked = self.ask(n, command);
        self.pass(SECOND);
        self.reply(asked).cloned()
    }
}

#[test]
fn an_actor_that_is_handed_on_goes_on_there_and_is_taken_over_from_there() {
    let mut net = grown();
    let life = |reply: Option<Reply>| match reply {
        Some(Reply::Enlisted(life)) => life,
        other => panic!("{other:?}"),
    };
    let lives: Vec<Member> = (1..=3).map(|n| life(net.enlist(n))).collect();
    net.host(3, "a", 0);
    net.commit(3, 1, 1, 7);
    let unknown = Member {
        inc: Incarnation(9),
        ..lives[1]
    };
    let refused = net.migrate(3, 1, 1, unknown);
    assert!(matches!(refused, Some(Reply::Failed(Failure::Refused(_)))));
    // To itself: whatever was asked before is void.
    let moved = |token, to: usize| {
        let host = Some(lives[to]);
        Some(Reply::Moved { token, host })
    };
    assert_eq!(net.migrate(3, 1, 1, lives[2]), moved(2, 2));
    assert_eq!(net.migrate(3, 2, 1, lives[1]), moved(3, 1));
    let record = net.hosted.get(&(NodeId(2), "a".to_owned())).unwrap();
    assert_eq!((record.token, record.from), (3, Some(lives[2])));
    assert_eq!(record.kept.as_ref().unwrap().snapshot, Value::from(7));
    assert_eq!(net.commit(2, 3, 2, 8), Some(Reply::Done));
    net.hosted.clear();
    net.kill(2);
    net.pass(2 * LEASE);
    let (_, record) = net.heir("a", 2).expect("nobody took it over");
    assert_eq!((record.token, record.from), (4, None));
    assert_eq!(record.kept.as_ref().unwrap().snapshot, Value::from(8));
}

/// It stands still until they know.
#[test]
fn whom_an_actor_is_handed_to_hears_of_it_before_the_others_do() {
    let mut net = grown();
    let lives = [1, 2, 3].map(|n| match net.enlist(n) {
        Some(Reply::Enlisted(life)) => life,
        other => panic!("{other:?}"),
    });
    net.host(1, "a", 0);
    // To each of them: one is the leader of the name, who knows by itself.
    for (token, from, to) in [(1, 1, 2), (2, 2, 3), (3, 3, 1)] {
        net.pass(SECOND);
        let to_life = lives[to as usize - 1];
        let command = Command::Migrate {
            name: "a".to_owned(),
            token,
            seq: 0,
            to: to_life,
            deadline: SECOND,
        };
        let asked = net.ask(from, command);
        let moved = Reply::Moved {
            token: token + 1,
            host: Some(to_life),
        };
        assert_eq!(net.reply(asked), Some(&moved));
        let given = net.hosted.get(&(NodeId(to), "a".to_owned()));
        assert_eq!(given.map(|record| record.token), Some(token + 1));
    }
}

/// It would start what it has given up, while another one claims the name.
#[test]
fn a_node_does_not_give_up_a_name_that_it_may_just_have_been_given() {
    let mut net = grown();
    net.start_with(4, |config| config.takes_homes = false);
    net.link_all();
    net.pass(SECOND);
    net.enlist(4);
    let shown = |net: &Net| {
        let mut shards = net.peers[&NodeId(4)].shards();
        let record = shards.find_map(|shard| shard.sm().actor("a").cloned());
        record.map(|record| (record.token, record.host))
    };
    // Its replica learns of the claim before the answer comes.
    net.wire = Some(Box::new(|_, to, bytes| {
        let answers = to == 4 && matches!(Message::decode(&bytes), Ok(Message::Decided { .. }));
        (!answers).then_some(bytes)
    }));
    let claim = net.ask(
        4,
        Command::Host {
            name: "a".to_owned(),
            expect: 0,
            spec: Value::Null,
            needs: BTreeMap::new(),
            deadline: 10 * SECOND,
        },
    );
    net.pass(SECOND);
    assert_eq!(net.reply(claim), None);
    assert_eq!(shown(&net).map(|(token, _)| token), Some(1));
    let release = Command::Release {
        name: "a".to_owned(),
        token: 1,
        keeps: false,
        deadline: SECOND,
    };
    let early = net.ask(4, release.clone());
    net.pass(SECOND);
    let early = net.reply(early);
    assert!(
        matches!(early, Some(Reply::Failed(Failure::Busy(_)))),
        "{early:?}"
    );
    net.wire = None;
    net.pass(2 * SECOND);
    assert!(matches!(net.reply(claim), Some(Reply::Hosted(_))));
    let later = net.ask(4, release);
    net.pass(SECOND);
    assert_eq!(net.reply(later), Some(&Reply::Done));
    assert_eq!(shown(&net), Some((1, None)));
}

/// A leader that stood still finds all leases run out when it goes on, and proposes their ends
/// before it hears that another one led meanwhile. That one has granted leases only if nothing the
/// old one proposes can be decided any more.
#[test]
fn a_leader_that_stood_still_ends_no_life_that_another_one_has_renewed() {
    let mut net = grown();
    net.start_with(4, |config| config.takes_homes = false);
    net.link_all();
    net.pass(SECOND);
    assert!(matches!(net.enlist(4), Some(Reply::Enlisted(_))));
    let keeps = |shard: &&cpe_space::Shard| shard.sm().host(NodeId(4)).is_some();
    let shard = net.peers[&NodeId(4)].shards().find(keeps).unwrap().id();
    let leader = |net: &mut Net| {
        let all = crate::groups::shards(net, 4);
        let info = all.iter().find(|info| info.shard == shard.0);
        info.unwrap().leader.unwrap()
    };
    let old = leader(&mut net);
    // The two others elect a leader, but neither takes over the log of the other.
    net.wire = Some(Box::new(move |_, _, bytes| {
        let replicates = match Message::decode(&bytes) {
            Ok(Message::Group { message, .. }) => {
                matches!(
                    message,
                    GroupMessage::Sync { .. } | GroupMessage::Accept { .. }
                )
            }
            _ => false,
        };
        (!replicates).then_some(bytes)
    }));
    let stands_still = net.peers.remove(&old).unwrap();
    net.pass(7 * SECOND);
    let new = leader(&mut net);
    assert_ne!(new, old);
    net.wire = None;
    net.peers.remove(&new);
    net.peers.insert(old, stands_still);
    let other = (1..=3).find(|n| ![old, new].contains(&NodeId(*n))).unwrap();
    for _ in 0..100 {
        net.pass(SECOND / 10);
        let over = net.over(4, other) > Incarnation(0);
        assert!(!(over && net.acts(4)), "it may act after its life");
    }
    assert!(net.over(4, other) > Incarnation(0), "nobody renewed it");
}
