//! Votes taken where workers are, grove by grove, and added: for a model that is larger than
//! whoever asks wants to hold.
//!
//! In the volatile workspace [`SPACE`]:
//! - `["rows ASK", block, bytes]`: the rows, some at a time;
//! - tasks and results of `cpe_sleigh`, of the kind [`KIND`]: an element is a grove and a block of
//!   rows, a result the grove's votes on them.
//!
//! Whoever asks holds the manifest, the rows, and the sums; a worker one block and a few groves.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cpe::{Field, Kind, Value};
use cpe_forest::limits::MAX_GROVE_BYTES;
use cpe_forest::{Grove, Predictions, Rows, Tally};
use cpe_sleigh::{Chunk, Job, OnError, TaskSpace, Worker, imap};
use cpe_tuple::codec;
use futures::stream;
use rand::RngExt;
use tokio::sync::Mutex;

use super::blob::{self, template, tuple};
use super::job::hex;
use super::model::Placed;
use crate::exit::{About, Fault};
use crate::remote::Space;

/// Where rows and votes are: in memory, since whoever asks can ask again.
const SPACE: &str = "tmp:#vote";

/// What workers of all nodes do here.
const KIND: &str = "vote";

/// Bytes of rows in one tuple, about.
const BLOCK_BYTES: usize = 1 << 20;

/// Bytes that the votes of one grove on one block take at most, about: they are a tuple too.
const VOTES_BYTES: usize = 1 << 20;

/// Bytes of encoded votes for each class of a row, or each number.
const CELL_BYTES: usize = 14;

/// Groves that a node keeps for the next block of rows.
const GROVES_KEPT: usize = 8;

/// How often a grove's votes are tried to be had.
const TRIES: u32 = 3;

/// How long a worker waits for the rows it is to vote on.
const ROWS_WITHIN: Duration = Duration::from_secs(30);

/// Groves by hash, the last one used first.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<VecDeque<(String, Arc<Grove>)>>);

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
    let grove = kept.get(space, ballot).await?;
    let template = template(vec![
        Field::Actual(Value::from(ballot.rows.as_str())),
        Field::Actual(Value::Int(ballot.block)),
        Field::Typed(Kind::Bytes),
    ])?;
    let found = crate::remote::Space::rd(space, SPACE, template, ROWS_WITHIN).await?;
    let found = found.ok_or_else(|| Fault::unavailable("the rows to vote on are not there"))?;
    let bytes = found.fields().get(2).and_then(Value::as_bytes);
    let numbers = bytes.unwrap_or_default().as_chunks::<8>().0;
    let values = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes));
    let rows = Rows::new(ballot.width, values.collect()).about("the rows cannot be read")?;
    // Some milliseconds of arithmetic: off the threads that move messages.
    let voting = tokio::task::spawn_blocking(move || grove.tally(&rows));
    voting.await.about("voting failed")?.about("it cannot vote")
}

impl Kept {
    async fn get(&self, space: &cpe::Space, ballot: &Ballot) -> Result<Arc<Grove>, Fault> {
        // Held while reading: workers of one node that vote with one grove read it once.
        let mut kept = self.0.lock().await;
        if let Some(place) = kept.iter().position(|(hash, _)| *hash == ballot.hash)
            && let Some(found) = kept.remove(place)
        {
            let grove = Arc::clone(&found.1);
            kept.push_front(found);
            return Ok(grove);
        }
        let (name, at, bytes) = (&ballot.blob, ballot.at, ballot.bytes);
        let bytes = blob::read_part(space, name, at, bytes, MAX_GROVE_BYTES).await?;
        if hex(blake3::hash(&bytes).as_bytes()) != ballot.hash {
            return Err(Fault::failed("a grove is not the one that is on the card"));
        }
        let grove = Arc::new(Grove::decode(&bytes).about("a grove cannot be read")?);
        kept.truncate(GROVES_KEPT - 1);
        kept.push_front((ballot.hash.clone(), Arc::clone(&grove)));
        Ok(grove)
    }
}

/// What a model says of rows, told by the workers of all nodes. Where the votes of a grove cannot
/// be had, the answer says by how many trees it was told. `voted` is called with how many groves
/// have voted on all rows, and how many there are.
///
/// # Errors
/// When the space cannot be reached, nobody votes for `stall`, or not one grove has voted.
pub(crate) async fn predict<S: TaskSpace + Space>(
    space: &S,
    model: &Placed,
    rows: &Rows,
    stall: Duration,
    mut voted: impl FnMut(usize, usize),
) -> Result<Predictions, Fault> {
    let manifest = &model.manifest;
    let width = manifest.features().len();
    if rows.width() != width {
        let given = rows.width();
        return Err(Fault::failed(format!(
            "the rows have {given} columns, the model was trained with {width}"
        )));
    }
    let cells = manifest.classes().len().max(1);
    let fit = (BLOCK_BYTES / (8 * width)).min(VOTES_BYTES / (CELL_BYTES * cells));
    let ask = format!("{:016x}", rand::rng().random::<u64>());
    let name = format!("rows {ask}");
    let blocks = rows.blocks(fit.max(1));
    let told = async {
        for (block, values) in blocks.iter().enumerate() {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            let block = i64::try_from(block).unwrap_or(i64::MAX);
            let fields = vec![
                Value::from(name.as_str()),
                block.into(),
                Value::Bytes(bytes),
            ];
            Space::out(space, SPACE, tuple(fields)?).await?;
        }
        let mut job = Job::new(SPACE, KIND, &ask);
        (job.chunk, job.tries, job.on_error) = (Chunk::Of(1), TRIES, OnError::SetAside);
        (job.stall, job.deadline) = (stall, Duration::MAX);
        // All blocks of a grove together: whoever has read it needs it again.
        let ballots = model.groves.iter().flat_map(|grove| {
            (0..blocks.len()).map(|block| {
                let ballot = Ballot {
                    blob: model.blob.clone(),
                    at: grove.at,
                    bytes: grove.bytes,
                    hash: grove.hash.clone(),
                    rows: name.clone(),
                    block: i64::try_from(block).unwrap_or(i64::MAX),
                    width,
                };
                ballot.to_value()
            })
        });
        let ballots: Vec<Value> = ballots.collect();
        let map = imap(space, job, stream::iter(ballots));
        gather(map, blocks.len(), model.groves.len(), &mut voted).await
    };
    let tallies = told.await;
    // Nothing stays; what cannot be deleted goes with the nodes that hold it in memory.
    let _ = Space::delete(space, SPACE, &name).await;
    let mut all = Predictions {
        trees: manifest.spec().trees,
        of: manifest.spec().trees,
        rows: Vec::with_capacity(rows.len()),
    };
    for tally in tallies? {
        let tally = tally.ok_or_else(|| Fault::unavailable("no grove's votes could be had"))?;
        let told = tally
            .finish(manifest)
            .about("the votes cannot be counted")?;
        all.trees = all.trees.min(told.trees);
        all.rows.extend(told.rows);
    }
    Ok(all)
}

/// Adds the votes of all groves on each block of rows. A grove that lacks some counts nowhere: all
/// rows are told by the same trees.
async fn gather<S: TaskSpace, I: futures::Stream<Item = Value> + Unpin>(
    map: cpe_sleigh::Imap<'_, S, I>,
    blocks: usize,
    groves: usize,
    voted: &mut impl FnMut(usize, usize),
) -> Result<Vec<Option<Tally>>, Fault> {
    let mut map = map;
    let mut sums: Vec<Option<Tally>> = vec![None; blocks];
    let mut of_grove: Vec<Tally> = Vec::with_capacity(blocks);
    let mut missing = BTreeSet::new();
    let ended = loop {
        let done = match map.next().await {
            Ok(Some(done)) => done,
            Ok(None) => break Ok(()),
            Err(error) => break Err(Fault::unavailable(error.to_string())),
        };
        let (grove, block) = (done.index / blocks, done.index % blocks);
        let tally = done.outcome.ok().and_then(|value| {
            let bytes = value.as_bytes()?;
            codec::decode::<Tally>(bytes, bytes.len()).ok()
        });
        match tally {
            Some(tally) => of_grove.push(tally),
            None => drop(missing.insert(grove)),
        }
        // In order: this was the grove's last block.
        if block + 1 == blocks {
            let own = std::mem::take(&mut of_grove);
            if !missing.contains(&grove) {
                add(&mut sums, own);
            }
            voted(grove + 1, groves);
        }
    };
    map.clean().await;
    for grove in missing {
        tracing::warn!(grove, "the votes of a grove could not be had");
    }
    ended.map(|()| sums)
}

fn add(sums: &mut [Option<Tally>], own: Vec<Tally>) {
    for (sum, tally) in sums.iter_mut().zip(own) {
        match sum {
            None => *sum = Some(tally),
            // Of other rows or another forest: it does not count, which the sum of trees shows.
            Some(sum) => drop(sum.merge(tally)),
        }
    }
}

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
