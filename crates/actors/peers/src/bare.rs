//! The bare side: a tokio task and a bounded channel.

use tokio::sync::{mpsc, oneshot};

use crate::{MAILBOX, Measure, Sample, Stopwatch, grown, resident};

type Told = mpsc::Sender<u64>;
type Asked = mpsc::Sender<(u64, oneshot::Sender<u64>)>;

/// Answers once its channel is closed.
fn told() -> (Told, tokio::task::JoinHandle<u64>) {
    let (sender, mut receiver) = mpsc::channel::<u64>(MAILBOX);
    let task = tokio::spawn(async move {
        let mut sum = 0_u64;
        while let Some(n) = receiver.recv().await {
            sum = sum.wrapping_add(n);
        }
        sum
    });
    (sender, task)
}

fn asked(mut sum: u64) -> Asked {
    let (sender, mut receiver) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(MAILBOX);
    tokio::spawn(async move {
        while let Some((n, reply)) = receiver.recv().await {
            sum = sum.wrapping_add(n);
            let _ = reply.send(sum);
        }
    });
    sender
}

async fn ask(task: &Asked, n: u64) -> u64 {
    let (reply, answer) = oneshot::channel();
    task.send((n, reply)).await.expect("it lives");
    answer.await.expect("it answers")
}

pub(crate) async fn run(measure: Measure, count: u64) -> Sample {
    match measure {
        Measure::Tell => {
            let (sender, task) = told();
            let watch = Stopwatch::start(count);
            for n in 0..count {
                sender.send(n).await.expect("it lives");
            }
            drop(sender);
            assert_eq!(task.await.expect("it ends"), count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Ask => {
            let task = asked(0);
            let watch = Stopwatch::start(count);
            let mut last = 0;
            for n in 0..count {
                last = ask(&task, n).await;
            }
            assert_eq!(last, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Spawn => {
            let mut all = Vec::with_capacity(count as usize);
            let watch = Stopwatch::start(count);
            all.extend((0..count).map(asked));
            let last = ask(all.last().expect("there is one"), 0).await;
            assert_eq!(last, count - 1);
            watch.stop()
        }
        Measure::Idle => {
            let mut all = Vec::with_capacity(count as usize);
            let before = resident();
            all.extend((0..count).map(asked));
            for task in &all {
                ask(task, 1).await;
            }
            grown(before, count)
        }
    }
}
