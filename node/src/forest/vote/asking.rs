//! The side that asks: puts rows and ballots there, and adds what comes.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe::Value;
use cpe_forest::{Predictions, Rows, Tally};
use cpe_sleigh::{Chunk, Done, Imap, Job, JobError, OnError, TaskSpace, imap};
use cpe_tuple::codec;
use futures::stream::{self, Iter};
use rand::RngExt;
use serde::Serialize;

use super::{Ballot, KIND, SPACE, rows_of};
use crate::exit::{About, Fault};
use crate::forest::blob::tuple;
use crate::forest::model::{self, Placed};
use crate::map::sign::{self, Sign};
use crate::remote::Space;

/// Bytes of rows in one tuple, about.
const BLOCK_BYTES: usize = 1 << 20;

/// Bytes that the votes of one grove on one block take at most, about: they are a tuple too.
const VOTES_BYTES: usize = 1 << 20;

/// Bytes of encoded votes for each class of a row, or each number.
const CELL_BYTES: usize = 14;

/// How often a grove's votes are tried to be had.
const TRIES: u32 = 3;

/// Longest reason why a grove did not vote, in characters.
const WHY_CHARS_MAX: usize = 300;

/// How long it may take to leave nothing.
const CLEAN_WITHIN: Duration = Duration::from_secs(10);

/// What a model says of rows.
#[derive(Debug)]
pub(crate) struct Told {
    /// By all groves whose votes could be had.
    pub(crate) predictions: Predictions,
    /// The others.
    pub(crate) missing: Vec<Missing>,
}

/// A grove whose votes could not be had, on some rows at least: it counts for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Missing {
    /// Which.
    pub(crate) grove: u32,
    /// Why not.
    pub(crate) why: String,
}

type Ballots<'a, S> = Imap<'a, S, Iter<std::vec::IntoIter<Value>>>;

/// A question to the workers of all nodes: what a model says of rows.
pub(crate) struct Vote<'a, S: TaskSpace> {
    space: &'a S,
    model: &'a Placed,
    ask: String,
    /// The rows, some at a time.
    blocks: Vec<&'a [f64]>,
    map: Ballots<'a, S>,
}

impl<'a, S: TaskSpace + Space> Vote<'a, S> {
    /// A question, which nobody has been asked yet; nobody may vote for `stall`.
    ///
    /// # Errors
    /// When the model was trained with other columns.
    pub(crate) fn new(
        space: &'a S,
        model: &'a Placed,
        rows: &'a Rows,
        stall: Duration,
    ) -> Result<Self, Fault> {
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
        let blocks = rows.blocks(fit.max(1));
        let mut job = Job::new(SPACE, KIND, &ask);
        (job.chunk, job.tries, job.on_error) = (Chunk::Of(1), TRIES, OnError::SetAside);
        (job.stall, job.deadline) = (stall, Duration::MAX);
        // All blocks of a grove together: whoever has read it needs it again.
        let ballots = model.groves.iter().flat_map(|grove| {
            let ask = &ask;
            (0..blocks.len()).map(move |block| {
                let ballot = Ballot {
                    blob: model.blob.clone(),
                    at: grove.at,
                    bytes: grove.bytes,
                    hash: grove.hash.clone(),
                    rows: rows_of(ask),
                    block: i64::try_from(block).unwrap_or(i64::MAX),
                    width,
                };
                ballot.to_value()
            })
        });
        let ballots: Vec<Value> = ballots.collect();
        let map = imap(space, job, stream::iter(ballots));
        Ok(Self {
            space,
            model,
            ask,
            blocks,
            map,
        })
    }

    /// What the model says. A grove whose votes cannot be had is left out. `voted` is called with
    /// how many groves have voted on all rows, and how many there are.
    ///
    /// # Errors
    /// When the space cannot be reached, nobody votes for too long, or not one grove has voted.
    ///
    /// # Cancel safety
    /// May be dropped at any time; [`clean`](Self::clean) leaves nothing of it then, either.
    pub(crate) async fn told(&mut self, voted: impl FnMut(usize, usize)) -> Result<Told, Fault> {
        let signing = sign_on(self.space, self.ask.clone());
        let telling = async {
            self.put_rows().await?;
            self.gather(voted).await
        };
        tokio::select! {
            told = telling => told,
            never = signing => match never {},
        }
    }

    async fn put_rows(&self) -> Result<(), Fault> {
        for (block, values) in self.blocks.iter().enumerate() {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            let fields = vec![
                Value::from(rows_of(&self.ask)),
                i64::try_from(block).unwrap_or(i64::MAX).into(),
                Value::Bytes(bytes.collect()),
            ];
            Space::out(self.space, SPACE, tuple(fields)?).await?;
        }
        Ok(())
    }

    /// Adds the votes of all groves on each block of rows. A grove that lacks some counts nowhere:
    /// all rows are told by the same trees.
    async fn gather(&mut self, mut voted: impl FnMut(usize, usize)) -> Result<Told, Fault> {
        let (blocks, groves) = (self.blocks.len(), self.model.groves.len());
        let mut sums: Vec<Option<Tally>> = vec![None; blocks];
        let mut of_grove: Vec<Tally> = Vec::with_capacity(blocks);
        let mut missing: BTreeMap<usize, String> = BTreeMap::new();
        loop {
            let done = match self.map.next().await {
                Ok(Some(done)) => done,
                Ok(None) => break,
                Err(error) => return Err(self.unheard(&error, &missing)),
            };
            let (grove, block) = (done.index / blocks, done.index % blocks);
            match self.tally(grove, block, done) {
                Ok(tally) => of_grove.push(tally),
                Err(why) => drop(missing.entry(grove).or_insert_with(|| harmless(&why))),
            }
            // In order: this was the grove's last block.
            if block + 1 == blocks {
                let own = std::mem::take(&mut of_grove);
                if !missing.contains_key(&grove) {
                    add(&mut sums, own)?;
                }
                voted(grove + 1, groves);
            }
        }
        self.sum_up(&sums, missing)
    }

    /// What somebody told of a grove's votes on a block of rows, if that is what it can be.
    fn tally(&self, grove: usize, block: usize, done: Done) -> Result<Tally, String> {
        let value = done.outcome?;
        let manifest = &self.model.manifest;
        let rows = self.blocks.get(block).map_or(0, |block| block.len());
        let rows = rows / manifest.features().len().max(1);
        let index = self.model.groves.get(grove).map_or(0, |grove| grove.index);
        let bytes = value.as_bytes().unwrap_or_default();
        let tally = codec::decode::<Tally>(bytes, bytes.len());
        let tally = tally.map_err(|error| error.to_string());
        let of_it = |tally: Tally| match tally.check(manifest, index, rows) {
            Ok(()) => Ok(tally),
            Err(error) => Err(error.to_string()),
        };
        tally.and_then(of_it).map_err(|why| {
            let node = &done.node;
            tracing::error!(
                grove = index,
                node,
                why,
                "a node told what are no such votes"
            );
            format!("node `{node}` told what are no votes of it: {why}")
        })
    }

    fn sum_up(
        &self,
        sums: &[Option<Tally>],
        missing: BTreeMap<usize, String>,
    ) -> Result<Told, Fault> {
        let index = |place: usize| self.model.groves.get(place).map(|grove| grove.index);
        let missing = missing.into_iter().filter_map(|(place, why)| {
            let grove = index(place)?;
            Some(Missing { grove, why })
        });
        let missing: Vec<Missing> = missing.collect();
        let manifest = &self.model.manifest;
        let mut predictions = Predictions {
            trees: manifest.spec().trees,
            of: manifest.spec().trees,
            rows: Vec::new(),
        };
        for tally in sums {
            let tally = tally.as_ref().ok_or_else(|| self.nobody(&missing))?;
            let told = tally
                .finish(manifest)
                .about("the votes cannot be counted")?;
            predictions.trees = predictions.trees.min(told.trees);
            predictions.rows.extend(told.rows);
        }
        Ok(Told {
            predictions,
            missing,
        })
    }

    /// Why it ended before all have voted.
    fn unheard(&self, error: &JobError, missing: &BTreeMap<usize, String>) -> Fault {
        let why = missing
            .first_key_value()
            .map_or(String::new(), |(place, why)| {
                let grove = self.model.groves.get(*place).map_or(0, |grove| grove.index);
                format!("; grove {grove} could not vote: {why}")
            });
        Fault::unavailable(format!("{error}{why}"))
    }

    /// Why not one grove has voted.
    fn nobody(&self, missing: &[Missing]) -> Fault {
        let name = &self.model.name;
        let why = missing.first().map_or(String::new(), |first| {
            let Missing { grove, why } = first;
            format!(": grove {grove}: {why}")
        });
        let none = format!("no grove of model `{name}` has voted{why}");
        Fault::unavailable(none).next(model::AGAIN)
    }

    /// Leaves nothing of it in the space, as far as that can be reached. What somebody votes on
    /// just now may come later: nodes remove it (see `left`).
    pub(crate) async fn clean(&mut self) {
        let (space, ask) = (self.space, self.ask.as_str());
        let map = &mut self.map;
        let cleaning = async {
            // Rows first: whoever takes a ballot that is still there sees that it is over.
            let _ = Space::delete(space, SPACE, &rows_of(ask)).await;
            map.clean().await;
            let _ = Space::delete(space, SPACE, &Sign::variable(ask)).await;
        };
        if tokio::time::timeout(CLEAN_WITHIN, cleaning).await.is_err() {
            tracing::debug!(ask, "what is left of votes is left to the nodes");
        }
    }
}

/// Gives signs of life as long as it is polled: without them nodes would remove what they find.
async fn sign_on(space: &impl Space, ask: String) -> std::convert::Infallible {
    let mut sign = Sign::of_asker(&ask);
    let (variable, mut declared) = (Sign::variable(&ask), false);
    loop {
        // What takes no longer than this needs none.
        tokio::time::sleep(sign::EVERY).await;
        sign.next();
        if !declared {
            declared = space.declare_single(SPACE, &variable).await.is_ok();
        }
        if declared && let Ok(tuple) = sign.to_tuple(&ask) {
            let _ = Space::out(space, SPACE, tuple).await;
        }
    }
}

/// What somebody else wrote, as it may be shown to a person.
fn harmless(text: &str) -> String {
    let shown = text.chars().take(WHY_CHARS_MAX);
    shown
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn add(sums: &mut [Option<Tally>], own: Vec<Tally>) -> Result<(), Fault> {
    for (sum, tally) in sums.iter_mut().zip(own) {
        match sum {
            None => *sum = Some(tally),
            Some(sum) => sum.merge(tally).about("the votes cannot be added")?,
        }
    }
    Ok(())
}
