//! Three nodes count primes together, and one of them leaves in the midst of it:
//! `cargo run -p cpe --example many_hands`.
//!
//! Sleigh puts the ranges into the space as tasks; workers on any node take them under a lease.
//! What a node had in hand when it left is done by another, and every range is counted once.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use cpe::sleigh::{Chunk, Job, Worker, imap};
use cpe::{MeshKey, Node, Value};

/// What an example may end with.
type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const MINUTE: Duration = Duration::from_secs(60);

/// In memory alone: whoever asks can ask again.
const WORKSPACE: &str = "tmp:primes";

/// Numbers in one element of the list.
const STEP: i64 = 1_000;

async fn node(name: &str, key: &str, at: Option<&Node>) -> Result<Node> {
    let node = Node::builder().name(name).ephemeral();
    let node = node.mesh_key(key).listen("/ip4/127.0.0.1/tcp/0");
    let node = match at {
        Some(first) => node.bootstrap(&first.addresses().join("")),
        None => node,
    };
    Ok(node.start().await?)
}

/// Has a node work until its worker is dropped.
fn work(node: &Node) -> tokio::task::AbortHandle {
    let worker = Worker::new(node.space(), WORKSPACE, "primes", node.name());
    let working = tokio::spawn(async move {
        let count = |value: Value| async move {
            let from = value.as_int().ok_or("an element is where a range begins")?;
            // On a thread of its own: whoever computes without awaiting keeps others waiting.
            let counting = tokio::task::spawn_blocking(move || primes(from, from + STEP));
            let count = counting.await.map_err(|error| error.to_string())?;
            Ok(Value::Int(count))
        };
        worker.run(count).await;
    });
    working.abort_handle()
}

fn primes(from: i64, to: i64) -> i64 {
    let is_prime = |n: &i64| *n >= 2 && (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    let count = (from..to).filter(is_prime).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How many primes there are below 200,000.
pub(crate) async fn run() -> Result<i64> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("mesh.key");
    MeshKey::generate().save(&key)?;
    let key = key.to_str().unwrap_or_default();
    let desk = node("desk", key, None).await?;
    let left = node("left", key, Some(&desk)).await?;
    let right = node("right", key, Some(&desk)).await?;
    desk.mesh().members(3, MINUTE).await?;
    let workers = [work(&desk), work(&left)];
    let leaves = work(&right);

    let space = desk.space();
    let mut job = Job::new(WORKSPACE, "primes", "primes-below-200000");
    job.chunk = Chunk::Of(2);
    let ranges = (0..200).map(|n| Value::Int(n * STEP));
    let mut map = imap(&space, job, futures::stream::iter(ranges));
    let mut total = 0;
    while let Some(done) = map.next().await? {
        total += done.outcome?.as_int().unwrap_or(0);
        if done.index == 20 {
            leaves.abort();
            println!("one node left after {} ranges", done.index + 1);
        }
    }
    println!("{total} primes, by {} workers", map.standing().workers);
    map.clean().await;
    for worker in workers {
        worker.abort();
    }
    for node in [right, left, desk] {
        node.shutdown(MINUTE).await?;
    }
    Ok(total)
}

#[tokio::main]
async fn main() -> Result {
    run().await?;
    Ok(())
}
