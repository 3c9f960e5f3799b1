//! `cargo xtask accuracy`: forests beside scikit-learn's, on data that anybody can have.
//!
//! Python's packages go into `.tools/scikit-learn`; the comparison itself is
//! `crates/forest/accuracy.py`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run::{answers, cargo, run, say};
use crate::setup;
use crate::workspace::Root;

/// What the comparison imports: scikit-learn with five of the data sets, and the sixth.
const PACKAGES: [&str; 2] = ["scikit-learn==1.9.1", "palmerpenguins==0.1.6"];

/// Compares; fails if a forest is worse than scikit-learn's by more than the goal allows.
pub(crate) fn accuracy(root: &Root) -> Result<()> {
    setup::setup(root)?;
    let python = python(root)?;
    run(cargo(root).args(["build", "--locked", "--package", "cpe-node"]))?;
    let binary = root.metadata()?.target_directory.join("debug/cpe");
    let script = root.path().join("crates/forest/accuracy.py");
    run(Command::new(python).arg(script).arg(binary))
}

/// A Python of our own that has the packages.
fn python(root: &Root) -> Result<PathBuf> {
    let folder = root.path().join(".tools/scikit-learn");
    let python = folder.join("bin/python");
    let imports = "import sklearn, palmerpenguins";
    if answers(Command::new(&python).args(["-c", imports])) {
        return Ok(python);
    }
    say("accuracy: installing scikit-learn into .tools/scikit-learn, about 100 MB");
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .context("python3 has no complete venv module (Debian, Ubuntu: python3-venv)")?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(Command::new(&python).args(pip).args(PACKAGES))?;
    Ok(python)
}
