//! From a message to a worker.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::keeper::Keep;
use super::options::{PoolKey, Routing, Way};
use crate::{
    ActorId, ActorInfo, ActorState, Address, ExitReason, envelope::Envelope, mailbox::Refusal,
};

/// What all handles of a pool and its keeper share.
pub(crate) struct Router<M, R> {
    routing: Routing<M>,
    max: usize,
    workers: RwLock<Vec<Address<M, R>>>,
    /// Where the next round begins.
    next: AtomicUsize,
    /// Workers have changed.
    changed: Notify,
    /// What workers that ended left behind and no other has taken yet. Bounded by what their
    /// mailboxes held: the keeper spawns no other before it has looked here.
    backlog: Mutex<VecDeque<Envelope<M, R>>>,
    keeper: OnceLock<Address<Keep>>,
    /// The keeper was asked to grow and has not done so yet.
    growing: AtomicBool,
    draining: AtomicBool,
}

type Refused<M, R> = (Envelope<M, R>, Refusal);

impl<M: Send + 'static, R: Send + 'static> Router<M, R> {
    pub(super) fn new(routing: Routing<M>, max: usize) -> Self {
        Self {
            routing,
            max,
            workers: RwLock::default(),
            next: AtomicUsize::new(0),
            changed: Notify::new(),
            backlog: Mutex::default(),
            keeper: OnceLock::new(),
            growing: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    pub(super) fn set_keeper(&self, keeper: Address<Keep>) {
        // Called once, by whoever made the router, before it gives it away.
        let _ = self.keeper.set(keeper);
    }

    /// The keeper, once there is one.
    pub(super) fn made(&self) -> Option<&Address<Keep>> {
        self.keeper.get()
    }

    pub(super) fn keeper(&self) -> &Address<Keep> {
        self.keeper
            .get()
            .expect("the keeper is set before the router is given away")
    }

    pub(super) fn exit_reason(&self) -> ExitReason {
        let reason = self.keeper().shared.exit_reason();
        reason.unwrap_or(ExitReason::Stopped)
    }

    // ---- workers ----

    /// Runs `look` on the workers. Nothing under this lock panics half-way or waits.
    pub(super) fn read<T>(&self, look: impl FnOnce(&[Address<M, R>]) -> T) -> T {
        look(&self.workers.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Vec<Address<M, R>>) -> T) -> T {
        let changed = {
            let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut workers)
        };
        self.changed.notify_waiters();
        changed
    }

    pub(super) fn len(&self) -> usize {
        self.read(<[_]>::len)
    }

    pub(super) fn infos(&self) -> Vec<ActorInfo> {
        self.read(|workers| workers.iter().map(Address::info).collect())
    }

    /// The place of the worker of this number.
    pub(super) fn place(&self, id: ActorId) -> Option<usize> {
        self.read(|workers| workers.iter().position(|worker| worker.id() == id))
    }

    fn has(&self, id: ActorId) -> bool {
        self.place(id).is_some()
    }

    // ---- sending ----

    /// Where to begin looking, and whether only there.
    fn pick(&self, workers: &[Address<M, R>], message: &M) -> (usize, bool) {
        match &self.routing.0 {
            Way::RoundRobin => (self.next.fetch_add(1, Ordering::Relaxed), false),
            Way::LeastLoaded => {
                let loads = workers.iter().map(|worker| worker.shared.load());
                let least = loads.enumerate().min_by_key(|(_, load)| *load);
                (least.map_or(0, |(place, _)| place), false)
            }
            Way::ByKey(key) => (place_of(key(message), workers.len()), true),
        }
    }

    /// The worker that a key is for; none for other routings.
    pub(super) fn keyed(&self, message: &M, workers: usize) -> Option<usize> {
        match &self.routing.0 {
            Way::ByKey(key) => Some(place_of(key(message), workers)),
            _ => None,
        }
    }

    /// Puts a message into a mailbox, or says why not and gives it back.
    pub(super) fn push(&self, envelope: Envelope<M, R>) -> Result<(), Refused<M, R>> {
        if self.draining.load(Ordering::Relaxed) {
            return Err((envelope, Refusal::Dead(ExitReason::Stopped)));
        }
        self.put(envelope)
    }

    fn put(&self, mut envelope: Envelope<M, R>) -> Result<(), Refused<M, R>> {
        self.read(|workers| {
            if workers.is_empty() {
                return Err((envelope, Refusal::Dead(self.exit_reason())));
            }
            let (first, only) = self.pick(workers, &envelope.message);
            self.grow_if_busy(workers, first);
            let tries = if only { 1 } else { workers.len() };
            for place in first..first + tries {
                let Some(worker) = workers.get(place % workers.len()) else {
                    break;
                };
                match worker.shared.push(envelope) {
                    Ok(()) => return Ok(()),
                    Err((back, _)) => envelope = back,
                }
            }
            Err((envelope, Refusal::Full))
        })
    }

    /// Asks for another worker when all have something to do.
    fn grow_if_busy(&self, workers: &[Address<M, R>], first: usize) {
        if workers.len() >= self.max || self.growing.load(Ordering::Relaxed) {
            return;
        }
        let busy = |worker: &Address<M, R>| worker.shared.load() > 0;
        // Usually the answer is no at the one that was picked.
        if workers.get(first % workers.len()).is_some_and(busy)
            && workers.iter().all(busy)
            && !self.growing.swap(true, Ordering::Relaxed)
            && self.keeper().try_tell(Keep::Grow).is_err()
        {
            self.grown();
        }
    }

    pub(super) fn grown(&self) {
        self.growing.store(false, Ordering::Relaxed);
    }

    /// Puts a message into a mailbox, waiting for room.
    pub(super) async fn push_waiting(
        &self,
        mut envelope: Envelope<M, R>,
    ) -> Result<(), (Envelope<M, R>, ExitReason)> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listening before looking: a change made in between is not missed.
            changed.as_mut().enable();
            match self.push(envelope) {
                Ok(()) => return Ok(()),
                Err((back, Refusal::Dead(reason))) => return Err((back, reason)),
                Err((back, Refusal::Full)) => envelope = back,
            }
            let worker = self.read(|workers| {
                let (place, _) = self.pick(workers, &envelope.message);
                workers.get(place % workers.len().max(1)).cloned()
            });
            let Some(worker) = worker else { continue };
            match worker.shared.push_waiting(envelope).await {
                Ok(()) => return Ok(()),
                Err((back, _)) => envelope = back,
            }
            // It has ended; the keeper is about to replace it.
            if self.has(worker.id()) {
                changed.await;
            }
        }
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if self.keeper().try_tell(Keep::Drain).is_err() {
            // Full of requests that no longer matter, or gone.
            self.keeper().drain();
        }
        self.changed.notify_waiters();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    // ---- what is left behind ----

    pub(super) fn take_backlog(&self) -> VecDeque<Envelope<M, R>> {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut backlog)
    }

    /// Puts back what could not be given out, ahead of what has come since.
    pub(super) fn return_backlog(&self, mut rest: VecDeque<Envelope<M, R>>) {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        rest.append(&mut backlog);
        *backlog = rest;
    }

    /// Gives out what was left behind, as far as there is room; whether all of it.
    pub(super) fn give_out(&self) -> bool {
        let mut rest = self.take_backlog();
        while let Some(envelope) = rest.pop_front() {
            if let Err((back, _)) = self.put(envelope) {
                rest.push_front(back);
                self.return_backlog(rest);
                return false;
            }
        }
        true
    }
}

/// Who takes over the messages that an actor leaves behind.
pub(crate) struct Heir<M, R>(pub(crate) Arc<Router<M, R>>);

impl<M: Send + 'static, R: Send + 'static> Heir<M, R> {
    /// Takes a message over, or gives it back when the pool is ending as a whole.
    pub(crate) fn inherit(&self, envelope: Envelope<M, R>) -> Result<(), Envelope<M, R>> {
        let router = &self.0;
        let state = router.keeper().shared.state();
        if matches!(state, ActorState::Stopping | ActorState::Ended) || router.is_draining() {
            return Err(envelope);
        }
        if let Err((back, _)) = router.put(envelope) {
            let mut backlog = router
                .backlog
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            backlog.push_back(back);
            drop(backlog);
            // The keeper looks here too when it hears of the end.
            let _ = router.keeper().try_tell(Keep::GiveOut);
        }
        Ok(())
    }
}

/// Rendezvous hashing: the place whose mix with the key is highest.
fn place_of(key: PoolKey, workers: usize) -> usize {
    let weight = |place: &usize| mix(key.0 ^ mix(*place as u64 + 1));
    (0..workers).max_by_key(weight).unwrap_or(0)
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, 2014): each bit of the input changes about half of the output.
const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_worker_takes_its_share_of_the_keys_and_moves_no_other() {
        let places = |workers| -> Vec<_> {
            let keys = (0..10_000).map(|n: u32| PoolKey::of(n.to_le_bytes()));
            keys.map(|key| place_of(key, workers)).collect()
        };
        let (seven, eight) = (places(7), places(8));
        let mut moved = 0;
        for (before, after) in seven.iter().zip(&eight) {
            if before != after {
                assert_eq!(*after, 7);
                moved += 1;
            }
        }
        assert!((1_000..1_500).contains(&moved), "{moved}");
    }

    #[test]
    fn a_key_of_bytes_never_changes() {
        assert_eq!(PoolKey::of("Ada"), PoolKey(KEY_OF_ADA));
        assert_eq!(place_of(PoolKey::of("Ada"), 8), PLACE_OF_ADA);
    }

    const KEY_OF_ADA: u64 = 10_672_479_228_594_874_393;
    const PLACE_OF_ADA: usize = 5;
}
