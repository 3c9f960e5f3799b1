//! What a leader does with requests that meet what its predecessor left.

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{Config, Session, Shard, ShardId};
use cpe_tuple::{Field, Template};

use super::*;

fn member() -> Member {
    Member {
        node: NodeId(1),
        inc: Incarnation(1),
    }
}

/// The replica, the group and the home of a leader, without a peer around them.
struct Leader {
    shard: Shard,
    group: Group<Member, Proposal>,
    home: Home,
    out: Vec<Output<Member, Proposal>>,
    stored: u64,
}

impl Leader {
    fn new() -> Self {
        #[cfg(feature = "mutants")]
        crate::without(
            std::env::var("CPE_WITHOUT")
                .ok()
                .and_then(|name| crate::Mutant::named(&name)),
        );
        let config = Config {
            epoch: 1,
            members: vec![member()],
        };
        let mut out = Vec::new();
        let mut group = Group::new(member(), 1, vec![member()], 0);
        group.tick(&[], &mut out);
        assert!(group.is_leader());
        Self {
            shard: Shard::new(ShardId(0), config),
            group,
            home: Home::default(),
            out,
            stored: 0,
        }
    }

    fn take(&mut self, seq: u64) -> Asked {
        self.take_matching(seq, Template::named("v").unwrap())
    }

    fn take_matching(&mut self, seq: u64, template: Template) -> Asked {
        let waiter = Waiter {
            op: op(seq),
            from: NodeId(2),
            workspace: Name::new("w").unwrap(),
            wanted: Wanted::Match {
                template,
                lease: None,
            },
            seen: Duration::ZERO,
            away: false,
        };
        let mut log = Proposer::new(&mut self.group, &mut self.out, self.shard.sm(), false);
        self.home
            .take(self.shard.sm(), waiter, Vec::new(), true, &mut log)
    }

    /// The command is decided.
    fn decide(&mut self, command: &Command) -> Applied {
        let proposal = Proposal::new(command.clone()).unwrap();
        let applied = self.shard.push(proposal.entry().clone(), command);
        let mut log = Proposer::new(&mut self.group, &mut self.out, self.shard.sm(), false);
        self.home
            .applied(self.shard.sm(), command, &applied, &mut log);
        applied
    }

    /// A store is decided that this leader did not propose itself.
    fn store(&mut self) -> Command {
        self.store_value(1)
    }

    fn store_value(&mut self, value: i64) -> Command {
        self.stored += 1;
        Command::Admit {
            dot: Dot {
                origin: member(),
                n: self.stored,
            },
            workspace: Name::new("w").unwrap(),
            tuple: Tuple::new(vec![Value::from("v"), Value::from(value)]).unwrap(),
        }
    }
}

fn op(seq: u64) -> OpId {
    let session = Session {
        member: Member {
            node: NodeId(2),
            ..member()
        },
        boot: 1,
    };
    OpId { session, seq }
}

fn take(seq: u64) -> Command {
    Command::Take {
        op: op(seq),
        acks: Vec::new(),
        workspace: Name::new("w").unwrap(),
        template: Template::named("v").unwrap(),
        wait: true,
    }
}

#[test]
fn a_take_decided_twice_by_two_leaders_leaves_the_next_waiter_its_tuple() {
    let mut leader = Leader::new();
    for _ in 0..2 {
        let store = leader.store();
        leader.decide(&store);
    }
    // The former leader proposed the first take; its client asks the new leader for it too.
    leader.home = Home::inherit([take(1)].iter());
    assert_eq!(leader.take(1), Asked::Proposed);
    assert_eq!(leader.take(2), Asked::Parked, "two takes for two tuples");
    leader.decide(&take(1));
    leader.decide(&take(1));
    assert_eq!(leader.home.waiting(), 0, "the second take was proposed");
    assert!(leader.home.is_asked(op(2)));
}

#[test]
fn a_waiter_that_asks_again_is_not_left_beside_its_tuple() {
    let mut leader = Leader::new();
    let store = leader.store();
    leader.decide(&store);
    // What the former leader proposed will take the tuple, as far as can be told.
    leader.home = Home::inherit([take(1)].iter());
    assert_eq!(leader.take(2), Asked::Parked);
    // It never will: it was cancelled, and nothing else tells that its place is free.
    leader.home.settle(&take(1));
    assert_eq!(leader.take(2), Asked::Proposed);
    assert_eq!(leader.home.waiting(), 0);
}

#[test]
fn a_parked_take_that_its_former_leader_had_decided_waits_no_longer() {
    let mut leader = Leader::new();
    let store = leader.store();
    leader.decide(&store);
    leader.home = Home::inherit([take(1)].iter());
    assert_eq!(leader.take(1), Asked::Parked);
    leader.decide(&take(1));
    assert_eq!(leader.home.waiting(), 0);
}

/// Without rule R17 it would wait for its client to ask again, behind the others.
#[test]
fn a_waiting_take_that_missed_is_parked_again_before_those_that_came_later() {
    let mut leader = Leader::new();
    let store = leader.store();
    leader.decide(&store);
    assert_eq!(leader.take(1), Asked::Proposed);
    assert_eq!(leader.take(2), Asked::Parked);
    // One that nobody here has counted is decided first.
    leader.decide(&take(3));
    assert_eq!(leader.decide(&take(1)), Applied::Missed(op(1)));
    assert_eq!(leader.home.waiting(), 2);
    let store = leader.store();
    leader.decide(&store);
    assert!(leader.home.is_asked(op(1)) && !leader.home.is_asked(op(2)));
}

/// Rule R17, with several that missed: each has the place of its arrival again.
#[test]
fn waiting_takes_that_missed_together_are_parked_in_the_order_they_came() {
    let mut leader = Leader::new();
    let wanted = Template::new(vec![
        Field::Actual(Value::from("v")),
        Field::Actual(Value::from(1)),
    ]);
    let wanted = wanted.unwrap();
    let take = |seq| Command::Take {
        op: op(seq),
        acks: Vec::new(),
        workspace: Name::new("w").unwrap(),
        template: wanted.clone(),
        wait: true,
    };
    for value in [1, 2, 3] {
        let store = leader.store_value(value);
        leader.decide(&store);
    }
    // One of three tuples will do, which cannot be told from their number.
    for seq in 1..=3 {
        assert_eq!(leader.take_matching(seq, wanted.clone()), Asked::Proposed);
    }
    leader.decide(&take(1));
    for seq in [2, 3] {
        assert_eq!(leader.decide(&take(seq)), Applied::Missed(op(seq)));
    }
    let before = leader.group.len();
    let store = leader.store_value(1);
    leader.decide(&store);
    let proposed = |index| leader.group.entry(index).and_then(|it| it.command().op());
    let asked: Vec<_> = (before + 1..).map_while(proposed).collect();
    assert_eq!(asked, [op(2), op(3)]);
}

/// Rule R17: takes that wait are served in order of arrival, also when the log was full when their
/// tuple came and a later one is the first to ask again.
#[test]
fn a_waiting_take_keeps_its_place_while_the_log_is_full() {
    let mut leader = Leader::new();
    for seq in 1..=2 {
        assert_eq!(leader.take(seq), Asked::Parked);
    }
    let store = leader.store();
    let mut log = Proposer::new(&mut leader.group, &mut leader.out, leader.shard.sm(), false);
    let large = Command::Drop {
        op: op(9),
        workspace: Name::new("w").unwrap(),
        variable: Some(Value::from("v".repeat(60_000))),
    };
    while log.propose(large.clone()) {}
    while log.propose(Command::Noop) {}
    leader.decide(&store);
    assert!(!leader.home.is_asked(op(1)), "there is no room");
    assert_eq!(leader.take(2), Asked::Parked);
    assert_eq!(leader.take(1), Asked::Parked);
    assert_eq!(leader.take(3), Asked::Parked, "behind the others");
    // The tail was decided: as a leader's of the next epoch.
    let mut group = Group::new(member(), 2, vec![member()], 0);
    group.tick(&[], &mut leader.out);
    leader.group = group;
    assert_eq!(leader.take(2), Asked::Parked);
    assert!(leader.home.is_asked(op(1)), "it came first");
    assert_eq!(leader.home.waiting(), 2);
}

/// Each waiter is looked at a few times, however many wait beside it.
#[test]
fn the_work_for_waiters_grows_with_their_number_and_not_its_square() {
    const WAITERS: u64 = 1_000;
    let mut leader = Leader::new();
    // Once to be parked, and again when their clients show that they live.
    for seq in (1..=WAITERS).chain(1..=WAITERS) {
        assert_eq!(leader.take(seq), Asked::Parked);
    }
    // Half leave; the others get what comes, in order of arrival.
    for seq in (1..=WAITERS).step_by(2) {
        assert!(leader.home.unpark(op(seq)));
    }
    for seq in (2..=WAITERS).step_by(2) {
        let store = leader.store();
        leader.decide(&store);
        assert!(leader.home.is_asked(op(seq)));
        leader.decide(&take(seq));
    }
    assert_eq!(leader.home.waiting(), 0);
    let looks = leader.home.parked.looks.get();
    assert!(
        looks <= 8 * usize::try_from(WAITERS).unwrap(),
        "{looks} looks"
    );
}

/// Its take was on its way when its node went out of sight.
#[test]
fn a_take_that_missed_after_its_node_was_gone_waits_for_nothing() {
    let mut leader = Leader::new();
    let store = leader.store();
    leader.decide(&store);
    assert_eq!(leader.take(1), Asked::Proposed);
    leader.home.step_aside(NodeId(2));
    leader.decide(&take(3));
    assert_eq!(leader.decide(&take(1)), Applied::Missed(op(1)));
    let store = leader.store();
    leader.decide(&store);
    assert!(!leader.home.is_asked(op(1)));
    assert_eq!(leader.take(1), Asked::Proposed, "it asks again");
}
