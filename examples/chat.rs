//! A chat without a server: each room is a template over the shared space, and an actor on each
//! node hears what is said in it: `cargo run -p cpe --example chat`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use cpe::local::{Address, Options, SpawnError};
use cpe::prelude::*;
use cpe::{MeshKey, Subscription, json};
use tokio::sync::mpsc;

const MINUTE: Duration = Duration::from_secs(60);

/// Hears one room, from its start or restart on.
struct Listener {
    node: NodeHandle,
    room: &'static str,
    heard: mpsc::Sender<String>,
    /// Who said how much: a tuple can come twice.
    known: BTreeMap<String, i64>,
    /// Goes with the instance: a restarted listener subscribes anew.
    ear: Option<Subscription>,
}

impl Actor for Listener {
    type Message = Tuple;
    type Reply = ();

    async fn handle(&mut self, said: Tuple, _: &mut Context<Self>) -> Result<(), ActorError> {
        let [_, Value::String(who), Value::Int(n), Value::String(what)] = said.fields() else {
            return Ok(());
        };
        let known = self.known.entry(who.clone()).or_default();
        if *n > *known {
            *known = *n;
            let line = format!("{} in {}, {who}: {what}", self.node.name(), self.room);
            self.heard.send(line).await?;
        }
        Ok(())
    }

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let (string, int) = (r#"{"?":"string"}"#, r#"{"?":"int"}"#);
        let room = format!(r#"["{}", {string}, {int}, {string}]"#, self.room);
        let room = json::parse_template(&room)?;
        let space = self.node.space();
        self.ear = Some(
            space
                .subscribe("chat", room, &ctx.address(), |said| said)
                .await?,
        );
        Ok(())
    }
}

fn listen(
    node: &Node,
    room: &'static str,
    heard: &mpsc::Sender<String>,
) -> Result<Address<Tuple>, SpawnError> {
    let (handle, heard) = (node.handle(), heard.clone());
    let make = move || {
        Ok(Listener {
            node: handle.clone(),
            room,
            heard: heard.clone(),
            known: BTreeMap::new(),
            ear: None,
        })
    };
    let system = node.actors().system().clone();
    system.spawn_with(Options::default().name(room), make)
}

/// Says something, the speaker's `n`-th in this room.
async fn say(
    node: &Node,
    room: &str,
    n: i64,
    what: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let (room, who) = (Value::from(room), Value::from(node.name()));
    let said = Tuple::new(vec![room, who, Value::from(n), Value::from(what)])?;
    node.space().out("chat", said).await?;
    Ok(())
}

/// Two nodes, two rooms; what was heard, in alphabetical order.
pub(crate) async fn run() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("mesh.key");
    MeshKey::generate().save(&key)?;
    let start = |name: &str| {
        let builder = Node::builder().name(name).ephemeral();
        builder.mesh_key(&key).listen("/ip4/127.0.0.1/tcp/0")
    };
    let ann = start("ann").start().await?;
    let at = ann.addresses().into_iter().next().unwrap_or_default();
    let bob = start("bob").bootstrap(&at).start().await?;
    ann.mesh().members(2, MINUTE).await?;
    bob.mesh().members(2, MINUTE).await?;

    let (sender, mut heard) = mpsc::channel(16);
    for (node, room) in [(&ann, "tea"), (&bob, "tea"), (&bob, "code")] {
        listen(node, room, &sender)?;
    }
    // What was said before a listener came is heard too: the space keeps it.
    say(&ann, "tea", 1, "anyone there?").await?;
    say(&bob, "tea", 1, "on my way").await?;
    say(&ann, "code", 1, "it builds").await?;
    let mut lines = Vec::new();
    while lines.len() < 5 {
        let line = tokio::time::timeout(MINUTE, heard.recv()).await?;
        lines.push(line.unwrap_or_default());
    }
    lines.sort();
    for line in &lines {
        println!("{line}");
    }
    bob.shutdown(MINUTE).await?;
    ann.shutdown(MINUTE).await?;
    Ok(lines)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run().await.map(drop)
}
