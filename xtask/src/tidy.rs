//! `cargo xtask tidy`: the house rules that no compiler knows.
//!
//! Each rule is a pure function from a file's path and text to findings, so that its tests need no
//! files. ARCHITECTURE.md and CONTRIBUTING.md say why the rules are what they are.

mod crates;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::run::{print, say};
use crate::workspace::Root;

/// Bytes. A text file larger than this is data, and data does not belong into the repository's
/// source folders unnoticed.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What the rules found.
#[derive(Debug, Default)]
struct Report {
    /// Each fails the check.
    errors: Vec<String>,
    /// Each is worth a thought.
    warnings: Vec<String>,
}

impl Report {
    fn error(&mut self, path: &str, line: usize, what: &str) {
        self.errors.push(format!("{path}:{line}: {what}"));
    }
}

/// Checks the whole workspace and prints what it found.
pub(crate) fn tidy(root: &Root) -> Result<()> {
    let mut report = Report::default();
    let files = files(root.path())?;
    for path in &files {
        check_file(root, path, &mut report)?;
    }
    crates::check(root, &root.metadata()?, &mut report)?;
    for warning in &report.warnings {
        say(&format!("warning: {warning}"));
    }
    for error in &report.errors {
        say(&format!("error: {error}"));
    }
    if !report.errors.is_empty() {
        bail!(
            "tidy: {} things to put right in {} files",
            report.errors.len(),
            files.len()
        );
    }
    print(&format!(
        "tidy: {} files in order, {} warnings\n",
        files.len(),
        report.warnings.len()
    ));
    Ok(())
}

fn check_file(root: &Root, path: &Path, report: &mut Report) -> Result<()> {
    let shown = path
        .strip_prefix(root.path())
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/");
    let size = fs::metadata(path)
        .with_context(|| format!("cannot look at {shown}"))?
        .len();
    if size > FILE_BYTES_MAX {
        report.warnings.push(format!(
            "{shown}: {size} bytes; is it meant to be in the repository?"
        ));
        return Ok(());
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    // Pictures and other data are none of our business.
    let Ok(content) = String::from_utf8(bytes) else {
        return Ok(());
    };
    text::check(&shown, &content, report);
    if shown.ends_with(".md") {
        text::check_links(
            &shown,
            &content,
            &|target| {
                path.parent()
                    .is_some_and(|folder| folder.join(target).exists())
            },
            report,
        );
    }
    Ok(())
}

/// The workspace's own files, sorted: not what is built, downloaded or git's.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !is_foreign(&entry.file_name().to_string_lossy()) {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_foreign(folder: &str) -> bool {
    let ours = [".cargo", ".ci", ".config", ".github"];
    matches!(
        folder,
        "target" | "report" | "node_modules" | "proptest-regressions"
    ) || (folder.starts_with('.') && !ours.contains(&folder))
}

#[cfg(test)]
mod tests;
