//! Rules R3 to R9.

use super::{
    Net, Word, accept, accepted, answer, ballot, candidate, follower, log, prepare, promise, sync,
    told, words,
};
use crate::{Message, Output};

#[test]
fn a_promise_brings_what_the_candidate_lacks() {
    let mut group = follower(&[1, 2, 3]);
    let out = answer(&mut group, 3, prepare(ballot(2, 3)));
    let expected = promise(ballot(2, 3), Some(ballot(1, 1)), 0, 0, &[1, 2, 3]);
    assert_eq!(told(&out), [&expected]);

    // A candidate with the same ballot and a shorter log gets only the rest.
    let same = Message::Prepare {
        ballot: ballot(3, 3),
        decided: 0,
        accepted: Some(ballot(1, 1)),
        len: 2,
    };
    let out = answer(&mut group, 3, same);
    let expected = promise(ballot(3, 3), Some(ballot(1, 1)), 0, 2, &[3]);
    assert_eq!(told(&out), [&expected]);
}

#[test]
fn promises_and_acknowledgements_wait_for_the_disk() {
    let mut group = follower(&[1]);
    let out = answer(&mut group, 1, accept(ballot(1, 1), 1, &[2], 0));
    assert!(matches!(
        out.as_slice(),
        [
            Output::Append { after: 1, .. },
            Output::Send { durable: true, .. }
        ]
    ));
    let out = answer(&mut group, 3, prepare(ballot(2, 3)));
    assert!(matches!(
        out.as_slice(),
        [Output::Hard(_), Output::Send { durable: true, .. }]
    ));
}

#[test]
fn a_candidate_asks_only_once_its_own_promise_is_on_disk() {
    let mut net = Net::of(3);
    net.stuck.insert(1, Vec::new());
    net.rounds(3);
    assert!(!net.groups[&1].is_leader());
    net.unstick(1);
    net.run();
    assert!(net.groups[&1].is_leader());
}

#[test]
fn an_acceptor_that_trimmed_what_a_candidate_needs_tells_it_to_catch_up() {
    let mut group = follower(&[1, 2, 3]);
    answer(&mut group, 1, accept(ballot(1, 1), 3, &[], 3));
    group.trim(2);
    let out = answer(&mut group, 3, prepare(ballot(2, 3)));
    assert_eq!(told(&out), [&Message::CatchUp { decided: 3 }]);
}

#[test]
fn a_candidate_that_caught_up_starts_over_with_a_fresh_ballot() {
    let (mut group, first) = candidate(3, None, &[], 0);
    let out = answer(&mut group, 2, Message::CatchUp { decided: 5 });
    assert_eq!(out, [Output::Behind { peer: 2, index: 5 }]);
    group.learn(5, &mut Vec::new());
    // A promise to the first ballot may be older than the decision.
    answer(&mut group, 3, promise(first, None, 0, 0, &[]));
    assert!(!group.is_leader());
    let mut out = Vec::new();
    let quiet = [(2, 0), (3, 0)].map(|(node, round)| {
        let ballot = ballot(round, node);
        (
            node,
            crate::Heartbeat {
                ballot,
                quorum: true,
            },
        )
    });
    group.tick(&quiet, &mut out);
    let own = group.heartbeat().ballot;
    assert!(own > first);
    let asked = Message::Prepare {
        ballot: own,
        decided: 5,
        accepted: None,
        len: 5,
    };
    assert_eq!(told(&out), [&asked, &asked]);
}

#[test]
fn a_member_that_fell_behind_the_leaders_base_goes_on_after_it_learned() {
    let mut net = Net::led(3);
    net.isolate(3);
    for n in 0..5 {
        net.put(1, n);
    }
    net.run();
    net.with(1, |group, _| group.trim(4));
    net.cut.clear();
    net.rounds(1);
    assert!(net.saw(3, &Output::Behind { peer: 1, index: 5 }));
    net.with(3, |group, out| group.learn(5, out));
    net.put(1, 5);
    net.run();
    assert_eq!(net.words(3), [Word::Put(5)]);
}

#[test]
fn learning_keeps_the_entries_above_and_what_was_promised() {
    let mut group = follower(&[1, 2, 3]);
    let before = group.hard();
    group.learn(2, &mut Vec::new());
    assert_eq!((group.base(), group.decided(), group.len()), (2, 2, 3));
    assert_eq!(log(&group), words(&[3]));
    assert_eq!(group.hard(), before);
}

#[test]
fn a_leader_does_not_pass_on_what_it_learned_elsewhere() {
    let (mut group, own) = candidate(3, Some(ballot(1, 3)), &[7, 8], 0);
    answer(
        &mut group,
        2,
        promise(own, Some(ballot(1, 3)), 0, 0, &[7, 8]),
    );
    assert!(group.is_leader());
    group.learn(2, &mut Vec::new());
    assert_eq!(group.decided(), 0);
    let mut out = Vec::new();
    group.tick(&[], &mut out);
    let says = |message: &&Message<u64, Word>| match message {
        Message::Prepare { decided, .. } | Message::Accept { decided, .. } => *decided > 0,
        _ => false,
    };
    assert!(!told(&out).iter().any(says));
    // Once it leads no more, it counts.
    answer(&mut group, 3, prepare(ballot(9, 3)));
    assert_eq!(group.decided(), 2);
}

#[test]
fn the_highest_ballot_wins_over_the_longest_log() {
    let (mut group, own) = candidate(3, Some(ballot(1, 3)), &[1, 2, 3], 0);
    answer(&mut group, 2, promise(own, Some(ballot(2, 2)), 0, 0, &[9]));
    assert_eq!(log(&group), words(&[9]));
    assert!(group.is_leader());
}

#[test]
fn of_one_ballot_the_longest_log_wins() {
    let (mut group, own) = candidate(5, Some(ballot(1, 3)), &[1], 0);
    answer(&mut group, 2, promise(own, Some(ballot(1, 3)), 0, 1, &[]));
    answer(
        &mut group,
        4,
        promise(own, Some(ballot(1, 3)), 0, 1, &[2, 3]),
    );
    assert_eq!(log(&group), words(&[1, 2, 3]));
}

#[test]
fn a_promised_suffix_is_spliced_by_index() {
    let (mut group, own) = candidate(3, Some(ballot(1, 3)), &[1, 2], 1);
    answer(
        &mut group,
        2,
        promise(own, Some(ballot(1, 3)), 0, 0, &[1, 2, 3]),
    );
    assert_eq!(log(&group), words(&[1, 2, 3]));
}

#[test]
fn a_promised_suffix_with_a_hole_before_it_elects_nobody() {
    let (mut group, own) = candidate(3, None, &[], 0);
    answer(&mut group, 2, promise(own, Some(ballot(1, 3)), 0, 2, &[3]));
    assert!(!group.is_leader());
    assert_eq!(group.len(), 0);
}

#[test]
fn a_sync_replaces_the_undecided_tail_and_nothing_else() {
    let mut group = follower(&[1, 2, 3]);
    answer(&mut group, 1, accept(ballot(1, 1), 3, &[], 1));
    answer(&mut group, 3, prepare(ballot(2, 3)));
    answer(&mut group, 3, sync(ballot(2, 3), 0, &[1, 9], 0));
    assert_eq!(log(&group), words(&[1, 9]));
    assert_eq!(group.hard().accepted, Some(ballot(2, 3)));
}

#[test]
fn a_sync_that_begins_beyond_what_is_decided_is_not_taken() {
    let mut group = follower(&[1, 2, 3]);
    answer(&mut group, 3, prepare(ballot(2, 3)));
    let out = answer(&mut group, 3, sync(ballot(2, 3), 2, &[9], 2));
    assert_eq!(out, []);
    assert_eq!(log(&group), words(&[1, 2, 3]));
    assert_eq!(group.hard().accepted, Some(ballot(1, 1)));
}

#[test]
fn under_one_ballot_a_sync_extends_and_never_shortens() {
    let mut group = follower(&[1]);
    answer(&mut group, 1, accept(ballot(1, 1), 1, &[2, 3], 0));
    let out = answer(&mut group, 1, sync(ballot(1, 1), 0, &[1], 0));
    assert_eq!(told(&out), [&accepted(ballot(1, 1), 3, 0)]);
    assert_eq!(log(&group), words(&[1, 2, 3]));
    answer(&mut group, 1, sync(ballot(1, 1), 0, &[1, 2, 3, 4], 0));
    assert_eq!(log(&group), words(&[1, 2, 3, 4]));
}

#[test]
fn entries_are_accepted_only_under_the_ballot_of_the_log() {
    let mut group = follower(&[1]);
    answer(&mut group, 3, prepare(ballot(2, 3)));
    let out = answer(&mut group, 3, accept(ballot(2, 3), 1, &[2], 0));
    assert_eq!(told(&out), [&Message::NeedPrepare]);
    assert_eq!(log(&group), words(&[1]));
}

#[test]
fn a_gap_is_reported_and_filled() {
    let mut net = Net::led(3);
    net.cut.insert((1, 2));
    net.put(1, 10);
    net.run();
    net.cut.clear();
    net.put(1, 11);
    net.run();
    assert_eq!(net.words(2), words(&[10, 11]));
}

#[test]
fn repeated_entries_are_taken_once() {
    let mut group = follower(&[1]);
    for _ in 0..2 {
        let out = answer(&mut group, 1, accept(ballot(1, 1), 1, &[2, 3], 0));
        assert_eq!(told(&out), [&accepted(ballot(1, 1), 3, 0)]);
    }
    answer(&mut group, 1, accept(ballot(1, 1), 2, &[3, 4], 0));
    assert_eq!(log(&group), words(&[1, 2, 3, 4]));
}

#[test]
fn acceptances_of_an_earlier_ballot_do_not_count() {
    let (mut group, own) = candidate(3, Some(ballot(1, 1)), &[1], 0);
    answer(&mut group, 2, promise(own, None, 0, 0, &[]));
    assert!(group.is_leader());
    answer(&mut group, 2, accepted(ballot(1, 1), 1, 0));
    answer(&mut group, 3, accepted(ballot(1, 1), 1, 0));
    assert_eq!(group.decided(), 0);
    answer(&mut group, 2, accepted(own, 1, 0));
    answer(&mut group, 3, accepted(own, 1, 0));
    assert_eq!(group.decided(), 1);
}

#[test]
fn two_followers_decide_while_the_leaders_disk_hangs() {
    let mut net = Net::led(3);
    net.stuck.insert(1, Vec::new());
    net.put(1, 10);
    net.run();
    assert_eq!(net.groups[&1].decided(), 1);
    net.isolate(3);
    net.put(1, 11);
    net.run();
    assert_eq!(net.groups[&1].decided(), 1);
    net.unstick(1);
    assert_eq!(net.groups[&1].decided(), 2);
}

#[test]
fn a_candidate_that_meets_more_decided_than_it_has_steps_down() {
    let (mut group, own) = candidate(3, Some(ballot(1, 3)), &[1], 0);
    // It came by a state, without having accepted anything.
    let stranger = Message::Promise {
        ballot: own,
        accepted: None,
        len: 6,
        decided: 6,
        from: 1,
        suffix: Vec::new(),
    };
    let out = answer(&mut group, 2, stranger);
    assert!(out.contains(&Output::Behind { peer: 2, index: 6 }));
    assert!(!group.is_leader());
}

#[test]
fn a_leader_that_meets_more_decided_than_it_has_steps_down() {
    let mut net = Net::led(3);
    let own = net.groups[&1].heartbeat().ballot;
    net.with(1, |group, out| group.receive(3, accepted(own, 6, 6), out));
    assert!(!net.groups[&1].is_leader());
    assert!(net.saw(1, &Output::Behind { peer: 3, index: 6 }));
    assert!(net.saw(1, &Output::Follow));
}

#[test]
fn a_follower_with_more_decided_than_a_sync_brings_says_so() {
    let mut group = follower(&[1, 2, 3]);
    answer(&mut group, 1, accept(ballot(1, 1), 3, &[], 3));
    answer(&mut group, 3, prepare(ballot(2, 3)));
    let out = answer(&mut group, 3, sync(ballot(2, 3), 0, &[1], 0));
    assert_eq!(told(&out), [&Message::CatchUp { decided: 3 }]);
    assert_eq!(group.hard().accepted, Some(ballot(1, 1)));
}
