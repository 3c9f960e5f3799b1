//! The parent of a pool's workers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::options::PoolOptions;
use super::router::{Heir, Router};
use crate::{
    Actor, ActorError, ActorId, Address, AskError, Context, DeadReason, ExitReason, Options, Pool,
    SpawnError, Supervision, System, Terminated, envelope::Envelope, supervision::MAX_RESTARTS,
};

/// Between two tries to give out what was left behind while all workers are full.
const GIVE_OUT_PAUSE: Duration = Duration::from_millis(5);

/// The shortest time between two looks for idle workers.
const MIN_LOOK: Duration = Duration::from_millis(10);

type Make<A> = dyn Fn() -> Result<A, ActorError> + Send + Sync;
type Worker<A> = Address<<A as Actor>::Message, <A as Actor>::Reply>;

/// What a keeper is told.
pub(crate) enum Keep {
    /// All workers were busy when a message came.
    Grow,
    /// A worker left something behind.
    GiveOut,
    /// Time to look for idle workers.
    Look,
    Drain,
}

/// Starts a pool: its keeper, then its first workers.
pub(crate) fn start<A: Actor>(
    system: &System,
    parent: Option<ActorId>,
    options: PoolOptions<A::Message>,
    make: Arc<Make<A>>,
) -> Result<Pool<A::Message, A::Reply>, SpawnError> {
    let router = Arc::new(Router::new(options.routing.clone(), options.max));
    let heir = Arc::new(Heir(Arc::clone(&router)));
    let mut own = Options::default()
        .kind("pool")
        .supervision(Supervision::stop());
    own.name.clone_from(&options.name);
    let mut worker = options.worker;
    worker.heir = Some(heir);
    let workers = Workers {
        system: system.clone(),
        name: options.name,
        options: worker,
        make,
    };
    let keeper = Keeper {
        router: Arc::clone(&router),
        workers: workers.clone(),
        limits: (options.min, options.max, options.idle),
        supervision: options.supervision,
        replaced: VecDeque::new(),
        quiet: BTreeMap::new(),
    };
    let keeper = system.start(parent, Arc::new(own), keeper, None)?;
    router.set_keeper(keeper.clone());
    for place in 0..options.min {
        match workers.spawn(keeper.id(), place) {
            Ok(worker) => router.change(|all| all.push(worker)),
            Err(error) => {
                keeper.kill();
                return Err(error);
            }
        }
    }
    // Now that they are there: have the keeper watch them.
    let _ = keeper.try_tell(Keep::Look);
    Ok(Pool::new(router))
}

struct Workers<A: Actor> {
    system: System,
    name: Option<Arc<str>>,
    options: Options,
    make: Arc<Make<A>>,
}

impl<A: Actor> Clone for Workers<A> {
    fn clone(&self) -> Self {
        Self {
            system: self.system.clone(),
            name: self.name.clone(),
            options: self.options.clone(),
            make: Arc::clone(&self.make),
        }
    }
}

impl<A: Actor> Workers<A> {
    fn spawn(&self, keeper: ActorId, place: usize) -> Result<Worker<A>, SpawnError> {
        let mut options = self.options.clone();
        let name = self.name.as_ref();
        options.name = name.map(|name| Arc::from(format!("{name}/{place}")));
        let make = Arc::clone(&self.make);
        self.system
            .start_with(Some(keeper), options, Box::new(move || make()))
    }
}

struct Keeper<A: Actor> {
    router: Arc<Router<A::Message, A::Reply>>,
    workers: Workers<A>,
    /// Fewest, most, and how long those above the fewest may be idle.
    limits: (usize, usize, Duration),
    supervision: Supervision,
    /// When workers were replaced, oldest first; bounded by the limit.
    replaced: VecDeque<Instant>,
    /// What each worker had handled when it was first seen idle, and when that was.
    quiet: BTreeMap<ActorId, (u64, Instant)>,
}

impl<A: Actor> Actor for Keeper<A> {
    type Message = Keep;
    type Reply = ();

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let (min, max, idle) = self.limits;
        if min < max {
            let _ = ctx.tell_every((idle / 2).max(MIN_LOOK), || Keep::Look)?;
        }
        Ok(())
    }

    async fn handle(&mut self, it: Keep, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        match it {
            Keep::Grow => self.grow(ctx)?,
            Keep::GiveOut => self.give_out(ctx)?,
            Keep::Look => {
                self.watch(ctx)?;
                self.shrink();
            }
            Keep::Drain => {
                self.watch(ctx)?;
                self.router.read(|all| all.iter().for_each(Address::drain));
            }
        }
        Ok(())
    }

    async fn terminated(
        &mut self,
        other: Terminated,
        ctx: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        self.quiet.remove(&other.id);
        // One that was taken away has no place any more.
        let Some(place) = self.router.place(other.id) else {
            return Ok(());
        };
        if self.router.is_draining() {
            if self.router.change(|all| {
                all.remove(place);
                all.is_empty()
            }) {
                ctx.stop();
            }
            return Ok(());
        }
        self.count(&other)?;
        let worker = self.workers.spawn(ctx.id(), place)?;
        ctx.watch(&worker)?;
        self.hand_over(place, &worker);
        self.router.change(|all| {
            if let Some(slot) = all.get_mut(place) {
                *slot = worker;
            }
        });
        self.give_out(ctx)
    }
}

impl<A: Actor> Keeper<A> {
    /// Watches all workers; those watched already are not watched twice.
    fn watch(&self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        for worker in self.router.read(<[_]>::to_vec) {
            ctx.watch(&worker)?;
        }
        Ok(())
    }

    fn count(&mut self, ended: &Terminated) -> Result<(), ActorError> {
        let (limit, within) = (self.supervision.max_restarts, self.supervision.within);
        let now = Instant::now();
        let old = |at: &&Instant| now - **at > within;
        while self.replaced.front().as_ref().is_some_and(old) {
            self.replaced.pop_front();
        }
        self.replaced.push_back(now);
        if self.replaced.len() > limit.min(MAX_RESTARTS) as usize {
            return Err(ActorError::failed(format!(
                "worker {} {} (gave up: more than {limit} workers replaced within {within:?})",
                ended.actor, ended.reason
            )));
        }
        Ok(())
    }

    /// What a worker left behind that only its successor may have, before anything newer.
    fn hand_over(&self, place: usize, worker: &Worker<A>) {
        let workers = self.router.len();
        let mut rest = VecDeque::new();
        for envelope in self.router.take_backlog() {
            if self.router.keyed(&envelope.message, workers) != Some(place) {
                rest.push_back(envelope);
            } else if let Err((back, _)) = worker.shared.push(envelope) {
                rest.push_back(back);
            }
        }
        self.router.return_backlog(rest);
    }

    fn give_out(&self, ctx: &Context<Self>) -> Result<(), ActorError> {
        if !self.router.give_out() {
            let _ = ctx.tell_after(GIVE_OUT_PAUSE, Keep::GiveOut)?;
        }
        Ok(())
    }

    fn grow(&self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let place = self.router.len();
        if place < self.limits.1 && !self.router.is_draining() {
            match self.workers.spawn(ctx.id(), place) {
                Ok(worker) => {
                    ctx.watch(&worker)?;
                    self.router.change(|all| all.push(worker));
                }
                // The pool goes on with those it has.
                Err(error) => tracing::warn!(pool = %ctx.label(), %error, "no further worker"),
            }
        }
        self.router.grown();
        Ok(())
    }

    /// Takes the last workers away as long as they have been idle for long enough.
    fn shrink(&mut self) {
        let (min, _, idle) = self.limits;
        let now = Instant::now();
        let mut gone = Vec::new();
        self.router.read(|all| {
            for worker in all.iter().skip(min) {
                let handled = worker.shared.handled();
                let seen = self.quiet.entry(worker.id()).or_insert((handled, now));
                if worker.shared.load() > 0 || seen.0 != handled {
                    *seen = (handled, now);
                }
            }
        });
        let quiet = &self.quiet;
        self.router.change(|all| {
            while all.len() > min
                && let Some(last) = all.last()
                && let Some((_, since)) = quiet.get(&last.id())
                && now - *since >= idle
            {
                gone.extend(all.pop());
            }
        });
        for worker in gone {
            self.quiet.remove(&worker.id());
            worker.drain();
        }
    }
}

impl<A: Actor> Drop for Keeper<A> {
    /// The pool is over: no worker is left, and what was left behind finds nobody.
    fn drop(&mut self) {
        self.router.change(Vec::clear);
        // Without one it ends before it began, and there is no backlog.
        let Some(keeper) = self.router.made() else {
            return;
        };
        let reason = keeper.shared.exit_reason();
        let reason = reason.unwrap_or(ExitReason::RuntimeGone);
        for Envelope { message, back } in self.router.take_backlog() {
            let why = DeadReason::ActorEnded(reason.clone());
            let (actor, system) = (keeper.label(), &self.workers.system);
            system.dead_letter(actor.clone(), why, A::describe(&message));
            let reason = reason.clone();
            back.answer(Err(Box::new(AskError::Dead { actor, reason })));
        }
    }
}
