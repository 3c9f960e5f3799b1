//! Who learns of an end.

use std::sync::Arc;

use cpe_actors::{Actor, ActorError, Context, ExitReason, Options, System};

use crate::{Do, Puppet, lines, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_exactly_once() {
    let system = System::default();
    let (log, quiet) = (log(), log());
    let watcher = spawn(&system, &log, Options::default().name("w"));
    let watched = spawn(&system, &quiet, Options::default().name("p"));
    watcher.tell(Do::Watch(watched.clone())).await.unwrap();
    watcher.ask(Do::Watch(watched.clone())).await.unwrap();
    watched.stop();
    watched.ended().await;
    settle().await;
    assert_eq!(lines(&log), ["started w", "terminated p: stopped"]);
    // Also of one that ended before.
    watcher.ask(Do::Watch(watched.clone())).await.unwrap();
    settle().await;
    assert_eq!(lines(&log).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unwatched_end_is_not_told() {
    let system = System::default();
    let (log, quiet) = (log(), log());
    let watcher = spawn(&system, &log, Options::default().name("w"));
    let watched = spawn(&system, &quiet, Options::default().name("p"));
    watcher.ask(Do::Watch(watched.clone())).await.unwrap();
    watcher.ask(Do::Unwatch(watched.clone())).await.unwrap();
    watched.kill();
    watched.ended().await;
    settle().await;
    assert_eq!(lines(&log), ["started w"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_in_terminated_ends_both_together() {
    let system = System::default();
    let linked = Puppet {
        terminated_fails: true,
        ..Puppet::new(&log())
    };
    let linked = system.spawn(linked).unwrap();
    let other = spawn(&system, &log(), Options::default());
    linked.ask(Do::Watch(other.clone())).await.unwrap();
    other.stop();
    assert_eq!(
        linked.ended().await.reason,
        ExitReason::Failed("linked".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_actor_held_is_released_before_its_watchers_are_told() {
    struct Holder(#[expect(dead_code, reason = "held")] Arc<()>);
    impl Actor for Holder {
        type Message = ();
        type Reply = ();
        async fn handle(&mut self, (): (), _: &mut Context<Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }
    let system = System::default();
    let held = Arc::new(());
    let holder = system.spawn_named("h", Holder(Arc::clone(&held))).unwrap();
    holder.stop();
    holder.ended().await;
    assert_eq!(Arc::strong_count(&held), 1);
    // And its name is free.
    system.spawn_named("h", Holder(held)).unwrap();
}
