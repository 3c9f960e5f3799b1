//! The model card: what a forest is, in words and as data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::forest::Forest;
use crate::manifest::hex;
use crate::plot::{bars, short};
use crate::score::Score;
use crate::spec::ForestSpec;

/// All that should be known of a forest before it is believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The forest's hash, in hexadecimal.
    pub forest: String,
    /// What was asked for.
    pub spec: ForestSpec,
    /// What grew the trees.
    pub engine: String,
    /// The training data's hash, in hexadecimal.
    pub data: String,
    /// Rows it learnt from; 0 of a forest that was taken over from elsewhere.
    pub rows: usize,
    /// What it tells.
    pub target: String,
    /// The classes it can tell; empty for numbers.
    pub classes: Vec<String>,
    /// The columns that it wants, in their order.
    pub features: Vec<FeatureCard>,
    /// Its groves, in order.
    pub groves: Vec<GroveCard>,
    /// Each training row judged by the trees that have not seen it, if that was done.
    pub out_of_bag: Option<Score>,
    /// The score on rows held out of training, if that was done.
    pub held_out: Option<Score>,
}

/// A column on the card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureCard {
    /// Its name.
    pub name: String,
    /// For texts: text number `i` is the number `i` to the trees. Empty for numbers.
    pub levels: Vec<String>,
    /// The least value at training; none if all were missing.
    pub min: Option<f64>,
    /// The largest value at training; none if all were missing.
    pub max: Option<f64>,
    /// Rows without it at training. A missing value goes right at every cut.
    pub missing: u64,
    /// Its share in what the trees gained (mean decrease of impurity); all shares add up to 1.
    pub importance: f64,
}

/// A grove on the card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroveCard {
    /// Which.
    pub index: u32,
    /// BLAKE3 of its bytes, in hexadecimal: grow it again to audit it.
    pub hash: String,
    /// How many bytes.
    pub bytes: usize,
    /// How many trees.
    pub trees: u32,
    /// How many cuts and leaves.
    pub nodes: usize,
    /// Cuts on the longest way from a root to a leaf.
    pub depth: usize,
}

impl ModelCard {
    /// The card of a forest, still without scores.
    #[must_use]
    pub fn new(forest: &Forest) -> Self {
        let manifest = forest.manifest();
        let features = manifest.features().iter().zip(manifest.ranges());
        Self {
            forest: hex(&forest.hash()),
            spec: manifest.spec().clone(),
            engine: manifest.engine().to_owned(),
            data: hex(manifest.data()),
            rows: manifest.rows(),
            target: manifest.target().to_owned(),
            classes: manifest.classes().to_vec(),
            features: features
                .zip(forest.importance())
                .map(|((feature, range), importance)| FeatureCard {
                    name: feature.name.clone(),
                    levels: feature.levels.clone(),
                    min: range.min,
                    max: range.max,
                    missing: range.missing,
                    importance,
                })
                .collect(),
            groves: forest
                .groves()
                .iter()
                .zip(forest.seals())
                .map(|(grove, (hash, bytes))| GroveCard {
                    index: grove.index(),
                    hash: hex(hash),
                    bytes: *bytes,
                    trees: grove.trees(),
                    nodes: grove.nodes(),
                    depth: grove.depth(),
                })
                .collect(),
            out_of_bag: forest.out_of_bag().cloned(),
            held_out: None,
        }
    }
}

/// Features shown in the text form, the most important first.
const SHOWN_FEATURES: usize = 15;

/// A table that is wider is not shown in the text form.
const TERMINAL_COLUMNS: usize = 80;

/// Groves shown in the text form.
const SHOWN_GROVES: usize = 10;

impl fmt::Display for ModelCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.spec;
        let groves = self.groves.len();
        writeln!(f, "Forest {}", self.forest)?;
        writeln!(f, "  tells       {} ({})", self.target, spec.task.name())?;
        if !self.classes.is_empty() {
            writeln!(f, "  classes     {}", self.classes.join(", "))?;
        }
        writeln!(
            f,
            "  trees       {} in {groves} groves, seed {}",
            spec.trees, spec.seed
        )?;
        let or_auto = |limit: Option<u32>| limit.map_or_else(|| "auto".into(), |n| n.to_string());
        writeln!(
            f,
            "  settings    depth {}, mtry {}, min leaf {}, sample {}",
            or_auto(spec.max_depth.map(u32::from)),
            or_auto(spec.mtry),
            spec.min_leaf,
            spec.sample
        )?;
        writeln!(f, "  engine      {}", self.engine)?;
        let data = self.data.get(..16).unwrap_or(&self.data);
        if self.rows > 0 {
            writeln!(f, "  data        {} rows, hash {data}", self.rows)?;
            writeln!(f, "  grown       by nodes that each had all rows")?;
        } else {
            writeln!(f, "  data        not known")?;
            writeln!(f, "  grown       elsewhere, and taken over from there")?;
        }
        let bytes: usize = self.groves.iter().map(|grove| grove.bytes).sum();
        let nodes: usize = self.groves.iter().map(|grove| grove.nodes).sum();
        let depth = self
            .groves
            .iter()
            .map(|grove| grove.depth)
            .max()
            .unwrap_or(0);
        writeln!(
            f,
            "  size        {bytes} bytes, {nodes} nodes, at most {depth} cuts deep"
        )?;
        for (name, score) in [
            ("out of bag", &self.out_of_bag),
            ("held out", &self.held_out),
        ] {
            if let Some(score) = score {
                writeln!(f, "\n{name}: {score}")?;
            }
        }
        let names: Vec<&str> = self.features.iter().map(|own| own.name.as_str()).collect();
        let shares: Vec<f64> = self.features.iter().map(|own| own.importance).collect();
        let title = format!("\nImportance of the {} columns", names.len());
        write!(f, "{}", bars(&title, &names, &shares))?;
        self.columns(f)?;
        writeln!(f, "\nGroves")?;
        for grove in self.groves.iter().take(SHOWN_GROVES) {
            writeln!(
                f,
                "  {:4}  {}  {} trees, {} bytes",
                grove.index,
                grove.hash.get(..12).unwrap_or(&grove.hash),
                grove.trees,
                grove.bytes
            )?;
        }
        if groves > SHOWN_GROVES {
            writeln!(f, "  and {} more", groves - SHOWN_GROVES)?;
        }
        Ok(())
    }
}

impl ModelCard {
    /// What the columns were like, the most important first.
    fn columns(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut features: Vec<&FeatureCard> = self.features.iter().collect();
        features.sort_by(|a, b| b.importance.total_cmp(&a.importance));
        writeln!(f, "\nWhat they held at training")?;
        for feature in features.iter().take(SHOWN_FEATURES) {
            let name = short(&feature.name, 28);
            write!(f, "  {name:28} ")?;
            match (feature.min, feature.max) {
                _ if !feature.levels.is_empty() => {
                    let levels = feature.levels.join(", ");
                    write!(f, "{} texts: {}", feature.levels.len(), short(&levels, 30))?;
                }
                (Some(min), Some(max)) => write!(f, "{min} to {max}")?,
                _ => write!(f, "not known")?,
            }
            if feature.missing > 0 {
                write!(f, ", {} missing", feature.missing)?;
            }
            writeln!(f)?;
        }
        if features.len() > SHOWN_FEATURES {
            writeln!(f, "  and {} more", features.len() - SHOWN_FEATURES)?;
        }
        Ok(())
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbers(score) => write!(
                f,
                "R2 {:.4}, mean absolute error {:.4}, root mean squared error {:.4}, {} rows",
                score.r2, score.mae, score.rmse, score.rows
            ),
            Self::Classes(score) => {
                write!(
                    f,
                    "accuracy {:.4}, balanced {:.4}, {} rows",
                    score.accuracy, score.balanced_accuracy, score.rows
                )?;
                let width = score.classes.iter().map(|name| name.chars().count()).max();
                let width = width.unwrap_or(0).max(6);
                let columns = 9 + width + score.classes.len() * (width + 2);
                if columns > TERMINAL_COLUMNS {
                    let classes = score.classes.len();
                    return write!(
                        f,
                        ", {classes} classes (`--plots` draws who is told for whom)"
                    );
                }
                write!(f, "\n  {:width$}  told:", "true")?;
                for class in &score.classes {
                    write!(f, "  {class:>width$}")?;
                }
                for (class, row) in score.classes.iter().zip(&score.confusion) {
                    write!(f, "\n  {class:width$}       ")?;
                    for count in row {
                        write!(f, "  {count:>width$}")?;
                    }
                }
                Ok(())
            }
        }
    }
}
