//! The bounds of everything this crate reads, grows or keeps, each with its reason.

/// Bytes of one CSV input. 256 MiB: more than a node should hold twice (text and columns).
pub const MAX_CSV_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of one encoded data set. 256 MiB: [`MAX_CELLS`] values would not fit in less as `f32`.
pub const MAX_DATASET_BYTES: usize = 256 * 1024 * 1024;

/// Rows of one table. Two million: fitting more takes hours on one core.
pub const MAX_ROWS: usize = 2_000_000;

/// Columns of one table, the target included. 4,096: a node of a tree names a feature in 16 bits,
/// and a header longer than this is nearly always a transposed file.
pub const MAX_COLUMNS: usize = 4_096;

/// Rows times columns of one table. 2^25 numbers are 256 MiB.
pub const MAX_CELLS: usize = 1 << 25;

/// Bytes of a column's, class's or level's name.
pub const MAX_NAME_BYTES: usize = 256;

/// Different texts in one column of features. More is an identifier or free text, from which a
/// forest learns nothing that holds for the next row.
pub const MAX_LEVELS: usize = 1_024;

/// Classes of a target. 256: a class takes a byte while a tree grows.
pub const MAX_CLASSES: usize = 256;

/// Different whole numbers up to which a numeric target is taken for classes when nobody said.
pub const MAX_AUTO_CLASSES: usize = 10;

/// Rows below which nothing is grown: fewer leave no row out of a bag often enough to judge.
pub const MIN_ROWS: usize = 4;

/// Largest absolute value of a target. Growing squares sums of targets times rows, which must stay
/// finite.
pub const MAX_TARGET: f64 = 1e100;

/// Largest weight of a row or class. A billion: what is drawn a billion times as often as another
/// makes that one vanish.
pub const MAX_WEIGHT: f64 = 1e9;

/// Leaf entries kept to tell quantiles: trees times training rows. 2^27 take half a GiB, and as
/// much again or twice that for where each leaf's begin.
pub const MAX_QUANTILE_ENTRIES: usize = 1 << 27;

/// Trees of one forest. 100,000: a hundred times what improves any forest we measured.
pub const MAX_TREES: u32 = 100_000;

/// Trees of one grove. A grove is one task of a worker, and should take seconds.
pub const MAX_GROVE_TREES: u32 = 1_000;

/// Trees of one grove times the rows that it sees. How often each tree draws each row, and where
/// the row ends, is kept while a grove grows: 2^27 take a GiB. Two million rows leave 67 trees.
pub const MAX_GROVE_DRAWS: usize = 1 << 27;

/// Rows times classes. A grove's votes on the rows that it has not seen are as many numbers of
/// eight bytes, and the rows of each class in each node of a tree about as many of four: 2^27 take
/// a GiB.
pub const MAX_VOTES: usize = 1 << 27;

/// Cuts between a tree's root and a leaf. Twice the logarithm of [`MAX_ROWS`], plus 8, is 50.
pub const MAX_DEPTH: u16 = 64;

/// Nodes of one tree, leaves included: two for each row at most.
pub const MAX_TREE_NODES: usize = 2 * MAX_ROWS;

/// Bytes of one encoded grove. 32 MiB; decoded it takes up to 14 times that. Ten trees that tell
/// numbers from 200,000 rows of noise stay below it; groves of fewer trees are smaller.
pub const MAX_GROVE_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of one encoded forest. 512 MiB.
pub const MAX_FOREST_BYTES: usize = 512 * 1024 * 1024;

/// Rows in one prediction. As many as a table has.
pub const MAX_PREDICT_ROWS: usize = MAX_ROWS;
