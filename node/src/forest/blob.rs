//! Bytes of any length in the space, in parts that fit in tuples.

use std::time::Duration;

use cpe::{Field, Kind, Template, Tuple, Value};

use super::WORKSPACE;
use crate::exit::Fault;
use crate::remote::Space;

/// Bytes of one part. A tuple may have four times as much; smaller ones keep other traffic moving
/// between them.
const PART_BYTES: usize = 1 << 20;

/// How long to wait for a part: its writer says that it is there, this replica may lag.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// How many parts bytes of this length have: none for none.
pub(crate) fn parts(bytes: usize) -> usize {
    bytes.div_ceil(PART_BYTES)
}

/// Stores bytes under a name of their own.
///
/// # Errors
/// When the home of the name cannot be reached.
pub(crate) async fn put(space: &impl Space, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    for (index, part) in bytes.chunks(PART_BYTES).enumerate() {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let fields = vec![
            Value::from(name),
            Value::Int(index),
            Value::Bytes(part.to_vec()),
        ];
        space.out(WORKSPACE, tuple(fields)?).await?;
    }
    Ok(())
}

/// Reads bytes of a length that is known.
///
/// # Errors
/// When a part is not there, or the parts are not what was said.
pub(crate) async fn read(
    space: &impl Space,
    name: &str,
    length: usize,
    length_max: usize,
) -> Result<Vec<u8>, Fault> {
    if length > length_max {
        return Err(Fault::failed(format!(
            "`{name}` has {length} bytes; at most {length_max}"
        )));
    }
    let mut bytes = Vec::with_capacity(length);
    for index in 0..parts(length) {
        bytes.extend(part(space, name, index).await?);
    }
    if bytes.len() != length {
        let found = bytes.len();
        return Err(Fault::failed(format!(
            "`{name}` has {found} bytes, not {length} as said"
        )));
    }
    Ok(bytes)
}

/// Reads some of a blob: only the parts that have them.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_part(
    space: &impl Space,
    name: &str,
    at: usize,
    length: usize,
    length_max: usize,
) -> Result<Vec<u8>, Fault> {
    let short = || Fault::failed(format!("`{name}` has fewer bytes than are asked for"));
    let end = at.checked_add(length).filter(|_| length <= length_max);
    let end = end.ok_or_else(short)?;
    let mut bytes = Vec::with_capacity(length);
    for index in at / PART_BYTES..parts(end) {
        let part = part(space, name, index).await?;
        let begins = index * PART_BYTES;
        let from = at.saturating_sub(begins);
        let to = (end - begins).min(part.len());
        bytes.extend_from_slice(part.get(from..to).ok_or_else(short)?);
    }
    if bytes.len() != length {
        return Err(short());
    }
    Ok(bytes)
}

async fn part(space: &impl Space, name: &str, index: usize) -> Result<Vec<u8>, Fault> {
    let wanted = i64::try_from(index).unwrap_or(i64::MAX);
    let template = template(vec![
        Field::Actual(Value::from(name)),
        Field::Actual(Value::Int(wanted)),
        Field::Typed(Kind::Bytes),
    ])?;
    let found = space.rd(WORKSPACE, template, PART_WITHIN).await?;
    let found =
        found.ok_or_else(|| Fault::unavailable(format!("part {index} of `{name}` is missing")))?;
    let part = found.fields().get(2).and_then(Value::as_bytes);
    Ok(part.unwrap_or_default().to_vec())
}

/// A tuple of fields that are within the limits by construction.
pub(super) fn tuple(fields: Vec<Value>) -> Result<Tuple, Fault> {
    Tuple::new(fields).map_err(|error| Fault::failed(error.to_string()))
}

/// A template of fields that are within the limits by construction.
pub(super) fn template(fields: Vec<Field>) -> Result<Template, Fault> {
    Template::new(fields).map_err(|error| Fault::failed(error.to_string()))
}
