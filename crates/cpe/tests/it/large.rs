//! Large values, through nodes on loopback.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use cpe::{Ack, Bound, BoundReply, Field, Mark, SpaceError, Template, Terms, Tuple, Value};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::harness::{Ground, LONG};

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn named(name: &str) -> Template {
    Template::named(name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_is_whole_at_every_node() {
    let ground = Ground::new();
    let [a, b, c] = ground.three().await;
    let (large, text) = (bytes(5 << 20), "ä".repeat(100_000));
    a.space()
        .store("w", "film", Value::from(large.clone()))
        .await
        .unwrap();
    a.space()
        .store("w", "text", Value::from(text.clone()))
        .await
        .unwrap();
    let found = b.space().find("w", "film", LONG).await.unwrap();
    assert_eq!(found, Value::from(large.clone()));
    assert_eq!(
        c.space().fetch("w", "text", LONG).await.unwrap(),
        Value::from(text)
    );
    assert_eq!(
        c.space().fetch("w", "film", LONG).await.unwrap(),
        Value::from(large)
    );
    assert_eq!(a.space().fetch_try("w", "film", LONG).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_in_a_tuple_is_matched_by_kind_and_equality() {
    let ground = Ground::new();
    let [a, b, _c] = ground.three().await;
    let large = Value::from(bytes(100_000));
    let tuple = Tuple::new(vec!["job".into(), 1.into(), large.clone()]).unwrap();
    a.space().out("w", tuple.clone()).await.unwrap();
    let with = |field| {
        let fields = vec![Field::Actual("job".into()), Field::Any, field];
        Template::new(fields).unwrap()
    };
    let kind = with(Field::Typed(cpe::Kind::Bytes));
    let read = b.space().rd("w", kind.clone(), LONG).await;
    assert_eq!(read.unwrap(), tuple);
    let fresh = b.space().rd_fresh("w", kind, LONG).await;
    assert_eq!(fresh.unwrap(), tuple);
    let other = with(Field::Actual(Value::from(bytes(100_001))));
    assert_eq!(b.space().try_take("w", other, LONG).await.unwrap(), None);
    let same = with(Field::Actual(large));
    assert_eq!(b.space().take("w", same, LONG).await.unwrap(), tuple);
}

/// Takes so many bytes and then breaks.
struct Breaks(usize);

impl AsyncWrite for Breaks {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = self.0.min(bytes.len());
        self.0 -= taken;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_taken_and_not_read_to_its_end_goes_back() {
    const LEN: u64 = (20 << 20) + 3;
    let ground = Ground::new();
    let [a, b, _c] = ground.three().await;
    let source = tokio::io::repeat(7).take(LEN);
    let name = Value::from("film");
    let stored = a
        .space()
        .store_from("w", name, source, false, Ack::Home, LONG)
        .await;
    stored.unwrap();
    let broken = b
        .space()
        .fetch_into("w", named("film"), Breaks(1 << 20), LONG)
        .await;
    assert!(matches!(broken, Err(SpaceError::Body(_))), "{broken:?}");
    let mut copy = Vec::new();
    let written = b
        .space()
        .fetch_into("w", named("film"), &mut copy, LONG)
        .await
        .unwrap();
    assert_eq!(written, LEN);
    assert!(copy.len() as u64 == LEN && copy.iter().all(|byte| *byte == 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_checked_as_it_comes() {
    let ground = Ground::new();
    let node = ground.ephemeral("a").start().await.unwrap();
    let space = node.space();
    let mut text = "ä".repeat(400_000);
    text.insert(0, 'x');
    let put = space.put(text.as_bytes(), true).await.unwrap();
    assert_eq!(put.as_blob().unwrap().len(), text.len() as u64);
    let cut = space.put(&text.as_bytes()[..text.len() - 1], true).await;
    assert!(matches!(cut, Err(SpaceError::Body(_))), "{cut:?}");
    // What is small stays in its tuple.
    assert_eq!(
        space.put("ä".as_bytes(), true).await.unwrap(),
        Value::from("ä")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_outlives_a_restart() {
    let ground = Ground::new();
    let node = ground.durable("a").start().await.unwrap();
    let large = Value::from(bytes(1 << 20));
    node.space()
        .store("w", "film", large.clone())
        .await
        .unwrap();
    node.shutdown(LONG).await.unwrap();
    let node = ground.durable("a").start().await.unwrap();
    assert_eq!(node.space().fetch("w", "film", LONG).await.unwrap(), large);
    node.shutdown(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_too_large_for_memory_is_not_taken_but_by_streaming() {
    const LEN: u64 = (64 << 20) + 1;
    let ground = Ground::new();
    let node = ground.ephemeral("a").start().await.unwrap();
    let space = node.space();
    let source = tokio::io::repeat(7).take(LEN);
    let name = Value::from("film");
    let stored = space.store_from("w", name, source, false, Ack::Home, LONG);
    stored.await.unwrap();
    let refused = |error: SpaceError| {
        let error = error.to_string();
        assert!(error.contains("stream it"), "{error}");
    };
    refused(space.fetch("w", "film", LONG).await.unwrap_err());
    refused(space.take("w", named("film"), LONG).await.unwrap_err());
    let leased = space.fetch_leased("w", "film", LONG, LONG);
    refused(leased.await.unwrap_err());
    let sink = tokio::io::sink();
    let written = space.fetch_into("w", named("film"), sink, LONG).await;
    assert_eq!(written.unwrap(), LEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tuple_of_several_fields_too_large_for_memory_stays() {
    let ground = Ground::new();
    let node = ground.ephemeral("a").start().await.unwrap();
    let space = node.space();
    let film = space.put(tokio::io::repeat(7).take(5 << 20), false).await;
    let tuple = Tuple::new(vec!["job".into(), 1.into(), film.unwrap()]).unwrap();
    space.out("w", tuple.clone()).await.unwrap();
    let job = || Template::new(vec![Field::Actual("job".into()), Field::Any, Field::Any]).unwrap();
    let taken = space.take("w", job(), LONG).await;
    assert!(matches!(taken, Err(SpaceError::Body(_))), "{taken:?}");
    assert_eq!(space.rd("w", job(), LONG).await.unwrap(), tuple);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_take_hands_out_a_large_value_and_what_is_not_confirmed_goes_back() {
    let ground = Ground::new();
    let node = ground.ephemeral("a").start().await.unwrap();
    let space = node.space();
    let terms = Terms {
        instance: 1,
        after: None,
    };
    let variable = Value::from("film");
    let mode = None;
    let declare = Bound::Declare {
        variable: variable.clone(),
        mode,
    };
    space.bound("w", terms, declare, LONG).await.unwrap();
    let large = bytes(700 << 10);
    let mut writer = space.write_large().await.unwrap();
    for part in large.chunks(33_333) {
        writer.push(part).await.unwrap();
    }
    let blob = writer.finish(true).await.unwrap();
    assert!(!blob.is_text(), "it is not UTF-8");
    let mark = Mark {
        descriptor: Some(7),
        ..Mark::default()
    };
    let tuple = Tuple::named("film", Value::from(blob)).unwrap();
    let put = Bound::Put {
        tuple: tuple.with_mark(mark),
    };
    let (reply, _) = space.bound("w", terms, put, LONG).await.unwrap();
    assert_eq!(reply, BoundReply::Done);
    // A copy, one that is not confirmed, one that is.
    for (leave, confirms) in [(true, false), (false, false), (false, true)] {
        let variable = variable.clone();
        let take = Bound::Take {
            variable,
            // It comes back when its home has heard of it.
            wait: true,
            leave,
        };
        let (reply, receipt) = space.bound("w", terms, take, LONG).await.unwrap();
        let BoundReply::Tuple(Some(tuple)) = reply else {
            unreachable!("{reply:?}");
        };
        assert_eq!(tuple.mark().unwrap().descriptor, Some(7));
        let mut open = space.open_second("w", tuple).await.unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = open.chunk().await.unwrap() {
            read.extend_from_slice(&chunk);
        }
        assert!(read == large);
        assert_eq!(receipt.is_some(), !leave);
        if confirms {
            receipt.unwrap().confirm();
        }
    }
    assert_eq!(space.fetch_try("w", "film", LONG).await.unwrap(), None);
}
