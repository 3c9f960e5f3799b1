//! Durable actors: what was answered lasts, and what does not last was never answered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpe_actors::{
    Actor, ActorError, ActorId, Address, AsActor as _, AskError, Batch, Commit, Context,
    EFFECTS_MAX, Effect, ExitReason, Journal, KindRegistry, NotCommitted, Numbered, Options,
    Snapshot, System,
};
use cpe_tuple::Value;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::{SECOND, settle};

/// A journal in memory.
struct Book {
    commits: Mutex<Vec<Commit>>,
    /// What the next commits come to; they last when there is none.
    fates: Mutex<Vec<NotCommitted>>,
    /// Each commit takes one.
    permits: Semaphore,
    /// Failures as they were told of.
    failures: Mutex<Vec<u32>>,
}

impl Book {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            commits: Mutex::default(),
            fates: Mutex::default(),
            permits: Semaphore::new(1_000),
            failures: Mutex::default(),
        })
    }

    fn commits(&self) -> Vec<Commit> {
        self.commits.lock().unwrap().clone()
    }

    fn totals(&self) -> Vec<i64> {
        let total = |commit: Commit| commit.snapshot.state.as_int().unwrap();
        self.commits().into_iter().map(total).collect()
    }

    fn last(&self) -> Snapshot {
        self.commits().pop().unwrap().snapshot
    }

    fn next_is(&self, fate: NotCommitted) {
        self.fates.lock().unwrap().push(fate);
    }
}

impl Journal for Book {
    fn commit(&self, _: ActorId, commit: Commit) -> BoxFuture<'_, Result<(), NotCommitted>> {
        async move {
            self.permits.acquire().await.unwrap().forget();
            if let Some(fate) = self.fates.lock().unwrap().pop() {
                return Err(fate);
            }
            self.commits.lock().unwrap().push(commit);
            Ok(())
        }
        .boxed()
    }

    fn failed(&self, _: ActorId, failures: u32, _: Duration) {
        self.failures.lock().unwrap().push(failures);
    }
}

/// Sums what it is told, and tells `log` of each sum.
struct Sum<const BATCHED: usize> {
    total: i64,
    version: u32,
}

#[derive(Clone, Copy, Debug)]
enum Do {
    Add(i64),
    /// Adds, and then fails.
    AddAndFail(i64),
    /// Asks for an effect, and then refuses.
    TellAndRefuse,
    Tell(usize),
    Get,
}

fn tell(n: i64) -> Effect {
    Effect::Tell {
        actor: "log".to_owned(),
        message: Value::from(n),
    }
}

impl<const BATCHED: usize> Actor for Sum<BATCHED> {
    type Message = Do;
    type Reply = i64;
    const BATCH: usize = BATCHED;

    async fn handle(&mut self, it: Do, ctx: &mut Context<Self>) -> Result<i64, ActorError> {
        match it {
            Do::Add(n) => self.total += n,
            Do::AddAndFail(n) => {
                self.total += n;
                ctx.effect(tell(self.total))?;
                return Err(ActorError::failed("told to fail"));
            }
            Do::TellAndRefuse => {
                ctx.effect(tell(self.total))?;
                return Err(ActorError::refused("told to refuse"));
            }
            Do::Tell(times) => {
                for _ in 0..times {
                    ctx.effect(tell(self.total))?;
                }
            }
            Do::Get => {}
        }
        Ok(self.total)
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<'_, Do, i64>,
        ctx: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        while let Some((item, message)) = batch.next() {
            let answer = self.handle(message, ctx).await?;
            batch.answer(item, answer);
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::from(self.total)))
    }

    fn snapshot_version(&self) -> u32 {
        self.version
    }

    fn restore(&mut self, snapshot: Value) -> Result<(), ActorError> {
        self.total = cpe_actors::bridge::from_value(&snapshot)?;
        Ok(())
    }

    fn restore_older(&mut self, version: u32, snapshot: Value) -> Result<(), ActorError> {
        // Form 1 counted in tens.
        if version == 1 {
            self.restore(snapshot)?;
            self.total *= 10;
            return Ok(());
        }
        Err(ActorError::failed(format!("form {version} is not known")))
    }

    fn keep(message: &Do) -> Option<Do> {
        Some(*message)
    }
}

fn spawn(system: &System, book: &Arc<Book>, options: Options) -> Address<Do, i64> {
    let options = options.durable(Arc::clone(book) as Arc<dyn Journal>);
    let make = || {
        let (total, version) = (0, 2);
        Ok(Sum::<1> { total, version })
    };
    system.spawn_with(options, make).unwrap()
}

fn form(version: u32, total: i64) -> Snapshot {
    Snapshot {
        version,
        state: Value::from(total),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_leaves_when_what_it_tells_of_lasts() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default());
    assert_eq!(actor.ask(Do::Add(2)).await, Ok(2));
    assert_eq!(book.totals(), [0, 2]);

    book.permits.forget_permits(1_000);
    let slow = actor.ask_within(SECOND, Do::Add(3)).await;
    assert!(matches!(slow, Err(AskError::TimedOut { .. })), "{slow:?}");
    // Nothing is handled meanwhile.
    actor.tell(Do::Add(4)).await.unwrap();
    settle().await;
    assert_eq!(actor.info().handled, 1);
    book.permits.add_permits(1_000);
    assert_eq!(actor.ask(Do::Get).await, Ok(9));
    assert_eq!(book.totals(), [0, 2, 5, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_changes_nothing_commits_nothing() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default());
    for _ in 0..10 {
        actor.ask(Do::Get).await.unwrap();
    }
    assert_eq!(book.totals(), [0]);
    // Effects alone are worth a commit.
    actor.ask(Do::Tell(2)).await.unwrap();
    assert_eq!(book.commits()[1].effects, [tell(0), tell(0)]);
    assert_eq!(book.totals(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_leaves_neither_state_nor_effects() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default());
    actor.ask(Do::Add(2)).await.unwrap();
    let poisoned = actor.ask_within(60 * SECOND, Do::AddAndFail(100)).await;
    assert!(matches!(poisoned, Err(AskError::Poisoned { .. })));
    actor.ask(Do::TellAndRefuse).await.unwrap_err();
    assert_eq!(actor.ask_within(60 * SECOND, Do::Add(3)).await, Ok(5));
    assert_eq!(book.totals(), [0, 2, 5]);
    assert!(
        book.commits()
            .iter()
            .all(|commit| commit.effects.is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn a_fenced_incarnation_ends_and_answers_nothing() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default().name("sum"));
    actor.ask(Do::Add(2)).await.unwrap();
    book.permits.forget_permits(1_000);
    book.next_is(NotCommitted::Fenced("it lives on b".to_owned()));
    let asked = tokio::spawn({
        let actor = actor.clone();
        async move { actor.ask(Do::Add(3)).await }
    });
    settle().await;
    // What waits behind is told the same.
    let waiting = tokio::spawn({
        let actor = actor.clone();
        async move { actor.ask(Do::Get).await }
    });
    settle().await;
    book.permits.add_permits(1_000);
    let fenced = ExitReason::Fenced("it lives on b".to_owned());
    for answer in [asked.await.unwrap(), waiting.await.unwrap()] {
        match answer {
            Err(AskError::Dead { reason, .. }) => assert_eq!(reason, fenced),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(actor.as_actor().ended().await.reason, fenced);
    assert_eq!(book.totals(), [0, 2]);
    // A later one goes on from what lasts.
    let options = Options::default().name("sum").restore(book.last());
    let again = spawn(&system, &book, options);
    assert_eq!(again.ask(Do::Get).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_fenced_at_its_start_handles_nothing() {
    let (system, book) = (System::default(), Book::new());
    book.next_is(NotCommitted::Fenced("it lives on b".to_owned()));
    let actor = spawn(&system, &book, Options::default());
    let answer = actor.ask(Do::Add(1)).await;
    assert!(matches!(answer, Err(AskError::Dead { .. })), "{answer:?}");
    assert!(book.commits().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_kept_fails_the_message_and_not_the_past() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default());
    actor.ask(Do::Add(2)).await.unwrap();
    // Twice: it is tried once more, and is poison then.
    for _ in 0..2 {
        book.next_is(NotCommitted::Refused("too large".to_owned()));
    }
    let answer = actor.ask_within(60 * SECOND, Do::Add(100)).await;
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
    assert_eq!(actor.ask_within(60 * SECOND, Do::Add(1)).await, Ok(3));
    assert_eq!(book.totals(), [0, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_actor_can_be_stopped_while_it_waits_for_its_journal() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default().grace(SECOND));
    actor.ask(Do::Add(1)).await.unwrap();
    book.permits.forget_permits(1_000);
    actor.tell(Do::Add(2)).await.unwrap();
    settle().await;
    actor.stop();
    assert_eq!(actor.as_actor().ended().await.reason, ExitReason::Killed);
    assert_eq!(book.totals(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_commit_and_answers_nothing_if_it_does_not_last() {
    let (system, book) = (System::default(), Book::new());
    let options = Options::default().durable(Arc::clone(&book) as Arc<dyn Journal>);
    let make = || {
        let (total, version) = (0, 2);
        Ok(Sum::<10> { total, version })
    };
    let actor = system.spawn_with(options, make).unwrap();
    for n in 1..=4 {
        actor.try_tell(Do::Add(n)).unwrap();
    }
    assert_eq!(actor.ask(Do::Get).await, Ok(10));
    assert_eq!(book.totals(), [0, 10]);
    book.next_is(NotCommitted::Fenced("it lives on b".to_owned()));
    let answer = actor.ask(Do::Add(1)).await;
    assert!(matches!(answer, Err(AskError::Dead { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn earlier_snapshots_are_read_and_unknown_ones_are_refused_clearly() {
    let system = System::default();
    let start = |snapshot: Snapshot| {
        let book = Book::new();
        let actor = spawn(&system, &book, Options::default().restore(snapshot));
        async move { actor.ask_within(Duration::from_secs(600), Do::Get).await }
    };
    assert_eq!(start(form(2, 7)).await, Ok(7));
    assert_eq!(start(form(1, 7)).await, Ok(70));
    let older = start(form(0, 7)).await.unwrap_err().to_string();
    assert!(older.contains("form 0 is not known"), "{older}");
    let newer = start(form(3, 7)).await.unwrap_err().to_string();
    assert!(newer.contains("a newer version"), "{newer}");
}

#[tokio::test(start_paused = true)]
async fn effects_are_bounded_and_need_a_journal() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default());
    actor.ask(Do::Tell(EFFECTS_MAX)).await.unwrap();
    let more = actor
        .ask_within(60 * SECOND, Do::Tell(EFFECTS_MAX + 1))
        .await;
    let error = more.unwrap_err().to_string();
    assert!(error.contains("more than 256 effects"), "{error}");
    let (total, version) = (0, 2);
    let plain = system.spawn(Sum::<1> { total, version }).unwrap();
    let error = plain.ask(Do::Tell(1)).await.unwrap_err().to_string();
    assert!(error.contains("not durable"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_actor_without_a_snapshot_cannot_be_durable() {
    struct Plain;

    impl Actor for Plain {
        type Message = ();
        type Reply = ();

        async fn handle(&mut self, (): (), _: &mut Context<Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }

    let system = System::default();
    let options = Options::default().durable(Book::new());
    let actor = system.spawn_with(options, || Ok(Plain)).unwrap();
    let error = actor.ask_within(600 * SECOND, ()).await.unwrap_err();
    assert!(error.to_string().contains("has no snapshot"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_says_which_numbered_messages_it_has_and_the_rest_is_their_senders() {
    let (book, system) = (Book::new(), System::default());
    let options = Options::default().durable(Arc::clone(&book) as Arc<dyn Journal>);
    let kinds = KindRegistry::with_builtin();
    let counter = kinds.spawn(&system, "counter", options, Value::Null);
    let counter = counter.unwrap();
    let add = || Value::Map([("add".to_owned(), Value::from(1))].into());
    let asked = counter.ask_numbered(Numbered::new(7), add(), SECOND).await;
    assert_eq!(asked, Ok(Value::from(1)));
    assert_eq!(counter.ask(add(), SECOND).await, Ok(Value::from(2)));
    let got = counter
        .ask_numbered(Numbered::new(8), Value::from("get"), SECOND)
        .await;
    assert_eq!(got, Ok(Value::from(2)));
    let handled = |commit: Commit| commit.handled;
    let all: Vec<Vec<u64>> = book.commits().into_iter().map(handled).collect();
    // The first is of its start; what changes nothing is in none.
    assert_eq!(all, [vec![], vec![7], vec![]]);
    // One is at its commit and one in the mailbox when the actor ends: both are told, and neither
    // is a dead letter.
    book.permits.forget_permits(usize::MAX >> 4);
    let left = [9, 10].map(|number| {
        let counter = counter.clone();
        tokio::spawn(async move {
            counter
                .ask_numbered(Numbered::new(number), add(), SECOND)
                .await
        })
    });
    settle().await;
    counter.as_actor().kill();
    for asked in left {
        let answer = asked.await.unwrap();
        assert!(matches!(answer, Err(AskError::Dead { .. })), "{answer:?}");
    }
    assert_eq!(system.dead_letter_count(), 0);
}

/// One that fails wherever it is would else begin anew for ever, by moving.
#[tokio::test(start_paused = true)]
async fn failures_of_earlier_instances_count_and_each_is_told_to_the_journal() {
    let (system, book) = (System::default(), Book::new());
    let actor = spawn(&system, &book, Options::default().failures(3));
    // Each message that fails is tried once more, and fails again.
    actor.ask(Do::AddAndFail(1)).await.unwrap_err();
    assert_eq!(*book.failures.lock().unwrap(), [4, 5]);
    assert_eq!(actor.ask(Do::Get).await, Ok(0));
    actor.ask(Do::AddAndFail(1)).await.unwrap_err();
    let ExitReason::Failed(reason) = actor.as_actor().ended().await.reason else {
        panic!("it ended otherwise");
    };
    assert!(reason.contains("more than 5 failures"), "{reason}");
}
