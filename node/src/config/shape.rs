//! Which values a setting takes, from a file or as text, with their units and bounds.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

/// Entries of a list or table at most.
const ENTRIES_MAX: usize = 64;

/// Addresses to listen on, or to join by, at most: what the network takes.
const ADDRESSES_MAX: usize = 16;

/// The form of a setting's value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Text of at most so many bytes.
    Text { bytes_max: usize },
    /// A file or folder; relative to the configuration file when it stands in one.
    Path,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count {
        low: i64,
        high: i64,
        unit: &'static str,
    },
    /// A number of bytes, bare or with a unit: `8 MiB`.
    Size { low: u64, high: u64 },
    /// A time: `10s`, `1m 30s`, `250ms`.
    Span { low: Duration, high: Duration },
    /// `HOST:PORT`.
    Socket,
    /// `HOST:PORT`, or `off`.
    SocketOrOff,
    /// libp2p addresses.
    Multiaddrs,
    /// Host names.
    Names { bytes_max: usize },
    /// Names with text values.
    Pairs { bytes_max: usize },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A filter of log events, as `tracing` reads it.
    Filter,
}

impl Shape {
    /// Reads a value that comes as text: an environment variable or a flag. Lists and pairs are
    /// separated by commas.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub(crate) fn read_text(&self, text: &str) -> Result<Value, String> {
        let items = || {
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
        };
        let raw = match self {
            Self::Flag => match text {
                "true" | "1" | "yes" | "on" => Value::Bool(true),
                "false" | "0" | "no" | "off" => Value::Bool(false),
                _ => return Err(format!("`{text}` is neither true nor false")),
            },
            Self::Count { unit, .. } => {
                let number = text.parse::<i64>();
                Value::from(number.map_err(|_| format!("`{text}` is no whole number of {unit}"))?)
            }
            Self::Multiaddrs | Self::Names { .. } => items().map(Value::from).collect(),
            Self::Pairs { .. } => {
                let mut map = Map::new();
                for item in items() {
                    let (key, value) = parse_pair(item)?;
                    map.insert(key, Value::from(value));
                }
                Value::Object(map)
            }
            _ => Value::from(text),
        };
        self.check(raw)
    }

    /// Checks a value and brings it into the one form the configuration holds it in.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub(crate) fn check(&self, raw: Value) -> Result<Value, String> {
        match (self, raw) {
            (Self::Text { bytes_max }, Value::String(text)) => within(&text, *bytes_max),
            (Self::Path, Value::String(text)) => Ok(Value::from(text)),
            (Self::Flag, Value::Bool(flag)) => Ok(Value::from(flag)),
            (Self::Count { low, high, unit }, Value::Number(number)) => match number.as_i64() {
                Some(count) if (*low..=*high).contains(&count) => Ok(Value::from(count)),
                _ => Err(format!("{number} is out of bounds: {low} to {high} {unit}")),
            },
            (Self::Size { low, high }, Value::Number(number)) => size(
                number
                    .as_u64()
                    .ok_or_else(|| format!("{number} is no size"))?,
                *low,
                *high,
            ),
            (Self::Size { low, high }, Value::String(text)) => {
                size(parse_size(&text)?, *low, *high)
            }
            (Self::Span { low, high }, Value::String(text)) => {
                let span = parse_span(&text)?;
                if (*low..=*high).contains(&span) {
                    return Ok(Value::from(text));
                }
                let (low, high) = (
                    humantime::format_duration(*low),
                    humantime::format_duration(*high),
                );
                Err(format!("{text} is out of bounds: {low} to {high}"))
            }
            (Self::SocketOrOff, Value::String(text)) if text == crate::nws::OFF => {
                Ok(Value::from(text))
            }
            (Self::SocketOrOff, Value::String(text)) => {
                let wrong = |why| format!("{why}, or `{}`", crate::nws::OFF);
                parse_socket(&text).map(Value::from).map_err(wrong)
            }
            (Self::Socket, Value::String(text)) => parse_socket(&text).map(Value::from),
            (Self::Multiaddrs, Value::Array(items)) => list(items, ADDRESSES_MAX, &check_multiaddr),
            (Self::Names { bytes_max }, Value::Array(items)) => list(items, ENTRIES_MAX, &|text| {
                within(text, *bytes_max).map(|_| ())
            }),
            (Self::Pairs { bytes_max }, Value::Object(map)) => {
                if map.len() > ENTRIES_MAX {
                    return Err(format!("{} entries; at most {ENTRIES_MAX}", map.len()));
                }
                for (key, value) in &map {
                    within(key, *bytes_max)?;
                    let text = value.as_str();
                    within(
                        text.ok_or_else(|| format!("`{key}` must be text"))?,
                        *bytes_max,
                    )?;
                }
                Ok(Value::Object(map))
            }
            (Self::Choice(words), Value::String(text)) => {
                if words.contains(&text.as_str()) {
                    Ok(Value::from(text))
                } else {
                    Err(format!("`{text}` is none of {}", words.join(", ")))
                }
            }
            (Self::Filter, Value::String(text)) => {
                tracing_subscriber::EnvFilter::try_new(&text)
                    .map_err(|error| format!("`{text}` is no log filter ({error})"))?;
                Ok(Value::from(text))
            }
            (_, other) => Err(format!("{other} does not fit: {}", self.wanted())),
        }
    }

    /// Makes a relative path in a file count from that file's folder.
    pub(crate) fn anchor(&self, value: Value, folder: &Path) -> Value {
        match (self, &value) {
            (Self::Path, Value::String(text)) if !text.is_empty() => {
                Value::from(folder.join(text).to_string_lossy().into_owned())
            }
            _ => value,
        }
    }

    fn wanted(&self) -> String {
        match self {
            Self::Text { .. } => "expected text in quotes".into(),
            Self::Path => "expected a path in quotes".into(),
            Self::Flag => "expected true or false".into(),
            Self::Count { low, high, unit } => format!("expected {low} to {high} {unit}"),
            Self::Size { .. } => "expected bytes, as 65536 or \"64 KiB\"".into(),
            Self::Span { .. } => "expected a time with its unit, as \"10s\"".into(),
            Self::SocketOrOff => "expected \"HOST:PORT\" or \"off\"".into(),
            Self::Socket => "expected \"HOST:PORT\"".into(),
            Self::Multiaddrs => "expected a list of multiaddrs".into(),
            Self::Names { .. } => "expected a list of names".into(),
            Self::Pairs { .. } => "expected a table of names with text values".into(),
            Self::Choice(words) => format!("expected one of {}", words.join(", ")),
            Self::Filter => "expected a log filter, as \"info\" or \"cpe_mesh=debug\"".into(),
        }
    }
}

/// Reads a time with its unit.
///
/// # Errors
/// What would be right.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is no time: write it with its unit, as 10s, 250ms or 2m"))
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// What would be right.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no pair: write it as KEY=VALUE")),
    }
}

/// Checks one libp2p address.
///
/// # Errors
/// What is wrong with it, and an example of a right one.
pub(crate) fn check_multiaddr(text: &str) -> Result<(), String> {
    match text.parse::<multiaddr::Multiaddr>() {
        Ok(address) if !address.is_empty() => Ok(()),
        Ok(_) => Err("an empty multiaddr; write it as /ip4/127.0.0.1/tcp/4710".into()),
        Err(error) => Err(format!(
            "`{text}` is no multiaddr ({error}); write it as /ip4/127.0.0.1/tcp/4710"
        )),
    }
}

fn parse_socket(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no address: write it as HOST:PORT, as 127.0.0.1:8766");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    // A bare IPv6 address would make the last group look like a port.
    if bare.contains(':') && !host.starts_with('[') {
        return Err(format!(
            "`{text}` is ambiguous: write an IPv6 address as [::1]:8766"
        ));
    }
    Ok(text.to_owned())
}

fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write bytes, as 65536, or 64 KiB, 8 MiB");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let shift = match text.strip_prefix(digits).map(str::trim) {
        Some("" | "B") => 0,
        Some("KiB") => 10,
        Some("MiB") => 20,
        Some("GiB") => 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn size(bytes: u64, low: u64, high: u64) -> Result<Value, String> {
    if (low..=high).contains(&bytes) {
        Ok(Value::from(bytes))
    } else {
        Err(format!("{bytes} is out of bounds: {low} to {high} bytes"))
    }
}

fn within(text: &str, bytes_max: usize) -> Result<Value, String> {
    if text.len() <= bytes_max {
        Ok(Value::from(text))
    } else {
        Err(format!("text of {} bytes; at most {bytes_max}", text.len()))
    }
}

fn list(
    items: Vec<Value>,
    entries_max: usize,
    check: &dyn Fn(&str) -> Result<(), String>,
) -> Result<Value, String> {
    if items.len() > entries_max {
        return Err(format!("{} entries; at most {entries_max}", items.len()));
    }
    for item in &items {
        check(
            item.as_str()
                .ok_or_else(|| format!("{item} must be text in quotes"))?,
        )?;
    }
    Ok(Value::Array(items))
}
