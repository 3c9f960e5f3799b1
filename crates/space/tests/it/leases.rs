//! Leased takes: set aside, renewed, committed, returned, expired.

use cpe_space::{
    Applied, Command, Fate, LeaseAct, LeaseEnd, LeaseId, MAX_ENDED_LEASES, MAX_LEASED_BYTES,
    MAX_LEASES, Mode, OpId, Outcome, Session, Shard, Sm,
};
use cpe_tuple::{Template, Value, codec};

use crate::{Home, member, name};

const TTL_MS: u64 = 5_000;

impl Home {
    fn lease_as(&mut self, op: OpId, wait: bool) -> Applied {
        self.decide(&Command::TakeLeased {
            op,
            acks: Vec::new(),
            workspace: name("w"),
            template: Template::named("v").unwrap(),
            wait,
            ttl_ms: TTL_MS,
        })
    }

    /// The value and the lease.
    fn lease(&mut self) -> (i64, LeaseId) {
        let op = self.op();
        leased(&self.lease_as(op, false)).unwrap()
    }

    fn act(&mut self, lease: LeaseId, act: LeaseAct) -> Applied {
        let op = self.op();
        self.decide(&Command::ActOnLease { op, lease, act })
    }

    fn expire(&mut self, lease: LeaseId, renewals: u64) -> Applied {
        self.decide(&Command::Expire { lease, renewals })
    }

    fn inquire(&mut self, op: OpId, about: OpId) -> Fate {
        match self.decide(&Command::Inquire { op, about }) {
            Applied::Done(_, Outcome::Fate(fate)) => fate,
            other => panic!("{other:?}"),
        }
    }

    fn value(&mut self) -> Option<i64> {
        match self.take("v") {
            Applied::Done(_, Outcome::Taken { tuple, .. }) => tuple[1].as_int(),
            _ => None,
        }
    }
}

fn leased(applied: &Applied) -> Option<(i64, LeaseId)> {
    match applied {
        Applied::Done(op, Outcome::Leased { tuple, token, .. }) => {
            let lease = LeaseId {
                op: *op,
                token: *token,
            };
            Some((tuple[1].as_int()?, lease))
        }
        _ => None,
    }
}

fn outcome(applied: Applied) -> Outcome {
    match applied {
        Applied::Done(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leased_tuple_is_seen_by_nobody_and_a_committed_one_never_again() {
    let mut home = Home::new();
    home.store("v", 1);
    let (value, lease) = home.lease();
    assert_eq!(value, 1);
    assert!(home.shard.sm().is_empty());
    assert_eq!(home.value(), None);
    assert_eq!(outcome(home.act(lease, LeaseAct::Commit)), Outcome::Done);
    assert_eq!(home.expire(lease, 0), Applied::Nothing);
    assert_eq!(home.value(), None);
}

#[test]
fn an_expired_or_returned_tuple_goes_back_to_its_place_in_the_queue() {
    for returned in [true, false] {
        let mut home = Home::new();
        for n in 1..=3 {
            home.store("v", n);
        }
        let (_, first) = home.lease();
        let (_, second) = home.lease();
        for lease in [second, first] {
            let back = if returned {
                home.act(lease, LeaseAct::Return)
            } else {
                home.expire(lease, 0)
            };
            assert!(matches!(back, Applied::Added { dot: None, .. }), "{back:?}");
        }
        let order: Vec<_> = (0..3).filter_map(|_| home.value()).collect();
        assert_eq!(order, [1, 2, 3]);
    }
}

#[test]
fn a_later_lease_of_a_tuple_has_a_higher_token() {
    let mut home = Home::new();
    home.store("v", 1);
    let mut last = 0;
    for _ in 0..5 {
        let (_, lease) = home.lease();
        assert!(lease.token > last);
        last = lease.token;
        home.expire(lease, 0);
    }
}

#[test]
fn a_renewed_lease_does_not_end_with_its_former_time() {
    let mut home = Home::new();
    home.store("v", 1);
    let (_, lease) = home.lease();
    assert_eq!(outcome(home.act(lease, LeaseAct::Renew)), Outcome::Done);
    assert_eq!(home.expire(lease, 0), Applied::Nothing, "renewed since");
    assert!(home.shard.sm().lease(lease.token).is_some());
    assert!(matches!(home.expire(lease, 1), Applied::Added { .. }));
    let late = outcome(home.act(lease, LeaseAct::Renew));
    assert_eq!(late, Outcome::LeaseLost(LeaseEnd::Expired));
}

#[test]
fn a_late_act_is_told_how_the_lease_ended() {
    use LeaseAct::{Commit, Renew, Return};
    use LeaseEnd::{Committed, Expired, Returned};
    for end in [Committed, Returned, Expired] {
        let mut home = Home::new();
        home.store("v", 1);
        let (_, lease) = home.lease();
        match end {
            Committed => home.act(lease, Commit),
            Returned => home.act(lease, Return),
            _ => home.expire(lease, 0),
        };
        for act in [Renew, Commit, Return] {
            let again = matches!((act, end), (Commit, Committed) | (Return, Returned));
            let expected = if again {
                Outcome::Done
            } else {
                Outcome::LeaseLost(end)
            };
            assert_eq!(outcome(home.act(lease, act)), expected, "{act:?} {end:?}");
        }
        let left = usize::from(end != Committed);
        assert_eq!(home.shard.sm().len(), left, "{end:?}");
    }
}

#[test]
fn a_handle_of_another_take_acts_on_nothing() {
    let mut home = Home::new();
    home.store("v", 1);
    let (_, lease) = home.lease();
    let op = home.op();
    let forged = LeaseId { op, ..lease };
    for act in [LeaseAct::Renew, LeaseAct::Commit, LeaseAct::Return] {
        let lost = outcome(home.act(forged, act));
        assert_eq!(lost, Outcome::LeaseLost(LeaseEnd::Forgotten));
    }
    assert!(home.shard.sm().lease(lease.token).is_some());
}

#[test]
fn a_leased_take_nobody_received_goes_back_when_it_is_undone() {
    let mut home = Home::new();
    home.store("v", 1);
    let (_, lease) = home.lease();
    let undone = home.decide(&Command::Untake { op: lease.op });
    assert!(matches!(undone, Applied::Added { index: 1, .. }));
    let late = outcome(home.act(lease, LeaseAct::Commit));
    assert_eq!(late, Outcome::LeaseLost(LeaseEnd::Returned));
    assert_eq!(home.value(), Some(1));
}

#[test]
fn undoing_a_take_whose_lease_has_ended_brings_nothing_back_twice() {
    for committed in [true, false] {
        let mut home = Home::new();
        home.store("v", 1);
        let (_, lease) = home.lease();
        if committed {
            home.act(lease, LeaseAct::Commit);
        } else {
            home.expire(lease, 0);
            assert_eq!(home.value(), Some(1));
        }
        home.decide(&Command::Untake { op: lease.op });
        assert_eq!(home.value(), None);
    }
}

#[test]
fn a_retried_leased_take_gets_the_same_tuple_and_token() {
    let mut home = Home::new();
    home.store("v", 1);
    home.store("v", 2);
    let op = home.op();
    let first = home.lease_as(op, false);
    assert_eq!(home.lease_as(op, false), first);
    assert_eq!(home.shard.sm().len(), 1);
}

#[test]
fn a_retried_act_happens_once() {
    let mut home = Home::new();
    home.store("v", 1);
    let (_, lease) = home.lease();
    let op = home.op();
    let act = LeaseAct::Renew;
    for _ in 0..3 {
        home.decide(&Command::ActOnLease { op, lease, act });
    }
    let renewals = home.shard.sm().lease(lease.token).unwrap().renewals();
    assert_eq!(renewals, 1);
}

#[test]
fn a_tuple_leased_before_its_variable_was_deleted_does_not_come_back() {
    for variable in [None, Some(Value::from("v"))] {
        let mut home = Home::new();
        home.store("v", 1);
        let (_, lease) = home.lease();
        let op = home.op();
        home.decide(&Command::Drop {
            op,
            workspace: name("w"),
            variable,
        });
        assert_eq!(home.expire(lease, 0), Applied::Nothing);
        assert!(home.shard.sm().is_empty());
        assert!(home.shard.sm().lease(lease.token).is_none());
    }
}

#[test]
fn a_newer_value_of_a_single_variable_outlives_a_leased_one() {
    let mut home = Home::new();
    let op = home.op();
    home.decide(&Command::Declare {
        op,
        workspace: name("w"),
        variable: Value::from("v"),
        mode: Mode::Single,
    });
    home.store("v", 1);
    let (_, lease) = home.lease();
    home.store("v", 2);
    let returned = home.act(lease, LeaseAct::Return);
    assert_eq!(outcome(returned), Outcome::Done);
    assert_eq!(home.value(), Some(2));
    assert_eq!(home.value(), None);
}

#[test]
fn a_replaced_value_of_a_single_variable_does_not_come_back_after_the_newer_one_was_taken() {
    let mut home = Home::new();
    home.store("v", 1);
    let (_, first) = home.lease();
    let op = home.op();
    home.decide(&Command::Declare {
        op,
        workspace: name("w"),
        variable: Value::from("v"),
        mode: Mode::Single,
    });
    // Nothing has replaced what was taken before the declaration.
    home.act(first, LeaseAct::Return);
    let (_, first) = home.lease();
    home.store("v", 2);
    let (_, second) = home.lease();
    home.act(first, LeaseAct::Return);
    assert_eq!(home.value(), None, "2 replaced it");
    home.act(second, LeaseAct::Return);
    assert_eq!(home.value(), Some(2));
}

#[test]
fn a_waiting_leased_take_that_misses_leaves_no_outcome() {
    let mut home = Home::new();
    let op = home.op();
    assert_eq!(home.lease_as(op, true), Applied::Missed(op));
    home.store("v", 1);
    assert!(leased(&home.lease_as(op, true)).is_some());
}

#[test]
fn leases_outlive_the_session_that_took_them() {
    let mut home = Home::new();
    home.store("v", 1);
    let (_, lease) = home.lease();
    let session = Session {
        member: member(7),
        boot: 2,
    };
    let op = OpId { session, seq: 1 };
    let act = LeaseAct::Commit;
    let done = home.decide(&Command::ActOnLease { op, lease, act });
    assert_eq!(outcome(done), Outcome::Done);
}

#[test]
fn what_is_under_lease_in_a_shard_is_bounded_in_bytes_also_after_a_snapshot() {
    let mut home = Home::new();
    let large = "x".repeat(60_000);
    let mut lease = None;
    for _ in 0..=MAX_LEASED_BYTES / 60_000 {
        home.store_value("v", Value::from(large.as_str()));
        let op = home.op();
        match outcome(home.lease_as(op, true)) {
            Outcome::Leased { token, .. } => lease = Some(LeaseId { op, token }),
            other => panic!("{other:?}"),
        }
        // Else the outcomes would be in the way before the leases are.
        home.decide(&Command::Ack {
            session: op.session,
            seqs: vec![op.seq],
        });
    }
    home.store_value("v", Value::from(large.as_str()));
    let bytes = codec::encode(home.shard.sm()).unwrap();
    let kept: Sm = codec::decode(&bytes, bytes.len()).unwrap();
    assert_eq!(kept, *home.shard.sm());
    home.shard = Shard::from_snapshot(home.shard.id(), kept);
    let op = home.op();
    assert_eq!(outcome(home.lease_as(op, true)), Outcome::TooManyLeases);
    home.act(lease.unwrap(), LeaseAct::Commit);
    let op = home.op();
    let leased = outcome(home.lease_as(op, true));
    assert!(matches!(leased, Outcome::Leased { .. }), "there is room");
}

#[test]
fn leases_of_a_shard_are_bounded_and_so_is_the_memory_of_ended_ones() {
    let mut home = Home::new();
    let mut leases = Vec::new();
    for n in 0..=MAX_LEASES {
        home.store("v", i64::try_from(n).unwrap());
        if n < MAX_LEASES {
            leases.push(home.lease().1);
        }
    }
    let op = home.op();
    assert_eq!(outcome(home.lease_as(op, true)), Outcome::TooManyLeases);
    assert_eq!(home.shard.sm().len(), 1);
    for lease in &leases {
        home.act(*lease, LeaseAct::Commit);
    }
    let commit = |home: &mut Home, nth: usize| outcome(home.act(leases[nth], LeaseAct::Commit));
    let lost = Outcome::LeaseLost(LeaseEnd::Forgotten);
    assert_eq!(commit(&mut home, MAX_LEASES - MAX_ENDED_LEASES - 1), lost);
    let kept = commit(&mut home, MAX_LEASES - MAX_ENDED_LEASES);
    assert_eq!(kept, Outcome::Done);
}

#[test]
fn leases_are_part_of_a_snapshot_and_older_snapshots_have_none() {
    let mut home = Home::new();
    home.store("v", 1);
    home.lease();
    let bytes = cpe_tuple::codec::encode(home.shard.sm()).unwrap();
    let back: Sm = cpe_tuple::codec::decode(&bytes, usize::MAX).unwrap();
    assert_eq!(&back, home.shard.sm());
    assert_eq!(back.leases().count(), 1);

    // A snapshot as it was before: without leases and all fields that came after them.
    let empty = Home::new();
    let mut bytes = cpe_tuple::codec::encode(empty.shard.sm()).unwrap();
    let leases = [0x08, 0xa2, 0x00, 0xa0, 0x01, 0xa0];
    let at = bytes.windows(6).position(|part| part == leases);
    bytes.truncate(at.unwrap());
    // A map of the eight fields before.
    bytes[0] = 0xa8;
    let old: Sm = cpe_tuple::codec::decode(&bytes, usize::MAX).unwrap();
    assert_eq!(&old, empty.shard.sm());
}

#[test]
fn an_inquiry_by_its_own_session_settles_an_undecided_operation_for_ever() {
    let mut home = Home::new();
    home.store("v", 1);
    let (take, about) = (home.op(), home.op());
    assert_eq!(home.inquire(about, take), Fate::Never);
    let late = outcome(home.take_as(take, "v", false));
    assert_eq!(late, Outcome::Cancelled);
    assert_eq!(home.shard.sm().len(), 1);
}

#[test]
fn an_inquiry_by_another_node_changes_nothing() {
    let mut home = Home::new();
    home.store("v", 1);
    let take = home.op();
    let session = Session {
        member: member(8),
        boot: 1,
    };
    let ask = |home: &mut Home, seq| home.inquire(OpId { session, seq }, take);
    assert_eq!(ask(&mut home, 1), Fate::Open);
    home.take_as(take, "v", false);
    assert_eq!(ask(&mut home, 2), Fate::Took { index: 1 });
    home.decide(&Command::Untake { op: take });
    assert_eq!(ask(&mut home, 3), Fate::Never);
    home.decide(&Command::Ack {
        session: take.session,
        seqs: vec![take.seq],
    });
    assert_eq!(ask(&mut home, 4), Fate::Forgotten);
    let mut later = take;
    later.session.boot = 9;
    let fate = home.inquire(OpId { session, seq: 5 }, later);
    assert_eq!(fate, Fate::Open, "and no session is superseded");
    assert_eq!(home.value(), Some(1));
}
