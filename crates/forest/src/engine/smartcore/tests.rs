use super::*;
use crate::dataset::{Dataset, Feature, Target};
use crate::engine::draw_bags;

const GOLDEN: &str = "\
[2, 1, 2, 1, 0, 2, 0, 0, 2, 0, 0, 2]\n\
0 <= 2.5 (1, 2)\n\
= 0\n\
0 <= 5 (3, 4)\n\
= 0.6666666666666666\n\
1 <= 6.5 (5, 6)\n\
= 1\n\
= 1\n\
[0, 4, 1, 0, 1, 1, 1, 0, 2, 2, 0, 0]\n\
1 <= 3.5 (1, 2)\n\
0 <= 4.5 (3, 4)\n\
= 1\n\
= 0\n\
= 0\n\
";

/// Twelve rows of two features.
fn data() -> Dataset {
    let first = [
        1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0,
    ];
    let second = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0, 8.0];
    let targets = [0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
    let feature = |name: &str| Feature {
        name: name.to_owned(),
        levels: Vec::new(),
    };
    let columns = vec![first.to_vec(), second.to_vec()];
    let target = Target::Numbers(targets.to_vec());
    Dataset::new(["a", "b"].map(feature).to_vec(), columns, "y", target).unwrap()
}

const ROWS: [usize; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

/// Two trees: small enough to read, and settled by every choice that the engine makes (random
/// stream, order of draws, thresholds, order of nodes).
fn job(data: &Dataset) -> GrowJob<'_> {
    GrowJob {
        data,
        used: &[0, 1],
        seen: &ROWS,
        weights: None,
        trees: 2,
        mtry: 1,
        min_leaf: 2,
        depth: 3,
        seed: 7,
    }
}

fn bags(job: &GrowJob<'_>) -> Vec<Vec<u32>> {
    draw_bags(job.seed, job.trees, job.rows(), job.weights).unwrap()
}

fn drawn(trees: &[GrownTree], bags: &[Vec<u32>]) -> String {
    let mut text = String::new();
    for (tree, drawn) in trees.iter().zip(bags) {
        text.push_str(&format!("{drawn:?}\n"));
        for node in &tree.nodes {
            let GrownNode {
                output,
                feature,
                threshold,
                children,
            } = node;
            match children {
                Some(children) => {
                    text.push_str(&format!("{feature} <= {threshold} {children:?}\n"));
                }
                None => text.push_str(&format!("= {output}\n")),
            }
        }
    }
    text
}

#[test]
fn the_engine_grows_the_trees_it_always_grew() {
    // If this fails after an upgrade of smartcore or rand, forests of old and new nodes differ:
    // raise the number in NAME together with this text, and say so in the changelog.
    let data = data();
    let (job, bags) = (job(&data), bags(&job(&data)));
    let grown = Smartcore.grow(&job, &bags).unwrap();
    assert_eq!(drawn(&grown, &bags), GOLDEN);
}

#[test]
fn a_panic_of_the_engine_is_an_error() {
    let data = data();
    let mut job = job(&data);
    let bags = bags(&job);
    job.used = &[0, 7];
    assert!(matches!(
        Smartcore.grow(&job, &bags),
        Err(Failure::Failed(_))
    ));
}

#[test]
fn the_engine_draws_by_weight_as_we_do() {
    let data = data();
    let mut job = job(&data);
    let weights: Vec<f64> = (0..12).map(|row| f64::from(row % 3)).collect();
    job.weights = Some(&weights);
    let bags = bags(&job);
    Smartcore.grow(&job, &bags).unwrap();
    assert!(
        bags.iter()
            .all(|bag| bag.iter().step_by(3).all(|times| *times == 0))
    );
    // And it is told if it does not.
    job.weights = None;
    assert!(matches!(
        Smartcore.grow(&job, &bags),
        Err(Failure::Changed(_))
    ));
    assert!(matches!(
        draw_bags(1, 1, 2, Some(&[0.0, 0.0])),
        Err(Failure::Failed(_))
    ));
}

#[test]
fn a_layout_that_is_not_known_is_refused() {
    #[derive(Serialize)]
    struct BaseTree {
        nodes: Vec<u8>,
    }
    let error = BaseTree { nodes: Vec::new() }
        .serialize(&mut Harvest::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "a struct BaseTree of 1 fields in field \"\" of the model"
    );
}
