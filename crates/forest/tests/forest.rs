//! What users rely on: equal bytes everywhere, exact sums of partial answers, and good predictions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::strategy::Strategy as _;

use cpe_forest::{
    ClassWeights, Dataset, Exact, Failure, Feature, Forest, ForestSpec, Grove, GrowError, GrowJob,
    Grower, GrownNode, GrownTree, Manifest, ModelCard, ModelError, OutOfBagSum, PredictError,
    Prediction, Quantiles, Rows, Score, Smartcore, Tally, Target, grow_grove, grow_grove_by,
    out_of_bag,
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
    // data: raise the number in the grower's name, and say so in the changelog.
    let hash = |grower: &dyn Grower, data: &Dataset, spec: ForestSpec| {
        let grove = grow_grove_by(grower, data, &spec.with_trees(10), 0).unwrap();
        let bytes = grove.hash()[..8].to_vec();
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let hashes = |grower: &dyn Grower| {
        [
            hash(grower, &Dataset::breast_cancer(), ForestSpec::classify()),
            hash(grower, &Dataset::diabetes(), ForestSpec::regress()),
            hash(grower, &quarters(), small()),
        ]
    };
    assert_eq!(
        hashes(&Smartcore),
        ["c79b5898cc1964d7", "4e42fe8b6ef6366e", "77cc3e7175cf6fc4"]
    );
    assert_eq!(
        hashes(&Exact),
        ["172758bb4bcaf3d1", "44f0c2f037e302b2", "8d9512ee4db551ac"]
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
fn votes_of_elsewhere_are_held_to_what_was_asked() {
    for (data, spec) in [
        (quarters(), small()),
        (Dataset::diabetes(), ForestSpec::regress().with_trees(30)),
    ] {
        let forest = Forest::grow(&data, &spec).unwrap();
        let other = Forest::grow(&data, &spec.clone().with_seed(5)).unwrap();
        let (manifest, rows) = (forest.manifest(), data.rows());
        let [first, second, ..] = forest.groves() else {
            panic!("it has three groves");
        };
        let tally = first.tally(&rows).unwrap();
        tally.check(manifest, 0, rows.len()).unwrap();
        let why = |tally: &Tally, manifest, grove, rows| {
            let error = tally.check(manifest, grove, rows).unwrap_err();
            error.to_string()
        };
        let said = why(&tally, other.manifest(), 0, rows.len());
        assert!(said.ends_with("the votes are of another forest"), "{said}");
        let said = why(&tally, manifest, 0, 7);
        let on = format!("on {} rows instead of 7", rows.len());
        assert!(said.ends_with(&on), "{said}");
        let said = why(&tally, manifest, 1, rows.len());
        assert!(
            said.ends_with("not those of grove 1 with its 10 trees"),
            "{said}"
        );
        let mut both = tally.clone();
        both.merge(second.tally(&rows).unwrap()).unwrap();
        let said = why(&both, manifest, 0, rows.len());
        assert!(
            said.ends_with("not those of grove 0 with its 10 trees"),
            "{said}"
        );
        // The last grove of a smaller forest has fewer trees: these are too many.
        let fewer = spec.clone().with_trees(5);
        let fewer = Manifest::new(&data, &fewer).unwrap();
        let said = why(&tally, &fewer, 0, rows.len());
        assert!(
            said.ends_with("not those of grove 0 with its 5 trees"),
            "{said}"
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
fn out_of_bag_votes_are_added_one_grove_after_the_other() {
    let data = Dataset::diabetes();
    let spec = ForestSpec::regress().with_trees(40);
    let forest = Forest::grow(&data, &spec).unwrap();
    let groves = forest.groves().iter();
    let parts: Vec<_> = groves
        .map(|grove| out_of_bag(&data, &spec, grove).unwrap())
        .collect();
    let mut sum = OutOfBagSum::new(forest.manifest());
    assert!(sum.add(&parts[1]).is_err(), "before the first");
    for (done, part) in parts.iter().enumerate() {
        assert!(
            sum.score(forest.manifest(), &data).is_err(),
            "{done} of four"
        );
        sum.add(part).unwrap();
        assert!(sum.add(part).is_err(), "twice");
    }
    assert_eq!(
        sum.score(forest.manifest(), &data).unwrap(),
        forest.out_of_bag_score(&data, &parts).unwrap()
    );
    let other = Forest::grow(&data, &spec.clone().with_seed(1)).unwrap();
    let mut other = OutOfBagSum::new(other.manifest());
    assert!(other.add(&parts[0]).is_err(), "of another forest");
}

#[test]
fn a_grove_of_many_rows_has_few_trees() {
    let rows = 200_000_u32;
    let x: Vec<f64> = (0..rows).map(f64::from).collect();
    let data = Dataset::new(vec![numbers("x")], vec![x.clone()], "y", Target::Numbers(x));
    let data = data.unwrap();
    let mut spec = ForestSpec::regress().with_trees(1_000);
    spec.grove_trees = 1_000;
    let refused = Manifest::new(&data, &spec).unwrap_err().to_string();
    assert_eq!(
        refused,
        "grove_trees = 1000 is outside 1 to 671, what so many rows allow"
    );
    spec.grove_trees = 671;
    Manifest::new(&data, &spec).unwrap();
    // Fewer rows a grove leave room for more trees.
    (spec.grove_trees, spec.sample) = (1_000, 0.5);
    Manifest::new(&data, &spec).unwrap();
}

#[test]
fn many_rows_have_few_classes() {
    let rows = 600_000_u32;
    let x: Vec<f64> = (0..rows).map(f64::from).collect();
    let target = Target::Classes {
        names: (0..256).map(|class| format!("c{class}")).collect(),
        of: (0..rows).map(|row| row % 256).collect(),
    };
    let data = Dataset::new(vec![numbers("x")], vec![x], "y", target).unwrap();
    let refused = Manifest::new(&data, &ForestSpec::classify()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "600000 rows times 256 classes are beyond the limit of 134217728: leave rows out, or put \
         classes together"
    );
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
        "cpe exact 1",
        "held out: accuracy",
        "-9.5 to 9.5",
    ] {
        assert!(text.contains(part), "\"{part}\" is not in\n{text}");
    }
    let json = serde_json::to_string(&card).unwrap();
    assert_eq!(serde_json::from_str::<ModelCard>(&json).unwrap(), card);
}

#[test]
fn more_trees_are_had_by_growing_new_groves_only() {
    let data = quarters();
    let small = small().with_trees(25);
    let forest = Forest::grow(&data, &small).unwrap();
    let spec = small.clone().with_trees(40);
    // The last grove had five trees, so it is grown anew.
    assert_eq!(forest.keep(&spec).count(), 2);
    let more = forest.with_trees(&data, 40).unwrap();
    assert_eq!(more.hash(), Forest::grow(&data, &spec).unwrap().hash());
    assert_eq!(more.with_trees(&data, 25).unwrap(), forest);
    let other = data.select(&(0..300).collect::<Vec<_>>());
    let error = forest.with_trees(&other, 40).unwrap_err();
    assert!(matches!(error, GrowError::OtherData), "{error}");
}

/// A rare class that lies amid a frequent one.
fn rare() -> Dataset {
    let rows = 600_u32;
    let x: Vec<f64> = (0..rows).map(|i| f64::from(i * 197 % 601)).collect();
    let of: Vec<u32> = (0..rows)
        .map(|i| u32::from(i * 197 % 601 > 450 && i % 5 == 0))
        .collect();
    let names = vec!["common".to_owned(), "rare".to_owned()];
    let target = Target::Classes { names, of };
    Dataset::new(vec![numbers("x")], vec![x], "y", target).unwrap()
}

#[test]
fn a_class_that_weighs_more_is_told_more_often() {
    let data = rare();
    let told = |weights: ClassWeights| {
        let spec = ForestSpec {
            min_leaf: 20,
            ..small()
        }
        .with_class_weights(weights);
        let forest = Forest::grow(&data, &spec).unwrap();
        let told = forest.predict(&data.rows()).unwrap();
        told.rows.iter().filter(|row| row.text() == "rare").count()
    };
    assert_eq!(told(ClassWeights::Equal), 0);
    let balanced = told(ClassWeights::Balanced);
    assert!((100..200).contains(&balanced), "{balanced}");
    let given = told(ClassWeights::Given([("rare".to_owned(), 20.0)].into()));
    assert!(given >= balanced, "{given} {balanced}");
    let stranger = ClassWeights::Given([("odd".to_owned(), 2.0)].into());
    let error = grow_grove(&data, &small().with_class_weights(stranger), 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "class_weights = odd is outside the classes: common, rare"
    );
}

#[test]
fn a_row_without_weight_is_never_learnt_from() {
    // Half of the rows lie; they weigh nothing.
    let x: Vec<f64> = (0..200).map(|i| f64::from(i / 2)).collect();
    let lies = |i: u32| i % 2 == 1;
    let of = (0..200)
        .map(|i| u32::from((i / 2 > 49) != lies(i)))
        .collect();
    let names = vec!["low".into(), "high".into()];
    let target = Target::Classes { names, of };
    let data = Dataset::new(vec![numbers("x")], vec![x], "y", target).unwrap();
    let weights = (0..200).map(|i| f64::from(u8::from(!lies(i)))).collect();
    let weighed = data.clone().with_weights(weights).unwrap();
    assert_ne!(weighed.hash(), data.hash());
    assert_eq!(
        Dataset::decode(&weighed.encode().unwrap()).unwrap(),
        weighed
    );
    let forest = Forest::grow(&weighed, &small()).unwrap();
    let honest: Vec<usize> = (0..200).step_by(2).collect();
    assert_eq!(forest.evaluate(&data.select(&honest)).unwrap().main(), 1.0);
    let parts: Vec<_> = forest
        .groves()
        .iter()
        .map(|grove| out_of_bag(&weighed, &small(), grove).unwrap())
        .collect();
    // The liars are out of every bag, and are told what the others say.
    let score = forest.out_of_bag_score(&weighed, &parts).unwrap();
    assert!(score.main() < 0.6, "{score}");
    for wrong in [
        vec![1.0; 3],
        vec![0.0; 200],
        vec![-1.0; 200],
        vec![f64::NAN; 200],
    ] {
        assert!(data.clone().with_weights(wrong).is_err());
    }
}

#[test]
fn quantiles_hold_the_share_of_rows_that_they_say() {
    // Noise that grows with x: 80 of 100 numbers lie between the quantiles 0.1 and 0.9.
    let rows = 2_000_u64;
    let uniform = |i: u64| (cpe_forest::splitmix64(3, i) >> 11) as f64 / (1_u64 << 53) as f64;
    let x: Vec<f64> = (0..rows).map(uniform).collect();
    let y = |i: u64| x[i as usize] * (uniform(rows + i) - 0.5) * 10.0;
    let y: Vec<f64> = (0..rows).map(y).collect();
    let data = Dataset::new(vec![numbers("x")], vec![x], "y", Target::Numbers(y.clone())).unwrap();
    let (train, test) = data.split(0.3, 1).unwrap();
    let spec = ForestSpec {
        min_leaf: 15,
        ..ForestSpec::regress()
    };
    let forest = Forest::grow(&train, &spec).unwrap();
    let quantiles = Quantiles::new(&forest, &train).unwrap();
    let told = quantiles.tell(&test.rows(), &[0.1, 0.9]).unwrap();
    let Target::Numbers(truth) = test.target() else {
        panic!("numbers are told");
    };
    let within = told
        .iter()
        .zip(truth)
        .filter(|(told, truth)| (told[0]..=told[1]).contains(truth))
        .count();
    let share = within as f64 / truth.len() as f64;
    assert!((0.74..0.86).contains(&share), "{share}");
    let width = |x: f64| {
        let told = quantiles.tell(&Rows::one(&[x]), &[0.1, 0.9]).unwrap();
        told[0][1] - told[0][0]
    };
    assert!(width(0.9) > 3.0 * width(0.1));
    for share in [0.0, 1.0, 1.5, -0.1, f64::NAN] {
        assert!(quantiles.tell(&test.rows(), &[share]).is_err(), "{share}");
    }
    assert!(Quantiles::new(&forest, &test).is_err());
}

#[test]
fn rows_in_one_leaf_are_told_alike() {
    let data = quarters();
    let forest = Forest::grow(&data, &small()).unwrap();
    let leaves = forest.leaves(&data.rows()).unwrap();
    assert_eq!((leaves.len(), leaves[0].len()), (400, 30));
    let told = forest.predict(&data.rows()).unwrap();
    for (a, b) in [(0, 1), (0, 399), (5, 25)] {
        if leaves[a] == leaves[b] {
            assert_eq!(told.rows[a], told.rows[b]);
        }
    }
    // The corners of the square share no leaf that tells.
    assert!(leaves[0].iter().zip(&leaves[399]).all(|(a, b)| a != b));
    assert!(forest.leaves(&Rows::one(&[1.0])).is_err());
}

/// Another grower: one cut at the middle of the first column.
struct Stumps {
    broken: bool,
}

impl Grower for Stumps {
    fn name(&self) -> &str {
        "stumps 1"
    }

    fn grow(&self, job: &GrowJob<'_>, bags: &[Vec<u32>]) -> Result<Vec<GrownTree>, Failure> {
        assert_eq!((bags.len(), bags[0].len()), (job.trees, job.rows()));
        let mut first: Vec<f64> = job.column(0).collect();
        first.sort_by(f64::total_cmp);
        let leaf = GrownNode::default();
        let root = GrownNode {
            threshold: first[job.rows() / 2],
            children: Some((if self.broken { 0 } else { 1 }, 2)),
            ..leaf.clone()
        };
        let tree = GrownTree::from(vec![root, leaf.clone(), leaf]);
        Ok(vec![tree; job.trees])
    }
}

#[test]
fn another_grower_grows_forests_of_its_own_recipe() {
    let data = quarters();
    let forest = Forest::grow_by(&Stumps { broken: false }, &data, &small()).unwrap();
    assert_eq!(forest.manifest().engine(), "stumps 1");
    assert_eq!(forest.groves()[0].depth(), 1);
    // East and west are told, north and south are not.
    let score = forest.evaluate(&data).unwrap().main();
    assert!((0.45..0.6).contains(&score), "{score}");
    assert_eq!(Forest::decode(&forest.encode().unwrap()).unwrap(), forest);
    let parts: Vec<_> = forest
        .groves()
        .iter()
        .map(|grove| cpe_forest::out_of_bag_by("stumps 1", &data, &small(), grove).unwrap())
        .collect();
    assert!(forest.out_of_bag_score(&data, &parts).is_ok());
    let error = Forest::grow_by(&Stumps { broken: true }, &data, &small()).unwrap_err();
    assert!(matches!(error, GrowError::Engine { .. }), "{error}");
}

/// Forests that the properties below want often, each with what it says of some rows.
fn told() -> &'static [(Forest, Rows); 2] {
    static TOLD: std::sync::LazyLock<[(Forest, Rows); 2]> = std::sync::LazyLock::new(|| {
        let grow = |data: Dataset, spec: ForestSpec| {
            let spec = ForestSpec {
                grove_trees: 2,
                ..spec.with_trees(12)
            };
            let some = data.select(&(0..data.len()).step_by(9).collect::<Vec<_>>());
            (Forest::grow(&data, &spec).unwrap(), some.rows())
        };
        [
            grow(quarters(), ForestSpec::classify()),
            grow(Dataset::diabetes(), ForestSpec::regress()),
        ]
    });
    &TOLD
}

/// Some places and what stands there instead.
fn changes() -> impl proptest::strategy::Strategy<Value = Vec<(proptest::sample::Index, u8)>> {
    use proptest::prelude::any;
    proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4)
}

proptest::proptest! {
    /// Merging is commutative and associative: whoever adds up which votes first, the sum is the
    /// same, bit for bit.
    #[test]
    fn votes_merge_to_the_same_however_they_are_spread(
        numbers in proptest::bool::ANY,
        nodes in proptest::collection::vec(0_usize..4, 6),
        order in proptest::sample::subsequence(vec![0_usize, 1, 2, 3], 4).prop_shuffle(),
    ) {
        let (forest, rows) = &told()[usize::from(numbers)];
        let mut at_node: Vec<Option<Tally>> = vec![None; 4];
        for (grove, &node) in forest.groves().iter().zip(&nodes) {
            let votes = grove.tally(rows).unwrap();
            match &mut at_node[node] {
                Some(sum) => sum.merge(votes).unwrap(),
                none => *none = Some(votes),
            }
        }
        let mut sum: Option<Tally> = None;
        for node in order {
            match (&mut sum, at_node[node].take()) {
                (_, None) => {}
                (Some(sum), Some(votes)) => sum.merge(votes).unwrap(),
                (none, votes) => *none = votes,
            }
        }
        let told = sum.unwrap().finish(forest.manifest()).unwrap();
        proptest::prop_assert_eq!(told, forest.predict(rows).unwrap());
    }

    /// Votes that were changed on their way are refused or are other votes; nothing panics.
    #[test]
    fn changed_votes_are_an_error_or_votes(
        numbers in proptest::bool::ANY,
        changes in changes(),
    ) {
        let (forest, rows) = &told()[usize::from(numbers)];
        let votes = forest.groves()[1].tally(rows).unwrap();
        let mut bytes = cpe_tuple::codec::encode(&votes).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(changed) = cpe_tuple::codec::decode::<Tally>(&bytes, 1 << 20) {
            let _ = changed.finish(forest.manifest());
            let mut sum = forest.groves()[0].tally(rows).unwrap();
            let before = sum.clone();
            match sum.merge(changed) {
                Ok(()) => { let _ = sum.finish(forest.manifest()); }
                Err(_) => proptest::prop_assert_eq!(sum, before),
            }
        }
    }

    /// A whole forest that was changed on its way, the manifest included.
    #[test]
    fn a_changed_forest_is_an_error_or_a_forest(
        changes in changes(),
    ) {
        let (forest, rows) = &told()[0];
        let mut bytes = forest.encode().unwrap();
        // Mostly the manifest, which stands first and is looked into least.
        for (place, byte) in changes {
            let place = place.index(bytes.len().min(600));
            bytes[place] = byte;
        }
        if let Ok(changed) = Forest::decode(&bytes) {
            let _ = changed.predict(rows);
            let _ = ModelCard::new(&changed).to_string();
        }
    }
}
