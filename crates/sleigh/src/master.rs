//! The side that has elements and wants results.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cpe_tuple::{Template, Tuple, Value};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::Instant;

use crate::job::{ELEMENTS_MAX, Job, JobError, OnError};
use crate::ledger::{Ledger, Settled};
use crate::port::TaskSpace;
use crate::wire::{Outcome, Report, Task, size};

/// How long one wait for a result lasts, before looking at what is overdue.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to rest when the space cannot be reached.
const REST: Duration = Duration::from_millis(250);

/// Results that an earlier life of a job left, taken up at most.
const LEFT_MAX: usize = 1 << 20;

/// Task ids of one life of a master: a later one begins so much higher, at a place of its own.
const LIFE_BITS: u32 = 40;

/// An element that has its outcome, as it is told while the job runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// Position of the element.
    pub index: usize,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// Who brought it; empty when nobody did.
    pub node: &'a str,
    /// How long it took there.
    pub took: Duration,
    /// Elements that have an outcome now.
    pub done: usize,
    /// All elements.
    pub of: usize,
}

/// An element with its outcome.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Done {
    /// Position of the element.
    pub index: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// Who brought it; empty when nobody did.
    pub node: String,
    /// How long it took there.
    pub took: Duration,
    /// How often it was tried.
    pub tries: u32,
}

impl From<Settled> for Done {
    fn from(settled: Settled) -> Self {
        Self {
            index: settled.index,
            outcome: settled.outcome,
            node: settled.node,
            took: settled.took,
            tries: settled.tries,
        }
    }
}

/// How a map stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// Elements that have come.
    pub offered: usize,
    /// Whether all have.
    pub complete: bool,
    /// Elements with an outcome.
    pub done: usize,
    /// Elements a worker has begun and not ended.
    pub running: usize,
    /// Workers heard of.
    pub workers: usize,
    /// Elements that were cancelled before any worker began them, as far as told. After
    /// [`Imap::clean`] those of `offered` that are neither done nor cancelled were ended while a
    /// worker was at them.
    pub cancelled: usize,
}

/// Ends a map before its end. Cheap to clone; works from any thread.
#[derive(Clone, Debug, Default)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// Lets nothing more be begun: what no worker has is withdrawn, what runs comes to its end. A
    /// worker gives back what it has not begun of its task within a second.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Has a function applied to each element by the workers of a kind, and gives the outcomes in
/// order. `arrived` is called once for each element, in the order the outcomes come.
///
/// All elements and outcomes are kept in memory; [`imap`] keeps only what is under way. At the end
/// no task is left in the space; a result of a worker that was given up may be.
///
/// # Errors
/// [`JobError`].
///
/// # Cancel safety
/// Dropped before it is ready, the tasks under way stay in the space, and their results too: the
/// same job, begun again, takes them up.
pub async fn each_elem<S: TaskSpace>(
    space: &S,
    job: &Job,
    elements: Vec<Value>,
    mut arrived: impl FnMut(Arrival<'_>),
) -> Result<Vec<Outcome>, JobError> {
    let of = elements.len();
    if of > ELEMENTS_MAX {
        return Err(JobError::Setting {
            setting: "number of elements",
            given: of,
            max: ELEMENTS_MAX,
        });
    }
    let mut outcomes: Vec<Option<Outcome>> = vec![None; of];
    let mut map = imap(space, job.clone(), futures::stream::iter(elements)).unordered();
    let mut done = 0;
    let mut gather = async || -> Result<(), JobError> {
        while let Some(next) = map.next().await? {
            done += 1;
            arrived(Arrival {
                index: next.index,
                outcome: &next.outcome,
                node: &next.node,
                took: next.took,
                done,
                of,
            });
            if let Some(place) = outcomes.get_mut(next.index) {
                *place = Some(next.outcome);
            }
        }
        Ok(())
    };
    let ended = gather().await;
    map.clean().await;
    ended.map(|()| outcomes.into_iter().flatten().collect())
}

/// Has a function applied to each element of a stream by the workers of a kind: lazily, with
/// elements taken from the stream as workers get through them, and in memory only what is under
/// way.
pub fn imap<S: TaskSpace, I: Stream<Item = Value> + Unpin>(
    space: &S,
    job: Job,
    elements: I,
) -> Imap<'_, S, I> {
    Imap {
        space,
        // A place of its own, so that what an earlier life put there is not taken for this one's.
        ledger: Ledger::new(&job, rand_start() << LIFE_BITS >> 1),
        job,
        source: Some(elements),
        ordered: true,
        begun: None,
        taken_up: false,
        heard: Instant::now(),
        why: None,
        ready: VecDeque::new(),
        ahead: BTreeMap::new(),
        ahead_bytes: 0,
        next: 0,
        stopper: Stopper::default(),
        cancelled: 0,
        withdrawn: false,
        moving: None,
        variable: None,
        taking: Mutex::new(None),
        kept_bytes: 0,
        unkept: VecDeque::new(),
    }
}

/// A small number that differs from one life of a master to the next.
fn rand_start() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish() & 0x003f_ffff
}

/// A map over a stream that is under way; see [`imap`].
pub struct Imap<'a, S: TaskSpace, I> {
    pub(crate) space: &'a S,
    pub(crate) job: Job,
    pub(crate) ledger: Ledger,
    /// None once all elements have come.
    source: Option<I>,
    ordered: bool,
    /// When it began; none before the first [`next`](Self::next).
    begun: Option<Instant>,
    /// Whether what an earlier life left has been taken up.
    taken_up: bool,
    /// When a worker was heard of last.
    heard: Instant,
    /// The last thing that went wrong with the space.
    why: Option<String>,
    /// Outcomes to be given out.
    ready: VecDeque<Done>,
    /// Outcomes that came before their turn.
    ahead: BTreeMap<usize, Done>,
    /// Bytes they have, about.
    ahead_bytes: usize,
    /// Index of the next outcome in order.
    next: usize,
    stopper: Stopper,
    cancelled: usize,
    withdrawn: bool,
    /// The task that is being put into the space or taken back. When the future that does it is
    /// dropped, it may be neither there nor with a worker.
    moving: Option<u64>,
    variable: Option<String>,
    /// The take of a result that is under way: dropped in the midst of it, it could lose one.
    /// Behind a lock only to be shared; nothing is awaited under it.
    taking: Mutex<Option<Taking<'a, S::Error>>>,
    /// Bytes of the results that stay in the space.
    pub(crate) kept_bytes: usize,
    /// Results that are to stay there, and do not stand there yet.
    pub(crate) unkept: VecDeque<Report>,
}

/// A take that is under way.
type Taking<'a, E> = BoxFuture<'a, Result<Option<Tuple>, E>>;

/// What a master waits for.
enum Heard<E> {
    Element(Option<Value>),
    Taken(Result<Option<Tuple>, E>),
}

impl<S: TaskSpace + std::fmt::Debug, I> std::fmt::Debug for Imap<'_, S, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imap")
            .field("job", &self.job)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

impl<S: TaskSpace, I: Stream<Item = Value> + Unpin> Imap<'_, S, I> {
    /// Gives outcomes as they come instead of in the order of the elements.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// Puts the tasks where only this worker takes them.
    #[must_use]
    pub(crate) fn only(mut self, worker: &str) -> Self {
        self.variable = Some(Task::variable(&self.job.kind, Some(worker)));
        self
    }

    /// What ends it before its end.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            offered: self.ledger.offered(),
            complete: self.source.is_none(),
            done: self.ledger.done(),
            running: self.ledger.running(),
            workers: self.ledger.workers(),
            cancelled: self.cancelled,
        }
    }

    /// The next outcome; none when there will be no more. Give up with [`clean`](Self::clean).
    ///
    /// # Errors
    /// [`JobError`].
    ///
    /// # Cancel safety
    /// No outcome is lost when the future is dropped. A task that was being put into the space may
    /// be put there later.
    pub async fn next(&mut self) -> Result<Option<Done>, JobError> {
        if self.begun.is_none() {
            self.job.check()?;
            self.begun = Some(Instant::now());
            self.heard = Instant::now();
        }
        if !self.taken_up {
            self.take_up().await?;
            self.taken_up = true;
        }
        self.put_noted().await?;
        loop {
            if let Some(done) = self.ready.pop_front() {
                if let (Err(reason), OnError::Stop) = (&done.outcome, self.job.on_error) {
                    return Err(JobError::Failed {
                        index: done.index,
                        tries: done.tries,
                        node: done.node.clone(),
                        reason: reason.clone(),
                    });
                }
                return Ok(Some(done));
            }
            if self.stopper.is_stopped() && !self.withdrawn {
                self.withdraw_all().await;
            }
            self.draw();
            if self.source.is_none() && self.ledger.is_idle() && self.ready.is_empty() {
                // What was cancelled leaves holes that nothing fills.
                self.ready
                    .extend(std::mem::take(&mut self.ahead).into_values());
                if self.ready.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            self.put_all().await?;
            if self.ready.is_empty() {
                self.hear().await?;
            }
        }
    }

    fn now(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    fn tasks(&self) -> String {
        let shared = || Task::variable(&self.job.kind, None);
        self.variable.clone().unwrap_or_else(shared)
    }

    fn results(&self) -> Result<Template, JobError> {
        Report::any(&self.job.id).map_err(|source| JobError::Names { source })
    }

    /// Takes up what an earlier life of this job left: results are kept for their elements, tasks
    /// that nobody has begun are made anew.
    async fn take_up(&mut self) -> Result<(), JobError> {
        if self.job.keep_bytes > 0 {
            self.take_up_kept().await?;
        }
        let results = self.results()?;
        let waiting = Task::waiting(&self.tasks(), &self.job.id, None);
        let waiting = waiting.map_err(|source| JobError::Names { source })?;
        for (template, is_result) in [(waiting, false), (results, true)] {
            for _ in 0..LEFT_MAX {
                let taken = self.space.try_take(&self.job.workspace, template.clone());
                match taken.await {
                    Ok(None) => break,
                    Ok(Some(tuple)) if is_result => {
                        if let Some(report) = Report::of(&tuple) {
                            self.keep(&report);
                            self.ledger.remember(report);
                            self.put_noted().await?;
                        }
                    }
                    Ok(Some(_)) => {}
                    Err(error) => {
                        self.trouble(error).await;
                        self.left()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes elements that are there without waiting, as far as there is room for them.
    fn draw(&mut self) {
        while self.wants() {
            let Some(source) = &mut self.source else {
                return;
            };
            match source.next().now_or_never() {
                Some(Some(value)) => self.offer(value),
                Some(None) => self.source = None,
                None => return,
            }
        }
    }

    fn wants(&self) -> bool {
        let ahead = self.ledger.offered().saturating_sub(self.next);
        let small = self.ahead_bytes < self.job.look_ahead_bytes;
        let near = !self.ordered || (ahead < self.job.look_ahead && small);
        near && self.source.is_some() && self.ledger.room() && self.ready.len() < self.job.open_max
    }

    fn offer(&mut self, value: Value) {
        if let Some(settled) = self.ledger.offer(value) {
            self.settle(vec![settled]);
        }
    }

    fn settle(&mut self, settled: Vec<Settled>) {
        for settled in settled {
            if self.ordered {
                self.ahead_bytes += size(&settled.outcome);
                self.ahead.insert(settled.index, settled.into());
            } else {
                self.ready.push_back(settled.into());
            }
        }
        while let Some(done) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.ahead_bytes -= size(&done.outcome);
            self.ready.push_back(done);
        }
    }

    async fn put_all(&mut self) -> Result<(), JobError> {
        while let Some(task) = self.ledger.issue(self.now(), self.source.is_none()) {
            self.put(&task).await?;
            self.draw();
        }
        Ok(())
    }

    /// Waits for something: a result, an element, or the time to look at what is overdue.
    async fn hear(&mut self) -> Result<(), JobError> {
        let results = self.results()?;
        let within = LOOK_EVERY.min(self.left()?);
        let wants = self.wants();
        let (space, workspace) = (self.space, self.job.workspace.clone());
        let under_way = self.taking.get_mut();
        let under_way = under_way.unwrap_or_else(PoisonError::into_inner);
        let taking = under_way.get_or_insert_with(|| {
            async move { space.take(&workspace, results, within).await }.boxed()
        });
        let source = &mut self.source;
        let arriving = async {
            match source {
                Some(source) if wants => source.next().await,
                _ => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            biased;
            element = arriving => Heard::Element(element),
            taken = taking => Heard::Taken(taken),
        };
        if matches!(heard, Heard::Taken(_)) {
            *under_way = None;
        }
        match heard {
            Heard::Element(Some(value)) => {
                // Whoever waits for elements is not waited for in vain.
                self.heard = Instant::now();
                self.offer(value);
            }
            Heard::Element(None) => self.source = None,
            Heard::Taken(Ok(Some(tuple))) => {
                if let Some(report) = Report::of(&tuple) {
                    self.heard = Instant::now();
                    self.keep(&report);
                    let settled = self.ledger.accept(report, self.now());
                    self.settle(settled);
                    self.put_noted().await?;
                    if self.withdrawn {
                        // What a worker gave back is not begun again.
                        self.cancelled += self.ledger.cancel_fresh();
                    }
                }
            }
            Heard::Taken(Ok(None)) => {}
            Heard::Taken(Err(error)) => self.trouble(error).await,
        }
        if self.ledger.is_idle() {
            // Nobody has anything to say while there is nothing to do.
            self.heard = Instant::now();
        }
        for id in self.ledger.overdue(self.now()) {
            self.look_after(id).await?;
        }
        Ok(())
    }

    /// Puts a task into the space, however long that takes.
    async fn put(&mut self, task: &Task) -> Result<(), JobError> {
        let tuple = match task.to_tuple(&self.tasks()) {
            Ok(tuple) => tuple,
            Err(why) => {
                let settled = self.ledger.refuse(task.id, &why);
                self.settle(settled);
                return Ok(());
            }
        };
        loop {
            let left = self.left()?;
            let put = self.space.out(&self.job.workspace, tuple.clone());
            self.moving = Some(task.id);
            let put = tokio::time::timeout(left, put).await;
            self.moving = None;
            match put {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => self.trouble(error).await,
                // Nothing was heard for as long as the job waits at all.
                Err(_) => {}
            }
        }
    }

    /// Sees to a task of which nothing was heard for long, or that was begun too often.
    async fn look_after(&mut self, id: u64) -> Result<(), JobError> {
        let poison = self.ledger.is_poison(id);
        let removed = if poison {
            self.remove(id).await
        } else {
            self.withdraw(id).await
        };
        match removed {
            // Nobody has it, and nobody had: back it goes, as if nothing had been.
            Ok(true) if !poison => {
                self.ledger.waits(id, self.now());
                if let Some(task) = self.ledger.task(id) {
                    self.put(&task).await?;
                }
            }
            // Between two workers: it is begun again, or there to be taken at the next look.
            Ok(false) if poison && self.ledger.silent_for(id, self.now()) < self.job.patience => {}
            Ok(_) => {
                tracing::debug!(job = self.job.id, task = id, "no result came of a task");
                let (again, settled) = self.ledger.lost(id, self.now());
                self.settle(settled);
                if let Some(task) = again {
                    self.put(&task).await?;
                }
            }
            Err(error) => self.trouble(error).await,
        }
        Ok(())
    }

    /// Removes a task from under its worker, which notices and stops, or from the space; false when
    /// neither was there.
    async fn remove(&self, id: u64) -> Result<bool, S::Error> {
        let lease = self.ledger.lease(id).and_then(|lease| lease.parse().ok());
        if let Some(lease) = lease
            && self.space.commit(&lease).await?
        {
            return Ok(true);
        }
        self.withdraw(id).await
    }

    /// Takes a task back; false when somebody else has it.
    async fn withdraw(&self, id: u64) -> Result<bool, S::Error> {
        let waiting = Task::waiting(&self.tasks(), &self.job.id, Some(id));
        let Ok(waiting) = waiting else {
            return Ok(false);
        };
        let taken = self.space.try_take(&self.job.workspace, waiting).await?;
        Ok(taken.is_some())
    }

    /// Takes back all that no worker has.
    async fn withdraw_all(&mut self) {
        self.withdrawn = true;
        self.source = None;
        self.cancelled += self.ledger.cancel_fresh() + self.ledger.cancel_again();
        for id in self.ledger.open() {
            self.moving = Some(id);
            let taken = self.withdraw(id).await;
            self.moving = None;
            match taken {
                Ok(true) => self.cancelled += self.ledger.cancel(id),
                Ok(false) => {}
                Err(error) => return self.trouble(error).await,
            }
        }
    }

    /// Keeps in mind what went wrong with the space, and gives it time.
    pub(crate) async fn trouble(&mut self, error: S::Error) {
        tracing::debug!(job = self.job.id, %error, "the space cannot be reached");
        self.why = Some(error.to_string());
        tokio::time::sleep(REST).await;
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Result<Duration, JobError> {
        let (done, of) = (self.ledger.done(), self.ledger.offered());
        if self.heard.elapsed() > self.job.stall {
            return Err(JobError::Stalled {
                done,
                of,
                within: self.job.stall,
                why: self.why.clone(),
            });
        }
        let stall = self.job.stall.saturating_sub(self.heard.elapsed());
        let left = self.job.deadline.saturating_sub(self.now());
        if left.is_zero() {
            return Err(JobError::Deadline {
                done,
                of,
                within: self.job.deadline,
                why: self.why.clone(),
            });
        }
        Ok(left.min(stall.max(REST)))
    }

    /// Leaves nothing of the job in the space, as far as it can be reached. What a worker still
    /// runs is stopped within seconds. What has an outcome and was not given out yet is in
    /// [`rest`](Self::rest) then.
    pub async fn clean(&mut self) {
        self.cancelled += self.ledger.cancel_fresh() + self.ledger.cancel_again();
        let reached = self.settle_what_came().await;
        let open = if reached {
            self.ledger.open()
        } else {
            Vec::new()
        };
        for id in open {
            match self.give_up(id).await {
                Ok(begun) => {
                    // A worker does one after the other.
                    let all = self.ledger.cancel(id);
                    self.cancelled += all.saturating_sub(usize::from(begun));
                }
                // The others would fail as slowly.
                Err(_) => break,
            }
        }
        let results = Report::variable(&self.job.id);
        let _ = self.space.delete(&self.job.workspace, &results).await;
        if self.job.keep_bytes > 0 {
            self.drop_kept().await;
        }
    }

    /// The outcomes that came and were not given out: those that waited for their turn, after a map
    /// was given up.
    pub fn rest(&mut self) -> impl Iterator<Item = Done> + use<S, I> {
        let ready = std::mem::take(&mut self.ready);
        let ahead = std::mem::take(&mut self.ahead).into_values();
        self.ahead_bytes = 0;
        ready.into_iter().chain(ahead)
    }

    /// Takes down what workers have told by now; false if the space cannot be reached.
    async fn settle_what_came(&mut self) -> bool {
        let under_way = self.taking.get_mut();
        let under_way = under_way.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(taking) = under_way {
            // Dropped, it could lose a result.
            if let Ok(Ok(Some(tuple))) = tokio::time::timeout(2 * LOOK_EVERY, taking).await {
                self.take_down(&tuple);
            }
        }
        for _ in 0..LEFT_MAX {
            if self.ledger.is_idle() {
                break;
            }
            let Ok(results) = self.results() else { break };
            match self.space.try_take(&self.job.workspace, results).await {
                Ok(Some(tuple)) => self.take_down(&tuple),
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        true
    }

    fn take_down(&mut self, tuple: &Tuple) {
        if let Some(report) = Report::of(tuple) {
            let settled = self.ledger.accept(report, self.now());
            self.settle(settled);
            self.cancelled += self.ledger.cancel_fresh() + self.ledger.cancel_again();
        }
    }

    /// Takes a task from whoever has it; true if that was a worker.
    async fn give_up(&self, id: u64) -> Result<bool, S::Error> {
        if self.withdraw(id).await? {
            return Ok(false);
        }
        let begun = self.ledger.lease(id).is_some();
        self.remove(id).await?;
        Ok(begun || self.moving != Some(id))
    }
}
