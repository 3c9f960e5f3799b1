//! Random forests grown in groves: the same bytes on whichever node grew them.
//!
//! A forest is a [`Manifest`] and a list of [`Grove`]s of some ten trees each. [`grow_grove`] is a
//! pure function of the data, the [`ForestSpec`] and the grove's index, so groves can be grown
//! anywhere, in any order, and again if a node dies; one node or nine give the same forest, and
//! anyone can audit a grove by growing it once more. Votes are added in whole numbers, so an answer
//! put together from many nodes equals the local one exactly.
//!
//! This crate knows neither nodes nor the space: it has no clock, no entropy, no threads and no
//! files. Trees are grown by [`Exact`], or by another [`Grower`].
//!
//! # The way through
//! [`Table`] (CSV) → [`Dataset`] → [`grow_grove`] → [`Grove`] → [`Forest::assemble`] →
//! [`Forest::predict`], [`Forest::evaluate`], [`out_of_bag`], [`ModelCard`].
//!
//! # Example
//! ```
//! use cpe_forest::{CsvOptions, Dataset, Forest, ForestSpec, Prediction, Rows, TargetKind};
//!
//! let csv = "sun,rain,grows\n9,1,no\n8,2,no\n5,5,yes\n4,6,yes\n6,5,yes\n9,0,no\n";
//! let options = CsvOptions::default();
//! let data = Dataset::from_csv(csv.as_bytes(), "grows", TargetKind::Auto, &options)?;
//! let forest = Forest::grow(&data, &ForestSpec::classify())?;
//! let told = forest.predict(&Rows::one(&[5.0, 6.0]))?;
//! assert!(matches!(&told.rows[0], Prediction::Class { class, .. } if class == "yes"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod limits;

mod bundled;
mod card;
mod dataset;
mod engine;
mod error;
mod exchange;
mod forest;
mod grove;
mod grow;
mod importance;
mod manifest;
mod oob;
pub mod plot;
mod quantiles;
mod ranks;
mod rows;
mod score;
mod seed;
mod spec;
mod table;
mod tally;
mod tree;
mod wire;

pub use card::{FeatureCard, GroveCard, ModelCard};
pub use dataset::{Dataset, Feature, Target, TargetKind};
pub use engine::{ENGINE, Exact, Failure, GrowJob, Grower, GrownNode, GrownTree, Smartcore};
pub use error::{DataError, GrowError, ModelError, Place, PredictError};
pub use exchange::{SmartcoreClassifier, SmartcoreRegressor};
pub use forest::{Forest, Judged};
pub use grove::Grove;
pub use grow::{check, grow_grove, grow_grove_by};
pub use manifest::{Manifest, Range};
pub use oob::{OutOfBag, OutOfBagSum, out_of_bag, out_of_bag_by};
pub use plot::bars;
pub use quantiles::Quantiles;
pub use rows::Rows;
pub use score::{ClassScore, NumberScore, Score};
pub use seed::splitmix64;
pub use spec::{ClassWeights, ForestSpec, Task};
pub use table::{Cell, CsvOptions, MISSING, Table, TableBuilder};
pub use tally::{Prediction, Predictions, Tally};
