//! Parents and children.

use cpe_actors::{
    Actor, ActorError, Address, AsActor, Context, ExitReason, Options, Supervision, System,
};
use tokio::time::Instant;

use crate::{Do, SECOND, capacity, gated, lines, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn stopping_a_parent_stops_its_children_first() {
    let system = System::default();
    let log = log();
    let parent = spawn(&system, &log, Options::default().name("parent"));
    let kids = vec![("kid", Supervision::default())];
    parent.ask(Do::Kids(kids)).await.unwrap();
    let kid = system.find::<Do, i64>("kid").unwrap();
    kid.ask(Do::Kids(vec![("grandkid", Supervision::default())]))
        .await
        .unwrap();
    let tree: Vec<_> = system
        .list()
        .into_iter()
        .map(|info| (info.name, info.parent))
        .collect();
    assert_eq!(
        tree,
        [
            (Some("parent".to_owned()), None),
            (Some("kid".to_owned()), Some(parent.id())),
            (Some("grandkid".to_owned()), Some(kid.id())),
        ]
    );
    settle().await;
    log.lock().unwrap().clear();
    parent.stop();
    parent.ended().await;
    assert_eq!(
        lines(&log),
        [
            "stopping grandkid: its parent stopped",
            "stopping kid: its parent stopped",
            "stopping parent: stopped",
        ]
    );
    assert!(system.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_parent_has_no_children() {
    let system = System::default();
    let parent = spawn(&system, &log(), Options::default());
    parent
        .ask(Do::Kids(vec![("kid", Supervision::default())]))
        .await
        .unwrap();
    parent.tell(Do::Fail).await.unwrap();
    parent.ask(Do::Add(1)).await.unwrap();
    assert!(system.find_ref("kid").is_none());
    assert_eq!(system.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn escalation_fails_the_parent_in_turn() {
    let system = System::default();
    let log = log();
    let parent = spawn(&system, &log, Options::default().name("parent"));
    parent.tell(Do::Add(1)).await.unwrap();
    parent
        .ask(Do::Kids(vec![("kid", Supervision::escalate())]))
        .await
        .unwrap();
    let kid = system.find::<Do, i64>("kid").unwrap();
    kid.tell(Do::Fail).await.unwrap();
    assert_eq!(
        kid.ended().await.reason,
        ExitReason::Failed("told to fail".to_owned())
    );
    settle().await;
    tokio::time::sleep(SECOND).await;
    let info = parent.info();
    assert_eq!((info.failed, info.restarts), (1, 1));
    assert_eq!(
        info.last_error.as_deref(),
        Some("child kid failed: told to fail")
    );

    let alone = Options::default().supervision(Supervision::escalate());
    let alone = spawn(&system, &log, alone);
    alone.tell(Do::Fail).await.unwrap();
    assert!(matches!(alone.ended().await.reason, ExitReason::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_is_cancelled_after_the_grace_period() {
    let system = System::default();
    let log = log();
    let options = Options::default().name("p").grace(2 * SECOND);
    let (actor, _gate) = gated(&system, &log, options);
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    let start = Instant::now();
    actor.stop();
    assert_eq!(actor.ended().await.reason, ExitReason::Killed);
    assert_eq!(start.elapsed().as_secs(), 2);
    // It was killed, so it had no last word.
    assert_eq!(lines(&log), ["started p"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_taken_back_leaves_the_message_in_hand_to_its_end() {
    let system = System::default();
    let log = log();
    let options = Options::default().name("p").grace(SECOND);
    let (actor, gate) = gated(&system, &log, options);
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    let (who, deadline) = (actor.as_actor(), Instant::now() + 100 * SECOND);
    who.stop_by(deadline);
    tokio::time::sleep(50 * SECOND).await;
    assert!(!who.take_stop_back(deadline + SECOND), "another stop's");
    assert!(who.take_stop_back(deadline));
    assert!(!who.take_stop_back(deadline));
    // Past the deadline it goes on all the same, and takes the next message.
    tokio::time::sleep(100 * SECOND).await;
    gate.add_permits(2);
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    assert_eq!(actor.info().handled, 2);
    who.stop_by(deadline);
    assert_eq!(who.ended().await.reason, ExitReason::Stopped);
    assert!(!who.take_stop_back(deadline), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn two_actors_blocked_on_each_others_mailbox_can_be_stopped() {
    struct Pusher;
    struct Push(Option<Address<Self>>);
    impl Actor for Pusher {
        type Message = Push;
        type Reply = ();
        async fn handle(
            &mut self,
            Push(other): Push,
            _: &mut Context<Self>,
        ) -> Result<(), ActorError> {
            let Some(other) = other else { return Ok(()) };
            loop {
                other.tell(Push(None)).await?;
            }
        }
    }
    let system = System::default();
    let one = system.spawn_with(capacity(4), || Ok(Pusher)).unwrap();
    let two = system.spawn_with(capacity(4), || Ok(Pusher)).unwrap();
    one.tell(Push(Some(two.clone()))).await.unwrap();
    two.tell(Push(Some(one.clone()))).await.unwrap();
    settle().await;
    assert_eq!((one.info().depth, two.info().depth), (4, 4));
    let start = Instant::now();
    one.stop();
    assert_eq!(one.ended().await.reason, ExitReason::Killed);
    assert_eq!(start.elapsed(), cpe_actors::DEFAULT_GRACE);
    two.stop();
    two.ended().await;
    assert!(system.is_empty());
}
