//! What waits for a durable actor, and what it is at, when it is handed to another node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cpe::{
    ActorError, ActorsError, DynActor, DynContext, KindStart, Node, NodeBuilder, SpawnOptions,
    Value,
};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::harness::{Ground, LONG, all_linked, join};

/// Longer than an actor that is stopped may go on with a message.
const LONG_MESSAGE: Duration = Duration::from_secs(6);

/// What a node's ledgers are allowed.
struct Pace {
    /// Milliseconds that each number takes.
    takes: AtomicU64,
    /// Numbers that may be written.
    permits: Semaphore,
    /// Numbers that were begun.
    begun: AtomicUsize,
    /// One for each of them.
    begins: Semaphore,
}

impl Pace {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            takes: AtomicU64::new(0),
            permits: Semaphore::new(permits),
            begun: AtomicUsize::new(0),
            begins: Semaphore::new(0),
        })
    }

    fn takes(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.takes.store(millis, Ordering::SeqCst);
    }

    /// Waits until so many numbers were begun there.
    async fn has_begun(&self, count: u32) {
        let begun = timeout(LONG, self.begins.acquire_many(count)).await;
        begun.unwrap().unwrap().forget();
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Writes down the numbers it is sent, in order, and says which at `Null`.
struct Ledger {
    numbers: Vec<Value>,
    pace: Arc<Pace>,
}

impl DynActor for Ledger {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            if message == Value::Null {
                return Ok(Some(Value::List(self.numbers.clone())));
            }
            self.pace.begun.fetch_add(1, Ordering::SeqCst);
            self.pace.begins.add_permits(1);
            let takes = self.pace.takes.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(takes)).await;
            self.pace.permits.acquire().await.unwrap().forget();
            self.numbers.push(message);
            Ok(Some(Value::Null))
        })
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::List(self.numbers.clone())))
    }

    fn restore(&mut self, state: Value) -> Result<(), ActorError> {
        if let Value::List(numbers) = state {
            self.numbers = numbers;
        }
        Ok(())
    }
}

fn with_ledgers(builder: NodeBuilder, pace: &Arc<Pace>) -> NodeBuilder {
    let pace = Arc::clone(pace);
    builder.kind("ledger", move |_: KindStart| {
        let (numbers, pace) = (Vec::new(), Arc::clone(&pace));
        Ok(Box::new(Ledger { numbers, pace }) as Box<dyn DynActor>)
    })
}

/// Nodes `a`, `b` and `c`, with a ledger `n` on `b`.
async fn three(ground: &Ground, paces: [&Arc<Pace>; 3]) -> [Node; 3] {
    let with = |name, pace| with_ledgers(ground.ephemeral(name), pace);
    let a = with("a", paces[0]).start().await.unwrap();
    let b = join(with("b", paces[1]), &a).start().await.unwrap();
    let c = join(with("c", paces[2]), &a).start().await.unwrap();
    let nodes = [a, b, c];
    all_linked(&nodes).await;
    let options = SpawnOptions {
        node: Some("b".to_owned()),
        durable: true,
        ..SpawnOptions::default()
    };
    let actors = nodes[0].actors();
    let spawned = actors.spawn("ledger", "n", Value::Null, options).await;
    spawned.unwrap();
    nodes
}

async fn tell(node: &Node, numbers: std::ops::Range<i64>) {
    for n in numbers {
        node.actors().tell("n", Value::from(n)).await.unwrap();
    }
}

async fn written(node: &Node) -> Vec<i64> {
    let asked = node.actors().ask("n", Value::Null, LONG).await.unwrap();
    let Value::List(numbers) = asked else {
        panic!("{asked:?}");
    };
    numbers.iter().filter_map(Value::as_int).collect()
}

const PLENTY: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_actor_outlives_the_node_that_it_moves_to_and_is_handled_once() {
    const TOLD: i64 = 150;
    const WRITTEN_AT_C: usize = 5;
    let ground = Ground::new();
    let (a_pace, b_pace, c_pace) = (
        Pace::new(PLENTY),
        Pace::new(PLENTY),
        Pace::new(WRITTEN_AT_C),
    );
    let [a, b, c] = three(&ground, [&a_pace, &b_pace, &c_pace]).await;
    b_pace.takes(Duration::from_millis(100));
    tell(&a, 0..TOLD).await;
    a.actors().migrate("n", "c", LONG).await.unwrap();
    b_pace.takes(Duration::ZERO);
    // Some of what was sent on is written there, and some is not.
    c_pace
        .has_begun(u32::try_from(WRITTEN_AT_C).unwrap() + 1)
        .await;
    c.kill().await;
    assert_eq!(written(&a).await, (0..TOLD).collect::<Vec<_>>());
    let letters = b.actors().system().dead_letters();
    assert!(letters.is_empty(), "{letters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_to_a_slow_next_host_comes_after_what_waited() {
    // More than goes in one batch.
    const TOLD: i64 = 160;
    const LATER: i64 = 40;
    let ground = Ground::new();
    let (a_pace, b_pace, c_pace) = (Pace::new(PLENTY), Pace::new(PLENTY), Pace::new(PLENTY));
    let [a, b, c] = three(&ground, [&a_pace, &b_pace, &c_pace]).await;
    b_pace.takes(Duration::from_millis(200));
    c_pace.takes(Duration::from_millis(10));
    tell(&a, 0..TOLD).await;
    let moving = b.actors();
    let (moved, ()) = tokio::join!(moving.migrate("n", "c", LONG), tell(&a, TOLD..TOLD + LATER));
    moved.unwrap();
    // Who looks the place up anew does not go through its former host.
    let actors = c.actors();
    let hasty = actors
        .ask("n", Value::Null, Duration::from_millis(50))
        .await;
    assert!(hasty.is_err(), "{hasty:?}");
    tell(&a, TOLD + LATER..TOLD + 2 * LATER).await;
    assert_eq!(written(&c).await, (0..TOLD + 2 * LATER).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_actor_that_ends_as_it_has_moved_is_dead_letters() {
    const TOLD: i64 = 60;
    let ground = Ground::new();
    let (a_pace, b_pace, c_pace) = (Pace::new(PLENTY), Pace::new(PLENTY), Pace::new(0));
    let [a, b, _c] = three(&ground, [&a_pace, &b_pace, &c_pace]).await;
    b_pace.takes(Duration::from_millis(100));
    tell(&a, 0..TOLD).await;
    a.actors().migrate("n", "c", LONG).await.unwrap();
    c_pace.has_begun(1).await;
    let at_b = i64::try_from(b_pace.begun()).unwrap();
    a.actors().stop("n", LONG).await.unwrap();
    let left = (TOLD - at_b) as usize;
    let until = tokio::time::Instant::now() + LONG;
    let system = b.actors().system().clone();
    while system.dead_letters().len() < left {
        assert!(tokio::time::Instant::now() < until, "{left} were left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let letters = system.dead_letters();
    let numbers: Vec<_> = letters
        .iter()
        .filter_map(|letter| letter.message.as_ref()?.as_int())
        .collect();
    assert_eq!(numbers, (at_b..TOLD).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_given_up_when_the_message_in_hand_takes_longer_and_leaves_it_alone() {
    let ground = Ground::new();
    let (a_pace, b_pace, c_pace) = (Pace::new(PLENTY), Pace::new(0), Pace::new(PLENTY));
    let [a, b, c] = three(&ground, [&a_pace, &b_pace, &c_pace]).await;
    let (actors, moving) = (a.actors(), c.actors());
    let asking = actors.ask("n", Value::from(7), LONG);
    let given_up = async {
        b_pace.has_begun(1).await;
        let moved = moving.migrate("n", "c", Duration::from_secs(1)).await;
        // What came meanwhile waits as if nothing had been.
        tell(&a, 8..10).await;
        b_pace.permits.add_permits(PLENTY);
        moved
    };
    let (asked, moved) = tokio::join!(asking, given_up);
    let Err(ActorsError::NotMoved { reason, .. }) = &moved else {
        panic!("{moved:?}");
    };
    assert!(reason.contains("still at a message"), "{reason}");
    assert_eq!(asked, Ok(Value::Null));
    assert_eq!(written(&a).await, [7, 8, 9]);
    assert_eq!((b_pace.begun(), c_pace.begun()), (3, 0));
    let there = a.actors().where_is("n").await.unwrap().unwrap();
    assert_eq!(there.host.map(|it| it.node), Some(b.member().node));
    c.actors().migrate("n", "c", LONG).await.unwrap();
    assert_eq!(written(&b).await, [7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_message_in_hand_is_finished_before_an_actor_moves_however_long_it_takes() {
    let ground = Ground::new();
    let paces = [Pace::new(PLENTY), Pace::new(PLENTY), Pace::new(PLENTY)];
    let [a, b, c] = three(&ground, [&paces[0], &paces[1], &paces[2]]).await;
    for pace in &paces {
        pace.takes(LONG_MESSAGE);
    }
    let actors = a.actors();
    let leaving = async {
        paces[1].has_begun(1).await;
        b.actors().migrate("n", "c", LONG).await.unwrap();
    };
    let (asked, ()) = tokio::join!(actors.ask("n", Value::from(1), LONG), leaving);
    assert_eq!(asked, Ok(Value::Null));
    let stopping = async {
        paces[2].has_begun(1).await;
        c.shutdown(LONG).await.unwrap();
    };
    let asking = actors.ask("n", Value::from(2), LONG);
    let (asked, ()) = tokio::join!(asking, stopping);
    assert_eq!(asked, Ok(Value::Null));
    assert_eq!(written(&a).await, [1, 2]);
    let begun: usize = paces.iter().map(|pace| pace.begun()).sum();
    assert_eq!(begun, 2, "each was begun once");
}
