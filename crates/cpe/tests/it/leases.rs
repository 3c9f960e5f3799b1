//! Leases through the library.

use std::time::Duration;

use cpe::{Failure, Fate, LeaseEnd, OpHandle, SpaceError, Template, Value};

use crate::harness::{Ground, LONG};

fn lost(result: Result<(), SpaceError>) -> LeaseEnd {
    match result {
        Err(SpaceError::Failed(Failure::LeaseLost { end, .. })) => end,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_committed_and_returned_from_any_node() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    for n in 1..=2 {
        a.space().store("w", "x", Value::from(n)).await.unwrap();
    }
    let first = b.space().fetch_leased("w", "x", LONG, LONG).await.unwrap();
    let second = b.space().fetch_leased("w", "x", LONG, LONG).await.unwrap();
    assert_eq!(first.value(), Ok(Value::from(1)));
    assert!(first.token() < second.token());
    let none = c.space().fetch_try_leased("w", "x", LONG, LONG).await;
    assert!(none.unwrap().is_none());
    let handle = first.handle().to_string().parse().unwrap();
    c.space().renew(handle, LONG).await.unwrap();
    c.space().commit(handle, LONG).await.unwrap();
    first.commit(LONG).await.unwrap();
    assert_eq!(lost(first.renew(LONG).await), LeaseEnd::Committed);
    second.give_back(LONG).await.unwrap();
    assert_eq!(lost(second.commit(LONG).await), LeaseEnd::Returned);
    let left = a.space().fetch("w", "x", LONG).await;
    assert_eq!(left, Ok(Value::from(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_dropped_ends_when_its_time_is_up() {
    let ground = Ground::new();
    let [a, b, _c] = ground.three().await;
    a.space().store("w", "x", Value::from(7)).await.unwrap();
    let ttl = Duration::from_millis(300);
    let leased = b.space().fetch_leased("w", "x", ttl, LONG).await.unwrap();
    let (handle, token) = (leased.handle(), leased.token());
    drop(leased);
    let again = a.space().fetch_leased("w", "x", LONG, LONG).await.unwrap();
    assert!(again.token() > token);
    let late = b.space().commit(handle, LONG).await;
    assert_eq!(lost(late), LeaseEnd::Expired);
    again.commit(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_leased_take_gives_its_tuple_back_at_once() {
    let ground = Ground::new();
    let [a, b, _c] = ground.three().await;
    a.space().store("w", "x", Value::from(7)).await.unwrap();
    let space = b.space();
    let mut taken = 0;
    // Dropped at every stage: before it is sent, on its way, decided, and answered.
    for step in 0..60 {
        let within = Duration::from_micros(step * 50);
        let template = Template::named("x").unwrap();
        let take = space.take_leased("w", template, LONG, LONG);
        if let Ok(leased) = tokio::time::timeout(within, take).await {
            taken += 1;
            leased.unwrap().commit(LONG).await.unwrap();
            space.store("w", "x", Value::from(7)).await.unwrap();
        }
    }
    let value = space.fetch("w", "x", LONG).await;
    assert_eq!(
        value,
        Ok(Value::from(7)),
        "after {taken} takes that were not dropped"
    );
    assert_eq!(a.space().fetch_try("w", "x", LONG).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_of_an_operation_is_asked_of_any_node() {
    let ground = Ground::new();
    let [a, b, _c] = ground.three().await;
    a.space().store("w", "x", Value::from(7)).await.unwrap();
    let leased = b.space().fetch_leased("w", "x", LONG, LONG).await.unwrap();
    let mut op: OpHandle = leased.handle().op();
    let fate = a.space().status(op, LONG).await.unwrap();
    let token = leased.token();
    assert!(
        matches!(fate, Fate::Forgotten) || fate == Fate::Leased { token },
        "{fate:?}"
    );
    op.op.seq += 1_000;
    assert_eq!(a.space().status(op, LONG).await, Ok(Fate::Open));
    let refused = b.space().status(op, LONG).await;
    let not_begun = matches!(refused, Err(SpaceError::Failed(Failure::Refused(_))));
    assert!(not_begun, "{refused:?}");
}
