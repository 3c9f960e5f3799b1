//! Data sets that come with the engine, for demonstrations and tests.

use std::sync::OnceLock;

use crate::dataset::{Dataset, Feature, Target};

impl Dataset {
    /// Breast Cancer Wisconsin (Diagnostic): 569 cases, 30 measures of cell nuclei, and whether the
    /// tumour was `benign` (357) or `malignant` (212). W. H. Wolberg, W. N. Street and O. L.
    /// Mangasarian, 1995, <https://archive.ics.uci.edu/dataset/17>.
    #[must_use]
    pub fn breast_cancer() -> Self {
        let bundled = smartcore::dataset::breast_cancer::load_dataset();
        // The bundled labels are those of scikit-learn's copy: 0 is malignant, 1 benign. Classes
        // are in the order that a CSV of this data would give.
        let of = bundled
            .target
            .iter()
            .map(|&label| u32::from(label == 0))
            .collect();
        let target = Target::Classes {
            names: vec!["benign".to_owned(), "malignant".to_owned()],
            of,
        };
        from_rows(&bundled.feature_names, &bundled.data, "diagnosis", target)
    }

    /// Diabetes: 442 patients, 10 standardized measures, and the disease's progression after a
    /// year as a number from 25 to 346. B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "Least
    /// angle regression", 2004.
    #[must_use]
    pub fn diabetes() -> Self {
        let bundled = smartcore::dataset::diabetes::load_dataset();
        let target = bundled
            .target
            .iter()
            .map(|&value| f64::from(value))
            .collect();
        let target = Target::Numbers(target);
        from_rows(&bundled.feature_names, &bundled.data, "progression", target)
    }
}

fn from_rows(names: &[String], data: &[f32], target_name: &str, target: Target) -> Dataset {
    let column = |feature: usize| data.iter().skip(feature).step_by(names.len());
    let feature = |name: &String| Feature {
        name: name.clone(),
        levels: Vec::new(),
    };
    Dataset {
        features: names.iter().map(feature).collect(),
        columns: (0..names.len())
            .map(|feature| column(feature).map(|&value| as_written(value)).collect())
            .collect(),
        target_name: target_name.to_owned(),
        target,
        weights: None,
        weights_name: None,
        ranks: OnceLock::new(),
        hash: OnceLock::new(),
    }
}

/// The number that was rounded to this `f32`: 17.99 and not 17.989999771118164.
fn as_written(value: f32) -> f64 {
    value
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(value))
}
