//! Crowd files: several actors, described together and started together.

pub(crate) mod plan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cpe_tuple::json::{value_from_json, value_to_json};
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use crate::exit::{About, Fault};

/// Bytes of a crowd file, and of a program it names, at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Agents of one file at most.
const AGENTS_MAX: usize = 1000;

/// Bytes of the name of an actor or a crowd: what the mesh takes.
const NAME_BYTES_MAX: usize = cpe_tuple::limits::MAX_NAME_BYTES;

/// A crowd file, read and found right.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// By which its actors are known again: its `name`, or what the file is called.
    pub(crate) name: String,
    /// Its agents, in the order in which they are to start.
    pub(crate) agents: Vec<Agent>,
}

/// One actor to start.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Its name, unique in the mesh.
    pub(crate) name: String,
    /// Its kind.
    pub(crate) kind: String,
    /// Arguments of its kind, as the API shows them. The `file` of `rules` is there as `source`.
    pub(crate) args: Value,
    /// Only on a node with these capabilities.
    pub(crate) require: BTreeMap<String, String>,
    /// Only on this node.
    pub(crate) node: Option<String>,
    /// It is to outlive its node.
    pub(crate) durable: bool,
    /// Rather on the node of this actor.
    pub(crate) near: Option<String>,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<Spanned<String>>,
    #[serde(rename = "agent", default)]
    agents: Vec<WrittenAgent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAgent {
    name: Spanned<String>,
    kind: Spanned<String>,
    #[serde(default)]
    args: Option<Spanned<toml::Value>>,
    #[serde(default)]
    require: BTreeMap<String, String>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    near: Option<String>,
}

impl Crowd {
    /// Reads a file; programs it names count from its folder, and are checked.
    ///
    /// # Errors
    /// What is wrong: the file, the line, the agent and the field, and what would be right.
    pub(crate) fn read(path: &Path) -> Result<Self, Fault> {
        let text = read(path).about(format!("cannot read {}", path.display()))?;
        let written: Written = toml::from_str(&text).about(path.display())?;
        let source = Source { path, text: &text };
        if written.agents.len() > AGENTS_MAX {
            return Err(Fault::failed(format!(
                "{}: {} agents; a crowd has at most {AGENTS_MAX}: make two files of it",
                path.display(),
                written.agents.len()
            )));
        }
        let name = match &written.name {
            Some(name) => {
                source.check_name("name", name)?;
                name.get_ref().clone()
            }
            None => path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default(),
        };
        let mut lines = BTreeMap::new();
        let mut agents = Vec::with_capacity(written.agents.len());
        for agent in written.agents {
            source.check_name("agent.name", &agent.name)?;
            let line = source.line(&agent.name);
            if let Some(first) = lines.insert(agent.name.get_ref().clone(), line) {
                return Err(source.fault(
                    line,
                    format!(
                        "agent `{}`: name: line {first} has an agent of this name; names are \
                         unique in the mesh",
                        agent.name.get_ref()
                    ),
                ));
            }
            agents.push(source.agent(agent)?);
        }
        Ok(Self { name, agents })
    }
}

/// A value of TOML as JSON, which has no dates, and no numbers that are not finite.
fn json_of(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) if number.is_finite() => Value::from(number),
        toml::Value::Float(number) => return Err(format!("{number} is no number that is kept")),
        toml::Value::Boolean(truth) => Value::from(truth),
        toml::Value::Datetime(date) => {
            return Err(format!("{date} is a date: write it as a text, \"{date}\""));
        }
        toml::Value::Array(values) => {
            let values = values.into_iter().map(json_of);
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let pairs = table.into_iter();
            let pairs = pairs.map(|(key, value)| Ok((key, json_of(value)?)));
            Value::Object(pairs.collect::<Result<_, String>>()?)
        }
    })
}

/// The text that spans point into.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        let before = self.text.get(..at.span().start).unwrap_or_default();
        1 + before.matches('\n').count()
    }

    fn fault(&self, line: usize, what: impl std::fmt::Display) -> Fault {
        Fault::failed(format!("{}:{line}: {what}", self.path.display()))
    }

    fn check_name(&self, field: &str, name: &Spanned<String>) -> Result<(), Fault> {
        let text = name.get_ref();
        let wrong = if text.is_empty() {
            "is empty".to_owned()
        } else if text.len() > NAME_BYTES_MAX {
            format!("has {} bytes, at most {NAME_BYTES_MAX}", text.len())
        } else if text.chars().any(char::is_control) {
            "has control characters".to_owned()
        } else {
            return Ok(());
        };
        Err(self.fault(self.line(name), format!("{field} {wrong}")))
    }

    /// Completes an agent: the node that will run it may be elsewhere.
    fn agent(&self, written: WrittenAgent) -> Result<Agent, Fault> {
        let name = written.name.get_ref().clone();
        let kind = written.kind.get_ref().clone();
        let line = match &written.args {
            Some(args) => self.line(args),
            None => self.line(&written.kind),
        };
        let fault = |field: &str, what: String| {
            self.fault(line, format!("agent `{name}`: {field}: {what}"))
        };
        let args = written.args.map(Spanned::into_inner).map(json_of);
        let args = args.transpose().map_err(|what| fault("args", what))?;
        let args = args.unwrap_or_default();
        let args = match kind.as_str() {
            "rules" => self
                .rules(args)
                .map_err(|(field, what)| fault(&field, what))?,
            "forest" if text(&args, "model").is_none() => {
                let what = "a forest needs the name of its model, as args = { model = \"NAME\" }";
                return Err(fault("args.model", what.to_owned()));
            }
            _ => args,
        };
        // The one form in which the API shows it, and within the limits of values.
        let args = value_from_json(&args).map_err(|error| fault("args", error.to_string()))?;
        Ok(Agent {
            args: value_to_json(&args),
            require: written.require,
            node: written.node,
            durable: written.durable,
            near: written.near,
            name,
            kind,
        })
    }

    /// Puts a program in the place of its path, and checks it; else the field and what is wrong.
    fn rules(&self, args: Value) -> Result<Value, (String, String)> {
        let mut args = match args {
            Value::Object(args) => args,
            Value::Null => Map::new(),
            other => return Err(("args".to_owned(), format!("{other} is no table"))),
        };
        let wrong = |field: &str, what: String| (format!("args.{field}"), what);
        let (shown, program) = match (args.remove("file"), args.get("source")) {
            (Some(Value::String(file)), None) => {
                let path = self.beside(&file);
                let program = read(&path).map_err(|error| {
                    let what = format!("cannot read {}: {error}", path.display());
                    wrong("file", format!("{what}; paths count from the crowd's file"))
                })?;
                args.insert("source".to_owned(), Value::from(program.clone()));
                (path.display().to_string(), program)
            }
            (None, Some(Value::String(program))) => {
                (self.path.display().to_string(), program.clone())
            }
            _ => {
                let what =
                    "a rule agent needs one program: file = \"PATH\" or source = '''CLIPS'''";
                return Err(wrong("file", what.to_owned()));
            }
        };
        let faults = cpe_rules::check(&shown, &program);
        match faults.into_iter().find(|fault| !fault.warning) {
            Some(fault) => Err(wrong("source", fault.to_string())),
            None => Ok(Value::Object(args)),
        }
    }

    fn beside(&self, file: &str) -> PathBuf {
        let folder = self.path.parent().unwrap_or_else(|| Path::new(""));
        folder.join(file)
    }
}

fn text<'a>(args: &'a Value, key: &str) -> Option<&'a str> {
    args.get(key)?.as_str()
}

/// Reads a text file of a bounded size.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        let limit = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::other(limit));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_to_copy_is_right() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/crowd.toml");
        let crowd = Crowd::read(Path::new(path)).unwrap();
        assert_eq!(crowd.name, "demo");
        let rules = crowd
            .agents
            .iter()
            .find(|agent| agent.kind == "rules")
            .unwrap();
        let source = text(&rules.args, "source").unwrap();
        assert!(cpe_rules::check("crowd", source).is_empty());
    }

    #[test]
    fn a_crowd_without_a_name_has_that_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("night.toml");
        std::fs::write(&path, "").unwrap();
        let crowd = Crowd::read(&path).unwrap();
        assert_eq!((crowd.name.as_str(), crowd.agents.len()), ("night", 0));
    }

    #[test]
    fn a_wrong_crowd_file_is_refused_with_line_agent_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let agent = |rest: &str| format!("# A crowd.\n[[agent]]\nname = \"a\"\n{rest}\n");
        let cases: [(String, &[&str]); 9] = [
            (agent("kynd = \"echo\""), &["line 4", "kynd"]),
            (agent("kind = 17"), &["line 4", "string"]),
            (
                agent("kind = \"rules\"\nargs = {file = \"no.clp\"}"),
                &["c.toml:5: agent `a`: args.file:", "no.clp"],
            ),
            (
                agent("kind = \"rules\""),
                &["c.toml:4: agent `a`: args.file:", "source = '''"],
            ),
            (
                agent("kind = \"rules\"\nargs = {source = \"(defrule\"}"),
                &["c.toml:5: agent `a`: args.source:"],
            ),
            (
                agent("kind = \"forest\"\nargs = {}"),
                &["c.toml:5: agent `a`: args.model:"],
            ),
            (
                agent("kind = \"echo\"\n[[agent]]\nname = \"a\"\nkind = \"echo\""),
                &["c.toml:6: agent `a`: name: line 3"],
            ),
            (
                "[[agent]]\nname = \"\"\nkind = \"echo\"".to_owned(),
                &["c.toml:2: agent.name is empty"],
            ),
            (
                "\nname = \"a\\nb\"".to_owned(),
                &["c.toml:2: name has control characters"],
            ),
        ];
        for (text, parts) in cases {
            std::fs::write(&path, &text).unwrap();
            let error = Crowd::read(&path).unwrap_err().to_string();
            for part in parts {
                assert!(
                    error.contains(part),
                    "{part:?} is not in {error:?} of {text}"
                );
            }
        }
    }
}
