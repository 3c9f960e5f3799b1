//! Lives of nodes as hosts of actors (rules A1 and A2).

use std::time::Duration;

use cpe_membership::{Incarnation, Member};
use cpe_space::{Applied, Command, OpId, Outcome, Session};

use crate::Home;

fn enlist(home: &mut Home, session: Session, seq: u64) -> Outcome {
    let op = OpId { session, seq };
    let lease_ms = 5_000;
    match home.decide(&Command::Enlist { op, lease_ms }) {
        Applied::Done(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

fn session(boot: u32) -> Session {
    let member = crate::member(7);
    Session { member, boot }
}

fn life(inc: u32) -> Member {
    let node = crate::member(7).node;
    let inc = Incarnation(inc);
    Member { node, inc }
}

#[test]
fn each_start_of_a_node_has_a_life_of_its_own_and_ends_the_one_before() {
    let mut home = Home::new();
    assert_eq!(enlist(&mut home, session(1), 1), Outcome::Enlisted(life(1)));
    assert_eq!(enlist(&mut home, session(1), 1), Outcome::Enlisted(life(1)));
    assert_eq!(enlist(&mut home, session(2), 1), Outcome::Enlisted(life(2)));
    let record = home.shard.sm().host(life(1).node).unwrap();
    assert!(record.is_over(Incarnation(1)) && !record.is_over(Incarnation(2)));
    assert!(!record.is_over(Incarnation(3)), "it was not given yet");
    assert_eq!(record.lease(), Duration::from_secs(5));
}

#[test]
fn a_life_that_is_over_stays_over() {
    let mut home = Home::new();
    enlist(&mut home, session(1), 1);
    let void = |life| Command::Void { life };
    assert_eq!(home.decide(&void(life(1))), Applied::Voided(life(1)));
    assert_eq!(home.decide(&void(life(1))), Applied::Nothing);
    assert_eq!(home.shard.sm().host(life(1).node).unwrap().living(), None);
    assert_eq!(enlist(&mut home, session(1), 2), Outcome::Enlisted(life(2)));
    assert_eq!(home.decide(&void(life(1))), Applied::Nothing, "an old one");
    let record = home.shard.sm().host(life(1).node).unwrap();
    assert_eq!(record.living(), Some(life(2)));
    assert_eq!(record.newest_over(), Incarnation(1));
}

#[test]
fn a_node_whose_disk_was_lost_waits_until_its_former_life_is_over() {
    let mut home = Home::new();
    enlist(&mut home, session(1), 1);
    let mut anew = session(1);
    anew.member.inc = Incarnation(2);
    let refused = Outcome::StillAlive(life(1));
    assert_eq!(enlist(&mut home, anew, 1), refused);
    home.decide(&Command::Void { life: life(1) });
    assert_eq!(enlist(&mut home, anew, 2), Outcome::Enlisted(life(2)));
}
