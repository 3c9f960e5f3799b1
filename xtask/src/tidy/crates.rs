//! Rules about crates as wholes: their papers and who may use whom.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Report;
use crate::workspace::{Metadata, Package, Root};

/// The code map of ARCHITECTURE.md from the ground up: a crate uses only crates before it.
const CODE_MAP: [&str; 17] = [
    "cpe-tuple",
    "cpe-consensus",
    "cpe-membership",
    "cpe-space",
    "cpe-actors",
    "cpe-mesh",
    "cpe-storage",
    "cpe-network",
    "cpe-rules",
    "cpe-forest",
    "cpe-sleigh",
    "cpe-nws",
    "cpe-sim",
    "cpe",
    "cpe-actors-peers",
    "cpe-node",
    "xtask",
];

/// Dependencies that belong to one crate, and why.
const KEPT_BY: [(&str, &str, &str); 2] = [
    (
        "serde_cbor",
        "cpe-tuple",
        "it is archived upstream, and stays replaceable behind one module",
    ),
    ("clips-sys", "cpe-rules", "raw CLIPS is unsafe"),
];

/// Characters. A description shorter than this says nothing.
const DESCRIPTION_CHARS_MIN: usize = 20;

/// Checks every crate and the changelog.
pub(super) fn check(root: &Root, metadata: &Metadata, report: &mut Report) -> Result<()> {
    for package in &metadata.packages {
        check_dependencies(package, report);
        let shown = relative(root.path(), &package.folder);
        let papers = Papers::read(&package.folder, shown.starts_with("crates/"))
            .with_context(|| format!("cannot read the crate {shown}"))?;
        check_papers(package, &shown, &papers, report);
    }
    let changelog = fs::read_to_string(root.join("CHANGELOG.md")).unwrap_or_default();
    if let Some(package) = metadata.packages.first() {
        check_changelog(&package.version, &changelog, report);
    }
    Ok(())
}

/// What a crate says of itself.
#[derive(Debug)]
pub(super) struct Papers {
    /// `None` where none is asked for.
    pub(super) has_readme: Option<bool>,
    /// The text of `lib.rs` or `main.rs`.
    pub(super) top: String,
    pub(super) manifest: String,
}

impl Papers {
    fn read(folder: &Path, needs_readme: bool) -> Result<Self> {
        let top = fs::read_to_string(folder.join("src/lib.rs"))
            .or_else(|_| fs::read_to_string(folder.join("src/main.rs")))?;
        Ok(Self {
            has_readme: needs_readme.then(|| folder.join("README.md").is_file()),
            top,
            manifest: fs::read_to_string(folder.join("Cargo.toml"))?,
        })
    }
}

pub(super) fn check_papers(package: &Package, folder: &str, papers: &Papers, report: &mut Report) {
    if papers.has_readme == Some(false) {
        report.error(folder, 1, "the crate has no README.md");
    }
    if package.description.chars().count() < DESCRIPTION_CHARS_MIN {
        report.error(folder, 1, "the description in Cargo.toml says nothing");
    }
    if !papers.top.trim_start().starts_with("//!") && !papers.top.trim_start().starts_with("#![doc")
    {
        report.error(
            folder,
            1,
            "lib.rs or main.rs does not begin with the crate's documentation",
        );
    }
    if !papers.manifest.contains("[lints") {
        report.error(folder, 1, "Cargo.toml does not take the workspace's lints");
    }
}

pub(super) fn check_dependencies(package: &Package, report: &mut Report) {
    let place = |name: &str| CODE_MAP.iter().position(|known| *known == name);
    let Some(own) = place(&package.name) else {
        let what = "the crate is missing from the code map in xtask/src/tidy/crates.rs";
        report.error(&package.name, 1, what);
        return;
    };
    for dependency in &package.dependencies {
        if place(dependency).is_some_and(|other| other >= own) {
            let what = format!("uses {dependency}, which is above it in the code map");
            report.error(&package.name, 1, &what);
        }
        for (kept, by, why) in KEPT_BY {
            if dependency == kept && package.name != by {
                report.error(
                    &package.name,
                    1,
                    &format!("uses {kept}, as only {by} may: {why}"),
                );
            }
        }
    }
}

pub(super) fn check_changelog(version: &str, changelog: &str, report: &mut Report) {
    let names_it = |line: &str| {
        line.strip_prefix("## ")
            .is_some_and(|title| title.trim_start_matches('[').starts_with(version))
    };
    if !changelog.lines().any(names_it) {
        report.error(
            "CHANGELOG.md",
            1,
            &format!("no section for the current version, {version}"),
        );
    }
}

fn relative(root: &Path, folder: &Path) -> String {
    folder
        .strip_prefix(root)
        .unwrap_or(folder)
        .to_string_lossy()
        .replace('\\', "/")
}
