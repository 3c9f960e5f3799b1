//! Joining, dying, leaving and coming back.

use std::time::Duration;

use cpe_membership::{Incarnation, MemberState, Output};

use crate::net::{MS, Net, SECOND, id, life};

#[test]
fn ten_nodes_that_join_through_one_all_see_all() {
    let mut net = Net::joined(10);
    for n in 1..=10 {
        let events = net.take_events(n);
        let ups: Vec<_> = (1..=10)
            .filter(|m| *m != n)
            .map(|m| Output::Up(life(m, 1)))
            .collect();
        assert_eq!(events.len(), ups.len(), "{events:?}");
        assert!(ups.iter().all(|up| events.contains(up)));
        for m in 1..=10 {
            let card = net.nodes[&id(n)].card(id(m)).unwrap();
            assert_eq!(card.name, format!("node-{m}"));
        }
        assert_eq!(net.nodes[&id(n)].stats().packets_refused, 0);
    }
}

#[test]
fn all_see_all_although_every_fifth_packet_is_lost() {
    let mut net = Net {
        lose_every: 5,
        ..Net::default()
    };
    for n in 1..=10 {
        net.start(n, 1, n);
        net.announce(n, 1);
    }
    net.run(30 * SECOND);
    for n in 1..=10 {
        assert_eq!(net.active(n), (1..=10).collect::<Vec<_>>());
    }
}

#[test]
fn a_lost_announcement_is_repeated_until_somebody_answers() {
    let mut net = Net::default();
    net.start(2, 1, 2);
    net.announce(2, 1);
    net.run(5 * SECOND);
    net.start(1, 1, 1);
    net.run(3 * SECOND);
    assert_eq!((net.active(1), net.active(2)), (vec![1, 2], vec![1, 2]));
}

#[test]
fn a_death_is_seen_by_everyone_once_and_within_about_three_seconds() {
    let mut slowest = MS;
    for seed in 0..20 {
        let mut net = Net::joined(10);
        net.run(seed * 37 * MS);
        net.forget_events();
        let died = net.now;
        net.kill(7);
        net.run(10 * SECOND);
        for n in (1..=10).filter(|n| *n != 7) {
            let at = net.events[&id(n)]
                .iter()
                .find(|(_, e)| *e == Output::Down(life(7, 1)));
            slowest = slowest.max(at.unwrap().0 - died);
            assert_eq!(net.take_events(n), [Output::Down(life(7, 1))], "node {n}");
            assert_eq!(net.state(n, 7), Some(MemberState::Dead));
        }
    }
    assert!(slowest < 3_500 * MS, "the slowest took {slowest:?}");
}

#[test]
fn two_nodes_notice_the_death_of_one_of_them() {
    let mut net = Net::joined(2);
    net.forget_events();
    net.kill(1);
    net.run(4 * SECOND);
    assert_eq!(net.take_events(2), [Output::Down(life(1, 1))]);
    assert_eq!(net.active(2), [2]);
}

#[test]
fn a_slow_node_is_suspected_objects_and_stays() {
    let mut net = Net::joined(5);
    net.forget_events();
    net.paused.insert(id(3));
    let suspected = |net: &Net| [1, 2, 4, 5].map(|n| net.state(n, 3) == Some(MemberState::Suspect));
    while !suspected(&net).contains(&true) {
        net.run(10 * MS);
        assert!(net.now < 15 * SECOND, "nobody noticed");
    }
    net.paused.clear();
    net.run(10 * SECOND);
    for n in 1..=5 {
        assert_eq!(net.take_events(n), [], "node {n}");
        assert_eq!(
            net.state(n, 3),
            Some(MemberState::Alive),
            "as node {n} sees it"
        );
    }
}

#[test]
fn a_node_that_was_paused_accuses_nobody() {
    let mut net = Net::joined(5);
    net.forget_events();
    net.paused.insert(id(3));
    net.run(20 * SECOND);
    net.paused.clear();
    net.run(20 * SECOND);
    // The others were right to give it up; it must not have given up them.
    let gone = net
        .take_events(3)
        .iter()
        .filter(|e| matches!(e, Output::Down(_)))
        .count();
    assert_eq!(gone, 0);
    assert_eq!(net.nodes[&id(3)].stats().stalls, 1);
    for n in [1, 2, 4, 5] {
        assert_eq!(
            net.take_events(n),
            [Output::Down(life(3, 1)), Output::Up(life(3, 1))]
        );
        assert_eq!(net.active(n), [1, 2, 3, 4, 5]);
    }
}

/// How many node 3 gives up when it hears nobody for so long, over some seeds, and how often it
/// doubted itself.
fn given_up_by_a_deaf_node(deaf: Duration) -> (usize, u64) {
    let (mut given_up, mut reprieves) = (0, 0);
    for seed in 0..10 {
        let mut net = Net::joined(5);
        net.run(seed * 53 * MS);
        net.forget_events();
        net.cuts = [1, 2, 4, 5].map(|n| (id(n), id(3))).into();
        net.run(deaf);
        net.cuts.clear();
        net.run(20 * SECOND);
        let events = net.take_events(3);
        given_up += events
            .iter()
            .filter(|e| matches!(e, Output::Down(_)))
            .count();
        reprieves += net.nodes[&id(3)].stats().reprieves;
        for n in 1..=5 {
            assert_eq!(net.active(n), [1, 2, 3, 4, 5], "as node {n} sees it");
        }
    }
    (given_up, reprieves)
}

#[test]
fn a_node_that_hears_nobody_doubts_itself_first_and_the_others_later() {
    let (given_up, reprieves) = given_up_by_a_deaf_node(5 * SECOND);
    assert_eq!(given_up, 0);
    assert!(reprieves > 0);
    let (given_up, _) = given_up_by_a_deaf_node(30 * SECOND);
    assert!(given_up >= 10, "{given_up}");
}

#[test]
fn leaving_is_seen_at_once() {
    let mut net = Net::joined(10);
    net.forget_events();
    net.with(4, |node, now| node.leave(now));
    net.run(5 * MS);
    for n in (1..=10).filter(|n| *n != 4) {
        assert_eq!(net.take_events(n), [Output::Left(life(4, 1))]);
        assert_eq!(net.state(n, 4), Some(MemberState::Left));
    }
    assert_eq!(net.nodes[&id(4)].next_wake(), None);
    net.run(30 * SECOND);
    assert_eq!(net.take_events(1), [], "nobody greets those who left");
}

#[test]
fn one_who_missed_the_good_bye_hears_of_it() {
    let mut net = Net::joined(5);
    net.forget_events();
    net.split(&[4], &[5]);
    net.with(4, |node, now| node.leave(now));
    net.run(SECOND);
    assert_eq!(net.take_events(5), [Output::Left(life(4, 1))]);
}

#[test]
fn a_higher_incarnation_replaces_the_old_life() {
    let mut net = Net::joined(4);
    net.forget_events();
    net.kill(2);
    net.start(2, 2, 99);
    net.announce(2, 1);
    net.run(5 * SECOND);
    for n in [1, 3, 4] {
        assert_eq!(
            net.take_events(n),
            [Output::Down(life(2, 1)), Output::Up(life(2, 2))]
        );
        assert_eq!(net.nodes[&id(n)].card(id(2)).unwrap().inc, Incarnation(2));
    }
    assert_eq!(net.active(2), [1, 2, 3, 4]);
}

#[test]
fn a_restart_in_the_same_incarnation_is_taken_back() {
    let mut net = Net::joined(4);
    // Twice, so that the others remember a bump the new process has never heard of.
    for round in 0..3 {
        net.forget_events();
        net.kill(2);
        net.run(10 * SECOND);
        net.start(2, 1, 100 + round);
        net.announce(2, 1);
        net.run(5 * SECOND);
        for n in [1, 3, 4] {
            assert_eq!(
                net.take_events(n),
                [Output::Down(life(2, 1)), Output::Up(life(2, 1))],
                "node {n}, round {round}"
            );
        }
        assert_eq!(net.active(2), [1, 2, 3, 4], "round {round}");
    }
}

#[test]
fn a_left_over_process_learns_that_its_life_is_over() {
    let mut net = Net::joined(3);
    let old = net.nodes.remove(&id(2)).unwrap();
    net.start(2, 5, 99);
    net.announce(2, 1);
    net.run(5 * SECOND);
    // The old process wakes up somewhere and takes the new one's place on the network.
    net.nodes.insert(id(2), old);
    net.forget_events();
    net.run(10 * SECOND);
    // It may take the first refusal for a false alarm.
    assert_eq!(
        net.take_events(2).last(),
        Some(&Output::Defunct {
            seen: Incarnation(5)
        })
    );
    assert_eq!(net.nodes[&id(2)].next_wake(), None);
    net.with(2, |node, now| node.raise_incarnation(now, Incarnation(6)));
    net.announce(2, 1);
    net.run(5 * SECOND);
    for n in [1, 3] {
        assert_eq!(net.active(n), [1, 2, 3]);
        let up = net.nodes[&id(n)]
            .members()
            .find(|view| view.member.node == id(2))
            .unwrap();
        assert_eq!(up.member, life(2, 6));
    }
}

#[test]
fn the_dead_are_forgotten_in_the_end() {
    let mut net = Net::default();
    net.config.forget_dead_after = 60 * SECOND;
    for n in 1..=3 {
        net.start(n, 1, n);
        net.announce(n, 1);
    }
    net.run(5 * SECOND);
    net.kill(3);
    net.run(50 * SECOND);
    assert_eq!(net.state(1, 3), Some(MemberState::Dead));
    assert!(net.nodes[&id(1)].card(id(3)).is_some());
    net.run(15 * SECOND);
    assert_eq!(net.state(1, 3), None);
    assert!(net.nodes[&id(1)].card(id(3)).is_none());
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    let run = || {
        let mut net = Net {
            lose_every: 7,
            trace: Some(Vec::new()),
            ..Net::default()
        };
        for n in 1..=8 {
            net.start(n, 1, n * 11);
            net.announce(n, 1);
        }
        net.run(5 * SECOND);
        net.kill(5);
        net.run(10 * SECOND);
        (net.trace, net.events)
    };
    assert!(run() == run());
}
