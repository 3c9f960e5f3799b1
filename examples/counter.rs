//! A counter that survives `kill -9`: `cargo run -p cpe --example counter`.
//!
//! Three nodes, each a process of its own. The counter lives in one of them, until that is killed
//! in the middle of counting; another process goes on with it, and no answer it gave was wrong.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use cpe::prelude::*;
use cpe::{Address, MeshKey, state_is_self};
use serde::{Deserialize, Serialize};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    total: i64,
}

impl Actor for Counter {
    type Message = i64;
    type Reply = i64;
    state_is_self!();

    async fn handle(&mut self, n: i64, _: &mut Context<Self>) -> Result<i64, ActorError> {
        self.total += n;
        Ok(self.total)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// One node: the first of the mesh, or one that joins at an address.
async fn node(name: &str, key: &str, at: Option<&str>) -> Result<Node> {
    let node = Node::builder()
        .name(name)
        .ephemeral()
        .mesh_key(key)
        .listen("/ip4/127.0.0.1/tcp/0")
        .typed_kind("tally", |_| Ok(Counter::default()));
    let node = match at {
        Some(at) => node.bootstrap(at),
        None => node,
    };
    Ok(node.start().await?)
}

/// This program once more, as a node that lives until it is killed or its standard input ends.
fn process(name: &str, key: &str, at: &str) -> Result<Child> {
    let mut program = Command::new(env::current_exe()?);
    let program = program.args([name, key, at]).stdin(Stdio::piped());
    let mut child = program.stdout(Stdio::piped()).spawn()?;
    let mut ready = String::new();
    if let Some(out) = &mut child.stdout {
        BufReader::new(out).read_line(&mut ready)?;
    }
    println!("process {} is {ready}", child.id());
    Ok(child)
}

async fn show() -> Result {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("mesh.key");
    MeshKey::generate().save(&key)?;
    let key = key.to_str().unwrap_or_default();
    let here = node("here", key, None).await?;
    let at = here.addresses().join("");
    let mut doomed = process("doomed", key, &at)?;
    let mut other = process("other", key, &at)?;
    here.mesh().members(3, MINUTE).await?;

    let actors = here.actors();
    let options = SpawnOptions {
        durable: true,
        node: Some("doomed".to_owned()),
        ..SpawnOptions::default()
    };
    actors
        .spawn("tally", "visits", Value::Null, options)
        .await?;
    let visits = Address::<i64, i64>::new("visits");
    // What is kept by three nodes survives any one of them.
    while !here
        .mesh()
        .shards()
        .await?
        .iter()
        .all(|it| it.members.len() == 3)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // An actor that is not durable ends with its node, and who watches it is told.
    let options = SpawnOptions {
        node: Some("doomed".to_owned()),
        ..SpawnOptions::default()
    };
    actors.spawn("echo", "plain", Value::Null, options).await?;
    let plain = actors.monitor("plain").await?;

    for _ in 0..10 {
        visits.ask(&actors, &1, MINUTE).await?;
    }
    // On Unix this is SIGKILL: the process has no say in it.
    doomed.kill()?;
    doomed.wait()?;
    println!("killed at 10");
    println!("the plain actor was {}", plain.ended().await.reason);

    let total = loop {
        // Asking for 0 more changes nothing, however often it is done.
        match visits.ask(&actors, &0, MINUTE / 20).await {
            Ok(total) => break total,
            Err(error) => println!("not yet: {error}"),
        }
    };
    println!("it goes on from {total}");
    println!("and counts {}", visits.ask(&actors, &1, MINUTE).await?);
    drop(other.stdin.take());
    other.wait()?;
    Ok(here.shutdown(MINUTE).await?)
}

#[tokio::main]
async fn main() -> Result {
    let args: Vec<_> = env::args().skip(1).collect();
    let [name, key, at] = args.as_slice() else {
        return show().await;
    };
    let node = node(name, key, Some(at)).await?;
    println!("node {name}");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(node.shutdown(MINUTE).await?)
}
