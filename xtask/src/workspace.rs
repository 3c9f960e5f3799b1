//! Where the workspace is and what it consists of.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{run, setup};

/// What is left out wherever the whole workspace is built: crates that exist to be measured beside
/// others' bring those along, and are built by `cargo xtask bench` alone.
pub(crate) const WITHOUT_PEERS: [&str; 3] = ["--workspace", "--exclude", "cpe-actors-peers"];

/// The workspace's top folder, and what cargo's configuration in it told this process.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    /// Environment variables that come from set-up's configuration rather than from the user.
    pub(crate) configured: Vec<&'static str>,
}

impl Root {
    /// Finds the folder above this crate's own.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable for `cargo run`; the constant serves a binary started by hand.
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let path = own
            .parent()
            .context("the folder of xtask has no parent")?
            .to_owned();
        let configured = setup::configured(&path);
        Ok(Self { path, configured })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// What cargo knows of the workspace's own crates; needs no network.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let args = [
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ];
        let text = run::capture(run::cargo(self).args(args))?;
        let document = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
        Ok(Metadata::from_json(&document))
    }
}

/// The workspace as cargo sees it.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) target_directory: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One crate of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    /// The folder, absolute.
    pub(crate) folder: PathBuf,
    /// Names of the dependencies that end in the product; not those of tests.
    pub(crate) dependencies: Vec<String>,
    /// Names of the `[[bench]]` targets.
    pub(crate) benches: Vec<String>,
}

impl Metadata {
    fn from_json(document: &Value) -> Self {
        let mut packages: Vec<Package> = items(document.get("packages"))
            .map(Package::from_json)
            .collect();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            target_directory: text(document, "target_directory").into(),
            packages,
        }
    }
}

impl Package {
    fn from_json(package: &Value) -> Self {
        let manifest = PathBuf::from(text(package, "manifest_path"));
        Self {
            name: text(package, "name"),
            version: text(package, "version"),
            description: text(package, "description"),
            folder: manifest.parent().map_or_else(PathBuf::new, Path::to_owned),
            dependencies: items(package.get("dependencies"))
                .filter(|dependency| text(dependency, "kind") != "dev")
                .map(|dependency| text(dependency, "name"))
                .collect(),
            benches: items(package.get("targets"))
                .filter(|target| items(target.get("kind")).any(|kind| kind == "bench"))
                .map(|target| text(target, "name"))
                .collect(),
        }
    }
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// The field as text; empty when it is absent or null.
fn text(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
