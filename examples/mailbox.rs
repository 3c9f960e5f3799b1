//! A mailbox that outlives its actor's node: `cargo run -p cpe --example mailbox`.
//!
//! The till's messages are tuples, which whoever sells puts into the space, whether or not there is
//! a till. It takes one after the other, and each is gone in the commit that counts it: what a
//! killed process had taken and not counted, the till takes again on the next node.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;

use cpe::local::Effect;
use cpe::prelude::*;
use cpe::{Address, state_is_self};
use serde::{Deserialize, Serialize};

mod processes;
use processes::{MINUTE, Result, be_a_node, begin, builder, end, kill_host_of};

/// Counts sales, and what they come to.
#[derive(Default, Serialize, Deserialize)]
struct Till {
    sales: i64,
    sum: i64,
}

#[derive(Serialize, Deserialize)]
enum Message {
    /// Begin to take.
    Open,
    /// Say what there was.
    Count,
    /// What came of a take.
    Took {
        request: u64,
        tuple: Option<Vec<Value>>,
    },
}

impl Till {
    /// Takes the next sale. The take lasts as the state does: the next life goes on with it.
    fn take(ctx: &mut Context<Self>) -> Result<(), ActorError> {
        ctx.effect(Effect::Take {
            workspace: "shop".to_owned(),
            template: Template::named("sale").map_err(|it| ActorError::refused(it.to_string()))?,
            wait: true,
            answer: "Took".to_owned(),
            request: 0,
        })
    }
}

impl Actor for Till {
    type Message = Message;
    type Reply = (i64, i64);
    state_is_self!();

    async fn handle(
        &mut self,
        message: Message,
        ctx: &mut Context<Self>,
    ) -> Result<(i64, i64), ActorError> {
        match message {
            Message::Open => Self::take(ctx)?,
            Message::Count => {}
            Message::Took { tuple, .. } => {
                let amount = tuple.and_then(|fields| fields.get(1)?.as_int());
                self.sales += 1;
                self.sum += amount.unwrap_or(0);
                Self::take(ctx)?;
            }
        }
        Ok((self.sales, self.sum))
    }
}

/// Sales: of 1, 2, 3 and so on.
const SALES: i64 = 60;

/// How many are counted when the till's process is killed.
const KILLED_AT: [i64; 3] = [0, 20, 40];

/// Waits until the till has counted so many; what it says.
async fn counted(here: &Node, sales: i64) -> Result<(i64, i64)> {
    let (actors, till) = (here.actors(), Address::<Message, (i64, i64)>::new("till"));
    let deadline = tokio::time::Instant::now() + MINUTE;
    loop {
        match till.ask(&actors, &Message::Count, MINUTE).await {
            Ok(said) if said.0 >= sales => return Ok(said),
            Ok(_) | Err(ActorsError::AnswerLost { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if tokio::time::Instant::now() > deadline {
            return Err(format!("the till has not counted {sales} sales").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn show() -> Result {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().to_str().unwrap_or_default();
    let (here, mut processes) = begin(folder).await?;
    let (actors, space) = (here.actors(), here.space());
    let options = SpawnOptions {
        durable: true,
        node: Some("one".to_owned()),
        ..SpawnOptions::default()
    };
    let spawned = actors.spawn("till", "till", Value::Null, options);
    spawned.await?;
    let till = Address::<Message, (i64, i64)>::new("till");
    till.ask(&actors, &Message::Open, MINUTE).await?;

    let sell = async {
        for amount in 1..=SALES {
            let sale = Tuple::new(vec![Value::from("sale"), amount.into()])?;
            space.out("shop", sale).await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let kill = async {
        for sales in KILLED_AT {
            let (counted, _) = counted(&here, sales).await?;
            let name = kill_host_of("till", &here, folder, &mut processes).await?;
            println!("killed {name} at {counted} sales");
        }
        Ok(())
    };
    tokio::try_join!(sell, kill)?;
    let (sales, sum) = counted(&here, SALES).await?;
    println!("{sales} of {SALES} sales were counted");
    println!("they come to {sum} of {}", SALES * (SALES + 1) / 2);
    let left = space.browse("shop", Value::from("sale"), 10).await?.len();
    println!("{left} are left");
    end(here, processes).await
}

#[tokio::main]
async fn main() -> Result {
    let args: Vec<_> = env::args().skip(1).collect();
    let [name, folder, at] = args.as_slice() else {
        return show().await;
    };
    let node = builder(name, folder).bootstrap(at);
    be_a_node(node.typed_kind("till", |_| Ok(Till::default())), name).await
}
