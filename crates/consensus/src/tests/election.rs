//! Rules R1 and R2.

use super::{Net, answer, ballot, follower, prepare, told};
use crate::{Heartbeat, Message, Output};

#[test]
fn a_leader_without_a_majority_steps_down_in_the_fourth_round() {
    let mut net = Net::led(3);
    net.isolate(1);
    net.rounds(3);
    assert!(net.groups[&1].is_leader());
    net.rounds(1);
    assert!(!net.groups[&1].is_leader());
    assert!(net.saw(1, &Output::Follow));
    assert!(!net.groups[&1].heartbeat().quorum);
}

#[test]
fn three_lost_rounds_change_nothing() {
    let mut net = Net::led(3);
    net.isolate(1);
    net.rounds(3);
    net.cut.clear();
    net.rounds(3);
    assert!(net.groups[&1].is_leader());
    assert!(!net.saw(1, &Output::Follow));
}

#[test]
fn the_others_elect_one_of_them_when_the_leader_is_gone() {
    let mut net = Net::led(3);
    net.isolate(1);
    net.rounds(6);
    let leaders = [2, 3].map(|me| net.groups[&me].is_leader());
    assert_eq!(leaders.iter().filter(|leads| **leads).count(), 1);
    let index = if leaders[0] {
        net.put(2, 10)
    } else {
        net.put(3, 10)
    };
    net.run();
    assert!(net.groups[&2].decided() >= index);
}

#[test]
fn a_leader_that_hears_of_a_higher_one_stops_at_once() {
    let mut net = Net::led(3);
    let higher = Heartbeat {
        ballot: ballot(9, 3),
        quorum: true,
    };
    net.with(1, |group, out| group.tick(&[(3, higher)], out));
    assert!(!net.groups[&1].is_leader());
    assert_eq!(net.groups[&1].leader(), Some(3));
}

#[test]
fn a_candidate_without_a_quorum_is_not_followed() {
    let mut net = Net::led(3);
    let higher = Heartbeat {
        ballot: ballot(9, 3),
        quorum: false,
    };
    net.with(1, |group, out| group.tick(&[(3, higher)], out));
    assert!(net.groups[&1].is_leader());
}

#[test]
fn a_heartbeat_with_the_ballot_of_another_is_no_answer() {
    let mut net = Net::led(3);
    let forged = Heartbeat {
        ballot: ballot(9, 2),
        quorum: true,
    };
    net.with(1, |group, out| group.tick(&[(3, forged)], out));
    assert_eq!(net.groups[&1].leader(), Some(1));
}

#[test]
fn a_leader_that_lost_its_followers_to_a_dead_candidate_comes_back_above_it() {
    let mut net = Net::led(3);
    // Member 3 asked 2 for a promise, and was never heard of again by the others.
    net.isolate(3);
    net.with(2, |group, out| group.receive(3, prepare(ballot(5, 3)), out));
    net.put(1, 10);
    net.run();
    assert_eq!(net.groups[&1].decided(), 0);
    net.rounds(5);
    assert!(net.groups[&1].is_leader());
    assert!(net.groups[&1].heartbeat().ballot > ballot(5, 3));
    assert_eq!(net.groups[&2].decided(), 1);
}

#[test]
fn a_preempted_leader_waits_four_rounds_and_never_uses_a_ballot_twice() {
    let mut net = Net::led(3);
    let first = net.groups[&1].heartbeat().ballot;
    net.with(1, |group, out| group.receive(3, prepare(ballot(5, 3)), out));
    assert!(!net.groups[&1].is_leader());
    net.isolate(3);
    net.rounds(3);
    assert_eq!(net.groups[&1].heartbeat().ballot, first);
    net.rounds(1);
    assert!(net.groups[&1].is_leader());
    assert!(net.groups[&1].heartbeat().ballot > ballot(5, 3));
}

#[test]
fn a_lower_ballot_is_refused_with_the_higher_one() {
    let mut group = follower(&[]);
    answer(&mut group, 3, prepare(ballot(5, 3)));
    let out = answer(&mut group, 1, prepare(ballot(1, 1)));
    let promised = ballot(5, 3);
    assert_eq!(told(&out), [&Message::Refuse { promised }]);
}
