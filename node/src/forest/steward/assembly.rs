//! The end of a job: its forest is put together, of what was brought and can be believed, and of
//! what cannot, grown here.

use std::collections::BTreeSet;
use std::sync::Arc;

use cpe_forest::limits::{MAX_DATASET_BYTES, MAX_FOREST_BYTES, MAX_GROVE_BYTES};
use cpe_forest::{Dataset, Forest, Grove, Manifest, ModelCard, OutOfBag, OutOfBagSum, out_of_bag};
use cpe_tuple::codec;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{Brought, Job, LOOK_EVERY, hands};
use crate::exit::{About, Fault};
use crate::forest::blob::PART_WITHIN;
use crate::forest::job::{Phase, Request, hex};
use crate::forest::worker::Workers;
use crate::forest::{blob, model};

/// A grove, and its votes if those who grew it gave them.
type Read = (Grove, Option<OutOfBag>);

impl Job<'_> {
    /// Whether what somebody brought may go into the forest, if it is what he says.
    fn believes(&self, brought: &Brought) -> bool {
        brought.own || !self.state.liars.contains(&brought.node)
    }

    /// Puts the forest together; what cannot be believed or read is grown here.
    pub(super) async fn assemble(&mut self) -> Result<(Phase, String), Fault> {
        let data = self.workers.data(self.request).await?;
        let manifest = Manifest::new(&data, &self.request.spec).about("cannot grow this forest")?;
        let ahead = match self.ahead.take() {
            Some(ahead) => ahead.finish().await,
            None => None,
        };
        let liars = &self.state.liars;
        let ahead = ahead.filter(|groves| !liars.iter().any(|liar| groves.by.contains(liar)));
        let mut groves = ahead.unwrap_or_else(|| Groves::new(data, &manifest));
        let mut kept = std::mem::take(&mut self.kept);
        let job = &*self;
        // In their order, in which numbers are added up; the next ones are grown meanwhile.
        let ready = (groves.next()..self.request.spec.groves()).map(|index| {
            let kept = kept.remove(&index);
            let manifest = &manifest;
            async move {
                match kept {
                    Some(grove) => Ok(Ok((grove, None))),
                    None => job.grove(index, manifest).await,
                }
            }
        });
        let mut ready = stream::iter(ready).buffered(hands());
        let mut state = self.state.clone();
        state.assembled = groves.next();
        let mut told = Instant::now();
        loop {
            if groves.is_too_large() {
                let why = format!(
                    "its first {} groves have {} bytes, a forest may have {MAX_FOREST_BYTES}: \
                     ask for fewer trees, or raise min_leaf",
                    state.assembled, groves.bytes
                );
                return Ok((Phase::Failed, why));
            }
            let Some(grove) = ready.next().await else {
                break;
            };
            let (grove, votes) = match grove? {
                Ok(grove) => grove,
                Err(why) => return Ok((Phase::Failed, why)),
            };
            groves.push(self.request, grove, votes).await?;
            state.assembled = groves.next();
            if told.elapsed() >= LOOK_EVERY {
                told = Instant::now();
                if self.is_cancelled().await? {
                    return Ok((Phase::Cancelled, String::new()));
                }
                state.put(&self.workers.space, &self.request.name).await?;
            }
        }
        drop(ready);
        self.state = state;
        let packing = tokio::task::spawn_blocking(move || groves.pack(manifest));
        match packing.await.about("putting the forest together failed")? {
            Ok(packed) => {
                model::put_packed(&self.workers.space, &self.request.name, &packed).await?;
                Ok((Phase::Done, packed.hash))
            }
            // It is the same for whoever tries.
            Err(fault) => Ok((Phase::Failed, fault.to_string())),
        }
    }

    /// A grove as it was brought, or grown here if that cannot be believed or read; and its votes.
    /// The inner error is the grove's.
    async fn grove(&self, index: u32, manifest: &Manifest) -> Result<Result<Read, String>, Fault> {
        let read = match self.brought.get(&index) {
            Some(brought) if self.believes(brought) => {
                read(self.workers, self.request, index, brought, manifest).await
            }
            _ => None,
        };
        if let Some(read) = read {
            return Ok(Ok(read));
        }
        let grown = self.workers.grove(self.request, index).await?;
        Ok(grown.map(|grown| (grown.grove, Some(grown.votes))))
    }
}

/// A grove as a node put it there, if it is what that node said, and its votes, if they are.
pub(super) async fn read(
    workers: &Workers,
    request: &Request,
    index: u32,
    brought: &Brought,
    manifest: &Manifest,
) -> Option<Read> {
    let (space, Brought { node, outcome, .. }) = (&workers.space, brought);
    let name = request.grove_name(index, node);
    let bytes = blob::read(space, &name, outcome.bytes, MAX_GROVE_BYTES, PART_WITHIN).await;
    let bytes = bytes.ok()?;
    let name = request.votes_name(index, node);
    let votes = if outcome.votes_hash.is_empty() {
        None
    } else {
        let read = blob::read(space, &name, outcome.votes, MAX_DATASET_BYTES, PART_WITHIN).await;
        read.ok()
    };
    let (hash, votes_hash) = (outcome.hash.clone(), outcome.votes_hash.clone());
    let decoding = tokio::task::spawn_blocking(move || {
        let same = |bytes: &[u8], hash: &str| hex(blake3::hash(bytes).as_bytes()) == hash;
        let grove = same(&bytes, &hash).then(|| Grove::decode(&bytes).ok());
        let votes = votes.filter(|votes| same(votes, &votes_hash));
        let votes = votes.and_then(|bytes| codec::decode(&bytes, MAX_DATASET_BYTES).ok());
        Some((grove??, votes))
    });
    let (grove, votes) = decoding.await.ok()??;
    manifest.accept(&grove).ok()?;
    (grove.index() == index).then_some((grove, votes))
}

/// The groves of a forest that is put together, and the sum of their votes: the votes of a single
/// one are as large as the data.
pub(super) struct Groves {
    data: Arc<Dataset>,
    /// Which other nodes brought those that were read ahead.
    pub(super) by: BTreeSet<String>,
    /// None once those of some grove could not be had.
    votes: Option<OutOfBagSum>,
    groves: Vec<Grove>,
    /// How many bytes they are when they are encoded.
    bytes: usize,
}

impl Groves {
    pub(super) fn new(data: Arc<Dataset>, manifest: &Manifest) -> Self {
        Self {
            data,
            by: BTreeSet::new(),
            votes: Some(OutOfBagSum::new(manifest)),
            groves: Vec::new(),
            bytes: 0,
        }
    }

    /// The index of the next one.
    pub(super) fn next(&self) -> u32 {
        u32::try_from(self.groves.len()).unwrap_or(u32::MAX)
    }

    /// Whether no forest may be that large.
    pub(super) fn is_too_large(&self) -> bool {
        self.bytes > MAX_FOREST_BYTES
    }

    /// Adds the next grove. Votes that nobody brought, or that are not its, are counted here.
    pub(super) async fn push(
        &mut self,
        request: &Request,
        grove: Grove,
        brought: Option<OutOfBag>,
    ) -> Result<(), Fault> {
        let (data, spec) = (Arc::clone(&self.data), request.spec.clone());
        let sum = self.votes.take();
        let counting = tokio::task::spawn_blocking(move || {
            let sum = sum.and_then(|mut sum| {
                let added = brought.is_some_and(|votes| sum.add(&votes).is_ok());
                let counted = || out_of_bag(&data, &spec, &grove).ok();
                let added = added || counted().is_some_and(|votes| sum.add(&votes).is_ok());
                added.then_some(sum)
            });
            (grove.encode().len(), grove, sum)
        });
        let counted = counting.await.about("counting a grove's votes failed")?;
        let (bytes, grove, sum) = counted;
        self.bytes += bytes;
        self.votes = sum;
        self.groves.push(grove);
        Ok(())
    }

    /// The forest as it is put into the space.
    fn pack(self, manifest: Manifest) -> Result<model::Packed, Fault> {
        let Self {
            data,
            votes,
            groves,
            ..
        } = self;
        let score = votes.and_then(|votes| votes.score(&manifest, &data).ok());
        let forest = Forest::assemble(manifest, groves);
        let forest = forest.about("the groves do not make a forest")?;
        let forest = forest.with_out_of_bag(score);
        model::pack(&forest, &ModelCard::new(&forest))
    }
}
