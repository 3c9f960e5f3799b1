use proptest::prelude::*;

use super::*;
use crate::dataset::{Dataset, Feature};
use crate::grow::grow_grove;
use crate::ranks::Ranks;
use crate::spec::{ClassWeights, ForestSpec};
use crate::tree::{LEAF, Tree};

/// Some values of a column, many of them alike or missing in some columns.
fn column(rows: usize) -> impl Strategy<Value = Vec<f64>> {
    let few = (0_i8..4).prop_map(f64::from);
    let missing = prop_oneof![3 => (-9_i8..9).prop_map(f64::from), 1 => Just(f64::NAN)];
    let any = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    prop_oneof![
        prop::collection::vec(few, rows),
        prop::collection::vec(missing, rows),
        prop::collection::vec(any, rows),
        Just(vec![1.0; rows]),
    ]
}

/// A data set of up to 60 rows, with or without weights.
fn data() -> impl Strategy<Value = Dataset> {
    (4_usize..60).prop_flat_map(|rows| {
        let classes = prop::collection::vec(0_u32..5, rows).prop_map(|of| Target::Classes {
            names: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
            of,
        });
        let numbers = prop_oneof![
            prop::collection::vec((-3_i8..3).prop_map(f64::from), rows),
            prop::collection::vec(-1e100..1e100, rows),
            prop::collection::vec((0.0..1.0).prop_map(|it| 1e12 + it), rows),
        ];
        let numbers = numbers.prop_map(Target::Numbers);
        let weight = prop_oneof![Just(0.0), Just(1e9), 0.5..2.0];
        (
            prop::collection::vec(column(rows), 1..6),
            prop_oneof![classes, numbers],
            prop::option::of(prop::collection::vec(weight, rows)),
        )
            .prop_map(|(columns, target, weights)| {
                let feature = |n: usize| Feature {
                    name: format!("x{n}"),
                    levels: Vec::new(),
                };
                let features = (0..columns.len()).map(feature).collect();
                let data = Dataset::new(features, columns, "y", target).unwrap();
                match weights {
                    Some(weights) if weights.iter().any(|it| *it > 0.0) => {
                        data.with_weights(weights).unwrap()
                    }
                    _ => data,
                }
            })
    })
}

fn spec(data: &Dataset) -> impl Strategy<Value = ForestSpec> + use<> {
    let classes = matches!(data.target(), Target::Classes { .. });
    let depth = prop_oneof![Just(None), (1_u16..6).prop_map(Some)];
    let mtry = prop_oneof![Just(None), (1_u32..7).prop_map(Some)];
    (depth, 1_u32..6, mtry, any::<u64>(), any::<bool>()).prop_map(
        move |(max_depth, min_leaf, mtry, seed, balanced)| ForestSpec {
            max_depth,
            min_leaf,
            mtry,
            seed,
            trees: 3,
            class_weights: if classes && balanced {
                ClassWeights::Balanced
            } else {
                ClassWeights::Equal
            },
            ..if classes {
                ForestSpec::classify()
            } else {
                ForestSpec::regress()
            }
        },
    )
}

/// How many drawn rows come to each node of a compact tree.
fn arrivals(tree: &Tree, data: &Dataset, bag: &[u32]) -> Vec<u64> {
    let mut arrived = vec![0; tree.nodes.len()];
    for (row, &times) in bag.iter().enumerate() {
        let mut at = 0;
        loop {
            arrived[at] += u64::from(times);
            let node = tree.nodes[at];
            if node.feature == LEAF {
                break;
            }
            let value = data.columns[usize::from(node.feature)][row];
            at = if value <= node.value {
                at + 1
            } else {
                node.right as usize
            };
        }
    }
    arrived
}

proptest! {
    /// Whatever the data: no panic, each cut parts the rows of its node, leaves keep as many as
    /// they must and all that were drawn, and the same comes out again.
    #[test]
    fn every_cut_parts_its_rows_and_leaves_add_up_to_what_was_drawn(
        (data, spec) in data().prop_flat_map(|data| {
            let spec = spec(&data);
            (Just(data), spec)
        }),
    ) {
        let Ok(grove) = grow_grove(&data, &spec, 0) else {
            // Constant features, say: `check` has its own tests.
            return Ok(());
        };
        prop_assert_eq!(&grow_grove(&data.clone(), &spec, 0).unwrap(), &grove);
        let plan = crate::grow::Plan::new(&data, &spec, 0);
        let bags = plan.bags(3).unwrap();
        for (tree, bag) in grove.trees.iter().zip(&bags) {
            prop_assert!(tree.depth() <= usize::from(spec.max_depth.unwrap_or(64)));
            let arrived = arrivals(tree, &data, bag);
            prop_assert_eq!(arrived[0], data.len() as u64);
            for (node, arrived) in tree.nodes.iter().zip(&arrived) {
                prop_assert!(*arrived > 0, "a side of a cut has no row");
                if node.feature == LEAF {
                    prop_assert!(*arrived >= u64::from(spec.min_leaf) || tree.nodes.len() == 1);
                    if grove.classes > 0 {
                        let kept = tree.counts(*node).map(|count| u64::from(count.rows));
                        prop_assert_eq!(kept.sum::<u64>(), *arrived);
                    }
                }
            }
        }
    }

    /// The cut that is taken is as good as the best of all, by the definition of each measure, and
    /// both ways of looking for it find it.
    #[test]
    fn the_best_cut_is_found(
        rows in prop::collection::vec((0_u8..30, 0_u32..4, 1_u32..4), 1..200),
        least in 1_u64..5,
    ) {
        let codes: Vec<u8> = rows.iter().map(|row| row.0).collect();
        let of: Vec<u32> = rows.iter().map(|row| row.1).collect();
        let numbers: Vec<f64> = of.iter().map(|&class| f64::from(class)).collect();
        let constant = codes.iter().all(|code| *code == codes[0]);

        let mut gini = Gini::new(4, &of);
        let places = || rows.iter().zip(0_u32..);
        let drawn: Vec<Drawn<u32>> = places()
            .map(|(row, place)| Drawn { row: place, load: gini.load(place as usize, row.2) })
            .collect();
        gini.enter(&drawn);
        let impurity = |side: &[&(u8, u32, u32)]| {
            let all: u32 = side.iter().map(|row| row.2).sum();
            let share = |class: u32| {
                let of = side.iter().filter(|row| row.1 == class).map(|row| row.2);
                f64::from(of.sum::<u32>()) / f64::from(all)
            };
            f64::from(all) * (1.0 - (0..4).map(|class| share(class) * share(class)).sum::<f64>())
        };
        // All ranks there might be, so that counting is chosen, and more, so that sorting is.
        for ranks in [30, 100_000] {
            let judged = gini.judge(&codes, ranks, &drawn, least, &mut Order::default());
            compare(&rows, least, constant, judged, impurity)?;
        }

        let mut variance = Variance::new(&numbers);
        let drawn: Vec<Drawn<(u32, f64)>> = places()
            .map(|(row, place)| Drawn { row: place, load: variance.load(place as usize, row.2) })
            .collect();
        variance.enter(&drawn);
        let squares = |side: &[&(u8, u32, u32)]| {
            let sum = |of: &dyn Fn(f64) -> f64| -> f64 {
                side.iter().map(|row| f64::from(row.2) * of(f64::from(row.1))).sum()
            };
            let mean = sum(&|it| it) / sum(&|_| 1.0);
            sum(&|it| (it - mean) * (it - mean))
        };
        for ranks in [30, 100_000] {
            let judged = variance.judge(&codes, ranks, &drawn, least, &mut Order::default());
            compare(&rows, least, constant, judged, squares)?;
        }
    }
}

/// Holds a cut to what trying all cuts finds.
fn compare(
    rows: &[(u8, u32, u32)],
    least: u64,
    constant: bool,
    judged: Judged,
    impurity: impl Fn(&[&(u8, u32, u32)]) -> f64,
) -> Result<(), TestCaseError> {
    let Judged::Best(found) = judged else {
        prop_assert!(constant);
        return Ok(());
    };
    prop_assert!(!constant);
    let of = |low: u32| {
        type Side<'a> = Vec<&'a (u8, u32, u32)>;
        let (left, right): (Side<'_>, Side<'_>) =
            rows.iter().partition(|row| u32::from(row.0) <= low);
        let drawn = |side: &Side<'_>| side.iter().map(|row| u64::from(row.2)).sum::<u64>();
        let enough = drawn(&left).min(drawn(&right)) >= least;
        enough.then(|| impurity(&left) + impurity(&right))
    };
    let best = (0..30).filter_map(of).reduce(f64::min);
    prop_assert_eq!(found.is_some(), best.is_some());
    if let (Some(found), Some(best)) = (found, best) {
        let there = |rank: u32| rows.iter().any(|row| u32::from(row.0) == rank);
        prop_assert!(there(found.low) && there(found.high) && found.low < found.high);
        prop_assert!((found.low + 1..found.high).all(|rank| !there(rank)));
        let reached = of(found.low).unwrap();
        prop_assert!(reached <= best + 1e-9, "{reached} is worse than {best}");
    }
    Ok(())
}

fn numbers(names: &[&str]) -> Vec<Feature> {
    let feature = |name: &&str| Feature {
        name: (*name).to_owned(),
        levels: Vec::new(),
    };
    names.iter().map(feature).collect()
}

#[test]
fn a_cut_that_gains_nothing_by_itself_is_taken_for_what_follows() {
    // Exclusive or, four rows of each: no first cut says anything.
    let (mut a, mut b, mut of) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..16_u32 {
        a.push(f64::from(n & 1));
        b.push(f64::from(n >> 1 & 1));
        of.push((n ^ n >> 1) & 1);
    }
    let names = vec!["equal".into(), "not".into()];
    let target = Target::Classes { names, of };
    let data = Dataset::new(numbers(&["a", "b"]), vec![a, b], "y", target).unwrap();
    let used = [0, 1];
    let seen: Vec<usize> = (0..16).collect();
    let job = GrowJob {
        data: &data,
        used: &used,
        seen: &seen,
        weights: None,
        trees: 1,
        mtry: 1,
        min_leaf: 1,
        depth: 9,
        seed: 3,
    };
    let grown = Exact.grow(&job, &[vec![1; 16]]).unwrap();
    let nodes = &grown[0].nodes;
    assert_eq!(nodes.len(), 7);
    let cuts = nodes.iter().filter(|node| node.children.is_some());
    assert!(cuts.clone().all(|node| node.threshold == 0.5));
    assert_eq!(cuts.count(), 3);
    // Each row's end is known, and the first and the last row end in different leaves.
    let ends = grown[0].ends.as_ref().unwrap();
    assert_eq!((ends[0], ends[4], ends.len()), (ends[8], ends[12], 16));
    assert_ne!(ends[0], ends[1]);
    assert!(matches!(
        Exact.grow(&job, &[vec![1; 15]]),
        Err(Failure::Failed(_))
    ));
}

#[test]
fn columns_that_are_constant_in_a_node_do_not_end_it() {
    // A hundred one-hot columns for as many rows, of which one is tried at a cut: nearly every
    // column drawn is constant in nearly every node. Every row is told apart all the same.
    let rows = 100;
    let columns = (0..rows).map(|at| {
        (0..rows)
            .map(|row| f64::from(u8::from(row == at)))
            .collect()
    });
    let names: Vec<String> = (0..rows).map(|n| format!("x{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let target = Target::Numbers((0..rows).map(|row| row as f64).collect());
    let data = Dataset::new(numbers(&names), columns.collect(), "y", target).unwrap();
    let job = GrowJob {
        data: &data,
        used: &(0..rows).collect::<Vec<_>>(),
        seen: &(0..rows).collect::<Vec<_>>(),
        weights: None,
        trees: 1,
        mtry: 1,
        min_leaf: 1,
        depth: 200,
        seed: 1,
    };
    let grown = Exact.grow(&job, &[vec![1; rows]]).unwrap();
    assert_eq!(grown[0].nodes.len(), 2 * rows - 1);
}

#[test]
fn thresholds_stand_between_neighbours_and_before_missing_values() {
    let column = vec![1.0, 2.0, f64::NAN, 1e308, -1e308, 1.5_f64.next_up(), 1.5];
    let ranks = Ranks::of(std::slice::from_ref(&column));
    let target = Target::Numbers(vec![0.0; 7]);
    let data = Dataset::new(numbers(&["x"]), vec![column.clone()], "y", target).unwrap();
    let job = GrowJob {
        data: &data,
        used: &[0],
        seen: &[0, 1, 2, 3, 4, 5, 6],
        weights: None,
        trees: 1,
        mtry: 1,
        min_leaf: 1,
        depth: 9,
        seed: 1,
    };
    let growing = Growing::new(&job, Variance::new(&[])).unwrap();
    let count = ranks.column(0).unwrap().len() as u32;
    for low in 0..count - 1 {
        let threshold = growing.threshold(
            0,
            Cut {
                score: 0.0,
                low,
                high: low + 1,
            },
        );
        let left = column.iter().filter(|value| **value <= threshold).count();
        assert_eq!(left as u32, low + 1, "{threshold}");
    }
    let cut = Cut {
        score: 0.0,
        low: 0,
        high: count - 2,
    };
    assert_eq!(growing.threshold(0, cut), 0.0);
}
