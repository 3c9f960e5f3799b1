//! The state machine, command by command.

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{Applied, Command, Dot, Mode, OpId, Outcome, Session};
use cpe_tuple::{Template, Value};

use crate::{Home, member, name, pair};

fn taken(applied: &Applied) -> Option<i64> {
    match applied {
        Applied::Done(_, Outcome::Taken { tuple, .. }) => tuple[1].as_int(),
        _ => None,
    }
}

fn declare(home: &mut Home, mode: Mode) -> Applied {
    let op = home.op();
    home.decide(&Command::Declare {
        op,
        workspace: name("w"),
        variable: Value::from("v"),
        mode,
    })
}

#[test]
fn fifo_gives_the_oldest_and_lifo_the_newest() {
    for (mode, expected) in [(Mode::Fifo, [1, 2, 3]), (Mode::Lifo, [3, 2, 1])] {
        let mut home = Home::new();
        declare(&mut home, mode);
        for n in 1..=3 {
            home.store("v", n);
        }
        for n in expected {
            assert_eq!(taken(&home.take("v")), Some(n));
        }
        assert!(matches!(home.take("v"), Applied::Done(_, Outcome::Empty)));
    }
}

#[test]
fn a_single_variable_keeps_the_last_value() {
    let mut home = Home::new();
    home.store("v", 1);
    home.store("v", 2);
    declare(&mut home, Mode::Single);
    assert_eq!(home.shard.sm().len(), 1);
    home.store("v", 3);
    assert_eq!(taken(&home.take("v")), Some(3));
    assert_eq!(taken(&home.take("v")), None);
}

#[test]
fn a_multi_variable_gives_each_value_once() {
    let mut home = Home::new();
    declare(&mut home, Mode::Multi);
    for n in 0..50 {
        home.store("v", n);
    }
    let mut got: Vec<i64> = (0..50).map(|_| taken(&home.take("v")).unwrap()).collect();
    assert_ne!(got, (0..50).collect::<Vec<_>>(), "drawn, not in order");
    got.sort_unstable();
    assert_eq!(got, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_mode_is_declared_once() {
    let mut home = Home::new();
    assert!(matches!(
        declare(&mut home, Mode::Lifo),
        Applied::Done(_, Outcome::Done)
    ));
    assert!(matches!(
        declare(&mut home, Mode::Lifo),
        Applied::Done(_, Outcome::Done)
    ));
    let refused = declare(&mut home, Mode::Fifo);
    assert!(matches!(
        refused,
        Applied::Done(_, Outcome::ModeIs(Mode::Lifo))
    ));
}

#[test]
fn a_retried_take_gets_the_same_tuple_and_takes_no_second_one() {
    let mut home = Home::new();
    home.store("v", 1);
    home.store("v", 2);
    let op = home.op();
    assert_eq!(taken(&home.take_as(op, "v", false)), Some(1));
    assert_eq!(taken(&home.take_as(op, "v", false)), Some(1));
    assert_eq!(home.shard.sm().len(), 1);
}

#[test]
fn an_acknowledged_take_is_stale_when_repeated() {
    let mut home = Home::new();
    home.store("v", 1);
    home.store("v", 2);
    let op = home.op();
    home.take_as(op, "v", false);
    home.decide(&Command::Ack {
        session: op.session,
        seqs: vec![op.seq],
    });
    assert!(matches!(
        home.take_as(op, "v", false),
        Applied::Done(_, Outcome::Stale)
    ));
    assert_eq!(home.shard.sm().len(), 1);
}

#[test]
fn a_waiting_take_that_misses_leaves_no_outcome() {
    let mut home = Home::new();
    let op = home.op();
    assert_eq!(home.take_as(op, "v", true), Applied::Missed(op));
    home.store("v", 1);
    assert_eq!(taken(&home.take_as(op, "v", true)), Some(1));
}

#[test]
fn an_undone_take_returns_to_its_place_in_the_queue() {
    let mut home = Home::new();
    home.store("v", 1);
    home.store("v", 2);
    let op = home.op();
    assert_eq!(taken(&home.take_as(op, "v", false)), Some(1));
    assert!(matches!(
        home.decide(&Command::Untake { op }),
        Applied::Added { index: 1, .. }
    ));
    assert_eq!(taken(&home.take("v")), Some(1));
    assert_eq!(taken(&home.take("v")), Some(2));
}

#[test]
fn a_cancelled_take_is_never_executed_later() {
    let mut home = Home::new();
    home.store("v", 1);
    let op = home.op();
    home.decide(&Command::Untake { op });
    assert!(matches!(
        home.take_as(op, "v", true),
        Applied::Done(_, Outcome::Cancelled)
    ));
    assert_eq!(home.shard.sm().len(), 1);
}

#[test]
fn a_tuple_taken_before_its_variable_was_deleted_does_not_come_back() {
    let mut home = Home::new();
    home.store("v", 1);
    let op = home.op();
    home.take_as(op, "v", false);
    let drop = home.op();
    home.decide(&Command::Drop {
        op: drop,
        workspace: name("w"),
        variable: None,
    });
    home.decide(&Command::Untake { op });
    assert!(home.shard.sm().is_empty());
}

#[test]
fn stores_of_one_origin_are_admitted_in_order_and_once() {
    let mut home = Home::new();
    home.store("v", 1);
    home.stored = 0;
    assert!(
        matches!(home.store("v", 1), Applied::Skipped(_)),
        "a repetition"
    );
    home.stored = 5;
    assert!(matches!(home.store("v", 6), Applied::Skipped(_)), "a gap");
    assert_eq!(home.shard.sm().len(), 1);
}

#[test]
fn an_older_boot_of_a_node_can_no_longer_act() {
    let mut home = Home::new();
    home.store("v", 1);
    home.store("v", 2);
    let session = |boot| Session {
        member: member(7),
        boot,
    };
    assert_eq!(
        taken(&home.take_as(
            OpId {
                session: session(2),
                seq: 1
            },
            "v",
            false
        )),
        Some(1)
    );
    let old = home.take_as(
        OpId {
            session: session(1),
            seq: 9,
        },
        "v",
        false,
    );
    assert!(matches!(old, Applied::Done(_, Outcome::Stale)));
    assert_eq!(home.shard.sm().len(), 1);
}

#[test]
fn an_actor_is_claimed_by_whoever_knows_its_token() {
    let mut home = Home::new();
    let claim = |home: &mut Home, expect, host| {
        let op = home.op();
        let (name, spec) = ("a".to_owned(), Value::from("echo"));
        home.decide(&Command::Claim {
            op,
            name,
            expect,
            spec,
            host: member(host),
        })
    };
    assert!(matches!(
        claim(&mut home, 0, 2),
        Applied::Done(_, Outcome::Claimed(_))
    ));
    let late = claim(&mut home, 0, 3);
    assert!(matches!(late, Applied::Done(_, Outcome::Fenced(Some(r))) if r.token == 1));
    assert!(
        matches!(claim(&mut home, 1, 3), Applied::Done(_, Outcome::Claimed(r)) if r.token == 2)
    );
    let op = home.op();
    let stale = home.decide(&Command::Release {
        op,
        name: "a".into(),
        token: 1,
        void: None,
        keeps: false,
        sent: cpe_space::Sent::default(),
    });
    assert!(matches!(stale, Applied::Done(_, Outcome::Fenced(_))));
    assert_eq!(home.shard.sm().actor("a").unwrap().host, Some(member(3)));
}

#[test]
fn a_template_without_a_name_takes_from_any_variable_of_the_workspace() {
    let mut home = Home::new();
    home.store("a", 1);
    home.store("b", 2);
    let op = home.op();
    let template = Template::new(vec![
        cpe_tuple::Field::Any,
        cpe_tuple::Field::Actual(Value::from(2)),
    ])
    .unwrap();
    let workspace = name("w");
    let applied = home.decide(&Command::Take {
        op,
        acks: vec![],
        workspace,
        template,
        wait: false,
    });
    assert_eq!(taken(&applied), Some(2));
    assert_eq!(
        home.shard
            .sm()
            .find(&name("w"), &Template::named("a").unwrap())
            .unwrap()
            .1,
        &pair("a", 1)
    );
}

/// Design, 1.3 (c): what is kept of lives that are over is one number per node, however many there
/// were; and nothing of theirs is admitted twice, or at all, although their counts are forgotten.
#[test]
fn a_retired_life_leaves_one_number_and_none_of_its_stores_is_admitted_again() {
    let life = |inc| Member {
        node: NodeId(7),
        inc: Incarnation(inc),
    };
    let admit = |inc, n| Command::Admit {
        dot: Dot {
            origin: life(inc),
            n,
        },
        workspace: name("w"),
        tuple: pair("v", 1),
    };
    let mut home = Home::new();
    for inc in 1..=100 {
        assert!(matches!(home.decide(&admit(inc, 1)), Applied::Added { .. }));
    }
    let item = cpe_space::Item {
        workspace: name("w"),
        tuple: pair("v", 2),
    };
    for origin in [life(99), life(100)] {
        assert!(home.shard.add_pending(Dot { origin, n: 2 }, item.clone()));
    }
    let lives = vec![life(99)];
    home.decide(&Command::Retire { lives });
    let sm = home.shard.sm();
    assert_eq!(sm.origins().collect::<Vec<_>>(), [life(100)]);
    assert_eq!(sm.len(), 100, "what was admitted stays");
    let pending: Vec<Member> = home.shard.pending().keys().map(|dot| dot.origin).collect();
    assert_eq!(pending, [life(100)]);
    for (inc, n) in [(99, 1), (99, 2), (1, 1), (1, 2)] {
        assert!(matches!(home.decide(&admit(inc, n)), Applied::Skipped(_)));
        let (origin, item) = (life(inc), item.clone());
        assert!(!home.shard.add_pending(Dot { origin, n: 3 }, item));
    }
    assert!(matches!(home.decide(&admit(100, 2)), Applied::Added { .. }));
}
