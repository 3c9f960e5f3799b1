//! What users rely on: equal bytes everywhere, exact sums of partial answers, and good predictions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use cpe_forest::{
    Dataset, Feature, Forest, ForestSpec, Grove, GrowError, Manifest, ModelCard, ModelError,
    PredictError, Prediction, Rows, Score, Tally, Target, grow_grove, out_of_bag,
};

fn numbers(name: &str) -> Feature {
    Feature {
        name: name.to_owned(),
        levels: Vec::new(),
    }
}

/// Four classes by the quarter of a square, with a third feature that says nothing.
fn quarters() -> Dataset {
    let mut columns = vec![Vec::new(), Vec::new(), Vec::new()];
    let mut of = Vec::new();
    for i in 0..400_u32 {
        let (x, y) = (f64::from(i % 20) - 9.5, f64::from(i / 20) - 9.5);
        columns[0].push(x);
        columns[1].push(y);
        columns[2].push(f64::from(i * 7919 % 101));
        of.push(u32::from(x > 0.0) + 2 * u32::from(y > 0.0));
    }
    let names = ["sw", "se", "nw", "ne"].map(str::to_owned).to_vec();
    let features = ["x", "y", "noise"].map(numbers).to_vec();
    Dataset::new(features, columns, "quarter", Target::Classes { names, of }).unwrap()
}

fn small() -> ForestSpec {
    ForestSpec::classify().with_trees(30)
}

#[test]
fn a_hundred_trees_tell_held_out_tumours() {
    let (train, test) = Dataset::breast_cancer().split(0.3, 42).unwrap();
    let forest = Forest::grow(&train, &ForestSpec::classify()).unwrap();
    let score = forest.evaluate(&test).unwrap();
    assert!(score.main() >= 0.93, "{score}");
    let Score::Classes(score) = score else {
        panic!("classes are scored as classes");
    };
    assert_eq!(score.rows, test.len());
    assert_eq!(
        score.confusion.iter().flatten().sum::<u64>(),
        test.len() as u64
    );
    assert_eq!(score.classes, ["benign", "malignant"]);
}

#[test]
fn the_bundled_tumours_are_212_malignant_and_357_benign() {
    let data = Dataset::breast_cancer();
    let Target::Classes { names, of } = data.target() else {
        panic!("the target holds classes");
    };
    let malignant = names.iter().position(|name| name == "malignant").unwrap() as u32;
    assert_eq!(of.iter().filter(|&&class| class == malignant).count(), 212);
    assert_eq!(data.len(), 569);
    // Malignant tumours are larger: the labels are not the wrong way round.
    let radius = data.column(0).unwrap();
    let mean = |class: u32| {
        let picked: Vec<f64> = radius
            .iter()
            .zip(of)
            .filter(|(_, own)| **own == class)
            .map(|(r, _)| *r)
            .collect();
        picked.iter().sum::<f64>() / picked.len() as f64
    };
    assert!(mean(malignant) > 17.0 && mean(1 - malignant) < 13.0);
    assert_eq!(data.features()[0].name, "mean radius");
    assert_eq!(radius[0], 17.99);
}

#[test]
fn numbers_are_told_better_than_by_their_mean() {
    let (train, test) = Dataset::diabetes().split(0.3, 1).unwrap();
    let forest = Forest::grow(&train, &ForestSpec::regress()).unwrap();
    assert!(forest.evaluate(&test).unwrap().main() > 0.3);
}

#[test]
fn a_smooth_function_is_learnt() {
    let n = 600;
    let x: Vec<f64> = (0..n).map(|i| f64::from(i * 37 % n) / 60.0).collect();
    let y: Vec<f64> = (0..n).map(|i| f64::from(i * 101 % n) / 60.0).collect();
    let z = x
        .iter()
        .zip(&y)
        .map(|(x, y)| 10.0 * x.sin() + y * y)
        .collect();
    let features = ["x", "y"].map(numbers).to_vec();
    let data = Dataset::new(features, vec![x, y], "z", Target::Numbers(z)).unwrap();
    let (train, test) = data.split(0.25, 3).unwrap();
    let spec = ForestSpec {
        mtry: Some(2),
        ..ForestSpec::regress()
    };
    let forest = Forest::grow(&train, &spec).unwrap();
    assert!(forest.evaluate(&test).unwrap().main() > 0.97);
}

#[test]
fn four_classes_are_told_and_noise_has_little_weight() {
    let (train, test) = quarters().split(0.25, 1).unwrap();
    let forest = Forest::grow(&train, &small()).unwrap();
    assert!(forest.evaluate(&test).unwrap().main() > 0.95);
    let importance = forest.importance();
    assert!((importance.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(importance[2] < 0.15, "{importance:?}");
    let falls = forest.permutation_importance(&test, 3, 1).unwrap();
    assert!(
        falls[0] > 0.2 && falls[1] > 0.2 && falls[2].abs() < 0.05,
        "{falls:?}"
    );
}

#[test]
fn a_grove_is_the_same_bytes_in_any_thread_and_order() {
    let data = Dataset::breast_cancer();
    let spec = small();
    let here: Vec<Vec<u8>> = (0..3)
        .map(|index| grow_grove(&data, &spec, index).unwrap().encode())
        .collect();
    let there: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let grow = |index| {
            let (data, spec) = (&data, &spec);
            scope.spawn(move || grow_grove(data, spec, index).unwrap().encode())
        };
        let threads: Vec<_> = (0..3).rev().map(grow).collect();
        threads
            .into_iter()
            .rev()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(here, there);
    assert_ne!(here[0][42..], here[1][42..]);
}

#[test]
fn a_known_grove_has_its_known_hash() {
    // If this fails, nodes of this build and of older ones grow different forests from the same
    // data: raise the number in ENGINE, and say so in the changelog.
    let hash = |data: &Dataset, spec: ForestSpec| {
        let grove = grow_grove(data, &spec.with_trees(10), 0).unwrap();
        let bytes = grove.hash()[..8].to_vec();
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let hashes = [
        hash(&Dataset::breast_cancer(), ForestSpec::classify()),
        hash(&Dataset::diabetes(), ForestSpec::regress()),
        hash(&quarters(), small()),
    ];
    assert_eq!(
        hashes,
        ["0a8fd46749be85e5", "236315203e053ccd", "417da1641c63a226"]
    );
}

#[test]
fn a_forest_assembled_in_any_order_is_the_one_grown_at_once() {
    let data = quarters();
    let spec = small();
    let manifest = Manifest::new(&data, &spec).unwrap();
    let groves = [2, 0, 1]
        .map(|index| Grove::decode(&grow_grove(&data, &spec, index).unwrap().encode()).unwrap());
    let assembled = Forest::assemble(manifest, groves.to_vec()).unwrap();
    let grown = Forest::grow(&data, &spec).unwrap();
    assert_eq!(assembled, grown);
    assert_eq!(assembled.hash(), grown.hash());
    assert_eq!(Forest::decode(&grown.encode().unwrap()).unwrap(), grown);
}

#[test]
fn groves_that_are_missing_double_or_strange_make_no_forest() {
    let data = quarters();
    let spec = small();
    let manifest = Manifest::new(&data, &spec).unwrap();
    let grow = |spec: &ForestSpec, index| grow_grove(&data, spec, index).unwrap();
    let said = |groves: Vec<Grove>| {
        Forest::assemble(manifest.clone(), groves)
            .unwrap_err()
            .to_string()
    };
    let [a, b, c] = [0, 1, 2].map(|index| grow(&spec, index));
    assert_eq!(
        said(vec![a.clone(), c.clone()]),
        "grove 1 is missing; the forest has groves 0 to 2"
    );
    assert_eq!(
        said(vec![a.clone(), b.clone(), b.clone(), c]),
        "grove 1 is there twice; the forest has groves 0 to 2"
    );
    let stranger = grow(&small().with_seed(1), 2);
    let error = Forest::assemble(manifest.clone(), vec![a, b, stranger]).unwrap_err();
    assert!(
        matches!(error, ModelError::Stranger { index: 2, .. }),
        "{error}"
    );
}

#[test]
fn partial_answers_add_up_to_the_whole_in_any_order() {
    for (data, spec) in [
        (quarters(), small()),
        (Dataset::diabetes(), ForestSpec::regress().with_trees(30)),
    ] {
        let forest = Forest::grow(&data, &spec).unwrap();
        let rows = data.rows();
        let whole = forest.predict(&rows).unwrap();
        let mut parts: Vec<Tally> = forest
            .groves()
            .iter()
            .map(|grove| grove.tally(&rows).unwrap())
            .collect();
        let mut sum = parts.remove(1);
        assert_eq!(sum.finish(forest.manifest()).unwrap().trees, 10);
        for part in parts.into_iter().rev() {
            sum.merge(part).unwrap();
        }
        assert_eq!(sum.finish(forest.manifest()).unwrap(), whole);
        assert_eq!((whole.trees, whole.of), (30, 30));
        let again = forest.groves()[0].tally(&rows).unwrap();
        assert_eq!(
            sum.merge(again).unwrap_err().to_string(),
            "these partial answers do not belong together: grove 0 voted twice"
        );
    }
}

#[test]
fn one_row_is_told_as_it_is_among_many() {
    let data = Dataset::breast_cancer();
    let forest = Forest::grow(&data, &small()).unwrap();
    let rows = data.rows();
    let all = forest.predict(&rows).unwrap();
    for row in [0, 255, 256, 257, 568] {
        let one = forest.predict(&Rows::one(rows.row(row).unwrap())).unwrap();
        assert_eq!(one.rows, [all.rows[row].clone()]);
    }
    let Prediction::Class {
        votes,
        probabilities,
        ..
    } = &all.rows[0]
    else {
        panic!("classes are told");
    };
    assert_eq!(votes.iter().sum::<u32>(), 30);
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn rows_of_another_width_are_refused() {
    let forest = Forest::grow(&quarters(), &small()).unwrap();
    let error = forest.predict(&Rows::one(&[1.0, 2.0])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the rows have 2 columns, the model was trained with 3: x, y, noise"
    );
    assert!(matches!(
        forest.groves()[0].tally(&Rows::one(&[1.0; 4])),
        Err(PredictError::WrongColumns { .. })
    ));
}

#[test]
fn out_of_bag_votes_add_up_wherever_they_were_counted() {
    let data = Dataset::breast_cancer();
    let spec = ForestSpec::classify();
    let forest = Forest::grow(&data, &spec).unwrap();
    let mut parts: Vec<_> = forest
        .groves()
        .iter()
        .map(|grove| out_of_bag(&data, &spec, grove).unwrap())
        .collect();
    let score = forest.out_of_bag_score(&data, &parts).unwrap();
    assert!(score.main() > 0.93 && score.main() < 0.99, "{score}");
    assert_eq!(score.rows(), data.len());
    parts.reverse();
    assert_eq!(forest.out_of_bag_score(&data, &parts).unwrap(), score);
    parts.pop();
    assert!(matches!(
        forest.out_of_bag_score(&data, &parts),
        Err(PredictError::Unlike(_))
    ));
}

#[test]
fn an_out_of_bag_score_of_noise_shows_that_nothing_was_learnt() {
    let data = quarters();
    let noise = data.column(2).unwrap().to_vec();
    let target = data.target().clone();
    let data = Dataset::new(vec![numbers("noise")], vec![noise], "quarter", target).unwrap();
    let spec = small();
    let forest = Forest::grow(&data, &spec).unwrap();
    let parts: Vec<_> = forest
        .groves()
        .iter()
        .map(|grove| out_of_bag(&data, &spec, grove).unwrap())
        .collect();
    // Four equally frequent classes; on its own rows the forest looks much better.
    assert!(forest.out_of_bag_score(&data, &parts).unwrap().main() < 0.4);
}

#[test]
fn what_cannot_be_learnt_from_is_refused_before_the_engine_sees_it() {
    let classes = |of: Vec<u32>| Target::Classes {
        names: vec!["a".into(), "b".into()],
        of,
    };
    let column = vec![1.0, 2.0, 3.0, 4.0, 5.0];
    let data = |column: &[f64], target: Target| {
        Dataset::new(vec![numbers("x")], vec![column.to_vec()], "y", target).unwrap()
    };
    let said =
        |data: &Dataset, spec: &ForestSpec| grow_grove(data, spec, 0).unwrap_err().to_string();
    assert_eq!(
        said(&data(&column, classes(vec![1; 5])), &small()),
        "the target \"y\" is the same in all rows (b): there is nothing to learn"
    );
    assert_eq!(
        said(&data(&[2.0; 5], classes(vec![0, 1, 0, 1, 0])), &small()),
        "every feature has the same value in all rows: there is nothing to learn from"
    );
    assert_eq!(
        said(&data(&column[..2], classes(vec![0, 1])), &small()),
        "2 rows are too few to grow a tree: give at least 4"
    );
    let good = data(&column, classes(vec![0, 1, 0, 1, 0]));
    assert_eq!(
        said(&good, &ForestSpec::regress()),
        "the task is to regress, but the target \"y\" holds classes"
    );
    assert!(matches!(
        grow_grove(&good, &small(), 3),
        Err(GrowError::NoSuchGrove {
            index: 3,
            groves: 3
        })
    ));
}

#[test]
fn missing_values_are_learnt_from_and_told() {
    // The class is whether the value is missing.
    let column: Vec<f64> = (0..100)
        .map(|i| if i % 3 == 0 { f64::NAN } else { f64::from(i) })
        .collect();
    let of = (0..100).map(|i| u32::from(i % 3 == 0)).collect();
    let names = vec!["there".into(), "missing".into()];
    let target = Target::Classes { names, of };
    let data = Dataset::new(vec![numbers("x")], vec![column], "y", target).unwrap();
    let forest = Forest::grow(&data, &small()).unwrap();
    assert_eq!(forest.evaluate(&data).unwrap().main(), 1.0);
    let told = forest.predict(&Rows::one(&[f64::NAN])).unwrap();
    assert_eq!(told.rows[0].text(), "missing");
}

#[test]
fn settings_do_what_they_say() {
    let data = Dataset::breast_cancer();
    let spec = ForestSpec {
        max_depth: Some(3),
        sample: 0.5,
        ..small()
    };
    let grove = grow_grove(&data, &spec, 0).unwrap();
    assert_eq!(grove.depth(), 3);
    assert!(grove.leaves() <= 80);
    let parts = out_of_bag(&data, &spec, &grove).unwrap();
    assert_eq!(parts.grove(), 0);
    let coarse = ForestSpec {
        min_leaf: 50,
        ..small()
    };
    assert!(grow_grove(&data, &coarse, 0).unwrap().leaves() <= 110);
}

#[test]
fn the_card_tells_what_the_forest_is() {
    let data = quarters();
    let forest = Forest::grow(&data, &small()).unwrap();
    let mut card = ModelCard::new(&forest);
    card.held_out = Some(forest.evaluate(&data).unwrap());
    let text = card.to_string();
    for part in [
        "quarter (classify)",
        "sw, se, nw, ne",
        "30 in 3 groves, seed 42",
        "smartcore 0.7.0",
        "held out: accuracy",
        "-9.5 to 9.5",
    ] {
        assert!(text.contains(part), "\"{part}\" is not in\n{text}");
    }
    let json = serde_json::to_string(&card).unwrap();
    assert_eq!(serde_json::from_str::<ModelCard>(&json).unwrap(), card);
}
