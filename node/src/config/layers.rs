//! The layers of a configuration, and where each value came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::settings::{self, SETTINGS};
use crate::exit::Fault;

/// Bytes of a configuration file at most. Real ones have a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody: it is built in.
    Default,
    /// A file, at a line counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Env(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting given on the command line.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Which setting.
    pub(crate) key: &'static str,
    /// As the user typed it.
    pub(crate) flag: &'static str,
    /// Its value.
    pub(crate) value: Value,
}

/// Every setting with its value and its source.
#[derive(Debug)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, (Value, Source)>,
}

impl Settings {
    /// Joins defaults, file, environment and flags; later ones win.
    ///
    /// # Errors
    /// The first thing wrong, with its place.
    pub(crate) fn load(
        file: Option<PathBuf>,
        env: &dyn Fn(&str) -> Option<OsString>,
        flags: Vec<Flag>,
    ) -> Result<Self, Fault> {
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            values.insert(setting.key, ((setting.default)(), Source::Default));
        }
        let mut settings = Self { values };
        let file = file.or_else(|| env("CPE_CONFIG").map(PathBuf::from));
        if let Some(path) = file {
            settings.add_file(&path)?;
        }
        settings.add_env(env)?;
        for Flag { key, flag, value } in flags {
            settings.add(key, value, Source::Flag(flag))?;
        }
        Ok(settings)
    }

    /// All settings in the table's order: key, value, source.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value, &Source)> {
        SETTINGS.iter().filter_map(|setting| {
            let (value, source) = self.values.get(setting.key)?;
            Some((setting.key, value, source))
        })
    }

    /// Whether nobody said what this setting is.
    pub(crate) fn is_default(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some((_, Source::Default)))
    }

    /// The values as sections with their settings.
    pub(crate) fn nested(&self) -> Value {
        let mut sections = Map::new();
        for (key, value, _) in self.iter() {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            let section = sections
                .entry(section)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(section) = section {
                section.insert(name.to_owned(), value.clone());
            }
        }
        Value::Object(sections)
    }

    fn add(&mut self, key: &'static str, value: Value, source: Source) -> Result<(), Fault> {
        let wrong = |why| Fault::usage(format!("{source}: {key}: {why}"));
        let Some(setting) = settings::find(key) else {
            return Err(wrong("no such setting".to_owned()));
        };
        let value = setting.shape.check(value).map_err(wrong)?;
        self.values.insert(key, (value, source));
        Ok(())
    }

    fn add_env(&mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), Fault> {
        for setting in SETTINGS {
            let Some(text) = env(setting.env) else {
                continue;
            };
            let wrong = |why| {
                Fault::usage(format!(
                    "environment {}: {}: {why}",
                    setting.env, setting.key
                ))
            };
            let text = text
                .to_str()
                .ok_or_else(|| wrong("is not UTF-8 text".to_owned()))?;
            let value = setting.shape.read_text(text).map_err(wrong)?;
            self.values
                .insert(setting.key, (value, Source::Env(setting.env)));
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Fault> {
        let shown = path.display();
        let text = read(path)?;
        let parsed = DeTable::parse(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(&text, &span));
            Fault::usage(format!("{shown}:{line}: {}", error.message()))
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for (section, body) in parsed.get_ref() {
            let line = line_of(&text, &section.span());
            let section = section.get_ref();
            let Some(body) = body.get_ref().as_table() else {
                return Err(unknown(path, line, section));
            };
            if !SETTINGS
                .iter()
                .any(|s| s.key.split('.').next() == Some(section.as_ref()))
            {
                return Err(unknown_section(path, line, section));
            }
            for (name, value) in body {
                let line = line_of(&text, &name.span());
                let key = format!("{section}.{}", name.get_ref());
                let Some(setting) = settings::find(&key) else {
                    return Err(unknown(path, line, &key));
                };
                let value = to_json(value.get_ref())
                    .map_err(|why| Fault::usage(format!("{shown}:{line}: {key}: {why}")))?;
                let value = setting.shape.anchor(value, folder);
                self.add(setting.key, value, Source::File(path.to_owned(), line))?;
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, Fault> {
    let shown = path.display();
    let wrong = |error: &dyn fmt::Display| {
        Fault::usage(format!("cannot read the configuration {shown}: {error}"))
    };
    let about = std::fs::metadata(path).map_err(|error| wrong(&error))?;
    if about.len() > FILE_BYTES_MAX {
        return Err(wrong(&format!(
            "{} bytes; at most {FILE_BYTES_MAX}",
            about.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(valid);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Fault::usage(format!("{shown}:{line}: not UTF-8 text"))
    })
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text
        .bytes()
        .take(span.start)
        .filter(|byte| *byte == b'\n')
        .count()
}

fn unknown(path: &Path, line: usize, key: &str) -> Fault {
    let fault = Fault::usage(format!(
        "{}:{line}: unknown setting `{key}`",
        path.display()
    ));
    match settings::nearest(key) {
        Some(near) => fault.next(format!("did you mean `{near}`?")),
        None => fault.next("`cpe config show` lists all settings"),
    }
}

fn unknown_section(path: &Path, line: usize, section: &str) -> Fault {
    let known: std::collections::BTreeSet<_> = SETTINGS
        .iter()
        .filter_map(|setting| setting.key.split('.').next())
        .collect();
    let fault = Fault::usage(format!(
        "{}:{line}: unknown section `[{section}]`",
        path.display()
    ));
    let near = known
        .iter()
        .min_by_key(|name| strsim::damerau_levenshtein(name, section));
    match near.filter(|name| strsim::damerau_levenshtein(name, section) <= 2) {
        Some(near) => fault.next(format!("did you mean `[{near}]`?")),
        None => {
            let known: Vec<_> = known.iter().map(|name| format!("[{name}]")).collect();
            fault.next(format!("sections are {}", known.join(", ")))
        }
    }
}

fn to_json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Integer(number) => {
            let text = number.as_str().replace('_', "");
            let number = i64::from_str_radix(&text, number.radix());
            Value::from(number.map_err(|_| format!("{text} is out of bounds"))?)
        }
        DeValue::Float(number) => Value::from(number.as_str()),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => items
            .iter()
            .map(|item| to_json(item.get_ref()))
            .collect::<Result<Value, _>>()?,
        DeValue::Table(table) => {
            let mut map = Map::new();
            for (key, value) in table {
                map.insert(key.get_ref().to_string(), to_json(value.get_ref())?);
            }
            Value::Object(map)
        }
    })
}
