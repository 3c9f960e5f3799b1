//! A state comes apart into its tuples and its outline, and together again.

use cpe_space::{Command, Mode, OpId, Sm};
use cpe_tuple::{Value, codec};
use proptest::prelude::*;

use crate::{Home, name};

const VARIABLES: [&str; 3] = ["a", "b", "c"];
const MODES: [Mode; 4] = [Mode::Fifo, Mode::Lifo, Mode::Multi, Mode::Single];

/// A home after some of everything.
fn home(steps: &[(u8, u8)]) -> Home {
    let mut home = Home::new();
    let mut ops: Vec<OpId> = Vec::new();
    for (what, which) in steps {
        let variable = VARIABLES[usize::from(*which) % 3];
        let workspace = name("w");
        match what % 11 {
            0..=4 => drop(home.store(variable, i64::from(*which))),
            5..=6 => {
                let op = home.op();
                ops.push(op);
                home.take_as(op, variable, false);
            }
            7 => {
                if let Some(op) = ops.pop() {
                    home.decide(&Command::Untake { op });
                }
            }
            8 => {
                if let Some(op) = ops.pop() {
                    let (session, seqs) = (op.session, vec![op.seq]);
                    home.decide(&Command::Ack { session, seqs });
                }
            }
            9 => {
                let (op, variable) = (home.op(), Value::from(variable));
                home.decide(&Command::Declare {
                    op,
                    workspace,
                    variable,
                    mode: MODES[usize::from(*which) % 4],
                });
            }
            _ => {
                let (op, variable) = (home.op(), Value::from(variable));
                home.decide(&Command::Drop {
                    op,
                    workspace,
                    variable: (which.is_multiple_of(2)).then_some(variable),
                });
            }
        }
    }
    home
}

fn encoded(sm: &Sm) -> Vec<u8> {
    codec::encode(sm).unwrap()
}

proptest! {
    #[test]
    fn a_state_is_its_outline_and_its_tuples(
        steps in prop::collection::vec(any::<(u8, u8)>(), 0..60),
    ) {
        let home = home(&steps);
        let whole = home.shard.sm();
        let mut outline = whole.clone();
        let mut tuples = outline.take_tuples();
        prop_assert!(outline.is_empty());
        prop_assert_eq!(tuples.len(), whole.len());
        prop_assert!(tuples.is_sorted_by(|a, b| a.index < b.index), "one tuple an index");
        let mut live: Vec<_> = whole.live().collect();
        live.sort_by_key(|live| live.index);
        prop_assert_eq!(&live, &tuples);
        let mut indices: Vec<u64> = whole.indices().collect();
        indices.sort_unstable();
        prop_assert!(indices.iter().eq(tuples.iter().map(|live| &live.index)));

        // As it travels: the outline as bytes, the tuples in any order.
        let mut again: Sm = codec::decode(&encoded(&outline), usize::MAX).unwrap();
        tuples.reverse();
        again.put_tuples(tuples);
        prop_assert_eq!(&again, whole);
        prop_assert_eq!(Sm::digest(&encoded(&again)), Sm::digest(&encoded(whole)));
    }

    #[test]
    fn a_difference_shows_in_the_digest(
        steps in prop::collection::vec(any::<(u8, u8)>(), 1..60),
        drop in any::<prop::sample::Index>(),
    ) {
        let home = home(&steps);
        let whole = home.shard.sm();
        let mut outline = whole.clone();
        let mut tuples = outline.take_tuples();
        if !tuples.is_empty() {
            tuples.remove(drop.index(tuples.len()));
            outline.put_tuples(tuples);
            prop_assert_ne!(Sm::digest(&encoded(&outline)), Sm::digest(&encoded(whole)));
        }
    }
}
