//! Bytes that no member would send.

use std::time::Duration;

use cpe_membership::{MEMBERS_MAX, Membership, MembershipConfig, NodeId, Output};
use proptest::prelude::*;

use crate::net::{Net, SECOND, card, id};

fn node() -> Membership {
    Membership::new(card(1, 1), MembershipConfig::lan(), 1, Duration::ZERO).unwrap()
}

/// Packets of every kind, as real nodes send them.
fn real_packets() -> Vec<Vec<u8>> {
    let mut net = Net {
        trace: Some(Vec::new()),
        lose_every: 9,
        ..Net::default()
    };
    for n in 1..=5 {
        net.start(n, 1, n);
        net.announce(n, 1);
    }
    net.run(5 * SECOND);
    net.kill(4);
    net.run(5 * SECOND);
    net.with(5, |node, now| node.leave(now));
    let mut packets: Vec<_> = net
        .trace
        .unwrap()
        .into_iter()
        .map(|(_, (_, _, b))| b)
        .collect();
    packets.sort();
    packets.dedup();
    packets
}

proptest! {
    #[test]
    fn noise_changes_nothing(
        kind in 0..6_u8,
        noise in proptest::collection::vec(any::<u8>(), 0..2_000),
        from in 0..4_u64,
    ) {
        let mut node = node();
        let mut bytes = vec![kind];
        bytes.extend(noise);
        node.handle_packet(Duration::ZERO, NodeId(from), &bytes);
        node.tick(Duration::from_secs(1));
        while node.poll_output().is_some() {}
        prop_assert!(node.members().count() <= 70);
    }

    #[test]
    fn damaged_packets_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        thread_local!(static PACKETS: Vec<Vec<u8>> = real_packets());
        PACKETS.with(|packets| {
            let mut node = node();
            let mut now = Duration::ZERO;
            for packet in packets {
                let mut bytes = packet.clone();
                for (at, value) in &damage {
                    let at = at.index(bytes.len());
                    bytes[at] ^= *value;
                }
                if cut.index(3) == 0 {
                    bytes.truncate(cut.index(packet.len()));
                }
                for from in 2..=5 {
                    node.handle_packet(now, id(from), &bytes);
                }
                now += Duration::from_millis(20);
                node.tick(now);
                while node.poll_output().is_some() {}
            }
        });
    }
}

/// A SWIM gossip packet from node 2 that names `count` nodes nobody has heard of.
fn gossip_of(first: u64, count: u16) -> Vec<u8> {
    let id = |node: u64| [&node.to_be_bytes()[..], &1_u32.to_be_bytes(), &[0; 4]].concat();
    let mut bytes = [vec![1], id(2), vec![0, 0], id(1), vec![8]].concat();
    bytes.extend(count.to_be_bytes());
    for node in first..first + u64::from(count) {
        bytes.extend([id(node), vec![0, 0, 0]].concat());
    }
    bytes
}

#[test]
fn names_beyond_the_bound_are_refused() {
    let mut node = node();
    for page in 0..75_u64 {
        node.handle_packet(Duration::ZERO, id(2), &gossip_of(1_000 + page * 60, 60));
    }
    let known = node.members().count();
    assert!(
        known <= MEMBERS_MAX + 1 && known > MEMBERS_MAX - 61,
        "{known}"
    );
    assert!(node.stats().packets_refused > 0);
}

#[test]
fn a_sender_that_says_to_be_somebody_else_is_refused() {
    let mut node = node();
    node.handle_packet(Duration::ZERO, id(3), &gossip_of(1_000, 1));
    assert_eq!(
        (node.members().count(), node.stats().packets_refused),
        (1, 1)
    );
    node.handle_packet(Duration::ZERO, id(2), &gossip_of(1_000, 1));
    assert_eq!(
        (node.members().count(), node.stats().packets_refused),
        (3, 1)
    );
}

#[test]
fn a_flood_of_probes_fills_no_more_than_the_bound() {
    let mut node = node();
    for _ in 0..40_000 {
        node.handle_packet(Duration::ZERO, id(2), &[3, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
    let mut sends = 0;
    while let Some(output) = node.poll_output() {
        sends += usize::from(matches!(output, Output::Send { .. }));
    }
    assert_eq!(sends, cpe_membership::SENDS_MAX);
    assert_eq!(node.stats().packets_dropped as usize, 40_000 - sends);
}
