//! Whoever sees a job through: puts its groves into the space, gathers what came of them, grows
//! some again to see whether they are what they should be, and puts the model there.
//!
//! Each node has a few stewards. One takes the job's request under a lease; if its node dies,
//! another takes it up and finds in the space all that was grown. What it does may be done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cpe::{Failure, Field, Kind, Leased, SpaceError, Template, Tuple, Value};
use cpe_forest::{ENGINE, Grove};
use cpe_tuple::codec;
use futures::future::OptionFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::RngExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::blob::template;
use super::job::{self, GROVES, JOBS, Outcome, Phase, Request, STEWARDS_MAX, State, hex};
use super::worker::{IDLE, LEASE, REST, STEP, Workers, task, while_held};
use super::{WORKSPACE, model};
use crate::exit::{About, Fault};

mod ahead;
mod assembly;

use ahead::Ahead;

/// Jobs a node sees to at once; further ones wait for another node or for one of these.
const STEWARDS: usize = 4;

/// One of so many groves of other nodes is grown again; at least one of each node.
const AUDIT_ONE_OF: u32 = 10;

/// How often stewards begin with a job: after that it counts as one that none can bring to its end.
const ATTEMPTS_MAX: u32 = 20;

/// After so many attempts the rest before the next one grows no more: 32 times [`REST`].
const RESTS_DOUBLED: u32 = 5;

/// Groves put into the space at once.
const AT_ONCE: usize = 32;

/// Nothing has come for so long, and no grove waits to be taken: those that are missing are put
/// there once more, since somebody may have taken one and not said so (a worker holds a lease, and
/// gives back what it does not grow; whoever else takes tuples need not). The time doubles.
const REISSUE_AFTER: Duration = Duration::from_secs(20);

/// How often: a grove may take long, and each time one more node may grow it.
const REISSUES_MAX: u32 = 5;

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
    /// Whether this process grew it, which the name of the node alone does not say.
    own: bool,
}

/// A grove that was grown again: which, and the hashes that it and its votes should have or why it
/// cannot be grown.
type Audited = (u32, Result<(String, String), String>);

/// A job that is seen to.
struct Job<'a> {
    workers: &'a Arc<Workers>,
    request: &'a Request,
    state: State,
    /// Groves of the model of this name, if it is this forest with another number of trees.
    kept: BTreeMap<u32, Grove>,
    brought: BTreeMap<u32, Brought>,
    /// What is put together before all are there.
    ahead: Option<Ahead>,
    /// Groves that are grown again, and what they should be.
    audits: JoinSet<Result<Audited, Fault>>,
    chosen: BTreeSet<u32>,
    /// As many groves are grown again at once as it has [`hands`].
    auditors: Arc<Semaphore>,
    /// Whether at least one grove of each node has been chosen.
    sampled: bool,
}

/// How much a steward does at once: half of the cores, since the workers of its node have them all.
fn hands() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
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
        let known = State::at_home(&workers.space, &request.name).await?;
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
            ahead: None,
            audits: JoinSet::new(),
            chosen: BTreeSet::new(),
            auditors: Arc::new(Semaphore::new(hands())),
            sampled: false,
        };
        if job.state.phase != Phase::Growing {
            // Its steward died between the last word and the end.
            job::clear(&workers.space, &request.name, &job.state).await;
            return Ok(());
        }
        job.begin().await?;
        let ended = if job.state.attempts > ATTEMPTS_MAX {
            let why = format!("{ATTEMPTS_MAX} times a steward has begun with it and left it");
            Ok((Phase::Failed, format!("{why}: {}", job.state.said)))
        } else {
            match request.check_grower() {
                Ok(()) => job.grow().await,
                Err(why) => Ok((Phase::Failed, why)),
            }
        };
        match ended {
            Ok(ended) => (job.state.phase, job.state.said) = ended,
            Err(fault) => {
                job.state.said = fault.to_string();
                job.audits.abort_all();
                let told = job.tell().await;
                // The lease is held meanwhile: whoever is next shall not hurry either.
                let doubled = job.state.attempts.min(RESTS_DOUBLED);
                tokio::time::sleep(REST * 2_u32.pow(doubled)).await;
                return told.and(Err(fault));
            }
        }
        job.tell().await?;
        job::clear(&workers.space, &request.name, &job.state).await;
        Ok(())
    }

    /// Says that this node sees to it.
    async fn begin(&mut self) -> Result<(), Fault> {
        self.state.attempts = self.state.attempts.saturating_add(1);
        let stewards = &mut self.state.stewards;
        stewards.push(self.workers.node.clone());
        stewards.drain(..stewards.len().saturating_sub(STEWARDS_MAX));
        self.tell().await
    }

    async fn grow(&mut self) -> Result<(Phase, String), Fault> {
        self.keep().await?;
        if self.kept.is_empty() {
            self.ahead = Some(Ahead::begin(self.workers, self.request));
        }
        self.issue().await?;
        match self.gather().await? {
            Gathered::All => self.assemble().await,
            Gathered::Impossible(why) => Ok((Phase::Failed, why)),
            Gathered::Cancelled => Ok((Phase::Cancelled, String::new())),
        }
    }

    async fn tell(&self) -> Result<(), Fault> {
        self.state
            .put(&self.workers.space, &self.request.name)
            .await
    }

    /// Warm start: what the model of this name has of this forest need not be grown.
    async fn keep(&mut self) -> Result<(), Fault> {
        let request = self.request;
        if let Some(forest) = model::find(&self.workers.space, &request.name).await? {
            let manifest = forest.manifest();
            let spec = manifest.spec().clone().with_trees(request.spec.trees);
            let same = spec == request.spec && manifest.engine() == ENGINE;
            if same && hex(manifest.data()) == request.data_hash {
                let kept = forest
                    .keep(&spec)
                    .map(|grove| (grove.index(), grove.clone()));
                self.kept = kept.collect();
            }
        }
        self.state.done = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        if self.state.done < self.state.kept {
            // A steward before had groves that are no longer there: nobody was asked to grow them.
            self.state.issued = false;
        }
        self.state.kept = self.state.done;
        Ok(())
    }

    /// Puts the groves into the space, unless a steward before has.
    async fn issue(&mut self) -> Result<(), Fault> {
        if !self.state.issued {
            self.put_missing().await?;
            self.state.issued = true;
        }
        self.tell().await
    }

    /// Puts the groves there of which nothing has come.
    async fn put_missing(&self) -> Result<(), Fault> {
        let there = |index: &u32| self.kept.contains_key(index) || self.brought.contains_key(index);
        let missing = (0..self.request.spec.groves()).filter(|index| !there(index));
        let (space, request) = (&self.workers.space, self.request);
        let put = missing.map(|index| async move {
            let put = space.out(WORKSPACE, task(request, index)?).await;
            put.map(drop).about("cannot put a grove there")
        });
        // Many at once: a home writes them to disk together.
        let putting = stream::iter(put).buffer_unordered(AT_ONCE);
        putting.try_collect::<()>().await
    }

    /// Whether a grove waits for somebody to take it.
    async fn is_any_waiting(&self) -> Result<bool, Fault> {
        let template = template(vec![
            Field::Actual(Value::from(GROVES)),
            Field::Actual(Value::from(self.request.name.as_str())),
            Field::Actual(Value::from(self.request.run.as_str())),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Bytes),
        ])?;
        let found = self.workers.space.rdp(WORKSPACE, template, None).await;
        Ok(found.about("cannot look for groves that wait")?.is_some())
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
        let mut heard = Instant::now();
        let mut reissues = 0;
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
                        heard = Instant::now();
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
                    if let Some(why) = self.judge(index, truth).await? {
                        return Ok(Gathered::Impossible(why));
                    }
                }
                _ = look.tick() => {
                    if self.is_cancelled().await? {
                        return Ok(Gathered::Cancelled);
                    }
                    let silent = heard.elapsed() >= REISSUE_AFTER * 2_u32.pow(reissues);
                    if silent && reissues < REISSUES_MAX && !self.is_any_waiting().await? {
                        reissues += 1;
                        self.put_missing().await?;
                    }
                }
            }
            if self.brought.len() == groves && !self.sampled {
                self.sampled = true;
                self.audit_each();
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
        let outcome: Option<Outcome> = outcome
            .as_bytes()
            .and_then(|bytes| codec::decode(bytes, 1 << 16).ok());
        let (Some(index), Some(node), Some(outcome)) = (index, node.as_str(), outcome) else {
            return Ok(None);
        };
        let unknown = !self.kept.contains_key(&index) && !self.brought.contains_key(&index);
        if index >= self.request.spec.groves() || !unknown {
            return Ok(None);
        }
        let own = outcome.seal(&self.workers.key, self.request, index) == outcome.seal;
        let brought = Brought {
            node: node.to_owned(),
            own: own && node == self.workers.node,
            outcome,
        };
        let failed = brought.outcome.error.is_some();
        if failed && let Some(why) = self.workers.is_poison(self.request, index).await? {
            return Ok(Some(why));
        }
        let foreign = !brought.own;
        if let Some(ahead) = &self.ahead {
            ahead.take(index, &brought);
        }
        self.brought.insert(index, brought);
        self.state.done += 1;
        *self.state.nodes.entry(node.to_owned()).or_insert(0) += 1;
        // That a grove cannot be grown is believed only if it cannot be grown here.
        if failed || foreign && rand::rng().random_range(0..AUDIT_ONE_OF) == 0 {
            self.audit(index);
        }
        self.tell().await?;
        Ok(None)
    }

    /// Has a grove grown again of each node of which none is yet. Which one, nobody could know
    /// while groves were brought.
    fn audit_each(&mut self) {
        let mut of_node: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (index, brought) in self.brought.iter().filter(|(_, brought)| !brought.own) {
            of_node.entry(&brought.node).or_default().push(*index);
        }
        let unseen = |groves: &&Vec<u32>| groves.iter().all(|index| !self.chosen.contains(index));
        let one = |groves: &Vec<u32>| {
            let place = rand::rng().random_range(0..groves.len());
            groves.get(place).copied()
        };
        let chosen: Vec<u32> = of_node.values().filter(unseen).filter_map(one).collect();
        for index in chosen {
            self.audit(index);
        }
    }

    fn audit(&mut self, index: u32) {
        if !self.chosen.insert(index) {
            return;
        }
        let (workers, request) = (Arc::clone(self.workers), self.request.clone());
        let auditors = Arc::clone(&self.auditors);
        self.audits.spawn(async move {
            let turn = auditors.acquire().await;
            let _turn = turn.about("nothing is grown again any more")?;
            let grown = workers.grove(&request, index).await?;
            let hashes = grown.map(|grown| (hex(&grown.grove.hash()), grown.votes_hash()));
            Ok((index, hashes))
        });
    }

    /// Compares what a grove should be with what was brought. Whoever brought another, or other
    /// votes, is believed in nothing. A reason why it can be grown nowhere ends the job.
    async fn judge(
        &mut self,
        index: u32,
        truth: Result<(String, String), String>,
    ) -> Result<Option<String>, Fault> {
        self.state.audited += 1;
        let (hash, votes_hash) = match truth {
            Ok(hashes) => hashes,
            Err(why) => return Ok(Some(format!("grove {index} cannot be grown: {why}"))),
        };
        let Some(brought) = self.brought.get(&index) else {
            return Ok(None);
        };
        let outcome = &brought.outcome;
        let same_votes = outcome.votes_hash.is_empty() || outcome.votes_hash == votes_hash;
        if outcome.error.is_some() || outcome.hash != hash || !same_votes {
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
        self.tell().await?;
        Ok(None)
    }
}
