//! A group that nothing happens to.

use super::{Net, Word};
use crate::Output;

#[test]
fn a_group_of_one_decides_what_is_on_its_disk() {
    let mut net = Net::of(1);
    net.rounds(1);
    assert!(net.saw(1, &Output::Lead));
    net.put(1, 10);
    assert_eq!(net.words(1), [Word::Put(10)]);
}

#[test]
fn a_group_of_three_decides_everywhere_before_the_next_round() {
    let mut net = Net::led(3);
    net.put(1, 10);
    net.put(1, 11);
    net.run();
    for me in 1..=3 {
        assert_eq!(net.words(me), [Word::Put(10), Word::Put(11)]);
    }
}

#[test]
fn a_group_of_five_decides_with_three() {
    let mut net = Net::led(5);
    net.isolate(4);
    net.isolate(5);
    net.put(1, 10);
    net.run();
    assert_eq!(net.groups[&1].decided(), 1);
    assert_eq!(net.groups[&4].decided(), 0);
    net.cut.clear();
    net.rounds(2);
    assert_eq!(net.words(4), [Word::Put(10)]);
}

#[test]
fn an_idle_group_only_exchanges_heartbeats() {
    let mut net = Net::led(3);
    net.put(1, 10);
    net.run();
    net.rounds(3);
    let before = net.sent;
    net.rounds(5);
    assert_eq!(net.sent, before);
}

#[test]
fn a_ticket_is_confirmed_by_a_majority() {
    let mut net = Net::led(3);
    net.put(1, 10);
    net.run();
    let ticket = net.with(1, crate::Group::confirm).unwrap();
    assert!(!net.saw(1, &Output::Confirmed { ticket, index: 1 }));
    net.run();
    assert!(net.saw(1, &Output::Confirmed { ticket, index: 1 }));
    assert_eq!(net.with(2, crate::Group::confirm), None);
}
