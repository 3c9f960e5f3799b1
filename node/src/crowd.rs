//! Crowd files: several actors, described together and started together.

use std::collections::BTreeMap;
use std::path::Path;

use cpe_tuple::json::{value_from_json, value_to_json};
use serde::Deserialize;
use serde_json::Value;

use crate::exit::{About, Fault};

/// Bytes of a crowd file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Agents of one file at most.
const AGENTS_MAX: usize = 1000;

/// A crowd file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Crowd {
    /// Its agents, in the order in which they are to start.
    #[serde(rename = "agent")]
    pub(crate) agents: Vec<Agent>,
}

/// One actor to start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agent {
    /// Its name, unique in the mesh.
    pub(crate) name: String,
    /// Its kind.
    pub(crate) kind: String,
    /// Arguments of its kind. For `rules`, `file` is read here and sent as `source`.
    #[serde(default)]
    pub(crate) args: Value,
    /// Only on a node with these capabilities.
    #[serde(default)]
    pub(crate) require: BTreeMap<String, String>,
    /// Only on this node.
    #[serde(default)]
    pub(crate) node: Option<String>,
}

impl Crowd {
    /// Reads a file; programs it names count from its folder.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub(crate) fn read(path: &Path) -> Result<Self, Fault> {
        let shown = path.display();
        let about = std::fs::metadata(path).about(format!("cannot read {shown}"))?;
        if about.len() > FILE_BYTES_MAX {
            return Err(Fault::failed(format!(
                "{shown} is larger than a crowd file may be"
            )));
        }
        let text = std::fs::read_to_string(path).about(format!("cannot read {shown}"))?;
        let mut crowd: Self = toml::from_str(&text).about(&shown)?;
        if crowd.agents.len() > AGENTS_MAX {
            return Err(Fault::failed(format!(
                "{shown} has more than {AGENTS_MAX} agents"
            )));
        }
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for agent in &mut crowd.agents {
            agent.complete(folder).about(&shown)?;
        }
        Ok(crowd)
    }
}

impl Agent {
    /// Puts the program in the place of its path: the node that will run it may be elsewhere.
    fn complete(&mut self, folder: &Path) -> Result<(), Fault> {
        let about = format!("agent `{}`", self.name);
        if self.kind == "rules"
            && let Some(args) = self.args.as_object_mut()
            && let Some(Value::String(file)) = args.remove("file")
        {
            let path = folder.join(&file);
            let source = std::fs::read_to_string(&path)
                .about(format!("{about}: cannot read {}", path.display()))?;
            args.insert("source".to_owned(), Value::from(source));
        }
        // The one form in which the API takes it, and within the limits of values.
        self.args = value_to_json(&value_from_json(&self.args).about(about)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_to_copy_is_right() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/crowd.toml");
        let crowd = Crowd::read(Path::new(path)).unwrap();
        let rules = crowd
            .agents
            .iter()
            .find(|agent| agent.kind == "rules")
            .unwrap();
        let source = rules.args.get("source").and_then(Value::as_str).unwrap();
        assert!(cpe_rules::check("crowd", source).is_empty());
    }

    #[test]
    fn a_wrong_crowd_file_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Crowd::read(&path).unwrap_err().to_string()
        };
        assert!(read("[[agent]]\nname = \"a\"\nkynd = \"echo\"\n").contains("line 3"));
        let missing = "[[agent]]\nname = \"a\"\nkind = \"rules\"\nargs = {file = \"no.clp\"}\n";
        assert!(read(missing).contains("no.clp"));
    }
}
