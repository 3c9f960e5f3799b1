//! The side of ractor.

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::{Measure, Sample, Stopwatch, grown, resident};

struct Sum;

enum Add {
    Tell(u64),
    Ask(u64, RpcReplyPort<u64>),
}

impl Actor for Sum {
    type Msg = Add;
    type State = u64;
    type Arguments = u64;

    async fn pre_start(&self, _: ActorRef<Add>, n: u64) -> Result<u64, ActorProcessingErr> {
        Ok(n)
    }

    async fn handle(
        &self,
        _: ActorRef<Add>,
        message: Add,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Add::Tell(n) => *sum = sum.wrapping_add(n),
            Add::Ask(n, reply) => {
                *sum = sum.wrapping_add(n);
                reply.send(*sum)?;
            }
        }
        Ok(())
    }
}

async fn spawn(n: u64) -> ActorRef<Add> {
    let (sum, _) = Actor::spawn(None, Sum, n).await.expect("it starts");
    sum
}

async fn ask(sum: &ActorRef<Add>, n: u64) -> u64 {
    ractor::call!(sum, Add::Ask, n).expect("it answers")
}

pub(crate) async fn run(measure: Measure, count: u64) -> Sample {
    match measure {
        Measure::Tell => {
            let sum = spawn(0).await;
            let watch = Stopwatch::start(count);
            for n in 0..count {
                sum.cast(Add::Tell(n)).expect("it lives");
            }
            assert_eq!(ask(&sum, 0).await, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Ask => {
            let sum = spawn(0).await;
            let watch = Stopwatch::start(count);
            let mut last = 0;
            for n in 0..count {
                last = ask(&sum, n).await;
            }
            assert_eq!(last, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Spawn => {
            let mut all = Vec::with_capacity(count as usize);
            let watch = Stopwatch::start(count);
            for n in 0..count {
                all.push(spawn(n).await);
            }
            let last = ask(all.last().expect("there is one"), 0).await;
            assert_eq!(last, count - 1);
            watch.stop()
        }
        Measure::Idle => {
            let mut all = Vec::with_capacity(count as usize);
            let before = resident();
            for n in 0..count {
                all.push(spawn(n).await);
            }
            for sum in &all {
                ask(sum, 1).await;
            }
            grown(before, count)
        }
    }
}
