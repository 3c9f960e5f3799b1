//! `cargo xtask accuracy`: forests beside scikit-learn's, on data that anybody can have.
//!
//! Python's packages go into `.tools/scikit-learn`; the comparison itself is
//! `crates/forest/accuracy.py`.

use std::process::Command;

use anyhow::Result;

use crate::python::SCIKIT_LEARN;
use crate::run::{cargo, run};
use crate::setup;
use crate::workspace::Root;

/// Compares; fails if a forest is worse than scikit-learn's by more than the goal allows.
pub(crate) fn accuracy(root: &Root) -> Result<()> {
    setup::setup(root)?;
    let python = SCIKIT_LEARN.python(root)?;
    run(cargo(root).args(["build", "--locked", "--package", "cpe-node"]))?;
    let binary = root.metadata()?.target_directory.join("debug/cpe");
    let script = root.path().join("crates/forest/accuracy.py");
    run(Command::new(python).arg(script).arg(binary))
}
