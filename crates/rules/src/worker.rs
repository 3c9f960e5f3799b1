//! A thread of its own for each engine, and a handle for everybody else.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::engine::Engine;
use crate::limits::HaltHandle;
use crate::raw::on_fatal;

/// Stack of a worker's thread. 16 MiB: recursion of rule functions is stopped by the limit on the
/// stack, and some honest programs recurse ten thousand deep.
pub const STACK_BYTES: usize = 16 << 20;

/// Jobs that may wait for one worker. More says that rules are slower than their input: whoever
/// sends must hear of it.
pub const JOBS_MAX: usize = 64;

/// What a worker may own: something whose current call can be stopped from outside.
pub trait Halt {
    /// A handle that stops it.
    fn halt_handle(&self) -> HaltHandle;
}

impl Halt for Engine {
    fn halt_handle(&self) -> HaltHandle {
        Self::halt_handle(self)
    }
}

/// Why a worker did not do a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// [`JOBS_MAX`] jobs are waiting. Try again later.
    #[error("{JOBS_MAX} jobs are waiting for the engine already: try again later")]
    Busy,
    /// CLIPS failed in a way it does not come back from; the thread is parked for good.
    #[error("CLIPS failed internally; its thread is stopped, make a new one")]
    Fatal,
    /// The job panicked. What the worker owns may be half changed.
    #[error("the job panicked")]
    Panicked,
    /// The thread has ended.
    #[error("the engine's thread has ended")]
    Gone,
    /// The system gave no thread.
    #[error("the system gave no thread for the engine")]
    NoThread,
}

type Job<T> = Box<dyn FnOnce(&mut T, &Queue<T>) + Send>;
type Done<R> = Box<dyn FnOnce(Result<R, WorkerError>) + Send>;

/// The jobs that wait. Taken out, and so dropped with all of them, when no more will be done: who
/// waits for one then hears of it.
struct Queue<T>(Arc<Mutex<Option<Receiver<Job<T>>>>>);

impl<T> Queue<T> {
    fn next(&self) -> Option<Job<T>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()?
            .recv()
            .ok()
    }

    fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Owns a `T` on a thread of its own with a stack of [`STACK_BYTES`], and does jobs on it in the
/// order they are given.
///
/// Async code uses [`submit`](Self::submit), which never blocks: it hands over a closure to run
/// and another to be called with the outcome, which may send into a oneshot channel. Others use
/// [`call`](Self::call).
///
/// ```
/// use cpe_rules::{EngineThread, Engine, Limits, Value, Worker};
///
/// let engine: EngineThread =
///     Worker::spawn("example", || Ok::<_, ()>(Engine::sandboxed(Limits::AGENT, 7))).unwrap();
/// let sum = engine.call(|engine| engine.eval("(+ 40 2)")).unwrap();
/// assert_eq!(sum, Ok(Value::Integer(42)));
/// ```
///
/// Dropping the handle stops the current call and ends the thread soon after, without waiting.
pub struct Worker<T> {
    jobs: Option<SyncSender<Job<T>>>,
    halt: HaltHandle,
    fatal: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A worker that owns an [`Engine`].
pub type EngineThread = Worker<Engine>;

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("fatal", &self.is_fatal())
            .finish_non_exhaustive()
    }
}

impl<T: Halt + 'static> Worker<T> {
    /// Start a thread named `name` that owns what `make` makes there, and wait for it.
    ///
    /// # Errors
    /// What `make` returned, or a [`WorkerError`] when there was no thread or `make` panicked.
    pub fn spawn<E: Send + 'static>(
        name: &str,
        make: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Self, SpawnError<E>> {
        let (jobs, queue) = sync_channel::<Job<T>>(JOBS_MAX);
        let (made, ready) = sync_channel::<Result<HaltHandle, SpawnError<E>>>(1);
        let fatal = Arc::new(AtomicBool::new(false));
        let notice_fatal = fatal.clone();
        let body = move || {
            let told = made.clone();
            on_fatal(Some(Box::new(move |_| {
                notice_fatal.store(true, Ordering::Relaxed);
                let _ = told.try_send(Err(SpawnError::Worker(WorkerError::Fatal)));
            })));
            let outcome = catch_unwind(AssertUnwindSafe(make));
            on_fatal(None);
            match outcome {
                Ok(Ok(mut owned)) => {
                    let _ = made.send(Ok(owned.halt_handle()));
                    let queue = Queue(Arc::new(Mutex::new(Some(queue))));
                    while let Some(job) = queue.next() {
                        job(&mut owned, &queue);
                    }
                }
                Ok(Err(error)) => drop(made.send(Err(SpawnError::Make(error)))),
                Err(_) => drop(made.send(Err(SpawnError::Worker(WorkerError::Panicked)))),
            }
        };
        let builder = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES);
        let thread = builder
            .spawn(body)
            .map_err(|_| SpawnError::Worker(WorkerError::NoThread))?;
        let halt = ready
            .recv()
            .map_err(|_| SpawnError::Worker(WorkerError::Gone))??;
        Ok(Self {
            jobs: Some(jobs),
            halt,
            fatal,
            thread: Some(thread),
        })
    }

    /// Do `job` on the thread and wait for what it returns.
    ///
    /// Blocks while jobs wait in front; not for async code.
    ///
    /// # Errors
    /// [`WorkerError`], never `Busy`.
    pub fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        let (done, outcome) = sync_channel(1);
        let done: Done<R> = Box::new(move |result| drop(done.send(result)));
        let job = self.wrapped(job, done);
        let jobs = self.jobs.as_ref().ok_or(WorkerError::Gone)?;
        if self.is_fatal() {
            return Err(WorkerError::Fatal);
        }
        jobs.send(job).map_err(|_| self.ended())?;
        outcome.recv().map_err(|_| self.ended())?
    }

    /// Do `job` on the thread, then call `done` there with what it returned. Never blocks.
    ///
    /// `done` must not block either. It is called exactly once unless `Err` is returned here, or
    /// dropped uncalled when the thread ends before the job's turn.
    ///
    /// # Errors
    /// [`WorkerError::Busy`] when [`JOBS_MAX`] jobs wait, [`WorkerError::Fatal`] and
    /// [`WorkerError::Gone`] when none will ever be done again.
    pub fn submit<R: 'static>(
        &self,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
        done: impl FnOnce(Result<R, WorkerError>) + Send + 'static,
    ) -> Result<(), WorkerError> {
        let job = self.wrapped(job, Box::new(done));
        let jobs = self.jobs.as_ref().ok_or(WorkerError::Gone)?;
        if self.is_fatal() {
            return Err(WorkerError::Fatal);
        }
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => WorkerError::Busy,
            TrySendError::Disconnected(_) => self.ended(),
        })
    }

    /// A job that reports to `done` whatever happens to it, even if its thread is parked for good.
    fn wrapped<R: 'static>(
        &self,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
        done: Done<R>,
    ) -> Job<T> {
        let fatal = self.fatal.clone();
        Box::new(move |owned, queue| {
            let done = Arc::new(Mutex::new(Some(done)));
            let (for_notice, queue) = (done.clone(), Queue(queue.0.clone()));
            on_fatal(Some(Box::new(move |_| {
                fatal.store(true, Ordering::Relaxed);
                finish(&for_notice, Err(WorkerError::Fatal));
                queue.close();
            })));
            let outcome = catch_unwind(AssertUnwindSafe(|| job(owned)));
            on_fatal(None);
            finish(&done, outcome.map_err(|_| WorkerError::Panicked));
        })
    }
}

impl<T> Worker<T> {
    /// A handle that stops the current call.
    #[must_use]
    pub fn halt_handle(&self) -> HaltHandle {
        self.halt.clone()
    }

    /// Whether CLIPS failed for good.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Relaxed)
    }

    fn ended(&self) -> WorkerError {
        if self.is_fatal() {
            WorkerError::Fatal
        } else {
            WorkerError::Gone
        }
    }

    /// Let the waiting jobs be done, then wait for the thread to end. Blocks.
    pub fn close(mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && !self.is_fatal()
        {
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        if self.jobs.take().is_some() {
            self.halt.halt();
        }
    }
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError<E> {
    /// What the worker was to own could not be made.
    #[error("{0}")]
    Make(E),
    /// The thread failed.
    #[error(transparent)]
    Worker(WorkerError),
}

fn finish<R>(done: &Mutex<Option<Done<R>>>, result: Result<R, WorkerError>) {
    let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(done) = done {
        // A receiver that has gone is not the engine's trouble.
        let _ = catch_unwind(AssertUnwindSafe(|| done(result)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Value};

    fn worker() -> EngineThread {
        Worker::spawn("test", || Ok::<_, ()>(Engine::sandboxed(Limits::AGENT, 1))).unwrap()
    }

    /// As when CLIPS asks for the process to end: from inside of a rule's evaluation.
    fn fail_fatally(engine: &mut Engine) -> Result<Value, crate::EngineError> {
        let park = |_: &mut crate::Call<'_>| -> Result<Value, String> {
            crate::raw::park(crate::raw::Fatal::Internal)
        };
        engine
            .add_function("fail", crate::Signature::exactly(0), park)
            .unwrap();
        engine.eval("(fail)")
    }

    #[test]
    fn a_fatal_failure_reaches_whoever_waits_and_whoever_comes_later() {
        let worker = Arc::new(worker());
        // The first job waits until the others stand behind it.
        let (open, gate) = sync_channel::<()>(1);
        let (told, hears) = sync_channel(1);
        let job = move |engine: &mut Engine| {
            let _ = gate.recv();
            fail_fatally(engine)
        };
        worker
            .submit(job, move |result| drop(told.send(result)))
            .unwrap();
        let (waits, dropped) = sync_channel::<()>(1);
        worker
            .submit(move |_| drop(waits), |_: Result<(), _>| ())
            .unwrap();
        open.send(()).unwrap();
        assert_eq!(hears.recv().unwrap(), Err(WorkerError::Fatal));
        assert!(dropped.recv().is_err(), "the job behind was dropped");
        assert_eq!(worker.call(|_| 1), Err(WorkerError::Fatal));
        assert_eq!(worker.submit(|_| 1, |_| ()), Err(WorkerError::Fatal));
        Arc::into_inner(worker).unwrap().close();
    }

    #[test]
    fn what_can_not_be_made_is_told() {
        let refused = Worker::<Engine>::spawn("test", || Err("no rules")).unwrap_err();
        assert_eq!(refused.to_string(), "no rules");
        let panicked = Worker::<Engine>::spawn::<()>("test", || panic!("made"));
        assert!(matches!(
            panicked,
            Err(SpawnError::Worker(WorkerError::Panicked))
        ));
        let parked = Worker::<Engine>::spawn("test", || {
            let mut engine = Engine::sandboxed(Limits::AGENT, 1);
            fail_fatally(&mut engine).map(|_| engine)
        });
        assert!(matches!(
            parked,
            Err(SpawnError::Worker(WorkerError::Fatal))
        ));
    }

    #[test]
    fn a_dropped_worker_stops_the_call_that_runs() {
        let worker = worker();
        let (started, running) = sync_channel::<()>(1);
        let (told, hears) = sync_channel(1);
        let job = move |engine: &mut Engine| {
            engine.set_limits(Limits::PROGRAM);
            let say = move |_: &mut crate::Call<'_>| {
                let _ = started.try_send(());
                Ok(Value::Void)
            };
            engine.add_function("say", crate::Signature::exactly(0), say)?;
            engine.eval("(while TRUE do (say))")
        };
        worker
            .submit(job, move |result| drop(told.send(result)))
            .unwrap();
        running.recv().unwrap();
        drop(worker);
        let stopped = hears.recv().unwrap().unwrap().unwrap_err();
        assert!(matches!(
            stopped,
            crate::EngineError::Tripped {
                trip: crate::Trip::Halted,
                ..
            }
        ));
    }
}
