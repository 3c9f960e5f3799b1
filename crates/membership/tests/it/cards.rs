//! Node cards.

use cpe_membership::{CARD_ENTRIES_MAX, CardError, MemberState, Output};

use crate::net::{Net, SECOND, card, id};

#[test]
fn a_changed_card_reaches_everyone() {
    let mut net = Net::joined(10);
    net.forget_events();
    let mut new = card(3, 1);
    new.capabilities.insert("cores".into(), "8".into());
    // What the caller says about identity and version does not count.
    new.version = 0;
    new.inc.0 = 77;
    net.with(3, |node, now| node.set_card(now, new)).unwrap();
    net.run(3 * SECOND);
    for n in (1..=10).filter(|n| *n != 3) {
        let card = net.nodes[&id(n)].card(id(3)).unwrap();
        assert_eq!(
            (
                card.version,
                card.inc.0,
                card.capabilities["cores"].as_str()
            ),
            (2, 1, "8")
        );
        let changes = net.events[&id(n)]
            .iter()
            .filter(|(_, e)| *e == Output::Card(id(3)));
        assert_eq!(changes.count(), 1);
    }
}

#[test]
fn a_restarted_node_takes_its_card_above_what_others_remember() {
    let mut net = Net::joined(3);
    for load in 1..=5 {
        let mut new = card(2, 1);
        new.load_milli = load;
        net.with(2, |node, now| node.set_card(now, new)).unwrap();
    }
    net.run(3 * SECOND);
    net.kill(2);
    net.start(2, 1, 50);
    let mut new = card(2, 1);
    new.name = "renamed".into();
    net.with(2, |node, now| node.set_card(now, new)).unwrap();
    net.announce(2, 1);
    net.run(5 * SECOND);
    for n in [1, 3] {
        let card = net.nodes[&id(n)].card(id(2)).unwrap();
        assert_eq!(card.name, "renamed", "as node {n} sees it");
        assert!(card.version > 6);
    }
}

#[test]
fn a_card_out_of_bounds_is_refused_and_the_old_one_stays() {
    let mut net = Net::joined(2);
    let mut big = card(1, 1);
    big.addresses = vec!["x".repeat(500); 20];
    let error = net
        .with(1, |node, now| node.set_card(now, big))
        .unwrap_err();
    assert!(matches!(error, CardError::Size { .. }), "{error}");
    let mut many = card(1, 1);
    many.addresses = vec![String::new(); CARD_ENTRIES_MAX + 1];
    let error = net
        .with(1, |node, now| node.set_card(now, many))
        .unwrap_err();
    assert_eq!(
        error,
        CardError::Entries {
            entries: CARD_ENTRIES_MAX + 1
        }
    );
    assert_eq!(net.nodes[&id(1)].own_card(), &card(1, 1));
}

#[test]
fn seventy_nodes_hold_every_card_within_twenty_seconds() {
    let mut net = Net::default();
    for n in 1..=70 {
        net.start(n, 1, n);
        net.announce(n, 1);
        net.run(SECOND / 20);
    }
    net.run(16 * SECOND);
    for n in 1..=70 {
        let node = &net.nodes[&id(n)];
        let complete = node.members().filter(|view| {
            view.state == MemberState::Alive && view.card.is_some_and(|card| card.version == 1)
        });
        assert_eq!(complete.count(), 70, "as node {n} sees it");
    }
}

/// Whoever has no address of a member cannot ask the member itself: node 2 has a link to node 1
/// alone, and all that node 1 offered was lost.
#[test]
fn a_card_whose_offers_were_lost_is_asked_for() {
    let mut net = Net {
        lose_offers: true,
        ..Net::default()
    };
    net.split(&[2], &[3, 4]);
    for n in 1..=4 {
        net.start(n, 1, n);
        net.announce(n, 1);
    }
    net.run(8 * SECOND);
    for (n, of) in [(2, 3), (2, 4), (3, 2), (4, 2)] {
        let node = &net.nodes[&id(n)];
        assert!(node.card(id(of)).is_some(), "node {n} has no card of {of}");
    }
}
