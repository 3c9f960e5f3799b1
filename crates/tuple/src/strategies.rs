//! Generators for property tests, behind the feature `test-utils`.
