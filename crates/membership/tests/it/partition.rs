//! Halves that cannot hear each other.

use cpe_membership::Output;

use crate::net::{Net, SECOND, id};

#[test]
fn a_healed_partition_becomes_one_mesh_again() {
    let mut net = Net::joined(10);
    let (left, right) = ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10]);
    net.split(&left, &right);
    net.run(20 * SECOND);
    assert_eq!(net.active(1), left);
    assert_eq!(net.active(7), right);
    net.cuts.clear();
    net.forget_events();
    net.run(30 * SECOND);
    for n in 1..=10 {
        assert_eq!(
            net.active(n),
            (1..=10).collect::<Vec<_>>(),
            "as node {n} sees it"
        );
        let events = net.take_events(n);
        assert!(
            !events.iter().any(|e| matches!(e, Output::Defunct { .. })),
            "{events:?}"
        );
    }
}

#[test]
fn one_cut_off_from_everybody_finds_its_way_back() {
    let mut net = Net::joined(6);
    net.split(&[4], &[1, 2, 3, 5, 6]);
    net.run(20 * SECOND);
    assert_eq!(net.active(4), [4]);
    assert_eq!(net.active(1), [1, 2, 3, 5, 6]);
    net.cuts.clear();
    net.run(20 * SECOND);
    for n in 1..=6 {
        assert_eq!(net.active(n), [1, 2, 3, 4, 5, 6], "as node {n} sees it");
    }
    assert!(net.nodes[&id(4)].stats().rejoins <= 3);
}

#[test]
fn a_path_cut_between_two_is_bridged_by_the_others() {
    let mut net = Net::joined(6);
    net.forget_events();
    net.split(&[2], &[5]);
    net.run(60 * SECOND);
    for n in 1..=6 {
        assert_eq!(net.take_events(n), [], "node {n}");
    }
}
