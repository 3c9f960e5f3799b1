//! Effects that happen once, over `kill -9`: `cargo run -p cpe --example ledger`.
//!
//! A clerk books what it is told: it puts an entry into the space and tells the till, which counts.
//! Both are asked for in the commit that changes the clerk's own state, so each entry is there
//! once, although the clerk's process is killed in the middle of its work again and again.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};

use cpe::local::Effect;
use cpe::prelude::*;
use cpe::{Address, MeshKey, state_is_self};
use serde::{Deserialize, Serialize};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

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

const MINUTE: Duration = Duration::from_secs(60);

/// How often the clerk's process is killed.
const KILLS: i64 = 4;

/// Amounts that are booked: 1, 2, 3 and so on.
const AMOUNTS: i64 = 60;

fn builder(name: &str, folder: &str) -> cpe::NodeBuilder {
    Node::builder()
        .name(name)
        .data_dir(Path::new(folder).join(name))
        .mesh_key(Path::new(folder).join("mesh.key"))
        .listen("/ip4/127.0.0.1/tcp/0")
}

/// This program once more, as a node that runs clerks until it is killed or its standard input
/// ends.
fn process(name: &str, folder: &str, at: &str) -> Result<Child> {
    let mut program = Command::new(env::current_exe()?);
    let program = program.args([name, folder, at]).stdin(Stdio::piped());
    let mut child = program.stdout(Stdio::piped()).spawn()?;
    let mut ready = String::new();
    if let Some(out) = &mut child.stdout {
        BufReader::new(out).read_line(&mut ready)?;
    }
    print!("process {} is {ready}", child.id());
    Ok(child)
}

/// Waits until every shard is kept by all three nodes: then it survives any one of them.
async fn safe(here: &Node) -> Result {
    here.mesh().members(3, MINUTE).await?;
    let deadline = tokio::time::Instant::now() + MINUTE;
    let kept_by_three = |shards: Vec<cpe::ShardInfo>| shards.iter().all(|it| it.members.len() == 3);
    while !kept_by_three(here.mesh().shards().await?) {
        if tokio::time::Instant::now() > deadline {
            return Err("the shards are not kept by three nodes".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

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
    let at = here.addresses().join("");
    for kill in 1..=KILLS {
        while told.load(Ordering::Relaxed) < kill * AMOUNTS / (KILLS + 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        safe(here).await?;
        let record = here.actors().where_is("clerk").await?;
        let host = record
            .and_then(|it| it.host)
            .ok_or("nobody has the clerk")?;
        let peers = here.mesh().peers().await?;
        let peer = peers.iter().find(|it| it.node == host.node);
        let name = peer.ok_or("its node is unknown")?.name.clone();
        let child = processes.get_mut(&name).ok_or("not one of the processes")?;
        // On Unix this is SIGKILL: the process has no say in it.
        child.kill()?;
        child.wait()?;
        println!("killed {name} at {}", told.load(Ordering::Relaxed));
        *child = process(&name, folder, &at)?;
    }
    Ok(())
}

async fn show() -> Result {
    let folder = tempfile::tempdir()?;
    MeshKey::generate().save(&folder.path().join("mesh.key"))?;
    let folder = folder.path().to_str().unwrap_or_default();
    let here = builder("here", folder).start().await?;
    let at = here.addresses().join("");
    let mut processes = BTreeMap::new();
    for name in ["one", "two"] {
        processes.insert(name.to_owned(), process(name, folder, &at)?);
    }
    safe(&here).await?;
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
    for mut child in processes.into_values() {
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(here.shutdown(MINUTE).await?)
}

#[tokio::main]
async fn main() -> Result {
    let args: Vec<_> = env::args().skip(1).collect();
    let [name, folder, at] = args.as_slice() else {
        return show().await;
    };
    let node = builder(name, folder)
        .bootstrap(at)
        .typed_kind("clerk", |_| Ok(Clerk::default()));
    let node = node.start().await?;
    println!("node {name}");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(node.shutdown(MINUTE).await?)
}
