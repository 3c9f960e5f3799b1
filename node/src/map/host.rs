//! The part of a node that works for the jobs of `cpe map` it may work for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cpe::{Field, Kind, Template, Value};
use cpe_sleigh::Worker;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::function::Functions;
use super::program::{self, Limits, Ran};
use super::{Offer, Sent, WORKSPACE, line_of};

/// Jobs a node works for at once.
const JOBS_MAX: usize = 64;

/// How often it is looked whether a job is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a file may take to come.
const FILE_WITHIN: Duration = Duration::from_secs(300);

/// How long to rest after a fault of the space.
const REST: Duration = Duration::from_secs(1);

/// Bytes of files kept for other jobs that send the same.
const KEPT_BYTES_MAX: u64 = 4 << 30;

/// What a node's configuration says of running commands for others.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Programs, or calls of functions, at once.
    pub(crate) slots: usize,
    /// How long a job may have no task for this node before it counts as left by whoever asked.
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
    /// As many permits as programs at once.
    room: Semaphore,
    /// Jobs that are worked for.
    serving: Mutex<BTreeSet<String>>,
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
        terms,
        serving: Mutex::default(),
    });
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
                    while let Some(tuple) = watch.next().await {
                        match Offer::of(&tuple) {
                            Some(offer) => self.consider(offer, stop).await,
                            None => tracing::warn!("an offer of a job that is none is left alone"),
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
        let mut serving = self.serving.lock().await;
        if serving.len() >= JOBS_MAX || !serving.insert(job.clone()) {
            return;
        }
        let (host, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = host.serve(offer) => {}
            }
            host.serving.lock().await.remove(&job);
        });
    }

    /// Works for a job until it is over.
    async fn serve(&self, offer: Offer) {
        let job = offer.job.clone();
        let folder = self.terms.limits.folder.join("jobs").join(&job);
        let prepared = match &offer.function {
            None => self.prepare(&offer, &folder).await,
            Some(_) => Ok(()),
        };
        if let Err(why) = prepared {
            tracing::warn!(job, why, "a job cannot be worked for");
            return;
        }
        tracing::info!(job, program = offer.program, "works for a job");
        let mut limits = self.terms.limits.clone();
        limits.folder.clone_from(&folder);
        let asked = offer.within_ms.map(Duration::from_millis);
        limits.within = asked.map_or(limits.within, |asked| asked.min(limits.within));
        let at_work = AtWork::default();
        let functions = offer
            .function
            .as_ref()
            .map(|function| Functions::new(function, limits.within, limits.memory));
        let way = functions.as_ref().map_or(
            Way::Program {
                offer: &offer,
                limits: &limits,
            },
            Way::Function,
        );
        let work = |value: Value| self.run(way, &at_work, value);
        let workers = (0..self.terms.slots).map(|slot| {
            let name = format!("{}.{slot}", self.node);
            Worker::new(self.space.clone(), WORKSPACE, &job, name).ranked(slot, self.terms.slots)
        });
        let workers: Vec<_> = workers.collect();
        let working = futures::future::join_all(workers.iter().map(|worker| worker.run(&work)));
        tokio::select! {
            // Dropping the workers ends the programs they run.
            _ = working => {}
            () = self.until_over(&job, &at_work) => {}
        }
        if offer.function.is_none()
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            tracing::debug!(job, %error, "the folder of a job cannot be removed");
        }
    }

    async fn run(&self, way: Way<'_>, at_work: &AtWork, value: Value) -> Result<Value, String> {
        let (number, line) = line_of(&value).ok_or("this is no line to run a command for")?;
        // Closed never: it lives as long as the node works.
        let _room = self
            .room
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let _busy = at_work.busy();
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

    /// Ends when the job's offer is gone, or nobody has had anything to do for long: then whoever
    /// asked has left, and what remains of the job is removed.
    async fn until_over(&self, job: &str, at_work: &AtWork) {
        let Ok(offer) = Offer::template(Some(job)) else {
            return;
        };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.space.rdp(WORKSPACE, offer.clone(), None).await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => tracing::debug!(job, %error, "cannot look whether a job is over"),
            }
            if at_work.idle() > self.terms.orphaned {
                tracing::info!(
                    job,
                    "nobody has asked anything for long; the job is removed"
                );
                let _ = self.space.try_take(WORKSPACE, offer, REST * 10).await;
                for variable in [format!("result:{job}"), format!("task:{job}")] {
                    let _ = self
                        .space
                        .delete(WORKSPACE, Some(variable.into()), REST * 10)
                        .await;
                }
                return;
            }
        }
    }

    /// Makes the folder of a job, with the files that go with it.
    async fn prepare(&self, offer: &Offer, folder: &Path) -> Result<(), String> {
        let said = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| format!("{what}: {error}")
        };
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(said("its folder cannot be made"))?;
        let kept = self.terms.limits.folder.join("files");
        fs::create_dir_all(&kept).map_err(said("the folder of files cannot be made"))?;
        for file in &offer.files {
            let from = kept.join(&file.hash);
            if !from.exists() {
                make_room(&kept, file.bytes);
                self.fetch(offer, file, &from).await?;
            }
            let to = folder.join(&file.name);
            // A copy: what a program does to it is nobody else's.
            fs::copy(&from, &to).map_err(said("a file cannot be copied"))?;
            let mode = if file.executable { 0o755 } else { 0o644 };
            fs::set_permissions(&to, fs::Permissions::from_mode(mode))
                .map_err(said("a file cannot be made readable"))?;
        }
        if let Some((user, group)) = self.terms.limits.user {
            std::os::unix::fs::chown(folder, Some(user), Some(group))
                .map_err(said("its folder cannot be given to the user"))?;
        }
        Ok(())
    }

    /// Fetches a file once for this node, under the name of its hash.
    async fn fetch(&self, offer: &Offer, file: &Sent, to: &PathBuf) -> Result<(), String> {
        let name = &file.name;
        let template = Template::new(vec![
            Field::Actual(Value::from(file.variable(&offer.job))),
            Field::Typed(Kind::Bytes),
        ]);
        let template = template.map_err(|error| error.to_string())?;
        let partial = to.with_extension(format!("partial-{}", offer.job));
        let sink = tokio::fs::File::create(&partial).await;
        let sink = sink.map_err(|error| format!("`{name}` cannot be written: {error}"))?;
        let found = self
            .space
            .find_into(WORKSPACE, template, sink, FILE_WITHIN)
            .await;
        found.map_err(|error| format!("`{name}` does not come: {error}"))?;
        let (checked, wanted) = (partial.clone(), file.hash.clone());
        let right = tokio::task::spawn_blocking(move || is_hash(&checked, &wanted)).await;
        if !right.unwrap_or(false) {
            let _ = fs::remove_file(&partial);
            return Err(format!("`{name}` is not what was sent"));
        }
        fs::rename(&partial, to).map_err(|error| format!("`{name}` cannot be kept: {error}"))
    }
}

fn is_hash(path: &Path, wanted: &str) -> bool {
    let mut hasher = blake3::Hasher::new();
    let hashed = File::open(path).and_then(|file| hasher.update_reader(file).map(drop));
    hashed.is_ok() && hasher.finalize().to_hex().as_str() == wanted
}

/// Removes kept files, the eldest first, until another fits.
fn make_room(folder: &Path, bytes: u64) {
    let mut kept: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let about = entry.metadata().ok()?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    kept.sort();
    let mut whole: u64 = bytes + kept.iter().map(|file| file.1).sum::<u64>();
    for (_, length, path) in kept {
        if whole <= KEPT_BYTES_MAX {
            return;
        }
        if fs::remove_file(path).is_ok() {
            whole -= length;
        }
    }
}

/// Whether anything runs, and since when not.
#[derive(Debug)]
struct AtWork {
    began: Instant,
    running: AtomicU64,
    /// Milliseconds from `began` to when something ran last.
    last: AtomicU64,
}

impl Default for AtWork {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            running: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }
}

impl AtWork {
    fn busy(&self) -> Busy<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn idle(&self) -> Duration {
        if self.running.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }
}

/// Something runs as long as this lives.
struct Busy<'a>(&'a AtWork);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
