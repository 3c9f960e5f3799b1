//! Resident memory per idle actor, beside a bare tokio task with a channel.
//!
//! ```text
//! cargo run --release -p cpe-actors --example idle_memory -- [actors|tasks] [count]
//! ```
//!
//! One side per process, so that neither reuses the other's memory. Linux only: it reads `/proc`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example reports on stdout"
)]

use cpe_actors::{Actor, ActorError, Context, System};
use tokio::sync::mpsc;

struct Idle(u64);

impl Actor for Idle {
    type Message = u64;
    type Reply = u64;

    async fn handle(&mut self, n: u64, _: &mut Context<Self>) -> Result<u64, ActorError> {
        self.0 += n;
        Ok(self.0)
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let side = arguments.next().unwrap_or_else(|| "actors".to_owned());
    let count: usize = arguments
        .next()
        .map_or(100_000, |count| count.parse().unwrap());
    let before;
    let after;
    if side == "tasks" {
        let mut all = Vec::with_capacity(count);
        before = resident_bytes();
        for start in 0..count as u64 {
            let (sender, mut receiver) = mpsc::channel::<u64>(1_024);
            all.push(sender);
            tokio::spawn(async move {
                let mut sum = start;
                while let Some(n) = receiver.recv().await {
                    sum += n;
                }
                sum
            });
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        after = resident_bytes();
        drop(all);
    } else {
        let system = System::default();
        let mut all = Vec::with_capacity(count);
        before = resident_bytes();
        for n in 0..count as u64 {
            all.push(system.spawn(Idle(n)).unwrap());
        }
        for address in &all {
            address.ask(1).await.unwrap();
        }
        after = resident_bytes();
    }
    println!(
        "{side}: {count} idle, {} bytes each",
        (after - before) / count
    );
}
