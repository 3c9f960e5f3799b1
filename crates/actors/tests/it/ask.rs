//! Questions: deadlines, refusals and late answers.

use cpe_actors::{
    Actor, ActorError, AsActor, AskError, Context, ExitReason, Options, Origin, System, TellError,
};
use tokio::time::Instant;

use crate::{Do, MS, SECOND, capacity, gated, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn ask_times_out_at_its_deadline() {
    let system = System::default();
    let (actor, _gate) = gated(&system, &log(), Options::default().name("p"));
    let start = Instant::now();
    let error = actor.ask(Do::Wait).await.unwrap_err();
    assert_eq!(error.to_string(), "p did not answer within 5s");
    assert_eq!(start.elapsed().as_secs(), 5);
    let error = actor.ask_within(20 * MS, Do::Wait).await.unwrap_err();
    assert_eq!(
        error,
        AskError::TimedOut {
            actor: "p".to_owned(),
            after: 20 * MS
        }
    );
}

#[tokio::test(start_paused = true)]
async fn ask_says_when_the_mailbox_stayed_full() {
    let system = System::default();
    let (actor, _gate) = gated(&system, &log(), capacity(1).name("p"));
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    actor.tell(Do::Wait).await.unwrap();
    let error = actor.ask_within(SECOND, Do::Add(1)).await.unwrap_err();
    assert_eq!(
        error,
        AskError::Full {
            actor: "p".to_owned(),
            after: SECOND
        }
    );
}

#[tokio::test(start_paused = true)]
async fn ask_tells_refusal_failure_and_death_apart() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default().name("p"));
    let refused = actor.ask(Do::Refuse).await.unwrap_err();
    assert_eq!(refused.to_string(), "p refused the message: told to refuse");
    assert_eq!(actor.info().failed, 0);
    let failed = actor.ask(Do::Fail).await.unwrap_err();
    assert_eq!(failed.to_string(), "p failed: told to fail");
    let panicked = actor.ask(Do::Panic).await.unwrap_err();
    assert_eq!(panicked.to_string(), "p failed: panicked: told to panic");
    actor.stop();
    let dead = actor.ask(Do::Add(1)).await.unwrap_err();
    assert_eq!(dead.to_string(), "p is dead: stopped");
    assert!(matches!(
        actor.tell(Do::Add(1)).await,
        Err(TellError::Dead { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn who_is_fenced_ends_at_once_and_all_who_wait_learn_why() {
    let system = System::default();
    let (actor, _gate) = gated(&system, &log(), Options::default().name("p"));
    let mut askers = Vec::new();
    for message in [Do::Wait, Do::Add(1)] {
        let actor = actor.clone();
        let asking = async move { actor.ask_within(3_600 * SECOND, message).await };
        askers.push(tokio::spawn(asking));
        settle().await;
    }
    let start = Instant::now();
    let reason = ExitReason::Fenced("another has its name".to_owned());
    actor.as_actor().fence(reason.clone());
    for asker in askers {
        let dead = Err(AskError::Dead {
            actor: "p".to_owned(),
            reason: reason.clone(),
        });
        assert_eq!(asker.await.unwrap(), dead);
    }
    assert_eq!(actor.ended().await.reason, reason);
    assert!(start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_asker_in_the_queue_learns_of_the_end_at_once() {
    let system = System::default();
    let (actor, _gate) = gated(&system, &log(), Options::default().name("p"));
    actor.tell(Do::Wait).await.unwrap();
    let asker = tokio::spawn({
        let actor = actor.clone();
        async move { actor.ask_within(3_600 * SECOND, Do::Add(1)).await }
    });
    settle().await;
    let start = Instant::now();
    actor.kill();
    let reason = ExitReason::Killed;
    assert_eq!(
        asker.await.unwrap(),
        Err(AskError::Dead {
            actor: "p".to_owned(),
            reason
        })
    );
    assert!(start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_reply_may_come_later_and_from_elsewhere() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default().name("p"));
    assert_eq!(
        actor
            .request(|reply| Do::Later(SECOND, reply))
            .await
            .unwrap(),
        7
    );
    let error = actor.request(Do::Drop).await.unwrap_err();
    assert_eq!(
        error,
        AskError::Unanswered {
            actor: "p".to_owned()
        }
    );
    let error = actor.request(Do::FailWith).await.unwrap_err();
    assert_eq!(error.to_string(), "p failed: no value");
    let late = actor
        .request_within(MS, |reply| Do::Later(SECOND, reply))
        .await
        .unwrap_err();
    assert!(matches!(late, AskError::TimedOut { .. }));
}

#[tokio::test(start_paused = true)]
async fn blocking_work_is_done_beside_the_other_actors() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default());
    assert_eq!(actor.ask(Do::Block).await.unwrap(), 42);
}

/// Answers who sent the message and whether somebody waits; keeps that of what it was told.
struct Curious(Vec<(Origin, bool)>);

impl Actor for Curious {
    type Message = ();
    type Reply = Vec<(Origin, bool)>;

    async fn handle(
        &mut self,
        (): (),
        ctx: &mut Context<Self>,
    ) -> Result<Vec<(Origin, bool)>, ActorError> {
        self.0.push((ctx.origin().clone(), ctx.is_asked()));
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn an_actor_is_told_who_sent_a_message_and_whether_somebody_waits() {
    let system = System::default();
    let actor = system.spawn(Curious(Vec::new())).unwrap();
    let origin = || Origin::Actor("ada".into());
    actor.tell(()).await.unwrap();
    actor.try_tell_from(origin(), ()).unwrap();
    actor.ask_from(origin(), SECOND, ()).await.unwrap();
    actor.try_tell_from(Origin::Itself, ()).unwrap();
    let heard = actor.ask(()).await.unwrap();
    assert_eq!(
        heard,
        [
            (Origin::Nobody, false),
            (origin(), false),
            (origin(), true),
            (Origin::Itself, false),
            (Origin::Nobody, true),
        ]
    );
}
