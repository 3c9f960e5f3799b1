//! To smartcore's own models and back.
//!
//! Their fields are private, but they serialize. The structs here have the same form; what has
//! another is refused, so a release that changes it is told apart from this one.

use std::marker::PhantomData;

use cpe_tuple::codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smartcore::ensemble::random_forest_classifier::RandomForestClassifier;
use smartcore::ensemble::random_forest_regressor::RandomForestRegressor;
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::dataset::Feature;
use crate::engine::{GrownNode, are_sound};
use crate::error::ModelError;
use crate::forest::Forest;
use crate::grove::Grove;
use crate::limits::{MAX_CLASSES, MAX_COLUMNS, MAX_FOREST_BYTES, MAX_GROVE_TREES, MAX_TREES};
use crate::manifest::Manifest;
use crate::spec::{ForestSpec, Task};
use crate::tree::{LEAF, Node, Tree};
use crate::wire;

/// smartcore's forest for numbers.
pub type SmartcoreRegressor = RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;

/// smartcore's forest for classes, which are numbered from 0 in the order of their names.
pub type SmartcoreClassifier = RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>;

/// Who grew a forest that was taken over: its groves cannot be grown again here.
const IMPORTED: &str = "imported from smartcore 0.7.0";

/// Bytes of a model on its way: CBOR with the names of fields, some twenty times ours.
const PASSING_BYTES_MAX: usize = 4 * MAX_FOREST_BYTES;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Regressor {
    forest_regressor: Option<BaseForest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseForest {
    trees: Option<Vec<BaseTree>>,
    num_features: Option<usize>,
    samples: Option<Vec<Vec<bool>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseTree {
    nodes: Vec<NumberNode>,
    parameters: Option<BaseTreeParameters>,
    depth: u16,
    root_mass: f64,
    _phantom_tx: PhantomData<()>,
    _phantom_ty: PhantomData<()>,
    _phantom_x: PhantomData<()>,
    _phantom_y: PhantomData<()>,
}

#[derive(Serialize, Deserialize)]
enum Splitter {
    Random,
    Best,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseTreeParameters {
    max_depth: Option<u16>,
    min_samples_leaf: usize,
    min_samples_split: usize,
    seed: Option<u64>,
    splitter: Splitter,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberNode {
    output: f64,
    split_feature: usize,
    split_value: Option<f64>,
    split_score: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Classifier {
    trees: Option<Vec<ClassTree>>,
    classes: Option<Vec<u32>>,
    samples: Option<Vec<Vec<bool>>>,
}

#[derive(Serialize, Deserialize)]
enum Criterion {
    Gini,
    Entropy,
    ClassificationError,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassTreeParameters {
    criterion: Criterion,
    max_depth: Option<u16>,
    min_samples_leaf: usize,
    min_samples_split: usize,
    seed: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassTree {
    nodes: Vec<ClassNode>,
    parameters: Option<ClassTreeParameters>,
    num_classes: usize,
    classes: Vec<u32>,
    depth: u16,
    num_features: usize,
    _phantom_tx: PhantomData<()>,
    _phantom_x: PhantomData<()>,
    _phantom_y: PhantomData<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassNode {
    output: usize,
    n_node_samples: usize,
    split_feature: usize,
    split_value: Option<f64>,
    split_score: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
    impurity: Option<f64>,
}

/// A leaf as it comes from a foreign model.
#[derive(Clone, Copy)]
enum Leaf {
    Number(f64),
    Class { class: usize, rows: usize },
}

impl Forest {
    /// This forest as smartcore's own model, which tells the same numbers up to the rounding of
    /// their sums.
    ///
    /// # Errors
    /// [`ModelError::Exchange`] if it tells classes, or smartcore does not take it.
    pub fn to_smartcore_regressor(&self) -> Result<SmartcoreRegressor, ModelError> {
        let spec = self.manifest().spec();
        if spec.task != Task::Regress {
            return exchange("it tells classes: ask for a classifier");
        }
        let features = self.manifest().features().len();
        let tree = |tree: &Tree| BaseTree {
            nodes: tree.nodes.iter().enumerate().map(number_node).collect(),
            parameters: Some(BaseTreeParameters {
                max_depth: spec.max_depth,
                min_samples_leaf: spec.min_leaf as usize,
                min_samples_split: 2,
                seed: Some(spec.seed),
                splitter: Splitter::Best,
            }),
            depth: tree.depth() as u16,
            root_mass: self.manifest().rows() as f64,
            _phantom_tx: PhantomData,
            _phantom_ty: PhantomData,
            _phantom_x: PhantomData,
            _phantom_y: PhantomData,
        };
        pass(&Regressor {
            forest_regressor: Some(BaseForest {
                trees: Some(self.trees().map(tree).collect()),
                num_features: Some(features),
                samples: None,
            }),
        })
    }

    /// This forest as smartcore's own model. A tree of it votes for the most frequent class of a
    /// leaf and knows no shares, so where votes are close it may tell another class.
    ///
    /// # Errors
    /// [`ModelError::Exchange`] if it tells numbers, or smartcore does not take it.
    pub fn to_smartcore_classifier(&self) -> Result<SmartcoreClassifier, ModelError> {
        let manifest = self.manifest();
        if manifest.spec().task != Task::Classify {
            return exchange("it tells numbers: ask for a regressor");
        }
        let classes: Vec<u32> = (0..manifest.classes().len() as u32).collect();
        let tree = |tree: &Tree| ClassTree {
            nodes: class_nodes(tree),
            parameters: Some(ClassTreeParameters {
                criterion: Criterion::Gini,
                max_depth: manifest.spec().max_depth,
                min_samples_leaf: manifest.spec().min_leaf as usize,
                min_samples_split: 2,
                seed: Some(manifest.spec().seed),
            }),
            num_classes: classes.len(),
            classes: classes.clone(),
            depth: tree.depth() as u16,
            num_features: manifest.features().len(),
            _phantom_tx: PhantomData,
            _phantom_x: PhantomData,
            _phantom_y: PhantomData,
        };
        pass(&Classifier {
            trees: Some(self.trees().map(tree).collect()),
            classes: Some(classes.clone()),
            samples: None,
        })
    }

    /// Takes over a model that smartcore fitted. Its importances, its bags and its training data
    /// are not known, so they are not on the card either.
    ///
    /// # Errors
    /// [`ModelError::Exchange`] if it was not fitted, does not fit the names, or has trees that
    /// cannot be walked (a cycle, a threshold that is no number) or are too deep.
    pub fn of_smartcore_regressor(
        model: &SmartcoreRegressor,
        features: Vec<Feature>,
        target: &str,
    ) -> Result<Self, ModelError> {
        let model: Regressor = pass(model)?;
        let forest = model.forest_regressor;
        let trees = forest.and_then(|forest| forest.trees);
        let Some(trees) = trees else {
            return exchange("the model was not fitted");
        };
        let convert = |tree: BaseTree| {
            let mut leaves = Vec::new();
            let node = |node: NumberNode| {
                leaves.push(Leaf::Number(node.output));
                grown(
                    node.output,
                    node.split_feature,
                    node.split_value,
                    node.true_child.zip(node.false_child),
                )
            };
            let nodes: Vec<_> = tree.nodes.into_iter().map(node).collect();
            shape(&nodes, &leaves, features.len())
        };
        let trees = trees.into_iter().map(convert).collect::<Result<_, _>>()?;
        imported(trees, Task::Regress, features, target, Vec::new())
    }

    /// Takes over a model that smartcore fitted to classes; `classes` names them in ascending
    /// order of their numbers.
    ///
    /// # Errors
    /// As [`of_smartcore_regressor`](Self::of_smartcore_regressor).
    pub fn of_smartcore_classifier(
        model: &SmartcoreClassifier,
        features: Vec<Feature>,
        target: &str,
        classes: Vec<String>,
    ) -> Result<Self, ModelError> {
        let model: Classifier = pass(model)?;
        let (Some(trees), Some(numbers)) = (model.trees, model.classes) else {
            return exchange("the model was not fitted");
        };
        if numbers.len() != classes.len() {
            let (found, named) = (numbers.len(), classes.len());
            return exchange(&format!("it has {found} classes, and {named} are named"));
        }
        let convert = |tree: ClassTree| {
            let mut leaves = Vec::new();
            let node = |node: ClassNode| {
                let (class, rows) = (node.output, node.n_node_samples);
                leaves.push(Leaf::Class { class, rows });
                grown(
                    0.0,
                    node.split_feature,
                    node.split_value,
                    node.true_child.zip(node.false_child),
                )
            };
            let nodes: Vec<_> = tree.nodes.into_iter().map(node).collect();
            if leaves
                .iter()
                .any(|leaf| matches!(leaf, Leaf::Class { class, .. } if *class >= classes.len()))
            {
                return exchange("a leaf tells a class that is not there");
            }
            shape(&nodes, &leaves, features.len())
        };
        let trees = trees.into_iter().map(convert).collect::<Result<_, _>>()?;
        imported(trees, Task::Classify, features, target, classes)
    }

    fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.groves().iter().flat_map(|grove| &grove.trees)
    }
}

fn exchange<T>(why: &str) -> Result<T, ModelError> {
    Err(ModelError::Exchange(why.to_owned()))
}

/// From one struct into another of the same form.
fn pass<T: DeserializeOwned>(from: &impl Serialize) -> Result<T, ModelError> {
    let bytes = codec::encode(from).map_err(|error| ModelError::Exchange(error.to_string()))?;
    codec::decode(&bytes, PASSING_BYTES_MAX)
        .map_err(|error| ModelError::Exchange(error.to_string()))
}

fn number_node((place, node): (usize, &Node)) -> NumberNode {
    let cut = node.feature != LEAF;
    NumberNode {
        output: if cut { 0.0 } else { node.value },
        split_feature: if cut { usize::from(node.feature) } else { 0 },
        split_value: cut.then_some(node.value),
        split_score: cut.then_some(0.0),
        true_child: cut.then_some(place + 1),
        false_child: cut.then_some(node.right as usize),
    }
}

fn class_nodes(tree: &Tree) -> Vec<ClassNode> {
    let node = |(place, node): (usize, &Node)| {
        let cut = node.feature != LEAF;
        let counts = || tree.counts(*node).filter(|_| !cut);
        ClassNode {
            output: counts().next().map_or(0, |count| usize::from(count.class)),
            n_node_samples: counts().map(|count| count.rows as usize).sum(),
            split_feature: if cut { usize::from(node.feature) } else { 0 },
            split_value: cut.then_some(node.value),
            split_score: cut.then_some(0.0),
            true_child: cut.then_some(place + 1),
            false_child: cut.then_some(node.right as usize),
            impurity: None,
        }
    };
    tree.nodes.iter().enumerate().map(node).collect()
}

fn grown(
    output: f64,
    feature: usize,
    threshold: Option<f64>,
    children: Option<(usize, usize)>,
) -> GrownNode {
    GrownNode {
        output,
        feature,
        // A cut without a threshold is no cut that can be walked.
        threshold: match (threshold, children) {
            (Some(threshold), _) => threshold,
            (None, Some(_)) => f64::NAN,
            (None, None) => 0.0,
        },
        children,
    }
}

/// Nodes in preorder, with each leaf's content.
fn shape(nodes: &[GrownNode], leaves: &[Leaf], features: usize) -> Result<Tree, ModelError> {
    if !are_sound(nodes, features) {
        return exchange("one of its trees cannot be walked");
    }
    let mut tree = Tree::default();
    let mut open: Vec<(usize, Option<usize>)> = vec![(0, None)];
    while let Some((place, cut)) = open.pop() {
        // Two ways to one node would make a tree of any size out of few nodes.
        if tree.nodes.len() >= nodes.len() {
            return exchange("two branches of a tree meet");
        }
        let at = tree.nodes.len();
        if let Some(parent) = cut.and_then(|cut| tree.nodes.get_mut(cut)) {
            parent.right = at as u32;
        }
        let (Some(node), Some(leaf)) = (nodes.get(place), leaves.get(place)) else {
            return exchange("a node is missing");
        };
        let made = match (node.children, leaf) {
            (Some((left, right)), _) => {
                open.push((right, Some(at)));
                open.push((left, None));
                Node {
                    value: node.threshold,
                    right: 0,
                    feature: node.feature as u16,
                }
            }
            (None, Leaf::Number(number)) => Node {
                value: *number,
                right: 0,
                feature: LEAF,
            },
            (None, Leaf::Class { class, rows }) => {
                let rows = u32::try_from(*rows).unwrap_or(u32::MAX).max(1);
                Node {
                    value: 0.0,
                    right: tree.push_counts(&[(*class as u16, rows)]),
                    feature: LEAF,
                }
            }
        };
        tree.nodes.push(made);
    }
    Ok(tree)
}

fn imported(
    trees: Vec<Tree>,
    task: Task,
    features: Vec<Feature>,
    target: &str,
    classes: Vec<String>,
) -> Result<Forest, ModelError> {
    let fits = (1..=MAX_TREES as usize).contains(&trees.len())
        && (1..=MAX_COLUMNS).contains(&features.len())
        && classes.len() <= MAX_CLASSES;
    if !fits {
        return exchange("it has too few or too many trees, features or classes");
    }
    let mut spec = ForestSpec::classify().with_trees(trees.len() as u32);
    spec.task = task;
    spec.grove_trees = spec.grove_trees.min(MAX_GROVE_TREES);
    let (width, class_count) = (features.len(), classes.len());
    let grove = |(index, trees): (usize, &[Tree])| Grove {
        recipe: [0; 32],
        index: index as u32,
        features: width,
        classes: class_count,
        importance: vec![0.0; width],
        trees: trees.to_vec(),
    };
    let chunks = trees.chunks(spec.grove_trees as usize).enumerate();
    let mut groves: Vec<Grove> = chunks.map(grove).collect();
    // What the trees are stands in for the data they were grown from, which nobody knows.
    let mut hasher = blake3::Hasher::new();
    for grove in &groves {
        hasher.update(&grove.encode());
    }
    let data = *hasher.finalize().as_bytes();
    let manifest = Manifest::imported(IMPORTED, data, spec, features, target, classes);
    for grove in &mut groves {
        grove.recipe = manifest.recipe();
        // Deeper than we keep trees, or larger: as strict as with bytes from anywhere.
        wire::decode(&grove.encode())?;
    }
    Forest::assemble(manifest, groves)
}

#[cfg(test)]
mod tests;
