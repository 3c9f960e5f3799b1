//! What features are worth to a forest.

use crate::dataset::Dataset;
use crate::error::PredictError;
use crate::forest::Forest;
use crate::rows::Rows;
use crate::score::{Score, Told};
use crate::seed::{Stream, splitmix64};

impl Forest {
    /// For each feature its share in what the trees gained at training (mean decrease of Gini
    /// impurity or squared error). The shares add up to 1, or to 0 if no tree has a cut. Features
    /// of many values are favoured; [`permutation_importance`](Self::permutation_importance) on
    /// held-out rows does not.
    #[must_use]
    pub fn importance(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.manifest().features().len()];
        for grove in self.groves() {
            for (sum, share) in sums.iter_mut().zip(&grove.importance) {
                *sum += share;
            }
        }
        let whole: f64 = sums.iter().sum();
        if whole > 0.0 {
            sums.iter_mut().for_each(|sum| *sum /= whole);
        }
        sums
    }

    /// For each feature how much the score (accuracy or R2) falls if that feature's values are
    /// shuffled among the rows, as the mean of `repeats` shuffles (at least one). Features that say
    /// the same as others look unimportant. It takes one prediction of all rows for each feature
    /// and repeat.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn permutation_importance(
        &self,
        data: &Dataset,
        repeats: u32,
        seed: u64,
    ) -> Result<Vec<f64>, PredictError> {
        let rows = self.rows_of(data)?;
        let score = |rows: &Rows| -> Result<f64, PredictError> {
            let predictions = self.predict(rows)?;
            let told = predictions.rows.iter().map(|row| Some(Told::from(row)));
            Ok(Score::of(told, data.target(), self.manifest().classes())?.main())
        };
        let whole = score(&rows)?;
        let mut falls = Vec::with_capacity(rows.width());
        for feature in 0..rows.width() {
            let mut stream = Stream::new(splitmix64(seed, feature as u64));
            let mut fall = 0.0;
            for _ in 0..repeats.max(1) {
                let mut column = rows.column(feature);
                stream.shuffle(&mut column);
                let mut shuffled = rows.clone();
                shuffled.replace_column(feature, &column);
                fall += whole - score(&shuffled)?;
            }
            falls.push(fall / f64::from(repeats.max(1)));
        }
        Ok(falls)
    }
}
