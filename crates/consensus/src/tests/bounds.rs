//! Limits, and members that do not keep to the rules.

use super::{Member, Net, Told, Word, ballot, candidate, follower, words};
use crate::{
    Ballot, Group, Heartbeat, MAX_IN_FLIGHT, MAX_MESSAGE_BYTES, MAX_TAIL, MAX_TAIL_BYTES,
    MAX_TICKETS, Message, Refused,
};

fn lonely_leader() -> Net {
    let mut net = Net::led(3);
    net.isolate(1);
    net
}

#[test]
fn a_full_tail_refuses_and_a_decided_one_does_not() {
    let mut net = lonely_leader();
    let half = MAX_TAIL_BYTES / 2;
    for _ in 0..2 {
        net.with(1, |group, out| group.propose(Word::Large(half), out))
            .unwrap();
    }
    let refused = net.with(1, |group, out| group.propose(Word::Put(1), out));
    assert_eq!(
        refused,
        Err(Refused::Full {
            entry: Word::Put(1)
        })
    );
    net.cut.clear();
    net.rounds(2);
    net.put(1, 1);
}

#[test]
fn an_entry_of_any_size_fits_an_empty_tail() {
    let mut net = lonely_leader();
    let huge = Word::Large(10 * MAX_TAIL_BYTES);
    assert!(net.with(1, |group, out| group.propose(huge, out)).is_ok());
    let refused = net.with(1, |group, out| group.propose(Word::Put(1), out));
    assert_eq!(
        refused,
        Err(Refused::Full {
            entry: Word::Put(1)
        })
    );
    net.cut.clear();
    net.rounds(2);
    assert_eq!(net.groups[&3].decided(), 1);
}

#[test]
fn a_tail_has_a_bounded_number_of_entries() {
    let mut net = lonely_leader();
    net.with(1, |group, out| {
        for n in 0..MAX_TAIL {
            group
                .propose(Word::Put(u32::try_from(n).unwrap()), out)
                .unwrap();
        }
        assert!(group.propose(Word::Put(0), out).is_err());
    });
}

#[test]
fn a_silent_peer_has_a_bounded_number_of_messages_under_way() {
    let mut net = Net::led(3);
    for n in 0..10 {
        net.put(1, n);
    }
    let to = |peer| net.wire.iter().filter(|(_, to, _)| *to == peer).count();
    assert_eq!((to(2), to(3)), (MAX_IN_FLIGHT, MAX_IN_FLIGHT));
    net.run();
    assert_eq!(net.groups[&3].decided(), 10);
}

#[test]
fn large_batches_are_cut() {
    let mut net = Net::led(3);
    net.with(1, |group, out| {
        for _ in 0..6 {
            let entry = Word::Large(MAX_MESSAGE_BYTES / 2);
            group.propose(entry, out).unwrap();
        }
    });
    let sizes: Vec<usize> = net
        .wire
        .iter()
        .map(|(_, _, message)| match message {
            Message::Accept { entries, .. } => entries.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(sizes, [2, 2, 2, 2, 2, 2]);
    net.run();
    assert_eq!(net.groups[&2].decided(), 6);
}

#[test]
fn a_member_far_behind_is_told_to_catch_up_instead_of_being_sent_everything() {
    let mut net = Net::led(3);
    net.isolate(3);
    for _ in 0..12 {
        let entry = Word::Large(MAX_MESSAGE_BYTES);
        net.with(1, |group, out| group.propose(entry, out)).unwrap();
        net.run();
    }
    // A new leader: the old one has sent its part and would go on with pieces.
    net.isolate(1);
    for me in [2, 3] {
        net.cut.remove(&(me, 5 - me));
    }
    net.rounds(8);
    let index = 12;
    assert!(net.saw(3, &crate::Output::Behind { peer: 2, index }));
    net.with(3, |group, out| group.learn(12, out));
    net.rounds(8);
    let leader = if net.groups[&2].is_leader() { 2 } else { 3 };
    net.put(leader, 1);
    net.run();
    assert_eq!(net.groups[&3].decided(), 13);
}

#[test]
fn tickets_are_bounded_and_void_without_the_lead() {
    let mut net = lonely_leader();
    let drawn = (0..=MAX_TICKETS).filter(|_| net.with(1, Group::confirm).is_some());
    assert_eq!(drawn.count(), MAX_TICKETS);
    net.rounds(4);
    assert_eq!(net.with(1, Group::confirm), None);
}

#[test]
fn one_question_answers_all_tickets_drawn_before_it() {
    let mut net = Net::led(3);
    let before = net.sent;
    for _ in 0..100 {
        net.with(1, Group::confirm).unwrap();
    }
    net.run();
    assert!(net.sent - before <= 8);
    let answered = net
        .seen
        .iter()
        .filter(|(_, output)| matches!(output, crate::Output::Confirmed { .. }));
    assert_eq!(answered.count(), 100);
}

#[test]
fn a_ticket_drawn_while_a_question_is_under_way_waits_for_the_next() {
    let mut net = Net::led(3);
    net.with(1, Group::confirm).unwrap();
    let late = net.with(1, Group::confirm).unwrap();
    let own = net.groups[&1].heartbeat().ballot;
    let first = Message::Confirmed {
        ballot: own,
        round: 1,
    };
    net.with(1, |group, out| group.receive(2, first, out));
    let confirmed = crate::Output::Confirmed {
        ticket: late,
        index: 0,
    };
    assert!(!net.saw(1, &confirmed));
    net.run();
    assert!(net.saw(1, &confirmed));
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn wild_index(rng: &mut u64) -> u64 {
    match random(rng) % 4 {
        0 => u64::MAX - random(rng) % 3,
        1 => random(rng),
        _ => random(rng) % 6,
    }
}

fn wild_ballot(rng: &mut u64, node: u64) -> Ballot<u64> {
    let round = match random(rng) % 8 {
        0 => u32::MAX,
        _ => u32::try_from(random(rng) % 6).unwrap(),
    };
    ballot(
        round,
        if random(rng).is_multiple_of(8) {
            random(rng) % 5
        } else {
            node
        },
    )
}

fn wild_words(rng: &mut u64) -> Vec<Word> {
    let mut list = words(&[1, 2, 3, 4, 5]);
    list.truncate(usize::try_from(random(rng) % 6).unwrap());
    if random(rng).is_multiple_of(20) {
        list.push(Word::Seal);
        list.push(Word::Put(0));
    }
    list
}

fn wild(rng: &mut u64, from: u64) -> Told {
    let asks = wild_ballot(rng, from);
    let answers = wild_ballot(rng, 1);
    let accepted = Some(wild_ballot(rng, 2)).filter(|_| random(rng).is_multiple_of(2));
    let [a, b, c] = [wild_index(rng), wild_index(rng), wild_index(rng)];
    match random(rng) % 10 {
        0 => Message::Prepare {
            ballot: asks,
            decided: a,
            accepted,
            len: b,
        },
        1 | 2 => Message::Promise {
            ballot: answers,
            accepted,
            len: a,
            decided: b,
            from: c,
            suffix: wild_words(rng),
        },
        3 => Message::Sync {
            ballot: asks,
            from: a,
            suffix: wild_words(rng),
            decided: b,
        },
        4 => Message::Accept {
            ballot: asks,
            from: a,
            entries: wild_words(rng),
            decided: b,
        },
        5 => Message::Accepted {
            ballot: answers,
            len: a,
            decided: b,
            gap: c.is_multiple_of(2),
        },
        6 => Message::NeedPrepare,
        7 => Message::Refuse { promised: asks },
        8 => Message::CatchUp { decided: a },
        _ => Message::Confirmed {
            ballot: answers,
            round: a,
        },
    }
}

#[test]
fn no_message_makes_a_member_panic() {
    let mut rng = 1;
    for round in 0..3_000 {
        let mut group: Member = match round % 3 {
            0 => Group::new(1, 1, vec![2, 1, 3], 0),
            1 => candidate(3, Some(ballot(1, 3)), &[1, 2, 3], 1).0,
            _ => Group::restore(1, vec![2, 1, 3], follower(&[]).hard(), 2, words(&[3]), 0),
        };
        let mut out = Vec::new();
        for _ in 0..30 {
            let from = random(&mut rng) % 5;
            let message = wild(&mut rng, from);
            group.receive(from, message, &mut out);
            if random(&mut rng).is_multiple_of(4) {
                let node = 2 + random(&mut rng) % 2;
                let ballot = wild_ballot(&mut rng, node);
                group.tick(
                    &[(
                        node,
                        Heartbeat {
                            ballot,
                            quorum: true,
                        },
                    )],
                    &mut out,
                );
                group.propose(Word::Put(7), &mut out).ok();
                group.confirm(&mut out);
            }
            group.flush(&mut out);
            assert!(group.base() <= group.decided() && group.decided() <= group.len());
        }
    }
}
