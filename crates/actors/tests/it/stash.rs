//! Messages put aside, and messages taken together.

use std::sync::Arc;

use cpe_actors::{
    Actor, ActorError, Address, AskError, Batch, Context, Options, Poisoned, Supervision, System,
};
use cpe_tuple::Value;

use crate::{Log, SECOND, capacity, lines, log, settle};

/// Closed at first; messages that come before it is opened wait.
struct Door {
    open: bool,
    log: Log,
}

enum AtDoor {
    Knock(&'static str),
    Open,
    Fail,
}

impl Actor for Door {
    type Message = AtDoor;
    type Reply = usize;

    async fn handle(
        &mut self,
        message: AtDoor,
        ctx: &mut Context<Self>,
    ) -> Result<usize, ActorError> {
        match message {
            AtDoor::Knock(_) if !self.open => return Err(ctx.stash(message)),
            AtDoor::Knock(name) => self.log.lock().unwrap().push(name.to_owned()),
            AtDoor::Open => {
                self.open = true;
                ctx.unstash();
            }
            AtDoor::Fail => return Err(ActorError::failed("slammed")),
        }
        Ok(self.log.lock().unwrap().len())
    }

    fn describe(message: &AtDoor) -> Option<Value> {
        match message {
            AtDoor::Knock(name) => Some(Value::from(*name)),
            _ => None,
        }
    }
}

fn door(system: &System, log: &Log, options: Options) -> Address<AtDoor, usize> {
    let log = Arc::clone(log);
    let make = move || {
        Ok(Door {
            open: false,
            log: Arc::clone(&log),
        })
    };
    system.spawn_with(options, make).unwrap()
}

#[tokio::test(start_paused = true)]
async fn stashed_messages_come_back_in_order_and_their_askers_are_answered() {
    let (system, log) = (System::default(), log());
    let door = door(&system, &log, Options::default());
    let asker = tokio::spawn({
        let door = door.clone();
        async move { door.ask(AtDoor::Knock("first")).await }
    });
    settle().await;
    door.tell(AtDoor::Knock("second")).await.unwrap();
    settle().await;
    assert!(lines(&log).is_empty());
    let info = door.info();
    assert_eq!((info.stashed, info.depth, info.handled), (2, 0, 0));
    for message in [AtDoor::Open, AtDoor::Knock("third")] {
        door.tell(message).await.unwrap();
    }
    assert_eq!(asker.await.unwrap(), Ok(1));
    settle().await;
    assert_eq!(lines(&log), ["first", "second", "third"]);
    assert_eq!(door.info().stashed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_stash_refuses_and_the_end_makes_it_dead_letters() {
    let (system, log) = (System::default(), log());
    let door = door(&system, &log, capacity(2).name("door"));
    for name in ["a", "b"] {
        door.tell(AtDoor::Knock(name)).await.unwrap();
        settle().await;
    }
    let error = door.ask(AtDoor::Knock("c")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "door refused the message: its stash is full: 2 messages wait in it"
    );
    // A restart has them handled by the new instance, which is closed as well.
    door.ask(AtDoor::Fail).await.unwrap_err();
    tokio::time::sleep(SECOND).await;
    assert_eq!((door.info().restarts, door.info().stashed), (1, 2));
    door.stop();
    door.ended().await;
    let letters: Vec<_> = system.dead_letters().into_iter().skip(1).collect();
    let texts: Vec<_> = letters.iter().filter_map(|it| it.message.clone()).collect();
    assert_eq!(texts, [Value::from("a"), Value::from("b")]);
}

/// Notes the sizes of its batches; answers each message with the size of its own.
struct Bulk(Log);

impl Actor for Bulk {
    type Message = i64;
    type Reply = usize;
    const BATCH: usize = 3;

    async fn handle(&mut self, _: i64, _: &mut Context<Self>) -> Result<usize, ActorError> {
        unreachable!("batches are taken")
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<'_, i64, usize>,
        _: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        let mut all = Vec::new();
        while let Some((item, n)) = batch.next() {
            if n == 13 {
                return Err(ActorError::failed("thirteen"));
            }
            if n < 0 {
                batch.refuse(item, "negative");
            } else if n != 7 {
                all.push(item);
            }
        }
        for item in &all {
            batch.answer(*item, all.len());
        }
        self.0.lock().unwrap().push(format!("{}", all.len()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_what_waits_up_to_its_limit() {
    let (system, log) = (System::default(), log());
    let bulk = system.spawn_named("bulk", Bulk(Arc::clone(&log))).unwrap();
    let asks = (0..7).map(|n| bulk.ask(n));
    let answers: Vec<_> = futures::future::join_all(asks).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(lines(&log), ["3", "3", "1"]);
    assert_eq!(answers, [3, 3, 3, 3, 3, 3, 1]);
    assert_eq!(bulk.info().handled, 7);
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_each_message_by_its_own_fate() {
    let (system, log) = (System::default(), log());
    let options = Options::default()
        .name("bulk")
        .supervision(Supervision::restart());
    let held = Arc::clone(&log);
    let make = move || Ok(Bulk(Arc::clone(&held)));
    let bulk = system.spawn_with(options, make).unwrap();
    let asks = [1, -1, 7].map(|n| bulk.ask(n));
    let answers: Vec<_> = futures::future::join_all(asks).await;
    let actor = || "bulk".to_owned();
    let refused = AskError::Refused {
        actor: actor(),
        reason: "negative".to_owned(),
    };
    assert_eq!(
        answers,
        [
            Ok(1),
            Err(refused),
            Err(AskError::Unanswered { actor: actor() })
        ]
    );
    // What was taken fails; what was not is handled by the next instance.
    let asks = [2, 13, 3, 4].map(|n| bulk.ask(n));
    let answers: Vec<_> = futures::future::join_all(asks).await;
    let failed = || AskError::Failed {
        actor: actor(),
        reason: "thirteen".to_owned(),
    };
    assert_eq!(answers, [Err(failed()), Err(failed()), Ok(2), Ok(2)]);
    assert_eq!(bulk.info().restarts, 1);
}

/// Sends what it gets to a worker, and notes what comes back.
struct Boss(Address<u32, ()>, Log);

impl Actor for Boss {
    type Message = u32;
    type Reply = ();

    async fn handle(&mut self, n: u32, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        Ok(ctx.tell(&self.0, n).await?)
    }

    async fn returned(
        &mut self,
        poisoned: Poisoned,
        _: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        let text = format!("{}: {}", poisoned.actor, poisoned.reason);
        let n = poisoned.into_message::<u32>().unwrap();
        self.1.lock().unwrap().push(format!("{n} {text}"));
        Ok(())
    }
}

struct Picky;

impl Actor for Picky {
    type Message = u32;
    type Reply = ();

    async fn handle(&mut self, n: u32, _: &mut Context<Self>) -> Result<(), ActorError> {
        assert_ne!(n, 13, "unlucky");
        Ok(())
    }

    fn keep(n: &u32) -> Option<u32> {
        Some(*n)
    }
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_message_comes_back_to_the_actor_that_sent_it() {
    let (system, log) = (System::default(), log());
    let options = Options::default().name("picky");
    let picky = system.spawn_with(options, || Ok(Picky)).unwrap();
    let boss = system.spawn(Boss(picky.clone(), Arc::clone(&log))).unwrap();
    for n in [12, 13, 14] {
        boss.tell(n).await.unwrap();
    }
    tokio::time::sleep(SECOND).await;
    let lines = lines(&log);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("13 picky: panicked: "), "{lines:?}");
    assert_eq!((picky.info().handled, picky.info().failed), (2, 2));
    assert_eq!(system.dead_letter_count(), 1);
}
