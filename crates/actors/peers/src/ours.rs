//! The side of `cpe-actors`.

use cpe_actors::{Actor, ActorError, Address, Context, System};

use crate::{Measure, Sample, Stopwatch, grown, resident};

struct Sum(u64);

impl Actor for Sum {
    type Message = u64;
    type Reply = u64;

    async fn handle(&mut self, n: u64, _: &mut Context<Self>) -> Result<u64, ActorError> {
        self.0 = self.0.wrapping_add(n);
        Ok(self.0)
    }
}

fn spawn(system: &System, n: u64) -> Address<u64, u64> {
    system.spawn(Sum(n)).expect("there is room")
}

pub(crate) async fn run(measure: Measure, count: u64) -> Sample {
    let system = System::default();
    match measure {
        Measure::Tell => {
            let sum = spawn(&system, 0);
            let watch = Stopwatch::start(count);
            for n in 0..count {
                sum.tell(n).await.expect("it lives");
            }
            let total = sum.ask(0).await.expect("it answers");
            assert_eq!(total, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Ask => {
            let sum = spawn(&system, 0);
            let watch = Stopwatch::start(count);
            let mut last = 0;
            for n in 0..count {
                last = sum.ask(n).await.expect("it answers");
            }
            assert_eq!(last, count * (count - 1) / 2);
            watch.stop()
        }
        Measure::Spawn => {
            let mut all = Vec::with_capacity(count as usize);
            let watch = Stopwatch::start(count);
            all.extend((0..count).map(|n| spawn(&system, n)));
            let last = all.last().expect("there is one").ask(0).await;
            assert_eq!(last.expect("it answers"), count - 1);
            watch.stop()
        }
        Measure::Idle => {
            let mut all = Vec::with_capacity(count as usize);
            let before = resident();
            all.extend((0..count).map(|n| spawn(&system, n)));
            for sum in &all {
                sum.ask(1).await.expect("it answers");
            }
            grown(before, count)
        }
    }
}
