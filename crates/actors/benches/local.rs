//! Local benchmarks.
fn main() {}
