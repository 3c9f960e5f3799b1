//! Rules R11 to R13.

use super::{Done, Net, Word, accept, answer, ballot, follower, sync};
use crate::{Group, Hard, Held, Output, Refusal, Refused, Seat};

type Place = Seat<u64, Word>;

fn held(epoch: u64, index: u64) -> Held {
    Held { epoch, index }
}

#[test]
fn nothing_is_proposed_after_a_seal() {
    let mut net = Net::led(3);
    net.with(1, |group, out| group.propose(Word::Seal, out))
        .unwrap();
    let refused = net.with(1, |group, out| group.propose(Word::Put(1), out));
    assert_eq!(
        refused,
        Err(Refused::Sealed {
            entry: Word::Put(1)
        })
    );
    assert!(net.groups[&1].is_sealed());
}

#[test]
fn every_member_learns_at_once_that_the_seal_is_decided_and_votes_no_more() {
    let mut net = Net::led(3);
    net.with(1, |group, out| group.propose(Word::Seal, out))
        .unwrap();
    net.run();
    for me in 1..=3 {
        assert_eq!(net.groups[&me].decided(), 1);
        assert!(!net.groups[&me].heartbeat().quorum);
    }
    let before = net.sent;
    net.with(2, |group, out| {
        group.receive(3, super::prepare(ballot(9, 3)), out)
    });
    net.rounds(5);
    assert_eq!(net.sent, before);
}

#[test]
fn a_leader_that_inherits_a_seal_decides_it_and_offers_nothing() {
    let mut net = Net::led(3);
    net.cut.insert((2, 1));
    net.cut.insert((3, 1));
    net.with(1, |group, out| group.propose(Word::Seal, out))
        .unwrap();
    net.run();
    assert_eq!(net.groups[&1].decided(), 0);
    net.isolate(1);
    net.rounds(7);
    for me in [2, 3] {
        assert_eq!(net.groups[&me].decided(), 1);
        assert!(!net.saw(me, &Output::Lead));
    }
}

#[test]
fn a_seal_that_is_replaced_ends_nothing() {
    let mut group = follower(&[]);
    let seal = crate::Message::Accept {
        ballot: ballot(1, 1),
        from: 0,
        entries: vec![Word::Seal],
        decided: 0,
    };
    answer(&mut group, 1, seal);
    assert!(group.is_sealed());
    answer(&mut group, 3, super::prepare(ballot(2, 3)));
    answer(&mut group, 3, sync(ballot(2, 3), 0, &[1], 0));
    assert!(!group.is_sealed());
    answer(&mut group, 3, accept(ballot(2, 3), 1, &[2], 2));
    assert_eq!(group.decided(), 2);
}

#[test]
fn a_seal_that_a_state_of_its_epoch_has_passed_ends_nothing() {
    let mut group = follower(&[]);
    let seal = crate::Message::Accept {
        ballot: ballot(1, 1),
        from: 0,
        entries: vec![Word::Seal],
        decided: 0,
    };
    answer(&mut group, 1, seal);
    assert!(group.is_sealed());
    // Others decided ordinary entries there, and this member got them as a state.
    group.learn(3, &mut Vec::new());
    assert!(!group.is_sealed());
    assert!(group.is_voting());
}

#[test]
fn opening_writes_the_record_first_and_forgets_the_old_tail() {
    let mut seat = Place::new(1);
    let mut out = Vec::new();
    seat.open(4, vec![1, 2, 3], held(4, 9), &mut out).unwrap();
    let hard = Hard {
        epoch: 4,
        promised: None,
        accepted: None,
    };
    let entries = Vec::new();
    assert_eq!(
        out,
        [Output::Hard(hard), Output::Append { after: 9, entries }]
    );
    assert_eq!(seat.group().map(Group::base), Some(9));
}

#[test]
fn an_epoch_is_opened_once_by_members_with_its_state() {
    let mut seat = Place::new(1);
    let mut out: Vec<Done> = Vec::new();
    let mut open = |seat: &mut Place, epoch, members: &[u64], held| {
        let opened = seat.open(epoch, members.to_vec(), held, &mut out);
        opened.map(|group| group.epoch())
    };
    let stranger = Refusal::Stranger { epoch: 4 };
    assert_eq!(open(&mut seat, 4, &[2, 3, 4], held(4, 9)), Err(stranger));
    let state = Refusal::State { epoch: 4, held: 3 };
    assert_eq!(open(&mut seat, 4, &[1, 2, 3], held(3, 9)), Err(state));
    assert_eq!(open(&mut seat, 4, &[1, 2, 3], held(4, 9)), Ok(4));
    let joined = Refusal::Joined { epoch: 4 };
    assert_eq!(open(&mut seat, 4, &[1, 2, 3], held(4, 9)), Err(joined));
    seat.hear(6);
    let over = Refusal::Over { epoch: 5, heard: 6 };
    assert_eq!(open(&mut seat, 5, &[1, 2, 3], held(5, 12)), Err(over));
    assert_eq!(open(&mut seat, 6, &[1, 2, 3], held(6, 15)), Ok(6));
}

/// Seed 298 of an early form: the leader decided a seal, told of the next epoch and lost its
/// state in a crash. Everybody who heard had dropped out of the old epoch.
#[test]
fn a_member_votes_until_its_own_replica_is_past_the_seal() {
    let mut seat = Place::new(1);
    let mut out = Vec::new();
    seat.open(1, vec![1], held(1, 0), &mut out).unwrap();
    seat.hear(2);
    seat.hold(held(1, 0), &mut out);
    assert!(seat.group().is_some());
    out.clear();
    seat.hold(held(2, 16), &mut out);
    assert!(seat.group().is_none());
    assert_eq!(seat.joined(), 1);
    // With the old promise a restart would bring the old group back.
    let hard = Hard {
        epoch: 1,
        promised: None,
        accepted: None,
    };
    assert_eq!(out, [Output::Hard(hard)]);
}

#[test]
fn a_leader_whose_replica_is_past_the_seal_stops() {
    let mut seat = Place::new(1);
    let mut out = Vec::new();
    let group = seat.open(1, vec![1], held(1, 0), &mut out).unwrap();
    group.tick(&[], &mut out);
    assert!(out.contains(&Output::Lead));
    seat.hold(held(2, 16), &mut out);
    assert!(out.contains(&Output::Follow));
}

#[test]
fn a_restart_brings_a_node_back_into_the_epoch_of_its_record_only() {
    let hard = Hard {
        epoch: 4,
        promised: Some(ballot(3, 2)),
        accepted: None,
    };
    let restore = |held| Place::restore(1, hard, held, vec![1, 2, 3], Vec::new(), 0);
    let seat = restore(held(4, 9));
    assert_eq!(seat.group().map(Group::hard), Some(hard));
    let mut seat = restore(held(5, 12));
    assert!(seat.group().is_none());
    let mut out = Vec::new();
    assert!(seat.open(5, vec![1, 2, 3], held(5, 12), &mut out).is_ok());
    let mut seat = restore(held(3, 7));
    assert!(seat.group().is_none());
    let opened = seat.open(3, vec![1, 2, 3], held(3, 7), &mut out);
    assert_eq!(opened.map(|_| ()), Err(Refusal::Joined { epoch: 3 }));
}
