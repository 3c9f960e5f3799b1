use cpe_actors::{AsActor, KindRegistry, Options, System};
use cpe_membership::{Incarnation, NodeId};
use cpe_space::{Name, Session};
use cpe_tuple::Value;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::moving::TakenIn;
use super::*;
use crate::actors::envelope::Told;

fn member(node: u64) -> Member {
    Member {
        node: NodeId(node),
        inc: Incarnation(1),
    }
}

fn number(seq: u64) -> Number {
    let sender = Session {
        member: member(7),
        boot: 1,
    };
    Number {
        sender,
        seq,
        low: 1,
        actor: None,
        take: None,
    }
}

fn echo(inbox: &Arc<Inbox>) -> AnyAddress {
    let kinds = KindRegistry::with_builtin();
    let system = System::default();
    let spawned = kinds.spawn(&system, "echo", Options::default(), Value::Null);
    let address = spawned.unwrap();
    inbox.serve(address.clone());
    address
}

fn inbox(from: Option<Member>) -> Arc<Inbox> {
    let (tasks, system) = (TaskTracker::new(), System::default());
    Inbox::new(("a", 1), (&tasks, &system), None, from)
}

fn told(seq: u64) -> Told {
    let (number, message) = (number(seq), Value::from(1));
    Told { number, message }
}

fn is_done(taken: TakenIn, passed: &[u64]) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let passed = passed.to_vec();
        assert_eq!(taken.answer().await, Answer::Forwarded { passed });
    })
}

#[tokio::test]
async fn what_is_handled_and_lasts_is_not_handled_again() {
    let inbox = inbox(None);
    echo(&inbox);
    let ask = |seq| inbox.deliver(number(seq), false, false, Value::from(5));
    let asked = ask(1).unwrap();
    let again = ask(1).unwrap();
    assert_eq!(asked.await.unwrap(), Answer::Value(Value::from(5)));
    assert_eq!(again.await.unwrap(), Answer::Value(Value::from(5)));
    inbox.lasts(&[number(2).marked()]);
    assert_eq!(ask(2).unwrap_err(), Answer::Handled);
    assert!(
        ask(1).is_ok(),
        "an earlier one that was overtaken is another"
    );
}

#[tokio::test]
async fn what_two_nodes_send_for_one_actor_under_one_number_is_one_message() {
    let inbox = inbox(None);
    echo(&inbox);
    let of = |node, n| Number {
        sender: Session {
            member: member(node),
            boot: 1,
        },
        seq: n,
        low: n,
        actor: Some((Name::new("b").unwrap(), 3)),
        take: None,
    };
    let ask = |number| inbox.deliver(number, false, false, Value::from(5));
    let asked = ask(of(1, 4)).unwrap();
    assert_eq!(asked.await.unwrap(), Answer::Value(Value::from(5)));
    inbox.lasts(&[of(1, 4).marked()]);
    assert_eq!(ask(of(2, 4)).unwrap_err(), Answer::Handled);
    assert_eq!(ask(of(2, 3)).unwrap_err(), Answer::Handled, "told before");
    assert!(ask(of(2, 5)).is_ok());
    assert!(ask(number(4)).is_ok(), "a node's own number is another");
}

#[tokio::test]
async fn what_comes_directly_waits_for_what_the_former_host_sends_on() {
    let inbox = inbox(Some(member(1)));
    echo(&inbox);
    let ask = |seq| inbox.deliver(number(seq), false, false, Value::from(1));
    let mut direct = ask(9).unwrap();
    let sent_on = inbox.take_in(NodeId(1), vec![told(1), told(2)]).unwrap();
    is_done(sent_on, &[]).await;
    assert!(inbox.is_holding() && direct.try_recv().is_err());
    inbox.open();
    assert_eq!(direct.await.unwrap(), Answer::Value(Value::from(1)));
}

#[tokio::test]
async fn what_is_sent_on_and_comes_directly_too_does_not_wait_for_itself() {
    let inbox = inbox(Some(member(1)));
    echo(&inbox);
    let direct = inbox.deliver(number(2), true, false, Value::Null);
    assert_eq!(direct.unwrap_err(), Answer::Done);
    let sent_on = inbox.take_in(NodeId(1), vec![told(1), told(2)]).unwrap();
    assert_eq!(sent_on.waits.len(), 2);
    is_done(sent_on, &[]).await;
}

#[tokio::test]
async fn however_much_comes_directly_there_is_room_for_what_is_sent_on() {
    let inbox = inbox(Some(member(1)));
    echo(&inbox);
    let tell = |seq| inbox.deliver(number(seq), true, false, Value::Null);
    for seq in 1_001..1_000 + WAITING_MAX as u64 {
        assert_eq!(tell(seq).unwrap_err(), Answer::Done);
    }
    let last = inbox.deliver(number(9_000), false, false, Value::from(7));
    let full = tell(9_001).unwrap_err();
    assert!(matches!(full, Answer::Asked(AskError::Full { .. })));
    let sent_on = (1..=300).map(told).collect();
    is_done(inbox.take_in(NodeId(1), sent_on).unwrap(), &[]).await;
    inbox.open();
    let last = last.unwrap().await;
    assert_eq!(last.unwrap(), Answer::Value(Value::from(7)));
}

#[tokio::test]
async fn what_is_sent_on_twice_is_handled_once_and_what_comes_too_late_is_told_apart() {
    let inbox = inbox(Some(member(1)));
    echo(&inbox);
    inbox.lasts(&[number(1).marked(), number(3).marked()]);
    // As long as it is waited for nothing of it can have been overtaken.
    let taken = inbox.take_in(NodeId(1), vec![told(1), told(2)]).unwrap();
    assert_eq!(taken.waits.len(), 1, "the first was handled");
    is_done(taken, &[]).await;
    inbox.open();
    let taken = inbox.take_in(NodeId(1), vec![told(1), told(2), told(4)]);
    is_done(taken.unwrap(), &[1]).await;
}

#[tokio::test]
async fn what_a_sender_will_not_send_again_is_above_what_waits_here() {
    let inbox = inbox(None);
    // Nobody is there to take them.
    let tell = |seq, low| {
        let number = Number { low, ..number(seq) };
        inbox.deliver(number, true, false, Value::Null)
    };
    assert_eq!(tell(3, 1).unwrap_err(), Answer::Done);
    assert_eq!(tell(90, 26).unwrap_err(), Answer::Done);
    let marked = inbox.marked(&[2]);
    assert_eq!((marked[0].seq, marked[0].low), (90, 3));
}

#[tokio::test]
async fn what_comes_while_an_actor_moves_goes_after_it_in_order() {
    let inbox = inbox(None);
    let address = echo(&inbox);
    let now = Instant::now();
    assert_eq!(inbox.begin_move(now).await, Ok(()));
    assert!(inbox.begin_move(now).await.is_err());
    inbox.left.store(true, Ordering::Relaxed);
    address.stop();
    address.as_actor().ended().await;
    let asked = inbox.deliver(number(3), false, false, Value::Null).unwrap();
    for seq in [2, 5] {
        let told = inbox.deliver(number(seq), true, false, Value::Null);
        assert_eq!(told.unwrap_err(), Answer::Done);
    }
    let told = inbox.leave(member(2), 7);
    let seqs: Vec<u64> = told.iter().map(|told| told.number.seq).collect();
    assert_eq!(seqs, [2, 5]);
    let (host, token) = (member(2), 7);
    let there = Answer::Elsewhere { host, token };
    assert_eq!(asked.await.unwrap(), there, "it asks there itself");
    let late = inbox.deliver(number(4), false, false, Value::Null);
    assert_eq!(late.unwrap_err(), Answer::NotHere);
}

#[tokio::test]
async fn an_actor_that_stays_takes_what_came_meanwhile() {
    let inbox = inbox(None);
    echo(&inbox);
    inbox.begin_move(Instant::now()).await.unwrap();
    let mut asked = inbox
        .deliver(number(1), false, false, Value::from(1))
        .unwrap();
    assert!(asked.try_recv().is_err());
    inbox.stay();
    assert_eq!(asked.await.unwrap(), Answer::Value(Value::from(1)));
}

#[tokio::test]
async fn what_was_told_and_nobody_will_handle_is_a_dead_letter() {
    let inbox = inbox(Some(member(1)));
    echo(&inbox);
    let told_here = inbox.deliver(number(9), true, false, Value::from(4));
    assert_eq!(told_here.unwrap_err(), Answer::Done);
    inbox.begin_move(Instant::now()).await.unwrap_err();
    // The former host has this one still.
    let asked = inbox.deliver(number(8), false, false, Value::Null).unwrap();
    let system = inbox.system.clone();
    drop(inbox);
    assert_eq!(asked.await.unwrap(), Answer::NotHere);
    let letters = system.dead_letters();
    let messages: Vec<_> = letters.into_iter().map(|it| it.message).collect();
    assert_eq!(messages, [Some(Value::from(4))]);
}
