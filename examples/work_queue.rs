//! A work queue: an elastic pool counts primes, a job is poison, a worker is killed, and nothing is
//! lost: `cargo run -p cpe-actors --example work_queue`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use cpe_actors::{Actor, ActorError, AskError, Context, DEFAULT_DEADLINE, PoolOptions, System};
use futures::future::join_all;

struct Counter;

impl Actor for Counter {
    type Message = Range<u32>;
    type Reply = usize;

    async fn handle(
        &mut self,
        range: Range<u32>,
        ctx: &mut Context<Self>,
    ) -> Result<usize, ActorError> {
        assert!(!range.is_empty(), "nothing to count");
        // On a thread of its own: an actor that computes without awaiting keeps others waiting.
        let count = ctx.blocking(move || range.filter(|n| is_prime(*n)).count());
        count.await
    }

    /// With a copy, a job outlives the worker that had it in hand, and is given out again.
    fn keep(range: &Range<u32>) -> Option<Range<u32>> {
        Some(range.clone())
    }
}

fn is_prime(n: u32) -> bool {
    n >= 2
        && (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
}

/// How many primes there are below 100,000, and what became of the empty job.
pub(crate) async fn run() -> Result<(usize, AskError), ActorError> {
    let system = System::default();
    let (one, four) = (NonZeroUsize::MIN, NonZeroUsize::MIN.saturating_add(3));
    let options = PoolOptions::elastic(one, four)
        .name("counters")
        .idle(Duration::from_secs(1));
    let pool = system.spawn_pool(options, || Ok(Counter))?;

    let jobs = (0..100_u32)
        .map(|job| pool.ask_within(DEFAULT_DEADLINE * 12, job * 1_000..(job + 1) * 1_000));
    let accident = async {
        tokio::task::yield_now().await;
        if let Some(worker) = system.find_ref("counters/0") {
            worker.kill();
            println!("{} was killed", worker.label());
        }
    };
    let (counts, poison, ()) = tokio::join!(join_all(jobs), pool.ask(7..7), accident);
    let total = counts.into_iter().sum::<Result<usize, _>>()?;
    println!("{total} primes below 100,000, by {} workers", pool.len());
    let Err(poison) = poison else {
        return Err(ActorError::failed("the empty job was counted"));
    };
    println!("the empty job: {poison}");
    system.shutdown(Duration::from_secs(5)).await;
    Ok((total, poison))
}

#[tokio::main]
async fn main() {
    if let Err(error) = run().await {
        println!("failed: {error}");
    }
}
