use smartcore::ensemble::random_forest_classifier::RandomForestClassifierParameters;
use smartcore::ensemble::random_forest_regressor::RandomForestRegressorParameters;

use super::*;
use crate::dataset::{Dataset, Target};
use crate::tally::Prediction;

fn matrix(data: &Dataset) -> DenseMatrix<f64> {
    let columns: Vec<f64> = data.columns.iter().flatten().copied().collect();
    DenseMatrix::new(data.len(), data.columns.len(), columns, true).unwrap()
}

fn classes(data: &Dataset) -> (Vec<String>, Vec<u32>) {
    let Target::Classes { names, of } = data.target() else {
        panic!("classes are told");
    };
    (names.clone(), of.clone())
}

fn told_numbers(forest: &Forest, data: &Dataset) -> Vec<f64> {
    let told = forest.predict(&data.rows()).unwrap();
    let number = |row: &Prediction| match row {
        Prediction::Number { value } => *value,
        Prediction::Class { .. } => panic!("numbers are told"),
    };
    told.rows.iter().map(number).collect()
}

fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() < 1e-9 * b.abs().max(1.0))
}

#[test]
fn smartcore_tells_the_numbers_that_a_forest_tells_and_back() {
    let data = Dataset::diabetes();
    let forest = Forest::grow(&data, &ForestSpec::regress().with_trees(15)).unwrap();
    let theirs = forest.to_smartcore_regressor().unwrap();
    let told = theirs.predict(&matrix(&data)).unwrap();
    assert!(near(&told, &told_numbers(&forest, &data)));
    let back = Forest::of_smartcore_regressor(&theirs, data.features.clone(), "y").unwrap();
    assert_eq!(told_numbers(&back, &data), told_numbers(&forest, &data));
    assert!(forest.to_smartcore_classifier().is_err());
}

#[test]
fn smartcore_votes_as_a_forests_trees_do_and_back() {
    let data = Dataset::breast_cancer();
    // An odd number of trees: no tie.
    let forest = Forest::grow(&data, &ForestSpec::classify().with_trees(15)).unwrap();
    let theirs = forest.to_smartcore_classifier().unwrap();
    let told = theirs.predict(&matrix(&data)).unwrap();
    let most = |row: &Prediction| match row {
        Prediction::Class { votes, .. } => u32::from(votes[1] > votes[0]),
        Prediction::Number { .. } => panic!("classes are told"),
    };
    let ours = forest.predict(&data.rows()).unwrap();
    assert_eq!(told, ours.rows.iter().map(most).collect::<Vec<_>>());
    let (names, _) = classes(&data);
    let back = Forest::of_smartcore_classifier(&theirs, data.features.clone(), "y", names);
    let back = back.unwrap().predict(&data.rows()).unwrap();
    assert_eq!(told, back.rows.iter().map(most).collect::<Vec<_>>());
}

#[test]
fn models_that_smartcore_fitted_are_taken_over() {
    let data = Dataset::breast_cancer();
    let (names, of) = classes(&data);
    let parameters = RandomForestClassifierParameters::default().with_n_trees(11);
    let theirs = SmartcoreClassifier::fit(&matrix(&data), &of, parameters).unwrap();
    let features = data.features.clone();
    let ours = Forest::of_smartcore_classifier(&theirs, features, "y", names).unwrap();
    let told = ours.predict(&data.rows()).unwrap();
    let index = |row: &Prediction| match row {
        Prediction::Class { index, .. } => *index,
        Prediction::Number { .. } => panic!("classes are told"),
    };
    let told: Vec<u32> = told.rows.iter().map(index).collect();
    assert_eq!(told, theirs.predict(&matrix(&data)).unwrap());
    let stored = Forest::decode(&ours.encode().unwrap()).unwrap();
    assert_eq!(stored.hash(), ours.hash());
    // Nobody knows what it learnt from, and the card does not say that we do.
    let card = crate::ModelCard::new(&stored).to_string();
    assert!(card.contains("taken over from there"), "{card}");
    assert!(!card.contains("all rows"), "{card}");

    let data = Dataset::diabetes();
    let Target::Numbers(numbers) = data.target() else {
        panic!("numbers are told");
    };
    let parameters = RandomForestRegressorParameters::default().with_n_trees(11);
    let theirs = SmartcoreRegressor::fit(&matrix(&data), numbers, parameters).unwrap();
    let ours = Forest::of_smartcore_regressor(&theirs, data.features.clone(), "y").unwrap();
    let told = theirs.predict(&matrix(&data)).unwrap();
    assert!(near(&told_numbers(&ours, &data), &told));
}

/// A node of a foreign tree: threshold, feature, children.
type Drawn = (f64, usize, Option<(usize, usize)>);

/// A model of one tree with these nodes.
fn foreign(nodes: &[Drawn]) -> SmartcoreRegressor {
    let node = |&(value, split_feature, children): &Drawn| NumberNode {
        output: value,
        split_feature,
        split_value: children.map(|_| value),
        split_score: children.map(|_| 0.0),
        true_child: children.map(|children| children.0),
        false_child: children.map(|children| children.1),
    };
    let tree = BaseTree {
        nodes: nodes.iter().map(node).collect(),
        parameters: None,
        depth: 1,
        root_mass: 1.0,
        _phantom_tx: PhantomData,
        _phantom_ty: PhantomData,
        _phantom_x: PhantomData,
        _phantom_y: PhantomData,
    };
    pass(&Regressor {
        forest_regressor: Some(BaseForest {
            trees: Some(vec![tree]),
            num_features: Some(1),
            samples: None,
        }),
    })
    .unwrap()
}

#[test]
fn a_foreign_model_that_cannot_be_walked_is_refused() {
    let take = |model: &SmartcoreRegressor| {
        let feature = Feature {
            name: "x".to_owned(),
            levels: Vec::new(),
        };
        Forest::of_smartcore_regressor(model, vec![feature], "y")
    };
    let leaf = (1.0, 0, None);
    assert!(take(&foreign(&[(0.5, 0, Some((1, 2))), leaf, leaf])).is_ok());
    let wrong: [&[Drawn]; 7] = [
        &[],
        // A cycle, over which smartcore itself walks for ever.
        &[(0.5, 0, Some((0, 1))), leaf],
        // Two ways to one leaf, and to one cut.
        &[(0.5, 0, Some((1, 1))), leaf],
        &[
            (0.5, 0, Some((1, 2))),
            (0.2, 0, Some((2, 3))),
            (0.3, 0, Some((3, 4))),
            leaf,
            leaf,
        ],
        &[(0.5, 0, Some((1, 9))), leaf],
        &[(0.5, 7, Some((1, 2))), leaf, leaf],
        &[(f64::NAN, 0, Some((1, 2))), leaf, leaf],
    ];
    for nodes in wrong {
        let error = take(&foreign(nodes)).unwrap_err().to_string();
        assert!(error.contains("cannot be exchanged"), "{error}");
    }
    // A chain that is deeper than trees are kept.
    let mut chain: Vec<Drawn> = Vec::new();
    for cut in 0..100 {
        chain.push((0.5, 0, Some((2 * cut + 1, 2 * cut + 2))));
        chain.push(leaf);
    }
    chain.push(leaf);
    assert!(
        take(&foreign(&chain))
            .unwrap_err()
            .to_string()
            .contains("too deep")
    );
}
