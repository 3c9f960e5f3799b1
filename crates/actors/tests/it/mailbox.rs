//! Mailboxes: bounds, order, and what overtakes them.

use cpe_actors::{Actor, ActorError, Context, DeadReason, ExitReason, Options, System, TellError};
use cpe_tuple::Value;

use crate::{Do, capacity, gated, lines, log, settle, spawn};

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_gives_the_message_back() {
    let system = System::default();
    let (actor, gate) = gated(&system, &log(), capacity(2).name("p"));
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    actor.try_tell(Do::Add(1)).unwrap();
    actor.try_tell(Do::Add(2)).unwrap();
    assert_eq!(actor.info().depth, 2);
    let error = actor.try_tell(Do::Add(3)).unwrap_err();
    assert!(matches!(error, TellError::Full { .. }));
    assert_eq!(error.to_string(), "the mailbox of p is full");
    let Do::Add(3) = error.into_message() else {
        panic!("another message")
    };
    gate.add_permits(1);
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_bound_counts_messages_that_were_taken_in_a_batch() {
    let system = System::default();
    let (actor, gate) = gated(&system, &log(), capacity(3));
    for message in [Do::Wait, Do::Wait, Do::Add(1)] {
        actor.try_tell(message).unwrap();
    }
    settle().await;
    // One is being handled, two wait.
    actor.try_tell(Do::Add(1)).unwrap();
    assert!(actor.try_tell(Do::Add(1)).is_err());
    gate.add_permits(1);
    settle().await;
    actor.try_tell(Do::Add(1)).unwrap();
    assert!(actor.try_tell(Do::Add(1)).is_err());
    gate.add_permits(1);
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn tell_waits_while_the_mailbox_is_full() {
    let system = System::default();
    let (actor, gate) = gated(&system, &log(), capacity(1));
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    actor.tell(Do::Add(1)).await.unwrap();
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let actor = actor.clone();
            tokio::spawn(async move { actor.tell(Do::Add(1)).await.unwrap() })
        })
        .collect();
    settle().await;
    assert!(waiting.iter().all(|task| !task.is_finished()));
    // A sender that gives up leaves no hole and takes no room.
    waiting[0].abort();
    gate.add_permits(1);
    for task in waiting.into_iter().skip(1) {
        task.await.unwrap();
    }
    assert_eq!(actor.ask(Do::Add(0)).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_arrive_in_order_per_sender() {
    const SENDERS: usize = 10;
    const EACH: u64 = 10_000;
    struct Order(Vec<u64>);
    impl Actor for Order {
        type Message = (usize, u64);
        type Reply = u64;
        async fn handle(
            &mut self,
            (sender, n): (usize, u64),
            _: &mut Context<Self>,
        ) -> Result<u64, ActorError> {
            if sender < SENDERS {
                assert_eq!(self.0[sender], n, "sender {sender}");
                self.0[sender] += 1;
            }
            Ok(self.0.iter().sum())
        }
    }
    let system = System::default();
    // Small, so that senders are blocked again and again.
    let order = system
        .spawn_with(capacity(16), || Ok(Order(vec![0; SENDERS])))
        .unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let order = order.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    order.tell((sender, n)).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(
        order.ask((SENDERS, 0)).await.unwrap(),
        SENDERS as u64 * EACH
    );
    assert_eq!((order.info().failed, order.info().depth), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn stop_overtakes_user_messages() {
    let system = System::default();
    let log = log();
    let (actor, gate) = gated(&system, &log, Options::default().name("p"));
    actor.tell(Do::Wait).await.unwrap();
    for text in ["a", "b", "c"] {
        actor.tell(Do::Note(text)).await.unwrap();
    }
    settle().await;
    actor.stop();
    gate.add_permits(1);
    let end = actor.ended().await;
    assert_eq!(end.reason, ExitReason::Stopped);
    assert_eq!(lines(&log), ["started p", "stopping p: stopped"]);
    let letters = system.dead_letters();
    let texts: Vec<_> = letters
        .iter()
        .map(|letter| letter.message.clone().unwrap())
        .collect();
    assert_eq!(
        texts,
        [Value::from("a"), Value::from("b"), Value::from("c")]
    );
    assert_eq!(
        letters[0].reason,
        DeadReason::ActorEnded(ExitReason::Stopped)
    );
}

#[tokio::test(start_paused = true)]
async fn an_actor_can_stop_itself() {
    let system = System::default();
    let actor = spawn(&system, &log(), Options::default());
    assert_eq!(actor.ask(Do::Stop).await.unwrap(), 0);
    assert_eq!(actor.ended().await.reason, ExitReason::Stopped);
}

#[tokio::test(start_paused = true)]
async fn drain_handles_what_is_there_and_takes_nothing_more() {
    let system = System::default();
    let log = log();
    let (actor, gate) = gated(&system, &log, capacity(3).name("p"));
    for message in [Do::Wait, Do::Note("a"), Do::Note("b")] {
        actor.tell(message).await.unwrap();
    }
    settle().await;
    actor.drain();
    assert!(matches!(
        actor.tell(Do::Note("c")).await,
        Err(TellError::Dead { .. })
    ));
    gate.add_permits(1);
    assert_eq!(actor.ended().await.reason, ExitReason::Stopped);
    assert_eq!(lines(&log), ["started p", "a", "b", "stopping p: stopped"]);
    assert_eq!(system.dead_letter_count(), 0);
}
