use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::dataset::{Dataset, Feature, Target};
use crate::grow::grow_grove;
use crate::rows::Rows;
use crate::spec::ForestSpec;

/// Groves are grown once, since the properties want them often.
fn grown(classes: u32) -> Grove {
    static GROWN: LazyLock<BTreeMap<u32, Grove>> =
        LazyLock::new(|| [0, 2, 5].map(|classes| (classes, grow(classes))).into());
    GROWN[&classes].clone()
}

fn grow(classes: u32) -> Grove {
    let columns: Vec<Vec<f64>> = (0..3_u32)
        .map(|feature| {
            (0..60_u32)
                .map(|row| f64::from(row * (feature + 7) % 31) / 3.0)
                .collect()
        })
        .collect();
    let feature = |name: &str| Feature {
        name: name.to_owned(),
        levels: Vec::new(),
    };
    let (target, mut spec) = if classes == 0 {
        let values = (0..60_u32).map(|row| f64::from(row % 13) / 7.0).collect();
        (Target::Numbers(values), ForestSpec::regress())
    } else {
        let names = (0..classes).map(|class| class.to_string()).collect();
        let of = (0..60).map(|row| row * 17 % 23 % classes).collect();
        (Target::Classes { names, of }, ForestSpec::classify())
    };
    // Leaves of several classes occur only if growing stops early.
    spec.min_leaf = 3;
    spec.trees = 4;
    let features = ["a", "b", "c"].map(feature).to_vec();
    let data = Dataset::new(features, columns, "y", target).unwrap();
    grow_grove(&data, &spec, 0).unwrap()
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    for classes in [0, 2, 5] {
        let grove = grown(classes);
        let bytes = encode(&grove);
        assert_eq!(decode(&bytes).unwrap(), grove);
    }
}

#[test]
fn the_bytes_are_the_ones_drawn_above() {
    let mut tree = Tree::default();
    tree.nodes.push(Node {
        value: 0.5,
        right: 2,
        feature: 1,
    });
    for classes in [&[(1, 300)][..], &[(0, 2), (1, 1)]] {
        let right = tree.push_counts(classes);
        tree.nodes.push(Node {
            value: 0.0,
            right,
            feature: LEAF,
        });
    }
    let grove = Grove {
        recipe: [9; 32],
        index: 200,
        features: 2,
        classes: 2,
        importance: vec![0.0, 1.0],
        trees: vec![tree],
    };
    let mut expected = b"CPEGROVE\x02".to_vec();
    expected.extend([9; 32]);
    expected.extend([0xc8, 1, 2, 2, 1]);
    expected.extend([0; 8]);
    expected.extend(1.0_f64.to_le_bytes());
    expected.push(3);
    expected.extend([1 << 2 | 2, 0, 0, 0, 0x3f]);
    // 299 * 2 + 1 = 599 times 4 is 2,396.
    expected.extend([0xdc, 0x12]);
    expected.extend([2 << 2 | 1, 2, 1]);
    assert_eq!(encode(&grove), expected);
    assert_eq!(decode(&expected).unwrap(), grove);
}

#[test]
fn a_prefix_or_an_addition_is_refused() {
    let bytes = encode(&grown(2));
    for end in 0..bytes.len() {
        assert!(
            decode(&bytes[..end]).is_err(),
            "{end} bytes of {}",
            bytes.len()
        );
    }
    let mut longer = bytes;
    longer.push(0);
    let error = decode(&longer).unwrap_err().to_string();
    assert!(error.contains("something follows its last tree"), "{error}");
}

#[test]
fn a_claim_of_many_nodes_allocates_nothing() {
    let mut bytes = b"CPEGROVE\x02".to_vec();
    bytes.extend([0; 32]);
    bytes.extend([0, 1, 2, 1]);
    bytes.extend([0; 8]);
    push_varint(&mut bytes, MAX_TREE_NODES as u64);
    let error = decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("fewer nodes than it says"), "{error}");
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let mut tree = Tree::default();
    let depth = u32::from(MAX_DEPTH) + 1;
    // Each cut has a leaf on its left and the next cut on its right.
    for cut in 0..depth {
        tree.nodes.push(Node {
            value: 1.0,
            right: 2 * cut + 2,
            feature: 0,
        });
        tree.nodes.push(Node {
            value: 2.0,
            right: 0,
            feature: LEAF,
        });
    }
    tree.nodes.push(Node {
        value: 3.0,
        right: 0,
        feature: LEAF,
    });
    let grove = |tree: Tree| Grove {
        recipe: [0; 32],
        index: 0,
        features: 1,
        classes: 0,
        importance: vec![0.0],
        trees: vec![tree],
    };
    let error = decode(&encode(&grove(tree.clone())))
        .unwrap_err()
        .to_string();
    assert!(error.contains("too deep"), "{error}");
    tree.nodes.drain(..2);
    for node in &mut tree.nodes {
        node.right = node.right.saturating_sub(2);
    }
    let shallower = grove(tree);
    assert_eq!(decode(&encode(&shallower)).unwrap(), shallower);
    assert_eq!(shallower.depth(), usize::from(MAX_DEPTH));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_bytes_nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300), head in any::<bool>(),
    ) {
        let mut all = Vec::new();
        if head {
            all.extend_from_slice(MAGIC);
            all.extend_from_slice(&[0; 33]);
        }
        all.extend(bytes);
        let _ = decode(&all);
    }

    /// Changed bytes are refused, or are another grove: with one form only, and safe to walk.
    #[test]
    fn changed_bytes_give_an_error_or_a_sound_grove(
        classes in prop_oneof![Just(0_u32), Just(2), Just(5)],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&grown(classes));
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(grove) = decode(&bytes) {
            prop_assert_eq!(encode(&grove), bytes);
            let row = vec![1.0; grove.features];
            prop_assert!(grove.tally(&Rows::one(&row)).is_ok());
            prop_assert!(grove.depth() <= usize::from(MAX_DEPTH));
        }
    }
}
