//! The system as a whole: names, bounds, shutdown, dead letters.

use cpe_actors::{AskError, DeadReason, ExitReason, Options, SpawnError, Supervision, System};
use tokio::time::Instant;

use crate::{Do, Puppet, SECOND, gated, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn names_are_unique_while_their_actor_lives() {
    let system = System::default();
    let log = log();
    let first = system.spawn_named("p", Puppet::new(&log)).unwrap();
    let error = system.spawn_named("p", Puppet::new(&log)).unwrap_err();
    assert_eq!(
        error,
        SpawnError::NameTaken {
            name: "p".to_owned()
        }
    );
    assert_eq!(system.find::<Do, i64>("p").unwrap().id(), first.id());
    assert!(system.stop("p"));
    first.ended().await;
    assert!(!system.stop("p"));
    system.spawn_named("p", Puppet::new(&log)).unwrap();
    for bad in [String::new(), "a\nb".to_owned(), "x".repeat(257)] {
        let error = system.spawn_named(&bad, Puppet::new(&log)).unwrap_err();
        assert!(matches!(error, SpawnError::BadName { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_holds_no_more_actors_than_it_may() {
    let system = System::builder().max_actors(1).build();
    let actor = system.spawn(Puppet::new(&log())).unwrap();
    let error = system.spawn(Puppet::new(&log())).unwrap_err();
    assert_eq!(error, SpawnError::TooMany { limit: 1 });
    actor.stop();
    actor.ended().await;
    system.spawn(Puppet::new(&log())).unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_everything_within_its_deadline() {
    let system = System::default();
    let log = log();
    let parent = spawn(&system, &log, Options::default().name("parent"));
    parent
        .ask(Do::Kids(vec![("kid", Supervision::default())]))
        .await
        .unwrap();
    let (stuck, _gate) = gated(&system, &log, Options::default().name("stuck"));
    stuck.tell(Do::Wait).await.unwrap();
    settle().await;
    let start = Instant::now();
    let report = system.shutdown(4 * SECOND).await;
    assert_eq!((report.stopped, report.remaining.len()), (3, 0));
    assert!(start.elapsed() <= 4 * SECOND);
    assert!(system.is_empty());
    assert_eq!(parent.ended().await.reason, ExitReason::Shutdown);
    assert_eq!(stuck.ended().await.reason, ExitReason::Killed);
    assert_eq!(
        system.spawn(Puppet::new(&log)).unwrap_err(),
        SpawnError::ShuttingDown
    );
}

#[test]
fn an_actor_whose_runtime_is_dropped_is_reported_as_gone() {
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = build();
    let (system, actor) = first.block_on(async {
        let system = System::default();
        let actor = system.spawn_named("p", Puppet::new(&log())).unwrap();
        actor.ask(Do::Add(1)).await.unwrap();
        (system, actor)
    });
    drop(first);
    let second = build();
    assert_eq!(
        second.block_on(actor.ended()).reason,
        ExitReason::RuntimeGone
    );
    assert!(system.is_empty());
    let error = second.block_on(actor.ask(Do::Add(1))).unwrap_err();
    assert!(matches!(error, AskError::Dead { .. }));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_counted_bounded_and_open_to_subscribers() {
    let system = System::default();
    let mut subscriber = system.subscribe_dead_letters();
    let actor = spawn(&system, &log(), Options::default().name("p"));
    actor.tell(Do::Refuse).await.unwrap();
    let letter = subscriber.recv().await.unwrap();
    assert_eq!((letter.number, letter.actor.as_str()), (1, "p"));
    assert_eq!(
        letter.reason,
        DeadReason::Refused("told to refuse".to_owned())
    );
    // An asker was told; that is no dead letter.
    actor.ask(Do::Refuse).await.unwrap_err();
    assert_eq!(system.dead_letter_count(), 1);
    for _ in 0..2_000 {
        actor.tell(Do::Refuse).await.unwrap();
    }
    actor.ask(Do::Add(0)).await.unwrap();
    assert_eq!(system.dead_letter_count(), 2_001);
    let kept = system.dead_letters();
    assert_eq!(kept.len(), cpe_actors::DEAD_LETTERS_KEPT);
    assert_eq!(kept.last().unwrap().number, 2_001);
}
