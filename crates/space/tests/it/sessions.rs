//! Outcomes that nobody acknowledges have a bound.

use cpe_membership::Member;
use cpe_space::{Applied, Command, MAX_UNACKNOWLEDGED_BYTES, OpId, Outcome, Session, Sm};
use cpe_tuple::{Template, Value, codec};

use crate::{Home, member, name};

/// Bytes of each tuple.
const LARGE: usize = 3 << 20;

fn session(node: u64) -> Session {
    Session {
        member: member(node),
        boot: 1,
    }
}

fn op(node: u64, seq: u64) -> OpId {
    let session = session(node);
    OpId { session, seq }
}

/// A home that keeps as many outcomes as it may, of four nodes from 11 on, with tuples left; and
/// how many the last one took.
fn full() -> (Home, u64) {
    let mut home = Home::new();
    let some = MAX_UNACKNOWLEDGED_BYTES / LARGE + 8;
    for _ in 0..some {
        home.store_value("v", Value::from("x".repeat(LARGE)));
    }
    let mut took = 0;
    for node in 11..=14 {
        let before = home.shard.sm().unacknowledged_bytes();
        took = 0;
        while let Applied::Done(..) = home.take_as(op(node, took + 1), "v", false) {
            took += 1;
        }
        let kept = home.shard.sm().unacknowledged_bytes() - before;
        let most = MAX_UNACKNOWLEDGED_BYTES / 4;
        assert!((most..most + 2 * LARGE).contains(&kept), "{kept}");
    }
    (home, took)
}

#[test]
fn nothing_more_is_taken_when_the_outcomes_that_nobody_acknowledged_fill_their_room() {
    let (mut home, took) = full();
    let sm = home.shard.sm();
    let kept = sm.unacknowledged_bytes();
    let most = MAX_UNACKNOWLEDGED_BYTES;
    assert!((most..most + 5 * LARGE).contains(&kept), "{kept}");
    assert!(sm.is_full_of_outcomes(session(9)) && !sm.is_empty());
    let left = sm.len();
    for wait in [false, true] {
        let op = op(9, 1);
        assert_eq!(home.take_as(op, "v", wait), Applied::Missed(op));
    }
    let leased = Command::TakeLeased {
        op: op(9, 1),
        acks: Vec::new(),
        workspace: name("w"),
        template: Template::named("v").unwrap(),
        wait: false,
        ttl_ms: 1_000,
    };
    assert_eq!(home.decide(&leased), Applied::Missed(op(9, 1)));
    assert_eq!(home.shard.sm().len(), left, "nothing was taken");
    // What frees room is done all the same: an end of an operation, and an acknowledgement.
    let back = home.decide(&Command::Untake { op: op(14, took) });
    assert!(matches!(back, Applied::Added { .. }));
    home.decide(&Command::Ack {
        session: session(14),
        seqs: vec![1, 2],
    });
    let taken = home.take_as(op(9, 1), "v", false);
    assert!(matches!(taken, Applied::Done(_, Outcome::Taken { .. })));
    // A copy of the state counts the same.
    let bytes = codec::encode(home.shard.sm()).unwrap();
    let copy: Sm = codec::decode(&bytes, usize::MAX).unwrap();
    assert_eq!(copy, *home.shard.sm());
    // And a next start of the node leaves nothing of the one before.
    let before = home.shard.sm().unacknowledged_bytes();
    let next = Session {
        boot: 2,
        ..session(11)
    };
    home.take_as(
        OpId {
            session: next,
            seq: 1,
        },
        "none",
        false,
    );
    let kept = home.shard.sm().unacknowledged_bytes();
    assert!(kept < before - 4 * LARGE, "{kept} after {before}");
}

#[test]
fn outcomes_that_are_given_up_stay_done_and_are_told_to_nobody() {
    let mut home = Home::new();
    for n in 1..=3 {
        home.store("v", n);
    }
    for seq in 1..=2 {
        home.take_as(op(8, seq), "v", false);
    }
    let latest = |home: &Home| home.shard.sm().unacknowledged().next();
    let (who, before) = latest(&home).unwrap();
    assert_eq!(who, session(8));
    home.take_as(op(8, 3), "none", false);
    let give_up = |session, latest| Command::GiveUp { session, latest };
    home.decide(&give_up(who, before));
    assert_eq!(home.shard.sm().remembered(), 3, "it was heard of since");
    let (_, now) = latest(&home).unwrap();
    let later = Session { boot: 2, ..who };
    let other = Member { ..member(9) };
    for session in [
        later,
        Session {
            member: other,
            ..who
        },
    ] {
        home.decide(&give_up(session, now));
        assert_eq!(home.shard.sm().remembered(), 3, "{session:?}");
    }
    home.decide(&give_up(who, now));
    let sm = home.shard.sm();
    assert_eq!((sm.remembered(), sm.unacknowledged_bytes()), (0, 0));
    for seq in 1..=2 {
        let again = home.take_as(op(8, seq), "v", false);
        assert_eq!(again, Applied::Done(op(8, seq), Outcome::Stale));
        let undone = home.decide(&Command::Untake { op: op(8, seq) });
        assert_eq!(undone, Applied::Done(op(8, seq), Outcome::Stale));
    }
    assert_eq!(home.shard.sm().len(), 1, "what was taken stays taken");
}
