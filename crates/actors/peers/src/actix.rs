//! The side of actix, whose actors live on one thread each: with two threads, the sender is on one
//! and the actors are on the other.

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, System};

use crate::{Measure, Sample, Stopwatch, grown, resident};

struct Sum(u64);

#[derive(Message)]
#[rtype(u64)]
struct Add(u64);

impl Actor for Sum {
    type Context = Context<Self>;
}

impl Handler<Add> for Sum {
    type Result = u64;

    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
        self.0 = self.0.wrapping_add(n);
        self.0
    }
}

pub(crate) fn run(measure: Measure, threads: usize, count: u64) -> Sample {
    let system = System::new();
    system.block_on(async move {
        let other = (threads > 1).then(Arbiter::new);
        let sample = on_system(measure, other.as_ref(), count).await;
        if let Some(other) = other {
            other.stop();
        }
        sample
    })
}

async fn on_system(measure: Measure, other: Option<&Arbiter>, count: u64) -> Sample {
    let spawn = |n| match other {
        Some(other) => Sum::start_in_arbiter(&other.handle(), move |_| Sum(n)),
        None => Sum(n).start(),
    };
    let mut all: Vec<Addr<Sum>> = Vec::with_capacity(count as usize);
    match measure {
        Measure::Tell => {
            let sum = spawn(0);
            let watch = Stopwatch::start(count);
            for n in 0..count {
                sum.do_send(Add(n));
            }
            let total = sum.send(Add(0)).await.expect("it answers");
            assert_eq!(total, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Ask => {
            let sum = spawn(0);
            let watch = Stopwatch::start(count);
            let mut last = 0;
            for n in 0..count {
                last = sum.send(Add(n)).await.expect("it answers");
            }
            assert_eq!(last, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Spawn => {
            let watch = Stopwatch::start(count);
            all.extend((0..count).map(spawn));
            let last = all.last().expect("there is one").send(Add(0)).await;
            assert_eq!(last.expect("it answers"), count - 1);
            watch.stop()
        }
        Measure::Idle => {
            let before = resident();
            all.extend((0..count).map(spawn));
            for sum in &all {
                sum.send(Add(1)).await.expect("it answers");
            }
            grown(before, count)
        }
    }
}
