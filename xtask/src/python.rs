//! Pythons with packages that results are compared with, each in a folder of its own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run::{answers, run, say};
use crate::workspace::Root;

/// Some packages, at versions that are fixed, so that a figure can be had again.
pub(crate) struct With {
    /// Its folder below `.tools`.
    folder: &'static str,
    packages: &'static [&'static str],
    /// What tells that they are there.
    imports: &'static str,
    /// How much is fetched, for who waits.
    size: &'static str,
}

/// scikit-learn with five data sets, and a sixth.
pub(crate) const SCIKIT_LEARN: With = With {
    folder: "scikit-learn",
    packages: &["scikit-learn==1.9.1", "palmerpenguins==0.1.6"],
    imports: "import sklearn, palmerpenguins",
    size: "about 100 MB",
};

/// Parallel maps over processes.
pub(crate) const DASK: With = With {
    folder: "dask",
    packages: &["distributed==2026.8.0"],
    imports: "import distributed",
    size: "about 10 MB",
};

impl With {
    /// The Python that has them; they are installed if it has not.
    ///
    /// # Errors
    /// When there is no Python with venv, or a package cannot be had.
    pub(crate) fn python(&self, root: &Root) -> Result<PathBuf> {
        let folder = root.path().join(".tools").join(self.folder);
        let python = folder.join("bin/python");
        if answers(Command::new(&python).args(["-c", self.imports])) {
            return Ok(python);
        }
        let Self {
            folder: name, size, ..
        } = self;
        say(&format!("installing {name} into .tools/{name}, {size}"));
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            .context("python3 has no complete venv module (Debian, Ubuntu: python3-venv)")?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        run(Command::new(&python).args(pip).args(self.packages))?;
        Ok(python)
    }
}
