//! A forest grown by all nodes: what stands in the space of it, how it is asked for and followed.
//!
//! Whoever wants a forest puts the data there as a blob and one request. From then on nobody need
//! wait: a steward on some node takes the request under a lease and sees the job through (see
//! `steward`); if that node dies, the lease ends and another goes on. Workers on all nodes take
//! groves under leases as well (see `worker`). A grove is a pure function of data, specification
//! and index, so growing one twice does no harm.
//!
//! - `["job", NAME, GROWER, request]`: taken by a steward under a lease, gone when the job has
//!   ended;
//! - `["state NAME", {...}]`, mode single: how far it is, for whoever wants to know;
//! - `["grove", NAME, RUN, index, GROWER, task]`: a grove to grow, taken by a worker under a lease;
//! - `["NAME RUN begun INDEX", id, index, node]`: a worker began it, to see what kills all workers;
//! - `["NAME RUN grown", id, index, node, outcome]`: what came of it.
//!
//! GROWER is what is to grow the trees, [`ENGINE`] of who asked. Nodes take what they can grow, and
//! nothing else: in a mesh of two versions each job is grown by one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe::{Field, Kind, Template, Tuple, Value};
use cpe_forest::{Dataset, ENGINE, Forest, ForestSpec, Manifest, Score};
use cpe_tuple::codec;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::blob::{self, template, tuple};
use super::{WORKSPACE, model};
use crate::exit::{About, Fault};
use crate::remote::Space;

/// Variable of the requests.
pub(crate) const JOBS: &str = "job";

/// Variable of the groves to grow.
pub(crate) const GROVES: &str = "grove";

/// How often a job's state is looked at by who follows it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long it is waited for a steward to take up a job.
const BEGUN_WITHIN: Duration = Duration::from_secs(5);

/// How long a steward may take to say that it has begun before the job counts as waiting.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// How long a home may take to say how a job stands.
const HOME_WITHIN: Duration = Duration::from_secs(10);

/// How many of a job's stewards its state names.
pub(crate) const STEWARDS_MAX: usize = 16;

/// Groves that are taken back at once.
const DRAINED_AT_ONCE: usize = 32;

/// Bytes of an encoded request or task at most: its specification may name 256 classes.
const ASKED_BYTES_MAX: usize = 1 << 18;

/// What is asked for: all that decides the forest, and where the data lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Name of the job, and of the model it makes.
    pub(crate) name: String,
    /// Names what is asked for: the same data, settings and name give the same.
    pub(crate) id: String,
    /// Names this time of asking: the same may be asked for again, and what is left of the last
    /// time is none of this one's.
    pub(crate) run: String,
    /// What is to be grown.
    pub(crate) spec: ForestSpec,
    /// Bytes of the encoded data.
    pub(crate) data_bytes: usize,
    /// The data's hash, in hexadecimal: whoever has it need not read it again.
    pub(crate) data_hash: String,
    /// What is to grow the trees. Its groves are not those of another grower.
    #[serde(default)]
    pub(crate) grower: String,
}

impl Request {
    fn new(name: &str, data: &Dataset, data_bytes: usize, spec: &ForestSpec) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&spec.recipe(&data.hash()));
        hasher.update(&spec.trees.to_le_bytes());
        hasher.update(name.as_bytes());
        Self {
            name: name.to_owned(),
            id: hasher.finalize().to_hex().chars().take(16).collect(),
            run: format!("{:016x}", rand::rng().random::<u64>()),
            spec: spec.clone(),
            data_bytes,
            data_hash: hex(&data.hash()),
            grower: ENGINE.to_owned(),
        }
    }

    /// Holds a request to what this node can grow.
    ///
    /// # Errors
    /// What it lacks, for whoever asked.
    pub(crate) fn check_grower(&self) -> Result<(), String> {
        if self.grower == ENGINE {
            return Ok(());
        }
        Err(format!(
            "this node grows trees by `{ENGINE}`, the job is for `{}`: it takes a node of the \
             version that asked",
            self.grower
        ))
    }

    /// As it stands in the space.
    pub(crate) fn to_value(&self) -> Result<Value, Fault> {
        let bytes = codec::encode(self).about("cannot encode the request")?;
        Ok(Value::Bytes(bytes))
    }

    /// Reads a request back; `None` for what is none.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        codec::decode(value.as_bytes()?, ASKED_BYTES_MAX).ok()
    }

    /// Where the data lies.
    pub(crate) fn data_name(&self) -> String {
        format!("{} {} data", self.name, self.run)
    }

    /// Where a grove is put by a node.
    pub(crate) fn grove_name(&self, index: u32, node: &str) -> String {
        format!("{} {} grove {index} {node}", self.name, self.run)
    }

    /// Where a grove's out-of-bag votes are put by a node.
    pub(crate) fn votes_name(&self, index: u32, node: &str) -> String {
        format!("{} {} votes {index} {node}", self.name, self.run)
    }

    /// Variable of who began a grove.
    pub(crate) fn begun(&self, index: u32) -> String {
        format!("{} {} begun {index}", self.name, self.run)
    }

    /// Variable of what came of groves.
    pub(crate) fn grown(&self) -> String {
        format!("{} {} grown", self.name, self.run)
    }

    /// Variable of a wish that it end.
    pub(crate) fn cancel(&self) -> String {
        cancel_of(&self.name, &self.run)
    }
}

fn cancel_of(name: &str, run: &str) -> String {
    format!("{name} {run} cancel")
}

/// What came of a grove, at the node that grew it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Hash of the grove's bytes, in hexadecimal.
    pub(crate) hash: String,
    /// How many bytes.
    pub(crate) bytes: usize,
    /// Bytes of its out-of-bag votes.
    pub(crate) votes: usize,
    /// Why it cannot be grown, if so: the same everywhere.
    pub(crate) error: Option<String>,
    /// Hash of the bytes of its out-of-bag votes, in hexadecimal; empty of a node that did not say.
    #[serde(default)]
    pub(crate) votes_hash: String,
    /// By this the process that grew it knows its own; see [`Outcome::seal`].
    #[serde(default)]
    pub(crate) seal: String,
}

impl Outcome {
    /// That a grove cannot be grown.
    pub(crate) fn failed(error: String) -> Self {
        Self {
            hash: String::new(),
            bytes: 0,
            votes: 0,
            error: Some(error),
            votes_hash: String::new(),
            seal: String::new(),
        }
    }

    /// What only who knows `key` can write under this outcome: names of nodes are no proof, anyone
    /// may write one.
    pub(crate) fn seal(&self, key: &[u8; 32], request: &Request, index: u32) -> String {
        let mut hasher = blake3::Hasher::new_keyed(key);
        // Lengths first: no two outcomes are one text.
        for part in [&request.run, &request.id, &self.hash, &self.votes_hash] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(&index.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Groves are grown.
    #[default]
    Growing,
    /// The model is there.
    Done,
    /// It ended without one.
    Failed,
    /// Somebody wanted it to end.
    Cancelled,
}

/// What a steward tells of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Which request; see [`Request::id`].
    pub(crate) id: String,
    /// Which time of asking; see [`Request::run`].
    pub(crate) run: String,
    pub(crate) phase: Phase,
    /// Groves there are.
    pub(crate) done: u32,
    /// Groves there will be.
    pub(crate) groves: u32,
    /// Groves that the model of this name had already; they are done.
    pub(crate) kept: u32,
    /// Trees of the whole forest.
    pub(crate) trees: u32,
    /// Groves by node.
    pub(crate) nodes: BTreeMap<String, u32>,
    /// Groves that were grown again to see whether they are what they should be.
    pub(crate) audited: u32,
    /// Nodes whose groves were not; theirs were grown again.
    pub(crate) liars: Vec<String>,
    /// Nodes that have seen to it, one after the other: the last [`STEWARDS_MAX`].
    pub(crate) stewards: Vec<String>,
    /// Whether all groves were put into the space.
    pub(crate) issued: bool,
    /// Why it failed, or the forest's hash; while it is grown, why the last steward left it.
    pub(crate) said: String,
    /// How often a steward has begun with it.
    #[serde(default)]
    pub(crate) attempts: u32,
    /// Groves that have been put together, once all are there.
    #[serde(default)]
    pub(crate) assembled: u32,
}

impl State {
    /// How a job that has just been taken up stands.
    pub(crate) fn begun(request: &Request) -> Self {
        Self {
            id: request.id.clone(),
            run: request.run.clone(),
            groves: request.spec.groves(),
            trees: request.spec.trees,
            ..Self::default()
        }
    }

    /// Whether no steward has taken it up yet.
    pub(crate) fn waits(&self) -> bool {
        self.phase == Phase::Growing && self.stewards.is_empty()
    }

    fn variable(name: &str) -> String {
        format!("state {name}")
    }

    /// The job that a variable has the state of, if it is such a one.
    pub(crate) fn job(variable: &str) -> Option<&str> {
        variable.strip_prefix("state ")
    }

    /// Tells it to all nodes.
    pub(crate) async fn put(&self, space: &impl Space, name: &str) -> Result<(), Fault> {
        let bytes = codec::encode(self).about("cannot encode the state of the job")?;
        let fields = vec![Value::from(Self::variable(name)), Value::Bytes(bytes)];
        space.out(WORKSPACE, tuple(fields)?).await
    }

    /// What this node's replica knows of the job of this name.
    pub(crate) async fn get(
        space: &impl Space,
        name: &str,
        within: Duration,
    ) -> Result<Option<Self>, Fault> {
        let found = space.rd(WORKSPACE, Self::template(name)?, within).await?;
        Ok(found.as_ref().and_then(Self::of))
    }

    /// What the home of the job of this name knows: who takes it up goes on from there, and its
    /// own replica may lag.
    pub(crate) async fn at_home(space: &cpe::Space, name: &str) -> Result<Option<Self>, Fault> {
        let template = Self::template(name)?;
        let found = space.rdp(WORKSPACE, template, Some(HOME_WITHIN)).await;
        let found = found.map_err(|error| Fault::unavailable(error.to_string()))?;
        Ok(found.as_ref().and_then(Self::of))
    }

    fn template(name: &str) -> Result<Template, Fault> {
        template(vec![
            Field::Actual(Value::from(Self::variable(name))),
            Field::Typed(Kind::Bytes),
        ])
    }

    fn of(tuple: &Tuple) -> Option<Self> {
        let bytes = tuple.fields().get(1)?.as_bytes()?;
        codec::decode(bytes, ASKED_BYTES_MAX).ok()
    }
}

/// How far a job is, as it is told to a person.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Groves there are.
    pub(crate) done: u32,
    /// Groves there will be.
    pub(crate) groves: u32,
    /// Trees of the whole forest.
    pub(crate) trees: u32,
    /// Groves by node.
    pub(crate) nodes: BTreeMap<String, u32>,
}

impl Progress {
    fn of(state: &State) -> Self {
        Self {
            done: state.done,
            groves: state.groves,
            trees: state.trees,
            nodes: state.nodes.clone(),
        }
    }
}

/// What a job ends with.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The forest.
    pub(crate) forest: Forest,
    /// Its score on the training data, each row judged by trees that have not seen it.
    pub(crate) out_of_bag: Option<Score>,
    /// Who did what.
    pub(crate) progress: Progress,
}

/// Has a forest grown by the workers of all nodes, and waits for it. The model is kept by no name.
///
/// # Errors
/// When the data does not suit the specification, the space cannot be reached, or nothing comes
/// for `stall`.
pub(crate) async fn train(
    space: &impl Space,
    data: &Dataset,
    spec: &ForestSpec,
    stall: Duration,
    report: impl FnMut(&Progress),
) -> Result<Trained, Fault> {
    let name = nameless();
    let run = ask(space, &name, data, spec).await?;
    let trained = async {
        let state = follow(space, &name, Some(&run), stall, report).await?;
        let (forest, card) = model::get(space, &name, stall).await?;
        Ok(Trained {
            forest,
            out_of_bag: card.out_of_bag,
            progress: Progress::of(&state),
        })
    };
    let trained = trained.await;
    // Whatever came of it, nobody else knows the name.
    forget(space, &name).await;
    trained
}

/// A name for a job whose model nobody asks for by name.
pub(crate) fn nameless() -> String {
    format!("~{:016x}", rand::rng().random::<u64>())
}

/// Asks for a forest; it is grown whether anybody waits or not. Asking again for the same, while it
/// is grown, changes nothing. Gives the run that was asked for, once a steward has taken it up or
/// none has for a while.
///
/// # Errors
/// When the data does not suit the specification, a job of this name does something else, or the
/// space cannot be reached.
pub(crate) async fn ask(
    space: &impl Space,
    name: &str,
    data: &Dataset,
    spec: &ForestSpec,
) -> Result<String, Fault> {
    Manifest::new(data, spec).about("cannot grow this forest")?;
    let encoded = data.encode().about("cannot encode the data")?;
    let request = Request::new(name, data, encoded.len(), spec);
    let found = State::get(space, name, Duration::ZERO).await?;
    if let Some(state) = found.as_ref().filter(|state| state.phase == Phase::Growing) {
        if state.id == request.id {
            return Ok(state.run.clone());
        }
        return Err(
            Fault::failed(format!("a job `{name}` is growing another forest")).next(format!(
                "follow it with {}, end it with {}, or choose another name",
                hint("train --attach", name),
                hint("cancel", name)
            )),
        );
    }
    if found.is_none() {
        space
            .declare_single(WORKSPACE, &State::variable(name))
            .await?;
    }
    // First: if we die before the job is there as a whole, what there is of it has a name by which
    // it can be ended.
    let mut state = State::begun(&request);
    state.put(space, name).await?;
    let putting = async {
        blob::put(space, &request.data_name(), &encoded).await?;
        let fields = vec![
            Value::from(JOBS),
            Value::from(name),
            Value::from(request.grower.as_str()),
            request.to_value()?,
        ];
        space.out(WORKSPACE, tuple(fields)?).await
    };
    if let Err(fault) = putting.await {
        (state.phase, state.said) = (Phase::Failed, fault.to_string());
        let _ = state.put(space, name).await;
        clear(space, name, &state).await;
        return Err(fault);
    }
    let asked = tokio::time::Instant::now();
    while asked.elapsed() < BEGUN_WITHIN {
        let state = State::get(space, name, Duration::ZERO).await?;
        if state.is_some_and(|state| state.run == request.run && !state.waits()) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(request.run)
}

/// Follows a job to its end, whoever asked for it, and says how it ended. With a run, the last
/// state of an earlier job of that name does not count.
///
/// # Errors
/// When there is none, it fails, or nothing comes for `stall`: then it goes on all the same.
pub(crate) async fn follow(
    space: &impl Space,
    name: &str,
    run: Option<&str>,
    stall: Duration,
    mut report: impl FnMut(&Progress),
) -> Result<State, Fault> {
    let mut last = State::default();
    let mut heard = tokio::time::Instant::now();
    loop {
        let found = State::get(space, name, SEEN_WITHIN).await?;
        let own = |state: &State| run.is_none_or(|run| state.run == run);
        let state = match (found.filter(own), run) {
            (Some(state), _) => state,
            // No steward has taken it up.
            (None, Some(_)) => State::default(),
            (None, None) => {
                return Err(Fault::failed(format!("no job is called `{name}`"))
                    .next("`cpe forest train CSV --target COLUMN --out NAME` begins one"));
            }
        };
        if state != last {
            heard = tokio::time::Instant::now();
            report(&Progress::of(&state));
        }
        match state.phase {
            Phase::Growing => {}
            Phase::Done => return Ok(state),
            Phase::Failed => return Err(Fault::failed(format!("job `{name}`: {}", state.said))),
            Phase::Cancelled => return Err(Fault::failed(format!("job `{name}` was cancelled"))),
        }
        if heard.elapsed() > stall {
            if state.waits() {
                return Err(Fault::unavailable(format!(
                    "no node has taken up job `{name}` for {stall:?}"
                ))
                .next(format!(
                    "a node does when forest.workers > 0 and it is of the version that asked \
                     (`cpe --version`); if whoever asked was stopped before all data was there, \
                     {} ends it",
                    hint("cancel", name)
                )));
            }
            let (done, of) = (state.done, state.groves);
            return Err(Fault::unavailable(format!(
                "nothing came of job `{name}` for {stall:?}; {done} of {of} groves are grown"
            ))
            .next(format!(
                "it goes on: {} follows it; `cpe mesh peers` shows who is there; a node grows when \
                 forest.workers > 0 and it is of the version that asked (`cpe --version`)",
                hint("train --attach", name)
            )));
        }
        last = state;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Wishes that a job end; its steward sees to it.
///
/// # Errors
/// When there is no such job, or the space cannot be reached.
pub(crate) async fn cancel(space: &impl Space, name: &str) -> Result<(), Fault> {
    let waiting = template(vec![
        Field::Actual(Value::from(JOBS)),
        Field::Actual(Value::from(name)),
        Field::Typed(Kind::String),
        Field::Typed(Kind::Bytes),
    ])?;
    let waiting = space.take(WORKSPACE, waiting, Duration::ZERO).await?;
    if let Some(request) = waiting.as_ref().and_then(|it| it.fields().get(3)) {
        // Nobody is at it, so nobody would hear the wish: it is ended here.
        let state = State::get(space, name, Duration::ZERO).await?;
        if state.is_none() {
            space
                .declare_single(WORKSPACE, &State::variable(name))
                .await?;
        }
        let state = match Request::of(request) {
            Some(request) => state
                .filter(|state| state.run == request.run)
                .unwrap_or_else(|| State::begun(&request)),
            None => state.unwrap_or_default(),
        };
        return end(space, name, state).await;
    }
    let state = State::get(space, name, SEEN_WITHIN).await?;
    let Some(state) = state.filter(|state| state.phase == Phase::Growing) else {
        return Err(Fault::failed(format!(
            "no job `{name}` is growing a forest"
        )));
    };
    let fields = vec![
        Value::from(cancel_of(name, &state.run)),
        Value::from(state.id.as_str()),
    ];
    space.out(WORKSPACE, tuple(fields)?).await?;
    if !state.waits() {
        return Ok(());
    }
    // A steward has just taken it, or whoever asked never came to the request itself.
    let wished = tokio::time::Instant::now();
    while wished.elapsed() < BEGUN_WITHIN {
        let now = State::get(space, name, Duration::ZERO).await?;
        if now.is_some_and(|now| now.run != state.run || !now.waits()) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    end(space, name, state).await
}

async fn end(space: &impl Space, name: &str, mut state: State) -> Result<(), Fault> {
    state.phase = Phase::Cancelled;
    state.put(space, name).await?;
    clear(space, name, &state).await;
    Ok(())
}

/// Leaves nothing of a run of a job that has ended but its last state, and the model if it made
/// one. What cannot be deleted only takes room.
pub(crate) async fn clear(space: &impl Space, name: &str, state: &State) {
    if state.phase != Phase::Done {
        drain(space, name, state).await;
    }
    // What nodes put there that died before they could say so, too. The replica that is asked may
    // lag, so what every run has is not looked for.
    let own = format!("{name} {} ", state.run);
    let known = space.variables(WORKSPACE).await.unwrap_or_default();
    let known = known.into_iter().filter(|known| known.starts_with(&own));
    let always = ["data", "grown", "cancel"].map(|what| format!("{own}{what}"));
    let all: BTreeSet<String> = known.chain(always).collect();
    for variable in &all {
        let _ = space.delete(WORKSPACE, variable).await;
    }
}

/// Takes back the groves of a run that nobody has begun, lest the next job wait behind them. That
/// may be the same job once more, which has begun meanwhile.
async fn drain(space: &impl Space, name: &str, state: &State) {
    let waiting = template(vec![
        Field::Actual(Value::from(GROVES)),
        Field::Actual(Value::from(name)),
        Field::Actual(Value::from(state.run.as_str())),
        Field::Typed(Kind::Int),
        Field::Typed(Kind::String),
        Field::Typed(Kind::Bytes),
    ]);
    let Ok(waiting) = waiting else { return };
    let taking = (0..DRAINED_AT_ONCE).map(|_| async {
        let take = || space.take(WORKSPACE, waiting.clone(), Duration::ZERO);
        while let Ok(Some(_)) = take().await {}
    });
    futures::future::join_all(taking).await;
}

/// A command about a job as a shell takes it, whatever the job is called.
pub(crate) fn hint(command: &str, name: &str) -> String {
    format!("`cpe forest {command} {}`", quoted(name))
}

/// A text as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "-_.,/:@%+=".contains(sign);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Removes a model and a job's last state. What cannot be deleted now only takes room.
pub(crate) async fn forget(space: &impl Space, name: &str) {
    let _ = model::delete(space, name).await;
    let _ = space.delete(WORKSPACE, &State::variable(name)).await;
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_of_one_outcome_and_one_process() {
        let data = Dataset::breast_cancer();
        let request = Request::new("j", &data, 17, &ForestSpec::classify());
        let outcome = Outcome {
            hash: "ab".to_owned(),
            votes_hash: "cd".to_owned(),
            ..Outcome::failed(String::new())
        };
        let key = [7; 32];
        let seal = outcome.seal(&key, &request, 3);
        assert_eq!(seal, outcome.seal(&key, &request, 3));
        let other_hash = Outcome {
            hash: "abc".to_owned(),
            votes_hash: "d".to_owned(),
            ..outcome.clone()
        };
        let other_run = Request::new("j", &data, 17, &ForestSpec::classify());
        for other in [
            outcome.seal(&[8; 32], &request, 3),
            outcome.seal(&key, &request, 4),
            outcome.seal(&key, &other_run, 3),
            other_hash.seal(&key, &request, 3),
        ] {
            assert_ne!(other, seal);
        }
        // As an older node wrote it, without the hash of its votes: nobody's.
        let old = Outcome::failed(String::new());
        assert_ne!(old.seal(&key, &request, 3), old.seal);
    }

    #[test]
    fn a_hint_is_one_word_to_a_shell() {
        assert_eq!(hint("cancel", "kinds"), "`cpe forest cancel kinds`");
        assert_eq!(hint("cancel", "my kinds"), "`cpe forest cancel 'my kinds'`");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_named_by_what_it_asks() {
        let data = Dataset::breast_cancer();
        let spec = ForestSpec::classify();
        let request = Request::new("j", &data, 17, &spec);
        assert_eq!(
            Request::of(&request.to_value().unwrap()),
            Some(request.clone())
        );
        assert_eq!(Request::of(&Value::Bytes(vec![1, 2])), None);
        assert_eq!(Request::of(&Value::Null), None);
        request.check_grower().unwrap();
        let foreign = Request {
            grower: "cpe exact 9".to_owned(),
            ..request.clone()
        };
        let refused = foreign.check_grower().unwrap_err();
        assert!(
            refused.contains("the job is for `cpe exact 9`"),
            "{refused}"
        );
        assert_eq!(Request::new("j", &data, 17, &spec).id, request.id);
        for other in [
            Request::new("k", &data, 17, &spec),
            Request::new("j", &data, 17, &spec.clone().with_trees(99)),
            Request::new("j", &data, 17, &spec.clone().with_seed(1)),
            Request::new("j", &data.select(&[0, 1, 2, 300]), 17, &spec),
        ] {
            assert_ne!(other.id, request.id);
        }
    }
}
