//! Effects that happen once, over `kill -9`: `cargo run -p cpe --example ledger`.
//!
//! A clerk books what it is told: it puts an entry into the space and tells the till, which counts.
//! Both are asked for in the commit that changes the clerk's own state, so each entry is there
//! once, although the clerk's process is killed in the middle of its work again and again.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::env;
use std::process::Child;
use std::sync::atomic::{AtomicI64, Ordering};

use cpe::local::Effect;
use cpe::prelude::*;
use cpe::{Address, state_is_self};
use serde::{Deserialize, Serialize};

mod processes;
use processes::{MINUTE, Result, be_a_node, begin, builder, end, kill_host_of};

#[derive(Default, Serialize, Deserialize)]
struct Clerk {
    booked: i64,
}

impl Actor for Clerk {
    type Message = i64;
    type Reply = i64;
    state_is_self!();

    async fn handle(&mut self, amount: i64, ctx: &mut Context<Self>) -> Result<i64, ActorError> {
        self.booked += 1;
        let entry = vec![Value::from("entry"), self.booked.into(), amount.into()];
        let tuple = Tuple::new(entry).map_err(|error| ActorError::refused(error.to_string()))?;
        ctx.effect(Effect::Out {
            workspace: "ledger".to_owned(),
            tuple,
        })?;
        ctx.effect(Effect::Tell {
            actor: "till".to_owned(),
            message: Value::Map(BTreeMap::from([("add".to_owned(), amount.into())])),
        })?;
        Ok(self.booked)
    }
}

/// How often the clerk's process is killed.
const KILLS: i64 = 4;

/// Amounts that are booked: 1, 2, 3 and so on.
const AMOUNTS: i64 = 60;

/// Tells the clerk each amount, one after the other. Only the answer may be lost.
async fn tell_all(here: &Node, told: &AtomicI64) -> Result<i64> {
    let (actors, clerk) = (here.actors(), Address::<i64, i64>::new("clerk"));
    let mut lost = 0;
    for amount in 1..=AMOUNTS {
        match clerk.ask(&actors, &amount, MINUTE).await {
            Ok(_) => {}
            Err(ActorsError::AnswerLost { .. }) => lost += 1,
            Err(error) => return Err(error.into()),
        }
        told.store(amount, Ordering::Relaxed);
    }
    Ok(lost)
}

/// Kills the process that the clerk lives in, and starts it anew.
async fn kill_them(
    here: &Node,
    folder: &str,
    processes: &mut BTreeMap<String, Child>,
    told: &AtomicI64,
) -> Result {
    for kill in 1..=KILLS {
        while told.load(Ordering::Relaxed) < kill * AMOUNTS / (KILLS + 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let name = kill_host_of("clerk", here, folder, processes).await?;
        println!("killed {name} at {}", told.load(Ordering::Relaxed));
    }
    Ok(())
}

async fn show() -> Result {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().to_str().unwrap_or_default();
    let (here, mut processes) = begin(folder).await?;
    let durable = |node: &str| SpawnOptions {
        durable: true,
        node: Some(node.to_owned()),
        ..SpawnOptions::default()
    };
    let actors = here.actors();
    let till = actors.spawn("counter", "till", Value::Null, durable("two"));
    till.await?;
    let clerk = actors.spawn("clerk", "clerk", Value::Null, durable("one"));
    clerk.await?;

    let told = AtomicI64::new(0);
    let telling = tell_all(&here, &told);
    let killing = kill_them(&here, folder, &mut processes, &told);
    let (lost, ()) = tokio::try_join!(telling, killing)?;
    println!("told {AMOUNTS}, of which {lost} answers were lost");

    // What is committed is done in a moment; whatever would be done twice, too.
    let entry = Value::from("entry");
    let last = [entry.clone(), AMOUNTS.into()].map(Field::from);
    let template = Template::new(last.into_iter().chain([Field::Any]).collect())?;
    let space = here.space();
    space.rd_fresh("ledger", template, MINUTE).await?;
    let sum = Value::from(AMOUNTS * (AMOUNTS + 1) / 2);
    let deadline = tokio::time::Instant::now() + MINUTE;
    let counted = loop {
        let total = actors.ask("till", Value::from("get"), MINUTE).await?;
        if total == sum || tokio::time::Instant::now() > deadline {
            break total;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let entries = space.browse("ledger", entry, 1_000).await?;
    let field = |tuple: &Tuple, n: usize| tuple.fields().get(n).and_then(Value::as_int);
    let booked: Vec<_> = entries
        .iter()
        .map(|it| (field(it, 1), field(it, 2)))
        .collect();
    let wanted: Vec<_> = (1..=AMOUNTS).map(|n| (Some(n), Some(n))).collect();
    println!("each entry is there once, in order: {}", booked == wanted);
    println!("the till counts {counted:?} of {sum:?}");
    end(here, processes).await
}

#[tokio::main]
async fn main() -> Result {
    let args: Vec<_> = env::args().skip(1).collect();
    let [name, folder, at] = args.as_slice() else {
        return show().await;
    };
    let node = builder(name, folder).bootstrap(at);
    be_a_node(node.typed_kind("clerk", |_| Ok(Clerk::default())), name).await
}
