//! Failures: resume, restart, limits, poison.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use cpe_actors::{ActorState, Backoff, DeadReason, ExitReason, Options, Supervision, System};
use cpe_tuple::Value;
use tokio::time::Instant;

use crate::{Do, Puppet, SECOND, lines, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn resume_keeps_the_state() {
    let system = System::default();
    let options = Options::default().supervision(Supervision::resume());
    let actor = spawn(&system, &log(), options);
    actor.tell(Do::Add(5)).await.unwrap();
    actor.tell(Do::Panic).await.unwrap();
    assert_eq!(actor.ask(Do::Add(1)).await.unwrap(), 6);
    let info = actor.info();
    assert_eq!((info.failed, info.restarts, info.handled), (1, 0, 2));
    assert_eq!(info.last_error.as_deref(), Some("panicked: told to panic"));
}

#[tokio::test(start_paused = true)]
async fn restart_makes_a_fresh_instance_and_keeps_the_mailbox() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    for message in [Do::Add(5), Do::Fail, Do::Add(1)] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(1)).await.unwrap(), 2);
    assert_eq!(lines(&log), ["started p", "started p"]);
    assert_eq!(actor.info().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn restart_takes_up_the_last_snapshot() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default());
    for message in [Do::Add(5), Do::Save, Do::Add(10), Do::Fail] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(1)).await.unwrap(), 6);

    let every = Options::default().snapshot_every(NonZeroU64::new(2).unwrap());
    let actor = spawn(&system, &log(), every);
    for message in [Do::Add(1), Do::Add(1), Do::Add(1), Do::Fail] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 2);

    let fresh = Supervision {
        from_snapshot: false,
        ..Supervision::default()
    };
    let actor = spawn(&system, &log(), Options::default().supervision(fresh));
    for message in [Do::Add(5), Do::Save, Do::Fail] {
        actor.tell(message).await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_taken_some_time_after_what_was_handled_and_none_while_idle() {
    let system = System::default();
    let taken = Arc::new(AtomicU32::new(0));
    let sink = Arc::clone(&taken);
    let options = Options::default()
        .snapshot_within(SECOND)
        .on_snapshot(move |_, _| {
            sink.fetch_add(1, Ordering::Relaxed);
        });
    let actor = spawn(&system, &log(), options);
    actor.ask(Do::Add(5)).await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    actor.ask(Do::Add(5)).await.unwrap();
    assert_eq!(taken.load(Ordering::Relaxed), 0);
    // One for both, and no more while nothing is handled.
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(taken.load(Ordering::Relaxed), 1);
    actor.ask(Do::Add(1)).await.unwrap();
    actor.ask(Do::Fail).await.unwrap_err();
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 10);
    // The timer of the instance that failed went with it, and the next one has its own.
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(taken.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn more_failures_than_the_limit_end_the_actor() {
    let system = System::default();
    let policy = Supervision::restart()
        .limit(2, 10 * SECOND)
        .backoff(Backoff::NONE);
    let actor = spawn(&system, &log(), Options::default().supervision(policy));
    for _ in 0..2 {
        actor.ask(Do::Fail).await.unwrap_err();
    }
    // Outside the window they no longer count.
    tokio::time::sleep(11 * SECOND).await;
    for _ in 0..2 {
        actor.ask(Do::Fail).await.unwrap_err();
        actor.ask(Do::Add(1)).await.unwrap();
    }
    actor.tell(Do::Fail).await.unwrap();
    let ExitReason::Failed(reason) = actor.ended().await.reason else {
        panic!("not failed")
    };
    assert_eq!(
        reason,
        "told to fail (gave up: more than 2 failures within 10s)"
    );
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_longer_each_time() {
    let system = System::default();
    let backoff = Backoff {
        first: SECOND,
        max: 3 * SECOND,
        jitter: 0.0,
    };
    let policy = Supervision::restart()
        .limit(9, 1_000 * SECOND)
        .backoff(backoff);
    let actor = spawn(&system, &log(), Options::default().supervision(policy));
    let mut waits = Vec::new();
    for _ in 0..4 {
        let start = Instant::now();
        actor.tell(Do::Fail).await.unwrap();
        actor.ask_within(60 * SECOND, Do::Add(1)).await.unwrap();
        waits.push(start.elapsed().as_secs());
    }
    assert_eq!(waits, [1, 2, 3, 3]);
}

#[test]
fn jitter_comes_from_the_seed_and_stays_in_bounds() {
    let backoff = Backoff {
        first: SECOND,
        max: 60 * SECOND,
        jitter: 0.5,
    };
    for seed in 0..100 {
        let delay = backoff.delay(2, seed);
        assert_eq!(delay, backoff.delay(2, seed));
        assert!(delay >= 2 * SECOND && delay <= 4 * SECOND, "{delay:?}");
        assert!(backoff.delay(u32::MAX, seed) <= 60 * SECOND);
    }
    assert_ne!(backoff.delay(2, 1), backoff.delay(2, 2));
    let odd = Backoff {
        jitter: f64::NAN,
        ..backoff
    };
    assert_eq!(odd.delay(0, 1), SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_actor_without_a_factory_ends_at_its_first_failure() {
    let system = System::default();
    let actor = system.spawn_named("p", Puppet::new(&log())).unwrap();
    actor.tell(Do::Fail).await.unwrap();
    assert_eq!(
        actor.ended().await.reason,
        ExitReason::Failed("told to fail".to_owned())
    );
    assert!(system.find_ref("p").is_none());
}

#[tokio::test(start_paused = true)]
async fn stop_is_possible_during_the_wait_for_a_restart() {
    let system = System::default();
    let backoff = Backoff {
        first: 3_600 * SECOND,
        max: 3_600 * SECOND,
        jitter: 0.0,
    };
    let options = Options::default().supervision(Supervision::restart().backoff(backoff));
    let actor = spawn(&system, &log(), options);
    actor.tell(Do::Fail).await.unwrap();
    settle().await;
    assert_eq!(actor.info().state, ActorState::Restarting);
    let start = Instant::now();
    actor.stop();
    assert_eq!(actor.ended().await.reason, ExitReason::Stopped);
    assert!(start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_is_tried_once_more_and_then_poisoned() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    let once = Arc::new(AtomicU32::new(1));
    actor.ask(Do::Kept("once", once)).await.unwrap();
    let for_ever = Arc::new(AtomicU32::new(99));
    let error = actor
        .ask(Do::Kept("bad", Arc::clone(&for_ever)))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the message poisoned p: not this time");
    actor.ask(Do::Note("next")).await.unwrap();
    assert_eq!(for_ever.load(Ordering::SeqCst), 97);
    let handled: Vec<_> = lines(&log)
        .into_iter()
        .filter(|line| !line.starts_with("started"))
        .collect();
    assert_eq!(handled, ["once", "once", "bad", "bad", "next"]);
    let letters = system.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].message, Some(Value::from("bad")));
    assert_eq!(
        letters[0].reason,
        DeadReason::Poisoned("not this time".to_owned())
    );
}
