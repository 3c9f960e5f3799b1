//! Bytes of any length in the space, in parts that fit in tuples.

use std::time::Duration;

use cpe::{Field, Kind, Template, Tuple, Value};
use tokio::time::Instant;

use super::WORKSPACE;
use crate::exit::Fault;
use crate::remote::Space;

/// Bytes of one part. A tuple may have four times as much; smaller ones keep other traffic moving
/// between them.
const PART_BYTES: usize = 1 << 20;

/// How long a part may take to come, where nobody says how long to wait.
pub(crate) const PART_WITHIN: Duration = Duration::from_secs(30);

/// How long to rest before a home that could not say what it has is asked once more.
const REST: Duration = Duration::from_millis(250);

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

/// Reads bytes of a length that is known; each part may take `within` to come.
///
/// # Errors
/// When a part is not there or does not come, or the parts are not what was said.
pub(crate) async fn read(
    space: &impl Space,
    name: &str,
    length: usize,
    length_max: usize,
    within: Duration,
) -> Result<Vec<u8>, Fault> {
    if length > length_max {
        return Err(Fault::failed(format!(
            "`{name}` has {length} bytes; at most {length_max}"
        )));
    }
    let mut bytes = Vec::with_capacity(length);
    for index in 0..parts(length) {
        bytes.extend(part(space, name, index, within).await?);
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
    within: Duration,
) -> Result<Vec<u8>, Fault> {
    let short = || Fault::failed(format!("`{name}` has fewer bytes than are asked for"));
    let end = at.checked_add(length).filter(|_| length <= length_max);
    let end = end.ok_or_else(short)?;
    let mut bytes = Vec::with_capacity(length);
    for index in at / PART_BYTES..parts(end) {
        let part = part(space, name, index, within).await?;
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

async fn part(
    space: &impl Space,
    name: &str,
    index: usize,
    within: Duration,
) -> Result<Vec<u8>, Fault> {
    let wanted = i64::try_from(index).unwrap_or(i64::MAX);
    let template = template(vec![
        Field::Actual(Value::from(name)),
        Field::Actual(Value::Int(wanted)),
        Field::Typed(Kind::Bytes),
    ])?;
    let what = || format!("part {index} of `{name}`");
    let found = now(space, WORKSPACE, &template, within, what).await?;
    let found = found.ok_or_else(|| Fault::unavailable(format!("{} is missing", what())))?;
    let part = found.fields().get(2).and_then(Value::as_bytes);
    Ok(part.unwrap_or_default().to_vec())
}

/// A tuple that its writer knew to be at its home, so that there is nothing to wait for: none only
/// if the home has said that it is not there. `what` says what it is.
///
/// # Errors
/// When the home cannot say, or the tuple does not come, within that time.
pub(super) async fn now(
    space: &impl Space,
    workspace: &str,
    template: &Template,
    within: Duration,
    what: impl Fn() -> String,
) -> Result<Option<Tuple>, Fault> {
    let begun = Instant::now();
    loop {
        let left = within.saturating_sub(begun.elapsed());
        let looking = space.rd_now(workspace, template.clone(), left);
        let why = match tokio::time::timeout(left, looking).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(fault)) if begun.elapsed() + REST >= within => format!(": {fault}"),
            Ok(Err(_)) => {
                tokio::time::sleep(REST).await;
                continue;
            }
            Err(_) => String::new(),
        };
        let what = what();
        return Err(Fault::unavailable(format!(
            "{what} did not come within {within:?}{why}"
        )));
    }
}

/// A tuple of fields that are within the limits by construction.
pub(super) fn tuple(fields: Vec<Value>) -> Result<Tuple, Fault> {
    Tuple::new(fields).map_err(|error| Fault::failed(error.to_string()))
}

/// A template of fields that are within the limits by construction.
pub(super) fn template(fields: Vec<Field>) -> Result<Template, Fault> {
    Template::new(fields).map_err(|error| Fault::failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A space that answers what it is to answer, or nothing at all.
    struct Still(Option<Result<Option<Tuple>, &'static str>>);

    impl Space for Still {
        async fn rd_now(&self, _: &str, _: Template, _: Duration) -> Result<Option<Tuple>, Fault> {
            match &self.0 {
                Some(Ok(found)) => Ok(found.clone()),
                Some(Err(why)) => Err(Fault::unavailable(*why)),
                None => std::future::pending().await,
            }
        }

        async fn out(&self, _: &str, _: Tuple) -> Result<(), Fault> {
            unreachable!("nothing is written")
        }

        async fn rd(&self, _: &str, _: Template, _: Duration) -> Result<Option<Tuple>, Fault> {
            unreachable!("nothing is waited for")
        }

        async fn take(&self, _: &str, _: Template, _: Duration) -> Result<Option<Tuple>, Fault> {
            unreachable!("nothing is taken")
        }

        async fn declare_single(&self, _: &str, _: &str) -> Result<(), Fault> {
            unreachable!("nothing is declared")
        }

        async fn delete(&self, _: &str, _: &str) -> Result<(), Fault> {
            unreachable!("nothing is deleted")
        }

        async fn variables(&self, _: &str) -> Result<Vec<String>, Fault> {
            unreachable!("nothing is listed")
        }
    }

    async fn why_not(space: &Still) -> (String, Duration) {
        let begun = Instant::now();
        let read = read(space, "model m", 10, 20, Duration::from_secs(2)).await;
        (read.unwrap_err().to_string(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_waited_for_as_long_as_was_said() {
        let two = Duration::from_secs(2);
        let (why, took) = why_not(&Still(None)).await;
        assert_eq!(why, "part 0 of `model m` did not come within 2s");
        assert_eq!(took, two);
        let (why, took) = why_not(&Still(Some(Err("no leader")))).await;
        let did_not = "part 0 of `model m` did not come within 2s: no leader";
        assert_eq!(why, did_not);
        assert!(took <= two && took > two / 2, "{took:?}");
        // Its home says that it has none: there is nothing to wait for.
        let (why, took) = why_not(&Still(Some(Ok(None)))).await;
        assert_eq!(why, "part 0 of `model m` is missing");
        assert_eq!(took, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_put_together() {
        let tuple = tuple(vec!["b".into(), 0.into(), Value::Bytes(vec![1, 2, 3, 4])]);
        let space = Still(Some(Ok(Some(tuple.unwrap()))));
        let second = Duration::from_secs(1);
        assert_eq!(read(&space, "b", 4, 9, second).await.unwrap(), [1, 2, 3, 4]);
        assert_eq!(
            read_part(&space, "b", 1, 2, 9, second).await.unwrap(),
            [2, 3]
        );
        assert!(read(&space, "b", 5, 9, second).await.is_err());
        assert!(read_part(&space, "b", 3, 2, 9, second).await.is_err());
    }
}
