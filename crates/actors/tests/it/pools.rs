//! Pools of workers.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cpe_actors::{
    Actor, ActorError, AsActor, AskError, Context, ExitReason, Options, Pool, PoolKey, PoolOptions,
    Routing, SpawnError, Supervision, System, TellError,
};
use tokio::sync::Semaphore;

use crate::{Log, MS, SECOND, capacity, lines, log, settle};

#[derive(Clone, Debug)]
enum Job {
    /// Answers who did it.
    Who,
    /// Waits for a permit, and notes that it is done.
    Wait(u32),
    /// Ends the worker.
    Fatal,
    /// For the worker of this key; notes it.
    Keyed(u64, u32),
}

struct Worker {
    gate: Arc<Semaphore>,
    log: Log,
}

impl Actor for Worker {
    type Message = Job;
    type Reply = String;

    async fn handle(&mut self, job: Job, ctx: &mut Context<Self>) -> Result<String, ActorError> {
        let note = |text: String| self.log.lock().unwrap().push(text);
        match job {
            Job::Who => {}
            Job::Wait(n) => {
                self.gate.acquire().await?.forget();
                note(format!("did {n}"));
            }
            Job::Fatal => return Err(ActorError::failed("fatal")),
            Job::Keyed(key, n) => note(format!("{key}:{n}")),
        }
        Ok(ctx.label())
    }

    fn keep(job: &Job) -> Option<Job> {
        Some(job.clone())
    }
}

struct Set {
    system: System,
    gate: Arc<Semaphore>,
    log: Log,
    pool: Pool<Job, String>,
}

impl Set {
    fn new(options: PoolOptions<Job>) -> Self {
        let system = System::default();
        let (gate, log) = (Arc::new(Semaphore::new(0)), log());
        let (held, noted) = (Arc::clone(&gate), Arc::clone(&log));
        let make = move || {
            Ok(Worker {
                gate: Arc::clone(&held),
                log: Arc::clone(&noted),
            })
        };
        let pool = system.spawn_pool(options.name("w"), make).unwrap();
        Self {
            system,
            gate,
            log,
            pool,
        }
    }

    async fn done(&self) -> Vec<String> {
        settle().await;
        let mut done = lines(&self.log);
        done.sort();
        done
    }

    /// The worker that is at something, by its name.
    fn kill(&self, worker: &str) {
        self.system.find_ref(worker).unwrap().kill();
    }
}

fn n(workers: usize) -> NonZeroUsize {
    NonZeroUsize::new(workers).unwrap()
}

#[tokio::test(start_paused = true)]
async fn round_robin_gives_each_worker_its_turn() {
    let set = Set::new(PoolOptions::fixed(n(3)).routing(Routing::round_robin()));
    let mut who = Vec::new();
    for _ in 0..6 {
        who.push(set.pool.ask(Job::Who).await.unwrap());
    }
    assert_eq!(who, ["w/0", "w/1", "w/2", "w/0", "w/1", "w/2"]);
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_worker_gets_the_next_message() {
    let set = Set::new(PoolOptions::fixed(n(3)));
    settle().await;
    for job in 0..2 {
        set.pool.tell(Job::Wait(job)).await.unwrap();
        settle().await;
    }
    for _ in 0..3 {
        assert_eq!(set.pool.ask(Job::Who).await.unwrap(), "w/2");
    }
    let depths: Vec<_> = set.pool.workers().iter().map(|info| info.depth).collect();
    assert_eq!(depths, [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn equal_keys_go_to_one_worker_in_order_also_when_it_dies() {
    let by_key = Routing::by_key(|job: &Job| match job {
        Job::Keyed(key, _) => PoolKey::from(*key),
        _ => PoolKey::of("other"),
    });
    let set = Set::new(PoolOptions::fixed(n(4)).routing(by_key));
    let busy = set.pool.ask(Job::Who).await.unwrap();
    set.pool.tell(Job::Wait(0)).await.unwrap();
    settle().await;
    // Some of these wait behind the job that never ends.
    for round in 0..5 {
        for key in 0..20 {
            set.pool.tell(Job::Keyed(key, round)).await.unwrap();
        }
    }
    settle().await;
    assert!(lines(&set.log).len() < 100);
    set.kill(&busy);
    for round in 5..10 {
        for key in 0..20 {
            set.pool.tell(Job::Keyed(key, round)).await.unwrap();
        }
    }
    // The job that was under way is handed on too, and comes first.
    settle().await;
    set.gate.add_permits(1);
    settle().await;
    let lines = lines(&set.log);
    assert_eq!(lines.len(), 201);
    for key in 0..20 {
        let begin = format!("{key}:");
        let rounds: Vec<_> = lines
            .iter()
            .filter_map(|line| line.strip_prefix(&begin))
            .collect();
        assert_eq!(rounds, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }
}

#[tokio::test(start_paused = true)]
async fn work_of_a_dead_worker_is_given_out_again() {
    let set = Set::new(PoolOptions::fixed(n(2)));
    settle().await;
    let asks: Vec<_> = (0..6)
        .map(|job| {
            let pool = set.pool.clone();
            tokio::spawn(async move { pool.ask_within(60 * SECOND, Job::Wait(job)).await })
        })
        .collect();
    settle().await;
    set.kill("w/0");
    settle().await;
    assert_eq!(set.pool.len(), 2);
    set.gate.add_permits(6);
    for ask in asks {
        ask.await.unwrap().unwrap();
    }
    // Each once: what was in the mailbox and what was in hand.
    let all: Vec<_> = (0..6).map(|job| format!("did {job}")).collect();
    assert_eq!(set.done().await, all);
    assert_eq!(set.system.dead_letter_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_two_workers_is_poison() {
    let worker = Options::default().supervision(Supervision::stop());
    let set = Set::new(PoolOptions::fixed(n(2)).worker(worker));
    let error = set.pool.ask(Job::Fatal).await.unwrap_err();
    assert!(matches!(error, AskError::Poisoned { .. }), "{error}");
    settle().await;
    assert_eq!(set.pool.len(), 2);
    set.pool.ask(Job::Who).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_elastic_pool_grows_when_all_are_busy_and_shrinks_when_idle() {
    let set = Set::new(PoolOptions::elastic(n(1), n(3)).idle(10 * SECOND));
    settle().await;
    for job in 0..5 {
        set.pool.tell(Job::Wait(job)).await.unwrap();
        settle().await;
    }
    assert_eq!(set.pool.len(), 3);
    set.gate.add_permits(5);
    assert_eq!(set.done().await.len(), 5);
    tokio::time::sleep(9 * SECOND).await;
    assert_eq!(set.pool.len(), 3);
    // It looks each 5 s: idle since at most 5 s, and for 10 s then.
    tokio::time::sleep(7 * SECOND).await;
    assert_eq!(set.pool.len(), 1);
    assert_eq!(set.system.len(), 2);
    // And grows again.
    for job in 5..10 {
        set.pool.tell(Job::Wait(job)).await.unwrap();
        settle().await;
    }
    assert_eq!(set.pool.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_gives_back_waits_and_says_so() {
    let set = Set::new(PoolOptions::fixed(n(2)).worker(capacity(1)));
    settle().await;
    for job in 0..4 {
        set.pool.tell(Job::Wait(job)).await.unwrap();
        settle().await;
    }
    let error = set.pool.try_tell(Job::Wait(4)).unwrap_err();
    assert!(matches!(error, TellError::Full { .. }));
    assert_eq!(error.to_string(), "the mailbox of w is full");
    let error = set.pool.ask_within(SECOND, Job::Who).await.unwrap_err();
    assert_eq!(error.to_string(), "the mailbox of w stayed full for 1s");
    let pool = set.pool.clone();
    let waiting = tokio::spawn(async move { pool.tell(Job::Wait(5)).await.unwrap() });
    settle().await;
    assert!(!waiting.is_finished());
    set.gate.add_permits(5);
    waiting.await.unwrap();
    assert_eq!(set.done().await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_sender_outlives_the_worker_it_waited_for() {
    let set = Set::new(PoolOptions::fixed(n(1)).worker(capacity(1)));
    settle().await;
    for job in 0..2 {
        set.pool.tell(Job::Wait(job)).await.unwrap();
        settle().await;
    }
    let pool = set.pool.clone();
    let waiting = tokio::spawn(async move { pool.tell(Job::Wait(2)).await.unwrap() });
    settle().await;
    set.kill("w/0");
    set.gate.add_permits(3);
    waiting.await.unwrap();
    tokio::time::sleep(20 * MS).await;
    assert_eq!(set.done().await, ["did 0", "did 1", "did 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_workers_end_too_often_ends_with_the_reason() {
    let worker = Options::default().supervision(Supervision::stop());
    let options = PoolOptions::fixed(n(2))
        .worker(worker)
        .supervision(Supervision::default().limit(3, 60 * SECOND));
    let set = Set::new(options);
    for _ in 0..2 {
        set.pool.ask(Job::Fatal).await.unwrap_err();
    }
    let ended = set.pool.as_actor().ended().await;
    let ExitReason::Failed(reason) = ended.reason else {
        panic!("not failed")
    };
    assert!(reason.contains("gave up: more than 3 workers"), "{reason}");
    assert!(matches!(
        set.pool.tell(Job::Who).await,
        Err(TellError::Dead { .. })
    ));
    assert!(matches!(
        set.pool.ask(Job::Who).await,
        Err(AskError::Dead { .. })
    ));
    assert!(set.pool.is_empty() && set.system.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drained_pool_does_its_work_and_a_stopped_one_lets_it_be() {
    for (drained, done, letters) in [(true, 6, 0), (false, 2, 5)] {
        let set = Set::new(PoolOptions::fixed(n(2)));
        settle().await;
        for job in 0..6 {
            set.pool.tell(Job::Wait(job)).await.unwrap();
            settle().await;
        }
        if drained {
            set.pool.drain();
        } else {
            set.pool.stop();
        }
        settle().await;
        // As to an actor that was told to stop: what still comes in becomes a dead letter.
        assert_eq!(set.pool.tell(Job::Who).await.is_err(), drained);
        set.gate.add_permits(6);
        let end = set.pool.as_actor().ended().await;
        assert_eq!(end.reason, ExitReason::Stopped);
        assert_eq!(set.done().await.len(), done);
        assert_eq!(set.system.dead_letter_count(), letters);
        assert!(set.system.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_cannot_make_its_workers_is_an_error() {
    let system = System::default();
    let made = AtomicUsize::new(0);
    let make = move || match made.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(Worker {
            gate: Arc::new(Semaphore::new(0)),
            log: log(),
        }),
        _ => Err(ActorError::failed("no more")),
    };
    let error = system
        .spawn_pool(PoolOptions::fixed(n(2)), make)
        .unwrap_err();
    assert!(matches!(error, SpawnError::Factory { .. }), "{error}");
    settle().await;
    assert!(system.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_while_workers_are_killed() {
    struct Adder(Arc<AtomicUsize>);
    impl Actor for Adder {
        type Message = usize;
        type Reply = ();
        async fn handle(&mut self, n: usize, _: &mut Context<Self>) -> Result<(), ActorError> {
            // No await: a kill cannot come in between.
            self.0.fetch_add(n, Ordering::Relaxed);
            Ok(())
        }
        fn keep(n: &usize) -> Option<usize> {
            Some(*n)
        }
    }
    const JOBS: usize = 20_000;
    let system = System::default();
    let sum = Arc::new(AtomicUsize::new(0));
    let held = Arc::clone(&sum);
    let options = PoolOptions::fixed(n(3))
        .worker(capacity(64))
        .supervision(Supervision::default().limit(1_000, SECOND));
    let pool = system
        .spawn_pool(options, move || Ok(Adder(Arc::clone(&held))))
        .unwrap();
    let killer = tokio::spawn({
        let (pool, system) = (pool.clone(), system.clone());
        async move {
            for round in 0..200_usize {
                let workers = pool.workers();
                if let Some(info) = workers.get(round % workers.len().max(1))
                    && let Some(worker) = system.get(info.id)
                {
                    worker.kill();
                    worker.ended().await;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    for job in 1..=JOBS {
        pool.tell(job).await.unwrap();
    }
    killer.await.unwrap();
    // The last worker that was killed has its successor before a drain lets nobody in any more.
    while system.list().len() < 4 {
        tokio::task::yield_now().await;
    }
    let mut last = usize::MAX;
    while sum.load(Ordering::Relaxed) != last {
        last = sum.load(Ordering::Relaxed);
        tokio::time::sleep(20 * MS).await;
    }
    assert_eq!(last, JOBS * (JOBS + 1) / 2);
    assert_eq!(system.dead_letter_count(), 0);
}
