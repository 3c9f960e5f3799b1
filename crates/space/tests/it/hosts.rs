//! Lives of nodes as hosts of actors (rules A1 and A2).

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Incarnation, Member};
use cpe_space::{Applied, Command, Marked, OpId, Outcome, Sender, Sent, Session};
use cpe_tuple::Value;

use crate::{Home, member};

fn enlist(home: &mut Home, session: Session, seq: u64) -> Outcome {
    let op = OpId { session, seq };
    let lease_ms = 5_000;
    match home.decide(&Command::Enlist { op, lease_ms }) {
        Applied::Done(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

fn session(boot: u32) -> Session {
    let member = member(7);
    Session { member, boot }
}

fn life(inc: u32) -> Member {
    let node = member(7).node;
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

fn claim(home: &mut Home, expect: u64, host: Member, void: Option<Member>) -> Outcome {
    let op = home.op();
    let command = Command::ClaimLeased {
        op,
        name: "a".to_owned(),
        expect,
        spec: Value::from("spec"),
        needs: BTreeMap::new(),
        host,
        void,
    };
    match home.decide(&command) {
        Applied::Done(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

/// Messages by their senders and numbers, of senders that give nothing up.
fn commit(home: &mut Home, token: u64, seq: u64, marks: Vec<(Sender, u64)>) -> Outcome {
    let marked = |(sender, seq)| Marked {
        sender,
        seq,
        low: 1,
    };
    let marks = marks.into_iter().map(marked).collect();
    commit_marked(home, token, seq, marks)
}

fn commit_marked(home: &mut Home, token: u64, seq: u64, marks: Vec<Marked>) -> Outcome {
    commit_as(home, token, seq, marks, true)
}

fn commit_as(
    home: &mut Home,
    token: u64,
    seq: u64,
    marks: Vec<Marked>,
    rest_over: bool,
) -> Outcome {
    let (effects, sent) = (Vec::new(), Sent::default());
    let op = home.op();
    let command = Command::Commit {
        op,
        name: "a".to_owned(),
        token,
        seq,
        snapshot: Value::from(i64::try_from(seq).unwrap()),
        marks,
        effects,
        sent,
        rest_over,
    };
    match home.decide(&command) {
        Applied::Done(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_that_a_life_hosts_is_claimed_only_by_who_names_that_life_as_over() {
    let mut home = Home::new();
    assert!(matches!(
        claim(&mut home, 0, life(1), None),
        Outcome::Claimed(_)
    ));
    let (other, wrong) = (member(8), life(2));
    for void in [None, Some(wrong)] {
        assert!(matches!(
            claim(&mut home, 1, other, void),
            Outcome::Fenced(_)
        ));
    }
    let op = home.op();
    let plain = home.decide(&Command::Claim {
        op,
        name: "a".to_owned(),
        expect: 1,
        spec: Value::Null,
        host: other,
    });
    assert!(matches!(plain, Applied::Done(_, Outcome::Fenced(_))));
    let claimed = claim(&mut home, 1, other, Some(life(1)));
    assert!(matches!(claimed, Outcome::Claimed(record) if record.token == 2));
}

#[test]
fn what_was_committed_survives_a_claim_and_ends_with_the_actor() {
    let mut home = Home::new();
    claim(&mut home, 0, life(1), None);
    assert_eq!(commit(&mut home, 1, 1, vec![]), Outcome::Done);
    claim(&mut home, 1, life(2), Some(life(1)));
    assert!(matches!(
        commit(&mut home, 1, 2, vec![]),
        Outcome::Fenced(_)
    ));
    assert_eq!(commit(&mut home, 2, 1, vec![]), Outcome::Done, "repeated");
    let other = vec![(Sender::Start(session(1)), 1)];
    assert_eq!(
        commit(&mut home, 2, 1, other),
        Outcome::OutOfTurn(1),
        "another"
    );
    assert_eq!(commit(&mut home, 2, 3, vec![]), Outcome::OutOfTurn(1));
    assert_eq!(commit(&mut home, 2, 2, vec![]), Outcome::Done);
    let kept = home.shard.sm().actor("a").unwrap().kept.clone().unwrap();
    assert_eq!((kept.seq, kept.snapshot.clone()), (2, Value::from(2)));
    release(&mut home, member(7), None, true);
    let record = home.shard.sm().actor("a").unwrap();
    assert!(record.host.is_none() && record.kept.is_some());
    release(&mut home, member(7), None, false);
    assert_eq!(home.shard.sm().actor("a").unwrap().kept, None);
}

/// Gives the name up as a node, which may know that a life is over.
fn release(home: &mut Home, by: Member, void: Option<Member>, keeps: bool) -> Applied {
    let op = OpId {
        session: Session {
            member: by,
            boot: 1,
        },
        seq: home.op().seq,
    };
    let token = home.shard.sm().actor("a").unwrap().token;
    home.decide(&Command::Release {
        op,
        name: "a".to_owned(),
        token,
        void,
        keeps,
        sent: Sent::default(),
    })
}

#[test]
fn a_name_is_given_up_by_its_host_or_after_its_life_and_by_nobody_else() {
    let mut home = Home::new();
    claim(&mut home, 0, life(1), None);
    for void in [None, Some(life(2))] {
        let refused = release(&mut home, member(8), void, false);
        assert!(matches!(
            refused,
            Applied::Done(_, Outcome::Fenced(Some(_)))
        ));
    }
    let done = release(&mut home, member(8), Some(life(1)), false);
    assert!(matches!(done, Applied::Done(_, Outcome::Done)));
    claim(&mut home, 1, life(1), None);
    let done = release(&mut home, member(7), None, false);
    assert!(matches!(done, Applied::Done(_, Outcome::Done)));
}

#[test]
fn the_senders_heard_of_longest_ago_are_forgotten_first() {
    let mut home = Home::new();
    claim(&mut home, 0, life(1), None);
    let sender = |n| {
        Sender::Start(Session {
            member: member(n),
            boot: 1,
        })
    };
    commit(&mut home, 1, 1, vec![(sender(1), 5), (sender(2), 5)]);
    commit(&mut home, 1, 2, vec![(sender(2), 4)]);
    let marks = (3..).take(cpe_space::MAX_MARKS - 1);
    commit(&mut home, 1, 3, marks.map(|n| (sender(n), 1)).collect());
    let kept = home.shard.sm().actor("a").unwrap().kept.clone().unwrap();
    assert!(!kept.has(&sender(1), 5), "forgotten");
    assert!(kept.has(&sender(2), 4) && kept.has(&sender(2), 5));
    assert_eq!(kept.marks().len(), cpe_space::MAX_MARKS);
}

#[test]
fn a_message_that_was_overtaken_is_not_taken_for_handled_until_its_sender_gives_it_up() {
    let mut home = Home::new();
    claim(&mut home, 0, life(1), None);
    let sender = Sender::Start(session(1));
    let mut seqs = 1..;
    let mut mark = |home: &mut Home, seq, low| {
        let sender = sender.clone();
        let marks = vec![Marked { sender, seq, low }];
        commit_marked(home, 1, seqs.next().unwrap(), marks);
        let record = home.shard.sm().actor("a").unwrap();
        record.kept.clone().unwrap()
    };
    let kept = mark(&mut home, 2, 1);
    assert!(!kept.has(&sender, 1) && kept.has(&sender, 2));
    let kept = mark(&mut home, 7, 6);
    assert!((1..6).all(|given_up| kept.has(&sender, given_up)));
    assert!(!kept.has(&sender, 6) && kept.has(&sender, 7));
    // More than are remembered by themselves: the lowest count with all below them.
    let mut kept = kept;
    for seq in (8..).step_by(2).take(cpe_space::MARKED_MAX) {
        kept = mark(&mut home, seq, 6);
    }
    assert!(kept.has(&sender, 6));
    assert!(!kept.has(&sender, 9));
}

fn migrate(home: &mut Home, token: u64, seq: u64, to: Option<Member>) -> Outcome {
    let op = home.op();
    let name = "a".to_owned();
    let command = Command::Migrate {
        op,
        name,
        token,
        seq,
        to,
    };
    match home.decide(&command) {
        Applied::Done(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_actor_is_handed_on_by_its_host_alone_with_its_last_commit_and_once() {
    let mut home = Home::new();
    claim(&mut home, 0, life(1), None);
    assert_eq!(commit(&mut home, 1, 1, vec![]), Outcome::Done);
    assert_eq!(migrate(&mut home, 1, 1, None), Outcome::NoSuchHost);
    // A commit that its host gave up and that lasts after all.
    assert_eq!(
        migrate(&mut home, 1, 0, Some(life(2))),
        Outcome::OutOfTurn(1)
    );
    for again in 0..2 {
        let Outcome::Moved(record) = migrate(&mut home, 1, 1, Some(life(2))) else {
            panic!("try {again}");
        };
        assert_eq!((record.token, record.host), (2, Some(life(2))));
        assert_eq!((record.from, record.kept), (Some(life(1)), None));
    }
    assert!(matches!(
        commit(&mut home, 1, 2, vec![]),
        Outcome::Fenced(_)
    ));
    assert_eq!(commit(&mut home, 2, 2, vec![]), Outcome::Done);
    // Whoever claims it later was not handed it, and the former host is told nothing else.
    claim(&mut home, 2, life(3), Some(life(2)));
    assert!(matches!(
        migrate(&mut home, 1, 2, Some(life(2))),
        Outcome::Fenced(Some(record)) if record.token == 3 && record.from.is_none()
    ));
}

#[test]
fn who_claims_what_was_handed_on_hears_the_rest_from_whoever_handed_it_on() {
    let mut home = Home::new();
    let rest = |home: &Home| home.shard.sm().actor("a").unwrap().rest;
    claim(&mut home, 0, life(1), None);
    assert_eq!(rest(&home), None);
    let moved = migrate(&mut home, 1, 0, Some(life(2)));
    assert!(matches!(moved, Outcome::Moved(_)));
    assert_eq!(rest(&home), Some(life(1)));
    // The next host dies: the former one has what it did not commit.
    claim(&mut home, 2, life(3), Some(life(2)));
    assert_eq!(rest(&home), Some(life(1)));
    let done = release(&mut home, member(7), None, false);
    assert!(matches!(done, Applied::Done(_, Outcome::Done)));
    claim(&mut home, 3, life(1), None);
    assert_eq!(rest(&home), None, "it is another actor");
}

/// What the second host has handled may have come after what the first one still has.
#[test]
fn who_takes_over_from_a_host_that_gave_the_former_one_up_waits_for_it_no_more() {
    let mut home = Home::new();
    let rest = |home: &Home| home.shard.sm().actor("a").unwrap().rest;
    claim(&mut home, 0, life(1), None);
    migrate(&mut home, 1, 0, Some(life(2)));
    assert_eq!(commit_as(&mut home, 2, 1, vec![], false), Outcome::Done);
    assert_eq!(rest(&home), Some(life(1)), "it is waited for");
    assert_eq!(commit_as(&mut home, 2, 2, vec![], true), Outcome::Done);
    claim(&mut home, 2, life(3), Some(life(2)));
    assert_eq!(rest(&home), None);
}

#[test]
fn what_a_host_counts_of_failures_goes_with_its_actor_until_the_name_is_given_up() {
    let mut home = Home::new();
    let note = |home: &mut Home, token, failures| {
        let (op, name) = (home.op(), "a".to_owned());
        let note = Command::NoteFailures {
            op,
            name,
            token,
            failures,
        };
        match home.decide(&note) {
            Applied::Done(_, outcome) => outcome,
            other => panic!("{other:?}"),
        }
    };
    let counted = |home: &Home| home.shard.sm().actor("a").unwrap().failures;
    let born = |home: &Home| home.shard.sm().actor("a").unwrap().born;
    claim(&mut home, 0, life(1), None);
    assert_eq!(note(&mut home, 1, 2), Outcome::Done);
    assert!(matches!(
        migrate(&mut home, 1, 0, Some(life(2))),
        Outcome::Moved(record) if record.failures == 2
    ));
    assert!(matches!(note(&mut home, 1, 9), Outcome::Fenced(_)));
    assert_eq!(counted(&home), 2, "it is not the former host's to say");
    assert_eq!(note(&mut home, 2, 3), Outcome::Done);
    claim(&mut home, 2, life(3), Some(life(2)));
    assert_eq!((counted(&home), born(&home)), (3, 1), "taken over");
    let done = release(&mut home, member(7), None, false);
    assert!(matches!(done, Applied::Done(_, Outcome::Done)));
    claim(&mut home, 3, life(1), None);
    assert_eq!((counted(&home), born(&home)), (0, 4), "it is another one");
}
