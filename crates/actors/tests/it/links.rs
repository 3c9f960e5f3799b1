//! Actors that fail together.

use cpe_actors::{ExitReason, Options, Supervision, System};

use crate::{Do, SECOND, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn linked_actors_fail_together_in_both_directions() {
    for first in [0, 1] {
        let system = System::default();
        let stop = || Options::default().supervision(Supervision::stop());
        let pair = [
            spawn(&system, &log(), stop().name("x")),
            spawn(&system, &log(), stop().name("y")),
        ];
        pair[0].ask(Do::Link(pair[1].clone())).await.unwrap();
        pair[first].tell(Do::Fail).await.unwrap();
        let name = pair[first].label();
        assert_eq!(
            pair[1 - first].ended().await.reason,
            ExitReason::Failed(format!("linked actor {name} failed: told to fail"))
        );
        pair[first].ended().await;
        assert!(system.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_restarts_those_that_are_linked_once() {
    let system = System::default();
    let x = spawn(&system, &log(), Options::default());
    let y = spawn(&system, &log(), Options::default());
    let z = spawn(&system, &log(), Options::default());
    x.ask(Do::Link(y.clone())).await.unwrap();
    y.ask(Do::Link(z.clone())).await.unwrap();
    x.tell(Do::Fail).await.unwrap();
    tokio::time::sleep(SECOND).await;
    for actor in [&x, &y, &z] {
        assert_eq!((actor.info().failed, actor.info().restarts), (1, 1));
    }
    // The link went with the instances.
    y.tell(Do::Fail).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!((x.info().restarts, y.info().restarts), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_only_ends_the_link_and_a_kill_does_not() {
    let system = System::default();
    let x = spawn(&system, &log(), Options::default());
    let y = spawn(&system, &log(), Options::default());
    let z = spawn(&system, &log(), Options::default());
    x.ask(Do::Link(y.clone())).await.unwrap();
    x.ask(Do::Link(z.clone())).await.unwrap();
    y.stop();
    y.ended().await;
    settle().await;
    assert_eq!(x.info().failed, 0);
    // Linking to one that stopped in order is nothing; to one that was killed, a failure.
    x.ask(Do::Link(y.clone())).await.unwrap();
    settle().await;
    assert_eq!(x.info().failed, 0);
    z.kill();
    z.ended().await;
    settle().await;
    assert_eq!(x.info().failed, 1);
    tokio::time::sleep(SECOND).await;
    x.ask(Do::Link(z.clone())).await.unwrap();
    settle().await;
    assert_eq!(x.info().failed, 2);
}

#[tokio::test(start_paused = true)]
async fn an_unlinked_actor_does_not_fail_with_the_other() {
    let system = System::default();
    let x = spawn(&system, &log(), Options::default());
    let y = spawn(&system, &log(), Options::default());
    x.ask(Do::Link(y.clone())).await.unwrap();
    x.ask(Do::Unlink(y.clone())).await.unwrap();
    y.kill();
    y.ended().await;
    settle().await;
    assert_eq!(x.info().failed, 0);
}
