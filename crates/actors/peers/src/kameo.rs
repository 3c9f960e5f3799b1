//! The side of kameo.

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};

use crate::{MAILBOX, Measure, Sample, Stopwatch, grown, resident};

#[derive(Actor)]
struct Sum(u64);

struct Add(u64);

impl Message<Add> for Sum {
    type Reply = u64;

    async fn handle(&mut self, Add(n): Add, _: &mut Context<Self, Self::Reply>) -> u64 {
        self.0 = self.0.wrapping_add(n);
        self.0
    }
}

fn spawn(n: u64) -> ActorRef<Sum> {
    Sum::spawn_with_mailbox(Sum(n), mailbox::bounded(MAILBOX))
}

pub(crate) async fn run(measure: Measure, count: u64) -> Sample {
    match measure {
        Measure::Tell => {
            let sum = spawn(0);
            let watch = Stopwatch::start(count);
            for n in 0..count {
                sum.tell(Add(n)).await.expect("it lives");
            }
            let total = sum.ask(Add(0)).await.expect("it answers");
            assert_eq!(total, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Ask => {
            let sum = spawn(0);
            let watch = Stopwatch::start(count);
            let mut last = 0;
            for n in 0..count {
                last = sum.ask(Add(n)).await.expect("it answers");
            }
            assert_eq!(last, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Spawn => {
            let mut all = Vec::with_capacity(count as usize);
            let watch = Stopwatch::start(count);
            all.extend((0..count).map(spawn));
            let last = all.last().expect("there is one").ask(Add(0)).await;
            assert_eq!(last.expect("it answers"), count - 1);
            watch.stop()
        }
        Measure::Idle => {
            let mut all = Vec::with_capacity(count as usize);
            let before = resident();
            all.extend((0..count).map(spawn));
            for sum in &all {
                sum.ask(Add(1)).await.expect("it answers");
            }
            grown(before, count)
        }
    }
}
