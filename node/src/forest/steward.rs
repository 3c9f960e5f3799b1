//! Whoever sees a job through: puts its groves into the space, gathers what came of them, grows
//! some again to see whether they are what they should be, and puts the model there.
//!
//! Each node has a few stewards. One takes the job's request under a lease; if its node dies,
//! another takes it up and finds in the space all that was grown. What it does may be done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cpe::{Failure, Field, Kind, Leased, SpaceError, Template, Tuple, Value};
use cpe_forest::limits::{MAX_DATASET_BYTES, MAX_GROVE_BYTES};
use cpe_forest::{ENGINE, Forest, Grove, Manifest, ModelCard, OutOfBag, out_of_bag};
use cpe_tuple::codec;
use futures::future::OptionFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::blob::{self, template};
use super::job::{GROVES, JOBS, Outcome, Phase, Request, State, hex};
use super::worker::{IDLE, LEASE, REST, STEP, Workers, task, while_held};
use super::{WORKSPACE, model};
use crate::exit::{About, Fault};

/// Jobs a node sees to at once; further ones wait for another node or for one of these.
const STEWARDS: usize = 4;

/// One of so many groves of other nodes is grown again; at least one.
const AUDIT_ONE_OF: u32 = 10;

/// Groves put into the space, or taken back, at once.
const AT_ONCE: usize = 32;

/// How often somebody may wish that a job end, at most, before it is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts the stewards of a node, which work until `stop`.
pub(super) fn start(workers: &Arc<Workers>, stop: &CancellationToken) {
    for _ in 0..STEWARDS {
        let (workers, stop) = (Arc::clone(workers), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = see_to_jobs(&workers) => {}
            }
        });
    }
}

fn any_job() -> Result<Template, Fault> {
    template(vec![
        Field::Actual(Value::from(JOBS)),
        Field::Typed(Kind::String),
        Field::Actual(Value::from(ENGINE)),
        Field::Typed(Kind::Bytes),
    ])
}

async fn see_to_jobs(workers: &Arc<Workers>) {
    let Ok(any) = any_job() else { return };
    loop {
        match workers
            .space
            .take_leased(WORKSPACE, any.clone(), LEASE, IDLE)
            .await
        {
            Ok(lease) => see_to(workers, &lease).await,
            Err(SpaceError::Failed(Failure::TimedOut(_))) => {}
            Err(error) => {
                tracing::debug!(%error, "no jobs can be had");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn see_to(workers: &Arc<Workers>, lease: &Leased) {
    let Some(request) = lease.tuple().fields().get(3).and_then(Request::of) else {
        tracing::warn!("a request for a forest that is none is dropped");
        let _ = lease.commit(STEP).await;
        return;
    };
    let job = &request.name;
    tracing::info!(job, "sees to a job");
    match while_held(lease, Job::conduct(workers, &request)).await {
        Some(Ok(())) => {
            if let Err(error) = lease.commit(STEP).await {
                tracing::debug!(job, %error, "a job that has ended cannot be taken off");
            }
        }
        Some(Err(fault)) => {
            tracing::warn!(job, %fault, "a job is left to another steward");
            tokio::time::sleep(REST).await;
            let _ = lease.give_back(STEP).await;
        }
        None => tracing::info!(job, "another has taken the job up"),
    }
}

/// What came of a grove, and who says so.
#[derive(Clone, Debug)]
struct Brought {
    node: String,
    outcome: Outcome,
}

/// A grove that was grown again: which, and the hash it should have or why it cannot be grown.
type Audited = (u32, Result<String, String>);

/// A job that is seen to.
struct Job<'a> {
    workers: &'a Arc<Workers>,
    request: &'a Request,
    state: State,
    /// Groves of the model of this name, if it is this forest with another number of trees.
    kept: BTreeMap<u32, Grove>,
    brought: BTreeMap<u32, Brought>,
    /// Groves that are grown again, and what they should be.
    audits: JoinSet<Result<Audited, Fault>>,
    chosen: BTreeSet<u32>,
}

/// How the gathering ended.
enum Gathered {
    All,
    Impossible(String),
    Cancelled,
}

impl<'a> Job<'a> {
    /// Sees to a job from wherever it is to its end. An error is this node's: another may go on.
    async fn conduct(workers: &'a Arc<Workers>, request: &'a Request) -> Result<(), Fault> {
        let known = State::get(&workers.space, &request.name, Duration::ZERO).await?;
        let known = known.filter(|state| state.run == request.run);
        let mut state = known.unwrap_or_else(|| State::begun(request));
        (state.done, state.audited) = (0, 0);
        state.nodes.clear();
        let mut job = Self {
            workers,
            request,
            state,
            kept: BTreeMap::new(),
            brought: BTreeMap::new(),
            audits: JoinSet::new(),
            chosen: BTreeSet::new(),
        };
        if job.state.phase != Phase::Growing {
            // Its steward died between the last word and the end.
            job.clean().await;
            return Ok(());
        }
        let ended = match request.check_grower() {
            Ok(()) => job.grow().await?,
            Err(why) => (Phase::Failed, why),
        };
        (job.state.phase, job.state.said) = ended;
        job.tell().await?;
        if job.state.phase != Phase::Done {
            job.drain().await;
        }
        job.clean().await;
        Ok(())
    }

    async fn grow(&mut self) -> Result<(Phase, String), Fault> {
        self.keep().await?;
        self.issue().await?;
        match self.gather().await? {
            Gathered::All => self.assemble().await,
            Gathered::Impossible(why) => Ok((Phase::Failed, why)),
            Gathered::Cancelled => Ok((Phase::Cancelled, String::new())),
        }
    }

    /// Takes back the groves that nobody has begun, lest the next job wait behind them.
    async fn drain(&self) {
        let waiting = template(vec![
            Field::Actual(Value::from(GROVES)),
            Field::Actual(Value::from(self.request.name.as_str())),
            Field::Actual(Value::from(self.request.id.as_str())),
            Field::Typed(Kind::Int),
            Field::Actual(Value::from(self.request.grower.as_str())),
            Field::Typed(Kind::Bytes),
        ]);
        let Ok(waiting) = waiting else { return };
        let taking = (0..AT_ONCE).map(|_| async {
            let take = || {
                self.workers
                    .space
                    .try_take(WORKSPACE, waiting.clone(), STEP)
            };
            while let Ok(Some(_)) = take().await {}
        });
        futures::future::join_all(taking).await;
    }

    async fn tell(&self) -> Result<(), Fault> {
        self.state
            .put(&self.workers.space, &self.request.name)
            .await
    }

    /// Warm start: what the model of this name has of this forest need not be grown.
    async fn keep(&mut self) -> Result<(), Fault> {
        let request = self.request;
        let Some(forest) = model::find(&self.workers.space, &request.name).await? else {
            return Ok(());
        };
        let manifest = forest.manifest();
        let spec = manifest.spec().clone().with_trees(request.spec.trees);
        let same = spec == request.spec && manifest.engine() == ENGINE;
        if same && hex(manifest.data()) == request.data_hash {
            let kept = forest
                .keep(&spec)
                .map(|grove| (grove.index(), grove.clone()));
            self.kept = kept.collect();
        }
        self.state.done = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        self.state.kept = self.state.done;
        Ok(())
    }

    /// Puts the groves into the space, unless a steward before has.
    async fn issue(&mut self) -> Result<(), Fault> {
        self.state.stewards.push(self.workers.node.clone());
        self.tell().await?;
        if !self.state.issued {
            let all = 0..self.request.spec.groves();
            let missing = all.filter(|index| !self.kept.contains_key(index));
            let (space, request) = (&self.workers.space, self.request);
            let put = missing.map(|index| async move {
                let put = space.out(WORKSPACE, task(request, index)?).await;
                put.map(drop).about("cannot put a grove there")
            });
            // Many at once: a home writes them to disk together.
            let putting = stream::iter(put).buffer_unordered(AT_ONCE);
            putting.try_collect::<()>().await?;
            self.state.issued = true;
        }
        self.tell().await
    }

    /// Waits for all groves, and for those that are grown again.
    async fn gather(&mut self) -> Result<Gathered, Fault> {
        let groves = self.request.spec.groves() as usize - self.kept.len();
        let space = &self.workers.space;
        let outcomes = template(vec![
            Field::Actual(Value::from(self.request.grown())),
            Field::Actual(Value::from(self.request.id.as_str())),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Bytes),
        ])?;
        let watch = || space.watch(WORKSPACE, outcomes.clone());
        let mut watching = watch().await.about("cannot watch for groves")?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        while self.brought.len() < groves || !self.audits.is_empty() {
            let auditing: OptionFuture<_> = (!self.audits.is_empty())
                .then(|| self.audits.join_next())
                .into();
            tokio::select! {
                tuple = watching.next() => match tuple {
                    Some(tuple) => {
                        if let Some(why) = self.hear(&tuple).await? {
                            return Ok(Gathered::Impossible(why));
                        }
                    }
                    None => {
                        tokio::time::sleep(REST).await;
                        watching = watch().await.about("cannot watch for groves")?;
                    }
                },
                Some(Some(audited)) = auditing => {
                    let (index, truth) = audited.about("growing a grove again failed")??;
                    self.judge(index, truth).await?;
                }
                _ = look.tick() => if self.is_cancelled().await? {
                    return Ok(Gathered::Cancelled);
                },
            }
            if self.brought.len() == groves && self.chosen.is_empty() {
                self.audit_one();
            }
        }
        Ok(Gathered::All)
    }

    async fn is_cancelled(&self) -> Result<bool, Fault> {
        let template = template(vec![
            Field::Actual(Value::from(self.request.cancel())),
            Field::Actual(Value::from(self.request.id.as_str())),
        ])?;
        let found = self.workers.space.rdp(WORKSPACE, template, None).await;
        Ok(found
            .about("cannot look for who wants it to end")?
            .is_some())
    }

    /// Takes down what came of a grove: the first time, and nothing after that. A reason why it
    /// can be grown nowhere ends the job.
    async fn hear(&mut self, tuple: &Tuple) -> Result<Option<String>, Fault> {
        let [_, _, index, node, outcome] = tuple.fields() else {
            return Ok(None);
        };
        let index = index.as_int().and_then(|index| u32::try_from(index).ok());
        let outcome = outcome
            .as_bytes()
            .and_then(|bytes| codec::decode(bytes, 1 << 16).ok());
        let (Some(index), Some(node), Some(outcome)) = (index, node.as_str(), outcome) else {
            return Ok(None);
        };
        let unknown = !self.kept.contains_key(&index) && !self.brought.contains_key(&index);
        if index >= self.request.spec.groves() || !unknown {
            return Ok(None);
        }
        let brought = Brought {
            node: node.to_owned(),
            outcome,
        };
        if let Some(why) = brought.outcome.error {
            return Ok(Some(format!(
                "node {node} cannot grow grove {index}: {why}"
            )));
        }
        let foreign = brought.node != self.workers.node;
        self.brought.insert(index, brought);
        self.state.done += 1;
        *self.state.nodes.entry(node.to_owned()).or_insert(0) += 1;
        if foreign && rand::rng().random_range(0..AUDIT_ONE_OF) == 0 {
            self.audit(index);
        }
        self.tell().await?;
        Ok(None)
    }

    /// Has one grove of another node grown again, if there is one.
    fn audit_one(&mut self) {
        let foreign = |(_, brought): &(&u32, &Brought)| brought.node != self.workers.node;
        let others: Vec<u32> = self
            .brought
            .iter()
            .filter(foreign)
            .map(|(i, _)| *i)
            .collect();
        if others.is_empty() {
            return;
        }
        let place = rand::rng().random_range(0..others.len());
        if let Some(index) = others.get(place) {
            self.audit(*index);
        }
    }

    fn audit(&mut self, index: u32) {
        if !self.chosen.insert(index) {
            return;
        }
        let (workers, request) = (Arc::clone(self.workers), self.request.clone());
        self.audits.spawn(async move {
            let grown = workers.grove(&request, index).await?;
            let hash = |(grove, _): (Grove, OutOfBag)| hex(&grove.hash());
            Ok((index, grown.map(hash)))
        });
    }

    /// Compares what a grove should be with what was brought. Whoever brought another is believed
    /// in nothing.
    async fn judge(&mut self, index: u32, truth: Result<String, String>) -> Result<(), Fault> {
        self.state.audited += 1;
        let Some(brought) = self.brought.get(&index) else {
            return Ok(());
        };
        if truth.as_ref() != Ok(&brought.outcome.hash) {
            let (job, node) = (&self.request.name, brought.node.clone());
            tracing::error!(
                job,
                grove = index,
                node,
                "a node brought a grove that is another"
            );
            if !self.state.liars.contains(&node) {
                self.state.liars.push(node);
            }
        }
        self.tell().await
    }

    /// Puts the forest together; what cannot be believed or read is grown here.
    async fn assemble(&mut self) -> Result<(Phase, String), Fault> {
        let data = self.workers.data(self.request).await?;
        let manifest = Manifest::new(&data, &self.request.spec).about("cannot grow this forest")?;
        let (kept, spec) = (std::mem::take(&mut self.kept), self.request.spec.clone());
        let rows = Arc::clone(&data);
        let judging = tokio::task::spawn_blocking(move || {
            let votes = kept
                .values()
                .filter_map(|grove| out_of_bag(&rows, &spec, grove).ok());
            (votes.collect::<Vec<_>>(), kept)
        });
        let (mut votes, kept) = judging.await.about("judging kept groves failed")?;
        let mut groves: Vec<Grove> = kept.into_values().collect();
        for (index, brought) in &self.brought {
            let believed = !self.state.liars.contains(&brought.node);
            let read = if believed {
                self.read(*index, brought, &manifest).await
            } else {
                None
            };
            let (grove, vote) = match read {
                Some(read) => read,
                None => match self.workers.grove(self.request, *index).await? {
                    Ok((grove, votes)) => (grove, Some(votes)),
                    Err(why) => return Ok((Phase::Failed, why)),
                },
            };
            groves.push(grove);
            votes.extend(vote);
        }
        let forest = match Forest::assemble(manifest, groves) {
            Ok(forest) => forest,
            Err(error) => return Ok((Phase::Failed, error.to_string())),
        };
        let score = forest.out_of_bag_score(&data, &votes).ok();
        let forest = forest.with_out_of_bag(score);
        let card = ModelCard::new(&forest);
        model::put(&self.workers.space, &self.request.name, &forest, &card).await?;
        Ok((Phase::Done, card.forest))
    }

    /// A grove as a node put it there, if it is what that node said.
    async fn read(
        &self,
        index: u32,
        brought: &Brought,
        manifest: &Manifest,
    ) -> Option<(Grove, Option<OutOfBag>)> {
        let (space, Brought { node, outcome }) = (&self.workers.space, brought);
        let name = self.request.grove_name(index, node);
        let bytes = blob::read(space, &name, outcome.bytes, MAX_GROVE_BYTES)
            .await
            .ok()?;
        if hex(blake3::hash(&bytes).as_bytes()) != outcome.hash {
            return None;
        }
        let grove = Grove::decode(&bytes).ok()?;
        manifest.accept(&grove).ok()?;
        if grove.index() != index {
            return None;
        }
        let name = self.request.votes_name(index, node);
        let votes = blob::read(space, &name, outcome.votes, MAX_DATASET_BYTES).await;
        let votes = votes
            .ok()
            .and_then(|bytes| codec::decode(&bytes, MAX_DATASET_BYTES).ok());
        Some((grove, votes))
    }

    /// Leaves nothing but the model and the last state. What cannot be deleted only takes room.
    async fn clean(&self) {
        let request = self.request;
        let space = &self.workers.space;
        // Those of nodes that died before they could say so, too.
        let ours = request.own();
        let known = space.variables(WORKSPACE).await.unwrap_or_default();
        let known = known.iter().filter_map(|variable| variable.name.as_str());
        let known = known
            .filter(|name| name.starts_with(&ours))
            .map(str::to_owned);
        for name in known {
            let _ = crate::remote::Space::delete(space, WORKSPACE, &name).await;
        }
    }
}
