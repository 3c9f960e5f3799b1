//! Rule R10.

use super::{Member, accept, accepted, answer, ballot, log, prepare, told, words};
use crate::{Group, Hard, Message, Output};

fn restored() -> Member {
    let hard = Hard {
        epoch: 1,
        promised: Some(ballot(4, 3)),
        accepted: Some(ballot(2, 1)),
    };
    Group::restore(2, vec![1, 2, 3], hard, 5, words(&[6, 7]), 6)
}

#[test]
fn a_restart_forgets_nothing_that_was_on_disk() {
    let group = restored();
    assert_eq!((group.base(), group.decided(), group.len()), (5, 6, 7));
    assert_eq!(log(&group), words(&[6, 7]));
    assert_eq!(group.hard().promised, Some(ballot(4, 3)));
    assert!(!group.is_leader());
}

#[test]
fn after_a_restart_the_own_ballot_is_above_the_promised_one() {
    assert_eq!(restored().heartbeat().ballot, ballot(5, 2));
}

#[test]
fn after_a_restart_lower_ballots_are_still_refused() {
    let mut group = restored();
    let out = answer(&mut group, 1, prepare(ballot(3, 1)));
    let promised = ballot(4, 3);
    assert_eq!(told(&out), [&Message::Refuse { promised }]);
}

#[test]
fn after_a_restart_a_member_in_step_goes_on_without_being_prepared() {
    let hard = Hard {
        epoch: 1,
        promised: Some(ballot(2, 1)),
        accepted: Some(ballot(2, 1)),
    };
    let mut group: Member = Group::restore(2, vec![1, 2, 3], hard, 5, words(&[6, 7]), 0);
    let out = answer(&mut group, 1, accept(ballot(2, 1), 7, &[8], 7));
    assert_eq!(told(&out), [&accepted(ballot(2, 1), 8, 7)]);
}

#[test]
fn a_group_of_one_decides_again_what_it_had_on_disk() {
    let hard = Hard {
        epoch: 1,
        promised: Some(ballot(1, 1)),
        accepted: Some(ballot(1, 1)),
    };
    let mut group = Group::restore(1, vec![1], hard, 5, words(&[6, 7]), 5);
    let mut out = Vec::new();
    group.tick(&[], &mut out);
    let marks: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            Output::Mark(mark) => Some(*mark),
            _ => None,
        })
        .collect();
    let mut out = Vec::new();
    for mark in marks {
        group.persisted(mark, &mut out);
    }
    assert_eq!(out, [Output::Decided(7)]);
}

#[test]
fn a_mark_of_an_earlier_ballot_says_nothing() {
    let mut group = Group::new(1, 1, vec![1], 0);
    let mut out = Vec::new();
    group.tick(&[], &mut out);
    group.propose(super::Word::Put(1), &mut out).unwrap();
    group.flush(&mut out);
    let mark = crate::Mark {
        ballot: ballot(0, 1),
        len: 1,
    };
    group.persisted(mark, &mut out);
    assert_eq!(group.decided(), 0);
}
