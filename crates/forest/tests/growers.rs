//! The grower of this crate beside smartcore's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use cpe_forest::{
    Dataset, Exact, Feature, Forest, ForestSpec, GrowError, Grower, Smartcore, Target, splitmix64,
};

/// Between 0 and 1.
fn uniform(n: u64) -> f64 {
    (splitmix64(11, n) >> 11) as f64 / (1_u64 << 53) as f64
}

/// About a bell curve.
fn bell(n: u64) -> f64 {
    (0..6).map(|k| uniform(6 * n + k)).sum::<f64>() - 3.0
}

/// Ten columns, of which four say something about so many classes, or about a number if 0, beside
/// much noise. Some values are missing.
fn generated(rows: u64, classes: u32) -> Dataset {
    let at = |row: u64, column: u64| bell(row * 11 + column);
    let signal = |row: u64| {
        let sum = at(row, 0) * at(row, 1) + at(row, 2) + at(row, 3) * at(row, 3) - 0.5;
        sum + 0.3 * at(row, 10)
    };
    let target = if classes == 0 {
        Target::Numbers((0..rows).map(signal).collect())
    } else {
        let share = |row| 1.0 / (1.0 + (-1.7 * signal(row)).exp());
        let class = |row| ((share(row) * f64::from(classes)) as u32).min(classes - 1);
        Target::Classes {
            names: (0..classes).map(|class| format!("c{class}")).collect(),
            of: (0..rows).map(class).collect(),
        }
    };
    let value = |row: u64, column: u64| {
        if (row * 7 + column).is_multiple_of(23) {
            f64::NAN
        } else {
            at(row, column)
        }
    };
    let column = |column: u64| (0..rows).map(|row| value(row, column)).collect();
    let feature = |n: u64| Feature {
        name: format!("x{n}"),
        levels: Vec::new(),
    };
    let features = (0..10).map(feature).collect();
    Dataset::new(features, (0..10).map(column).collect(), "y", target).unwrap()
}

/// The mean of how much better our own grower's forests tell what neither has seen, over so many
/// ways to part the rows, and the standard error of that mean.
fn better(data: &Dataset, spec: &ForestSpec, parts: u64) -> (f64, f64) {
    let of = |seed: u64| {
        let (train, test) = data.split(0.3, seed).unwrap();
        let spec = spec.clone().with_seed(seed);
        let score = |grower: &dyn Grower| {
            let forest = Forest::grow_by(grower, &train, &spec).unwrap();
            forest.evaluate(&test).unwrap().main()
        };
        score(&Exact) - score(&Smartcore)
    };
    let differences: Vec<f64> = (0..parts).map(of).collect();
    let count = parts as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let squares: f64 = differences.iter().map(|it| (it - mean) * (it - mean)).sum();
    (mean, (squares / (count - 1.0) / count).sqrt())
}

#[test]
fn our_forests_tell_as_well_as_smartcore_s_within_a_standard_error() {
    let classify = ForestSpec::classify().with_trees(50);
    let regress = ForestSpec::regress().with_trees(50);
    for (name, data, spec, parts) in [
        ("tumours", Dataset::breast_cancer(), &classify, 20),
        ("two classes", generated(1_000, 2), &classify, 20),
        ("diabetes", Dataset::diabetes(), &regress, 40),
        ("numbers", generated(1_000, 0), &regress, 12),
    ] {
        let (mean, error) = better(&data, spec, parts);
        println!("{name}: {mean:.4} +- {error:.4}");
        // Both ways: better by more would say that they do not grow the same kind of forest.
        assert!(mean.abs() <= error.max(0.005), "{name}: {mean} +- {error}");
    }
}

#[test]
fn our_forests_tell_overlapping_classes_better_than_smartcore_s() {
    let spec = ForestSpec::classify().with_trees(50);
    let (mean, error) = better(&generated(4_000, 5), &spec, 6);
    println!("{mean:.4} +- {error:.4}");
    assert!(mean > 0.01 && mean > 2.0 * error, "{mean} +- {error}");
}

#[test]
fn a_forest_of_the_other_grower_is_told_and_gets_more_trees_of_its_own_kind() {
    let data = Dataset::breast_cancer();
    let spec = ForestSpec::classify().with_trees(20);
    let old = Forest::grow_by(&Smartcore, &data, &spec).unwrap();
    let old = Forest::decode(&old.encode().unwrap()).unwrap();
    assert_eq!(old.manifest().engine(), Smartcore.name());
    assert!(old.evaluate(&data).unwrap().main() > 0.95);
    let more = old.with_trees(&data, 30).unwrap();
    assert_eq!(more.groves()[..2], *old.groves());
    let all = Forest::grow_by(&Smartcore, &data, &spec.clone().with_trees(30)).unwrap();
    assert_eq!(more.hash(), all.hash());
    let own = Forest::grow(&data, &spec).unwrap();
    assert_ne!(own.manifest().recipe(), old.manifest().recipe());
    // Groves of both are never mixed.
    let mut groves = own.groves().to_vec();
    groves[1] = old.groves()[1].clone();
    assert!(Forest::assemble(own.manifest().clone(), groves).is_err());
    let other = data.select(&(0..300).collect::<Vec<_>>());
    let error = old.with_trees(&other, 30).unwrap_err();
    assert!(matches!(error, GrowError::OtherData), "{error}");
}
