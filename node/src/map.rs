//! Commands over many lines, run by whichever nodes allow them: `cpe map`.
//!
//! Everything is in the volatile workspace [`WORKSPACE`]:
//! - `["map", JOB, offer]`: what is to be run, as long as the job lasts; nodes that may, work for
//!   it (see `host`);
//! - `["file JOB HASH", bytes]`: files that go with the job;
//! - `["alive JOB", ...]`: that somebody is at it (see `sign`);
//! - `["note JOB", node, why]`: why a node does not work for it;
//! - tasks and results of `cpe_sleigh`, of the kind JOB.HASH, with a hash of the offer, so that
//!   nothing is taken for the result of another command: an element is a line with its number, a
//!   result what became of the program (see `program`).

use std::collections::BTreeMap;
use std::time::Duration;

use cpe::{Field, Kind, LimitError, Template, Tuple, Value};
use cpe_tuple::codec;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use function::{CAPABILITY, Function};

pub(crate) mod function;
pub(crate) mod host;
mod kept;
pub(crate) mod program;
pub(crate) mod sign;
pub(crate) mod user;

/// Where jobs live in the space: in memory, since whoever asks can ask again.
pub(crate) const WORKSPACE: &str = "tmp:#map";

/// Variable of the offers.
const OFFERS: &str = "map";

/// Bytes of an encoded offer at most: a program of rules has up to half of it.
const OFFER_BYTES_MAX: usize = 2 << 20;

/// How long one file may take to get into the space.
pub(crate) const SEND_WITHIN: Duration = Duration::from_secs(600);

/// Files that go with a job at most.
pub(crate) const FILES_MAX: usize = 256;

/// Letters of a command, or of what a node has to say, that are shown.
const SHOWN_MAX: usize = 1000;

/// What stands for the line in an argument, and for its number.
const LINE: &[u8] = b"{}";
const NUMBER: &[u8] = b"{#}";

/// A file that goes with a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Its name in the folder in which the program runs.
    pub(crate) name: String,
    /// BLAKE3, in hexadecimal.
    pub(crate) hash: String,
    /// How many bytes.
    pub(crate) bytes: u64,
    /// Whether it is a program.
    pub(crate) executable: bool,
}

impl Sent {
    /// Where its bytes lie.
    pub(crate) fn variable(&self, job: &str) -> String {
        format!("file {job} {}", self.hash)
    }
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Names the job.
    pub(crate) job: String,
    /// The program, as nodes allow it.
    pub(crate) program: String,
    /// Its arguments, in which `{}` stands for the line and `{#}` for its number.
    pub(crate) args: Vec<ByteBuf>,
    /// Whether the line is written to its standard input instead.
    pub(crate) stdin: bool,
    /// What a node must have.
    pub(crate) require: BTreeMap<String, String>,
    /// Milliseconds a program may take; none: what the node says.
    pub(crate) within_ms: Option<u64>,
    /// Files to put into the folder in which it runs.
    pub(crate) files: Vec<Sent>,
    /// What is called instead of a program, if it is none.
    pub(crate) function: Option<Function>,
}

impl Offer {
    pub(crate) fn to_tuple(&self) -> Result<Tuple, String> {
        let bytes = codec::encode(self).map_err(|error| error.to_string())?;
        if bytes.len() > OFFER_BYTES_MAX {
            return Err(format!("the command takes {} bytes", bytes.len()));
        }
        let job = Value::from(self.job.as_str());
        Tuple::new(vec![Value::from(OFFERS), job, Value::Bytes(bytes)])
            .map_err(|error| error.to_string())
    }

    pub(crate) fn of(tuple: &Tuple) -> Option<Self> {
        let bytes = tuple.fields().get(2)?.as_bytes()?;
        let offer: Self = codec::decode(bytes, OFFER_BYTES_MAX).ok()?;
        let plain =
            |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('/');
        let sound = offer.files.len() <= FILES_MAX
            && is_name(&offer.job)
            && offer
                .files
                .iter()
                .all(|file| plain(&file.name) && is_name(&file.hash));
        sound.then_some(offer)
    }

    /// Matches the offer of one job, or all.
    pub(crate) fn template(job: Option<&str>) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(OFFERS)),
            job.map_or(Field::Typed(Kind::String), |job| {
                Field::Actual(Value::from(job))
            }),
            Field::Typed(Kind::Bytes),
        ])
    }

    /// The kind of its tasks, which no other command has.
    pub(crate) fn tasks(&self) -> String {
        format!("{}.{}", self.job, self.hash())
    }

    /// Tells it from other offers, of the same name too.
    pub(crate) fn hash(&self) -> String {
        let bytes = codec::encode(self).unwrap_or_default();
        let hash = blake3::hash(&bytes).to_hex();
        hash.chars().take(16).collect()
    }

    /// The variables in which all of the job stands but the offer itself, and the signs of life.
    pub(crate) fn variables(&self) -> Vec<String> {
        let tasks = self.tasks();
        let mut variables: Vec<_> = self
            .files
            .iter()
            .map(|file| file.variable(&self.job))
            .collect();
        variables.extend([
            format!("task:{tasks}"),
            format!("result:{tasks}"),
            format!("kept:{tasks}:0"),
            format!("kept:{tasks}:1"),
            note(&self.job),
        ]);
        variables
    }

    /// The command as one would write it.
    pub(crate) fn shown(&self) -> String {
        if let Some(function) = &self.function {
            return format!("--function {}", function.name);
        }
        let args = self.args.iter().map(|arg| String::from_utf8_lossy(arg));
        let words = std::iter::once(self.program.as_str().into()).chain(args);
        let words: Vec<_> = words.collect();
        words.join(" ").chars().take(SHOWN_MAX).collect()
    }

    /// The arguments for a line. It stands where `{}` does, as it is: no shell looks at it.
    pub(crate) fn args_for(&self, line: &[u8], number: u64) -> Vec<Vec<u8>> {
        let number = number.to_string();
        let fill = |arg: &ByteBuf| replace(&replace(arg, NUMBER, number.as_bytes()), LINE, line);
        self.args.iter().map(fill).collect()
    }

    /// What a node has to be able to do; the first thing that it cannot.
    pub(crate) fn lacks(&self, capabilities: &BTreeMap<String, String>) -> Option<String> {
        let program = match &self.function {
            None => format!("command:{}", self.program),
            Some(_) => CAPABILITY.to_owned(),
        };
        if !capabilities.contains_key(&program) {
            return Some(program);
        }
        let lacks = |(key, value): &(&String, &String)| capabilities.get(*key) != Some(*value);
        let lacking = self.require.iter().find(lacks);
        lacking.map(|(key, value)| format!("{key}={value}"))
    }
}

/// Whether something of a job stands in a variable, whatever it runs: all but its offer.
pub(crate) fn is_of(variable: &str, job: &str) -> bool {
    let file = format!("file {job} ");
    let of = |what: &str| format!("{what}:{job}.");
    [file, of("task"), of("result"), of("kept")]
        .iter()
        .any(|of| variable.starts_with(of.as_str()))
        || variable == note(job)
        || variable == sign::Sign::variable(job)
}

fn note(job: &str) -> String {
    format!("note {job}")
}

/// Why a node does not work for a job.
pub(crate) fn to_note(job: &str, node: &str, why: &str) -> Result<Tuple, LimitError> {
    let why: String = why.chars().take(SHOWN_MAX).collect();
    Tuple::new(vec![note(job).into(), node.into(), why.into()])
}

/// Matches what nodes say of why they do not work for a job.
pub(crate) fn notes(job: &str) -> Result<Template, LimitError> {
    Template::new(vec![
        Field::Actual(Value::from(note(job))),
        Field::Typed(Kind::String),
        Field::Typed(Kind::String),
    ])
}

/// Whether a text can name a folder and nothing else.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// Puts bytes in the place of others, wherever those stand, once over.
fn replace(within: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(within.len());
    let mut rest = within;
    while let Some((byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(what) {
            replaced.extend_from_slice(by);
            rest = tail;
        } else {
            replaced.push(*byte);
            rest = tail;
        }
    }
    replaced
}

/// A line with its number, from 1, as an element.
pub(crate) fn element(number: u64, line: Vec<u8>) -> Value {
    let line = String::from_utf8(line).map_or_else(|no| Value::Bytes(no.into_bytes()), Value::from);
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    Value::List(vec![Value::Int(number), line])
}

/// Reads an element back; `None` for what is none.
pub(crate) fn line_of(element: &Value) -> Option<(u64, &[u8])> {
    let [number, line] = element.as_list()? else {
        return None;
    };
    let line = line
        .as_bytes()
        .or_else(|| line.as_str().map(str::as_bytes))?;
    Some((u64::try_from(number.as_int()?).ok()?, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(args: &[&str]) -> Offer {
        let args = args
            .iter()
            .map(|arg| ByteBuf::from(arg.as_bytes().to_vec()));
        Offer {
            job: "j-1".to_owned(),
            program: "wc".to_owned(),
            args: args.collect(),
            stdin: false,
            require: [("gpu".to_owned(), "yes".to_owned())].into(),
            within_ms: None,
            files: Vec::new(),
            function: None,
        }
    }

    #[test]
    fn a_line_stands_in_its_place_as_it_is() {
        let args = offer(&["-x", "a{}b{}", "{#}:{}", "{}"]).args_for(b"$HOME '{#}' {}\n\xff", 7);
        let line = b"$HOME '{#}' {}\n\xff";
        assert_eq!(args[0], b"-x");
        assert_eq!(args[1], [b"a", &line[..], b"b", line].concat());
        assert_eq!(args[2], [b"7:", &line[..]].concat());
        assert_eq!(args[3], line);
    }

    #[test]
    fn an_offer_is_read_as_it_was_written_and_names_no_folders() {
        let mut offer = offer(&["{}"]);
        let file = Sent {
            name: "score.py".to_owned(),
            hash: "ab12".to_owned(),
            bytes: 7,
            executable: true,
        };
        offer.files = vec![file];
        let read = |offer: &Offer| Offer::of(&offer.to_tuple().unwrap());
        assert_eq!(read(&offer), Some(offer.clone()));
        for wrong in ["../x", "", ".", "..", "a/b"] {
            let mut other = offer.clone();
            other.files[0].name = wrong.to_owned();
            assert_eq!(read(&other), None, "{wrong}");
        }
        for wrong in ["../x", "", "a/b", "a b", "."] {
            let mut other = offer.clone();
            other.job = wrong.to_owned();
            assert_eq!(read(&other), None, "{wrong}");
        }
    }

    #[test]
    fn another_command_of_the_same_name_has_other_tasks() {
        let (one, other) = (offer(&["{}"]), offer(&["-x", "{}"]));
        assert_eq!(one.tasks(), offer(&["{}"]).tasks());
        assert_ne!(one.tasks(), other.tasks());
        assert!(is_name(&one.hash()), "{}", one.hash());
        assert_eq!(other.shown(), "wc -x {}");
        let task = format!("task:{}", one.tasks());
        assert!(one.variables().contains(&task));
        assert!(
            one.variables()
                .iter()
                .all(|variable| is_of(variable, "j-1"))
        );
        assert!(!one.variables().iter().any(|variable| is_of(variable, "j")));
    }

    #[test]
    fn a_node_that_lacks_something_is_told_what() {
        let have = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let offer = offer(&[]);
        assert_eq!(
            offer.lacks(&have(&[("gpu", "yes")])),
            Some("command:wc".to_owned())
        );
        let no_gpu = have(&[("command:wc", "yes"), ("gpu", "no")]);
        assert_eq!(offer.lacks(&no_gpu), Some("gpu=yes".to_owned()));
        assert_eq!(
            offer.lacks(&have(&[("command:wc", "yes"), ("gpu", "yes")])),
            None
        );
    }

    #[test]
    fn an_element_holds_any_line() {
        for line in [&b"plain"[..], b"", b"\xff\x00"] {
            assert_eq!(line_of(&element(3, line.to_vec())), Some((3, line)));
        }
        assert_eq!(line_of(&Value::Null), None);
    }
}
