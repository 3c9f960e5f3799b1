//! The part of a node that works for the jobs of `cpe map` it may work for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cpe::{Field, Kind, Mode, Template, Value};
use cpe_sleigh::Worker;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::function::Functions;
use super::kept::{self, Kept, Used};
use super::program::{self, Limits, Ran};
use super::sign::{self, Sign, Silence};
use super::{Offer, SEND_WITHIN, Sent, WORKSPACE, line_of, to_note};

/// Jobs a node works for at once.
const JOBS_MAX: usize = 64;

/// How often it is looked whether a job is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a file may take to come: as long as whoever sends it may take.
const FILE_WITHIN: Duration = SEND_WITHIN;

/// How long to rest after a fault of the space.
const REST: Duration = Duration::from_secs(1);

/// How long one operation on the space may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long until a node that could not make ready for a job tries again, at first and at most.
const PREPARE_AGAIN: Duration = Duration::from_secs(5);
const PREPARE_AGAIN_MAX: Duration = Duration::from_secs(300);

/// What a node's configuration says of running commands for others.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Programs, or calls of functions, at once.
    pub(crate) slots: usize,
    /// How long nobody may be at a job before it counts as left by whoever asked.
    pub(crate) orphaned: Duration,
    /// Limits of each; the folder is the one below which each job has its own.
    pub(crate) limits: Limits,
}

/// What the jobs of a node share.
#[derive(Debug)]
struct Host {
    space: cpe::Space,
    node: String,
    capabilities: BTreeMap<String, String>,
    terms: Terms,
    /// Files that jobs have sent.
    kept: Kept,
    /// As many permits as programs at once.
    room: Semaphore,
    serving: Mutex<Serving>,
    /// Told when there is room for a job that was turned away.
    freed: Notify,
}

/// Jobs that are worked for, by the kinds of their tasks.
#[derive(Debug, Default)]
struct Serving {
    jobs: BTreeSet<String>,
    /// Whether one was not, since they were too many.
    turned_away: bool,
}

/// Works for jobs until `stop`. `capabilities` are the node's own, its programs among them.
pub(crate) fn start(
    space: cpe::Space,
    node: String,
    capabilities: BTreeMap<String, String>,
    terms: Terms,
    stop: &CancellationToken,
) {
    let host = Arc::new(Host {
        space,
        node,
        capabilities,
        room: Semaphore::new(terms.slots),
        kept: Kept::new(terms.limits.folder.join("files")),
        terms,
        serving: Mutex::default(),
        freed: Notify::new(),
    });
    host.tidy();
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = host.look_for_jobs(&stop) => {}
        }
    });
}

/// How the lines of a job are worked on.
#[derive(Clone, Copy)]
enum Way<'a> {
    Program {
        offer: &'a Offer,
        limits: &'a Limits,
    },
    Function(&'a Functions),
}

impl Host {
    async fn look_for_jobs(self: &Arc<Self>, stop: &CancellationToken) {
        let Ok(any) = Offer::template(None) else {
            return;
        };
        loop {
            match self.space.watch(WORKSPACE, any.clone()).await {
                Ok(mut watch) => {
                    loop {
                        let tuple = tokio::select! {
                            tuple = watch.next() => tuple,
                            // There is room for those that were turned away: from the beginning.
                            () = self.freed.notified() => break,
                        };
                        match tuple.as_ref().map(Offer::of) {
                            Some(Some(offer)) => self.consider(offer, stop).await,
                            Some(None) => {
                                tracing::warn!("an offer of a job that is none is left alone");
                            }
                            None => break,
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "no jobs can be had"),
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn consider(self: &Arc<Self>, offer: Offer, stop: &CancellationToken) {
        let job = offer.job.clone();
        if let Some(lacking) = offer.lacks(&self.capabilities) {
            tracing::debug!(job, lacking, "a job is left to other nodes");
            return;
        }
        let tasks = offer.tasks();
        let mut serving = self.serving.lock().await;
        if serving.jobs.contains(&tasks) {
            // Perhaps it is just ending, and this is the next of the same.
            serving.turned_away = true;
            return;
        }
        if serving.jobs.len() >= JOBS_MAX {
            serving.turned_away = true;
            drop(serving);
            let why = format!("it works for {JOBS_MAX} jobs already, and comes when one ends");
            return self.note(&offer, &why).await;
        }
        serving.jobs.insert(tasks.clone());
        let (host, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = host.serve(&offer) => {}
            }
            let mut serving = host.serving.lock().await;
            serving.jobs.remove(&tasks);
            if std::mem::take(&mut serving.turned_away) {
                host.freed.notify_one();
            }
        });
    }

    /// Works for a job until it is over.
    async fn serve(&self, offer: &Offer) {
        let job = &offer.job;
        let at_work = AtWork::default();
        let above = self.jobs().join(offer.hash());
        let folder = above.join(job);
        tokio::select! {
            // Dropping the workers ends the programs they run.
            () = self.work(offer, &folder, &at_work) => {}
            () = self.until_over(offer, &at_work) => {}
        }
        if offer.function.is_none()
            && let Err(error) = fs::remove_dir_all(&above)
        {
            tracing::debug!(job, %error, "the folder of a job cannot be removed");
        }
    }

    /// Has no end.
    async fn work(&self, offer: &Offer, folder: &Path, at_work: &AtWork) {
        let job = &offer.job;
        let mut rest = PREPARE_AGAIN;
        while offer.function.is_none()
            && let Err(why) = self.prepare(offer, folder).await
        {
            tracing::warn!(job, why, "a job cannot be worked for");
            self.note(offer, &why).await;
            tokio::time::sleep(rest).await;
            rest = rest.saturating_mul(2).min(PREPARE_AGAIN_MAX);
        }
        tracing::info!(job, program = offer.program, "works for a job");
        let mut limits = self.terms.limits.clone();
        folder.clone_into(&mut limits.folder);
        let asked = offer.within_ms.map(Duration::from_millis);
        limits.within = asked.map_or(limits.within, |asked| asked.min(limits.within));
        let functions = offer
            .function
            .as_ref()
            .map(|function| Functions::new(function, limits.within, limits.memory));
        let limits = &limits;
        let way = functions
            .as_ref()
            .map_or(Way::Program { offer, limits }, Way::Function);
        let work = |value: Value| self.run(way, at_work, value);
        let workers = (0..self.terms.slots).map(|slot| {
            let name = format!("{}.{slot}", self.node);
            Worker::new(self.space.clone(), WORKSPACE, offer.tasks(), name)
                .ranked(slot, self.terms.slots)
        });
        let workers: Vec<_> = workers.collect();
        futures::future::join_all(workers.iter().map(|worker| worker.run(&work))).await;
    }

    async fn run(&self, way: Way<'_>, at_work: &AtWork, value: Value) -> Result<Value, String> {
        let (number, line) = line_of(&value).ok_or("this is no line to run a command for")?;
        // A task that waits for room, behind those of other jobs, is one that somebody has.
        let _busy = at_work.busy();
        // Closed never: it lives as long as the node works.
        let _room = self
            .room
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let ran = match way {
            Way::Function(functions) => functions.call(line).await,
            Way::Program { offer, limits } => {
                let args = offer.args_for(line, number);
                let input = offer.stdin.then_some(line);
                program::run(&offer.program, &args, input, limits).await
            }
        };
        Ok(Ran::to_value(&ran))
    }

    /// Ends when the job's offer is gone, or nobody has been at it for long, here or elsewhere:
    /// then whoever asked has left, and what remains of the job is removed.
    async fn until_over(&self, offer: &Offer, at_work: &AtWork) {
        let job = &offer.job;
        let (Ok(offers), Ok(signs)) = (Offer::template(Some(job)), Sign::template(job)) else {
            return;
        };
        let began = Instant::now();
        let mut own = Sign::of_node(&self.node);
        let mut silence = Silence::new(Duration::ZERO);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.space.rdp(WORKSPACE, offers.clone(), None).await {
                Ok(Some(tuple)) if Offer::of(&tuple).as_ref() == Some(offer) => {}
                Ok(_) => return,
                Err(error) => tracing::debug!(job, %error, "cannot look whether a job is over"),
            }
            let silent = match self.space.rdp(WORKSPACE, signs.clone(), None).await {
                Ok(seen) => silence.look(seen.as_ref().and_then(Sign::of), began.elapsed()),
                Err(_) => {
                    silence.blind(began.elapsed());
                    continue;
                }
            };
            if at_work.is_busy() {
                if silent > sign::GONE_AFTER.min(self.terms.orphaned / 2) {
                    self.sign(job, &mut own).await;
                }
            } else if silent > self.terms.orphaned {
                // What this node's replica shows may be old.
                let fresh = self.space.rdp(WORKSPACE, signs.clone(), Some(PATIENCE));
                let Ok(seen) = fresh.await else {
                    silence.blind(began.elapsed());
                    continue;
                };
                let seen = seen.as_ref().and_then(Sign::of);
                if silence.look(seen, began.elapsed()) > self.terms.orphaned {
                    return self.remove(offer, offers).await;
                }
            }
        }
    }

    /// Says that somebody is at a job.
    async fn sign(&self, job: &str, own: &mut Sign) {
        own.next();
        let variable = Value::from(Sign::variable(job));
        let single = self
            .space
            .declare(WORKSPACE, variable, Mode::Single, PATIENCE);
        if let (Ok(()), Ok(tuple)) = (single.await, own.to_tuple(job)) {
            let _ = self.space.out(WORKSPACE, tuple).await;
        }
    }

    /// Removes all that is left of a job.
    async fn remove(&self, offer: &Offer, template: Template) {
        let job = &offer.job;
        tracing::info!(job, "nobody is at a job any more; it is removed");
        let _ = self.space.try_take(WORKSPACE, template, PATIENCE).await;
        for variable in offer.variables().into_iter().chain([Sign::variable(job)]) {
            let deleting = self
                .space
                .delete(WORKSPACE, Some(variable.into()), PATIENCE);
            if let Err(error) = deleting.await {
                tracing::debug!(job, %error, "a part of a job cannot be removed");
            }
        }
    }

    /// Lets whoever asked know why this node does not work for a job.
    async fn note(&self, offer: &Offer, why: &str) {
        if let Ok(tuple) = to_note(&offer.job, &self.node, why) {
            let _ = self.space.out(WORKSPACE, tuple).await;
        }
    }

    fn jobs(&self) -> PathBuf {
        self.terms.limits.folder.join("jobs")
    }

    /// Removes what an earlier life of the node left when it was killed.
    fn tidy(&self) {
        let _ = fs::remove_dir_all(self.jobs());
        self.kept.tidy();
    }

    /// Makes the folder of a job, with the files that go with it, as far as they have been sent.
    async fn prepare(&self, offer: &Offer, folder: &Path) -> Result<(), String> {
        let said = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| format!("{what}: {error}")
        };
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(said("its folder cannot be made"))?;
        for file in &offer.files {
            let used = self.kept.use_file(&file.hash);
            let to = folder.join(&file.name);
            if !copy(used.path(), &to, &file.hash).await? {
                let made = self.kept.make_room(file.bytes);
                made.map_err(said("the folder of files cannot be made"))?;
                self.fetch(offer, file, &used).await?;
                if !copy(used.path(), &to, &file.hash).await? {
                    let _ = fs::remove_file(used.path());
                    return Err(format!("`{}` is not what was sent", file.name));
                }
            }
            let mode = if file.executable { 0o755 } else { 0o644 };
            fs::set_permissions(&to, fs::Permissions::from_mode(mode))
                .map_err(said("a file cannot be made readable"))?;
        }
        if let Some(user) = &self.terms.limits.user {
            std::os::unix::fs::chown(folder, Some(user.id), Some(user.group))
                .map_err(said("its folder cannot be given to the user"))?;
        }
        Ok(())
    }

    /// Fetches a file for this node, under the name of its hash.
    async fn fetch(&self, offer: &Offer, file: &Sent, to: &Used<'_>) -> Result<(), String> {
        let name = &file.name;
        let template = Template::new(vec![
            Field::Actual(Value::from(file.variable(&offer.job))),
            Field::Typed(Kind::Bytes),
        ]);
        let template = template.map_err(|error| error.to_string())?;
        let partial = to.partial(&offer.job);
        let sink = tokio::fs::File::create(&partial.0).await;
        let sink = sink.map_err(|error| format!("`{name}` cannot be written: {error}"))?;
        let found = self
            .space
            .find_into(WORKSPACE, template, sink, FILE_WITHIN)
            .await;
        found.map_err(|error| format!("`{name}` does not come: {error}"))?;
        // What it is shows when it is copied.
        fs::rename(&partial.0, to.path())
            .map_err(|error| format!("`{name}` cannot be kept: {error}"))
    }
}

/// A copy, since what a program does to it is nobody else's; false if there is none of this hash.
async fn copy(from: PathBuf, to: &Path, hash: &str) -> Result<bool, String> {
    let (to, hash) = (to.to_owned(), hash.to_owned());
    let copying = tokio::task::spawn_blocking(move || kept::copy(&from, &to, &hash));
    let copied = copying.await.map_err(|error| error.to_string())?;
    copied.map_err(|error| format!("a file cannot be copied: {error}"))
}

/// How much runs, or waits for room.
#[derive(Debug, Default)]
struct AtWork(AtomicU64);

impl AtWork {
    fn busy(&self) -> Busy<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Something runs as long as this lives.
struct Busy<'a>(&'a AtWork);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
