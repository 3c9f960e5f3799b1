//! The gate: until when handlers are called.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use cpe_actors::{
    Actor, ActorError, AsActor as _, Batch, Context, Options, Supervision, System, TellError,
};
use tokio::time::Instant;

use crate::{Do, MS, SECOND, capacity, gated, lines, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn past_its_instant_a_gate_keeps_messages_and_timers_until_it_is_open_again() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, capacity(2).gated().name("p"));
    actor.ask(Do::After(3 * SECOND, "timer")).await.unwrap();
    system.gate().open_until(Instant::now() + 2 * SECOND);
    tokio::time::sleep(1_999 * MS).await;
    actor.ask(Do::Note("in time")).await.unwrap();

    tokio::time::sleep(2 * SECOND).await;
    assert!(!system.gate().is_open());
    actor.tell(Do::Note("one")).await.unwrap();
    actor.tell(Do::Note("two")).await.unwrap();
    let full = actor.try_tell(Do::Note("three"));
    assert!(matches!(full, Err(TellError::Full { .. })));
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(lines(&log), ["started p", "in time"]);

    system.gate().open_until(Instant::now() + SECOND);
    settle().await;
    let all = ["started p", "in time", "timer", "one", "two"];
    assert_eq!(lines(&log), all);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_moved_before_it_closes_lets_nothing_wait() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().gated());
    for _ in 0..100 {
        system.gate().open_until(Instant::now() + SECOND);
        tokio::time::sleep(999 * MS).await;
        let start = Instant::now();
        actor.ask(Do::Add(1)).await.unwrap();
        assert!(start.elapsed().is_zero());
    }
    assert_eq!(actor.ask(Do::Add(0)).await, Ok(100));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_began_in_time_ends_and_the_next_does_not_begin() {
    let system = System::default();
    let log = log();
    let (actor, permits) = gated(&system, &log, Options::default().gated().name("p"));
    actor.tell(Do::Wait).await.unwrap();
    actor.tell(Do::Note("next")).await.unwrap();
    settle().await;
    system.gate().close();
    permits.add_permits(1);
    settle().await;
    assert_eq!(actor.info().handled, 1);
    assert_eq!(lines(&log), ["started p"]);
}

#[tokio::test(start_paused = true)]
async fn an_actor_behind_a_closed_gate_begins_once_it_opens() {
    let system = System::default();
    let log = log();
    system.gate().close();
    let actor = spawn(&system, &log, Options::default().gated().name("p"));
    actor.tell(Do::Note("first")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(lines(&log).is_empty());
    system.gate().open();
    settle().await;
    assert_eq!(lines(&log), ["started p", "first"]);
}

#[tokio::test(start_paused = true)]
async fn an_actor_behind_a_closed_gate_can_be_stopped_and_has_no_last_word() {
    let system = System::default();
    let log = log();
    let begun = spawn(&system, &log, Options::default().gated().name("begun"));
    settle().await;
    system.gate().close();
    let never = spawn(&system, &log, Options::default().gated().name("never"));
    begun.tell(Do::Note("not handled")).await.unwrap();
    for actor in [begun, never] {
        settle().await;
        actor.stop();
        actor.as_actor().ended().await;
    }
    assert_eq!(lines(&log), ["started begun"]);
    assert_eq!(system.dead_letter_count(), 1);
    assert!(system.shutdown(SECOND).await.remaining.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_behind_a_closed_gate_is_told_when_it_opens() {
    let system = System::default();
    let log = log();
    let other = spawn(&system, &log, Options::default().gated().name("other"));
    let watcher = spawn(&system, &log, Options::default().gated().name("watcher"));
    watcher.ask(Do::Watch(other.clone())).await.unwrap();
    system.gate().close();
    other.stop();
    other.as_actor().ended().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(lines(&log), ["started other", "started watcher"]);
    system.gate().open();
    settle().await;
    assert_eq!(lines(&log).last().unwrap(), "terminated other: stopped");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_tried_once_more_waits_for_the_gate() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().gated().name("p"));
    let once = Arc::new(AtomicU32::new(1));
    actor.tell(Do::Kept("kept", once)).await.unwrap();
    // It has failed, and is in its back-off.
    settle().await;
    system.gate().close();
    tokio::time::sleep(SECOND).await;
    assert_eq!(lines(&log), ["started p", "kept"]);
    system.gate().open();
    settle().await;
    let all = ["started p", "kept", "started p", "kept"];
    assert_eq!(lines(&log), all);
}

/// Closes the gate after its first message.
struct Closer;

impl Actor for Closer {
    type Message = u32;
    type Reply = usize;
    const BATCH: usize = 10;

    async fn handle(&mut self, _: u32, _: &mut Context<Self>) -> Result<usize, ActorError> {
        Err(ActorError::failed("takes batches only"))
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<'_, u32, usize>,
        ctx: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        let mut taken = 0;
        while let Some((item, close)) = batch.next() {
            taken += 1;
            batch.answer(item, taken);
            if close > 0 {
                ctx.system().gate().close();
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_ends_where_the_gate_closes() {
    let system = System::default();
    let options = Options::default().gated();
    let actor = system.spawn_with(options, || Ok(Closer)).unwrap();
    for close in [0, 1, 0, 0] {
        actor.try_tell(close).unwrap();
    }
    settle().await;
    assert_eq!(actor.info().handled, 2);
    system.gate().open();
    settle().await;
    assert_eq!(actor.info().handled, 4);
}

#[tokio::test(start_paused = true)]
async fn a_gate_holds_children_of_gated_actors_and_nobody_else() {
    let system = System::default();
    let log = log();
    let held = spawn(&system, &log, Options::default().gated().name("held"));
    let free = spawn(&system, &log, Options::default().name("free"));
    let kids = || Do::Kids(vec![("kid", Supervision::default())]);
    held.ask(kids()).await.unwrap();
    system.gate().close();
    let kid = system.find::<Do, i64>("kid").unwrap();
    kid.tell(Do::Note("held back")).await.unwrap();
    free.ask(Do::Note("free")).await.unwrap();
    settle().await;
    assert_eq!(lines(&log).last().unwrap(), "free");
    system.gate().open();
    settle().await;
    assert_eq!(lines(&log).last().unwrap(), "held back");
}
