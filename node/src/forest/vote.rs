//! Votes taken where workers are, grove by grove, and added: for a model that is larger than
//! whoever asks wants to hold.
//!
//! In the volatile workspace [`SPACE`]:
//! - `["rows ASK", block, bytes]`: the rows, some at a time;
//! - tasks and results of `cpe_sleigh`, of the kind [`KIND`]: an element is a grove and a block of
//!   rows, a result the grove's votes on them;
//! - `["alive ASK", ...]`: signs of life of whoever asks; what has none is removed (see `left`).
//!
//! Whoever asks holds the manifest, the rows, and the sums; a worker one block and a few groves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cpe::{Field, Kind, Value};
use cpe_forest::limits::MAX_GROVE_BYTES;
use cpe_forest::{Grove, Rows, Tally};
use cpe_sleigh::Worker;
use cpe_tuple::codec;
use tokio::sync::{Mutex, OnceCell};

use super::blob::{self, template};
use super::job::hex;
use crate::exit::{About, Fault};

mod asking;
mod left;

pub(crate) use asking::{Missing, Told, Vote};
pub(super) use left::remove_left;

/// Where rows and votes are: in memory, since whoever asks can ask again.
const SPACE: &str = "tmp:#vote";

/// What workers of all nodes do here.
const KIND: &str = "vote";

/// Groves that a node keeps for the next block of rows.
const GROVES_KEPT: usize = 8;

/// How long a worker waits for rows to vote on, and for each part of a grove: both were there
/// before anybody was asked to vote. All votes of a node wait for what one worker waits for.
const COME_WITHIN: Duration = Duration::from_secs(5);

/// Groves by hash, the last one asked for first; each is read once, by whoever asks first, who
/// holds up nobody that votes with another.
type Groves = VecDeque<(String, Arc<OnceCell<Arc<Grove>>>)>;

/// Groves for the next block of rows.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Groves>);

/// One grove and some rows.
#[derive(Clone, Debug, PartialEq)]
struct Ballot {
    blob: String,
    at: usize,
    bytes: usize,
    hash: String,
    rows: String,
    block: i64,
    width: usize,
}

impl Ballot {
    fn to_value(&self) -> Value {
        let number = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        Value::List(vec![
            Value::from(self.blob.as_str()),
            number(self.at),
            number(self.bytes),
            Value::from(self.hash.as_str()),
            Value::from(self.rows.as_str()),
            Value::Int(self.block),
            number(self.width),
        ])
    }

    fn of(value: &Value) -> Option<Self> {
        let [blob, at, bytes, hash, rows, block, width] = value.as_list()? else {
            return None;
        };
        let number = |value: &Value| usize::try_from(value.as_int()?).ok();
        Some(Self {
            blob: blob.as_str()?.to_owned(),
            at: number(at)?,
            bytes: number(bytes)?,
            hash: hash.as_str()?.to_owned(),
            rows: rows.as_str()?.to_owned(),
            block: block.as_int()?,
            width: number(width)?,
        })
    }
}

/// Votes for whoever asks, until the future is dropped.
pub(super) async fn serve(space: cpe::Space, worker: String, kept: &Kept) {
    let work = |value: Value| {
        let space = &space;
        async move {
            let ballot = Ballot::of(&value).ok_or("this is no grove to vote with")?;
            let tally = vote(space, &ballot, kept).await;
            let tally = tally.map_err(|fault| fault.to_string())?;
            let bytes = codec::encode(&tally).map_err(|error| error.to_string())?;
            Ok(Value::Bytes(bytes))
        }
    };
    let worker = Worker::new(space.clone(), SPACE, KIND, worker);
    worker.run(work).await;
}

async fn vote(space: &cpe::Space, ballot: &Ballot, kept: &Kept) -> Result<Tally, Fault> {
    // The rows first: of what nobody waits for any more they are gone, and there is no more to do.
    let rows = rows(space, ballot).await?;
    let grove = kept.get(space, ballot).await?;
    // Some milliseconds of arithmetic: off the threads that move messages.
    let voting = tokio::task::spawn_blocking(move || grove.tally(&rows));
    voting.await.about("voting failed")?.about("it cannot vote")
}

async fn rows(space: &cpe::Space, ballot: &Ballot) -> Result<Rows, Fault> {
    let template = template(vec![
        Field::Actual(Value::from(ballot.rows.as_str())),
        Field::Actual(Value::Int(ballot.block)),
        Field::Typed(Kind::Bytes),
    ])?;
    let what = || "what is to be voted on".to_owned();
    let found = blob::now(space, SPACE, &template, COME_WITHIN, what).await?;
    let found = found.ok_or_else(|| Fault::unavailable("the rows to vote on are not there"))?;
    let bytes = found.fields().get(2).and_then(Value::as_bytes);
    let numbers = bytes.unwrap_or_default().as_chunks::<8>().0;
    let values = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes));
    Rows::new(ballot.width, values.collect()).about("the rows cannot be read")
}

impl Kept {
    async fn get(&self, space: &cpe::Space, ballot: &Ballot) -> Result<Arc<Grove>, Fault> {
        let cell = self.cell(&ballot.hash).await;
        let grove = cell.get_or_try_init(|| read(space, ballot)).await;
        if grove.is_err() {
            // It takes no place from those that are there.
            let mut kept = self.0.lock().await;
            kept.retain(|(_, other)| !Arc::ptr_eq(other, &cell) || other.initialized());
        }
        grove.map(Arc::clone)
    }

    /// Where the grove of this hash is, or will be.
    async fn cell(&self, hash: &str) -> Arc<OnceCell<Arc<Grove>>> {
        let mut kept = self.0.lock().await;
        let place = kept.iter().position(|(known, _)| known == hash);
        let found = place.and_then(|place| kept.remove(place));
        let (_, cell) = found.unwrap_or_else(|| (hash.to_owned(), Arc::default()));
        kept.truncate(GROVES_KEPT - 1);
        kept.push_front((hash.to_owned(), Arc::clone(&cell)));
        cell
    }
}

async fn read(space: &cpe::Space, ballot: &Ballot) -> Result<Arc<Grove>, Fault> {
    let (name, at, bytes) = (&ballot.blob, ballot.at, ballot.bytes);
    let bytes = blob::read_part(space, name, at, bytes, MAX_GROVE_BYTES, COME_WITHIN).await?;
    if hex(blake3::hash(&bytes).as_bytes()) != ballot.hash {
        return Err(Fault::failed("a grove is not the one that is on the card"));
    }
    let grove = Grove::decode(&bytes).about("a grove cannot be read")?;
    Ok(Arc::new(grove))
}

/// Where the rows of a question are.
fn rows_of(ask: &str) -> String {
    format!("{ROWS}{ask}")
}

const ROWS: &str = "rows ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ballot_is_read_as_it_was_written() {
        let ballot = Ballot {
            blob: "model m ab".to_owned(),
            at: 700,
            bytes: 9_000,
            hash: "cd".to_owned(),
            rows: "rows 1".to_owned(),
            block: 3,
            width: 20,
        };
        assert_eq!(Ballot::of(&ballot.to_value()), Some(ballot));
        assert_eq!(Ballot::of(&Value::Null), None);
        assert_eq!(Ballot::of(&Value::List(vec![Value::Null; 7])), None);
    }
}
