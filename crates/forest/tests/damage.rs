//! Forests whose bytes are not those that were written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use cpe_forest::{Dataset, Forest, ForestSpec, ModelError};

#[test]
fn a_forest_of_which_any_bit_was_flipped_is_not_taken_for_one() {
    let spec = ForestSpec::classify().with_trees(10);
    let forest = Forest::grow(&Dataset::breast_cancer(), &spec).unwrap();
    let bytes = forest.encode().unwrap();
    let mut damaged = 0;
    for bit in (0..bytes.len() * 8).step_by(37) {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        match Forest::decode(&other) {
            Ok(forest) => panic!("bit {bit} of {} told nobody: {forest:?}", bytes.len() * 8),
            Err(ModelError::Damaged) => damaged += 1,
            Err(_) => {}
        }
    }
    assert!(damaged > 100, "{damaged}");
}
