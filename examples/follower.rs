//! An actor that follows a GPU across nodes: `cargo run -p cpe --example follower`.
//!
//! Three nodes. The actor needs the capability `gpu`, which one node has. When that node says that
//! it has it no more, the actor moves, with its state and what waits for it, to the one that says
//! so now; while none does, it goes on where it is.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use cpe::prelude::*;
use cpe::{Address, MeshKey, state_is_self};
use serde::{Deserialize, Serialize};

/// What an example may end with.
type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Counts the pictures that it has rendered.
#[derive(Default, Serialize, Deserialize)]
struct Renderer {
    pictures: i64,
}

impl Actor for Renderer {
    type Message = String;
    type Reply = i64;
    state_is_self!();

    async fn handle(&mut self, _: String, _: &mut Context<Self>) -> Result<i64, ActorError> {
        self.pictures += 1;
        Ok(self.pictures)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

async fn node(name: &str, key: &str, at: Option<&Node>) -> Result<Node> {
    let node = Node::builder()
        .name(name)
        .ephemeral()
        .mesh_key(key)
        .listen("/ip4/127.0.0.1/tcp/0")
        .typed_kind("renderer", |_| Ok(Renderer::default()));
    let node = match at {
        Some(first) => node.bootstrap(&first.addresses().join("")),
        None => node,
    };
    Ok(node.start().await?)
}

/// The name of the node where the renderer lives.
async fn lives_on(mesh: &Node) -> Result<String> {
    let found = mesh.actors().where_is("renderer").await?;
    let host = found.and_then(|info| info.host).map(|host| host.node);
    let peers = mesh.mesh().peers().await?;
    let there = peers.into_iter().find(|peer| Some(peer.node) == host);
    Ok(there.map_or_else(|| "nowhere".to_owned(), |peer| peer.name))
}

/// Waits until it has moved.
async fn moves_to(mesh: &Node, name: &str) -> Result {
    while lives_on(mesh).await? != name {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What it shows, line by line.
pub(crate) async fn run() -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("mesh.key");
    MeshKey::generate().save(&key)?;
    let key = key.to_str().unwrap_or_default();
    let desk = node("desk", key, None).await?;
    let left = node("left", key, Some(&desk)).await?;
    let right = node("right", key, Some(&desk)).await?;
    desk.mesh().members(3, MINUTE).await?;

    left.mesh().set_capability("gpu", Some("yes")).await?;
    let options = || SpawnOptions {
        durable: true,
        require: [("gpu".to_owned(), "yes".to_owned())].into(),
        ..SpawnOptions::default()
    };
    let actors = desk.actors();
    // Nobody has a GPU until the card of `left` has come here.
    while let Err(error) = actors
        .spawn("renderer", "renderer", Value::Null, options())
        .await
    {
        println!("not yet: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let renderer = Address::<String, i64>::new("renderer");
    let render = async |picture: &str| -> Result<String> {
        let count = renderer.ask(&actors, &picture.to_owned(), MINUTE).await?;
        Ok(format!(
            "{picture} is picture {count}, by {}",
            lives_on(&desk).await?
        ))
    };
    let mut lines = vec![render("dawn").await?];

    right.mesh().set_capability("gpu", Some("yes")).await?;
    left.mesh().set_capability("gpu", None).await?;
    moves_to(&desk, "right").await?;
    lines.push(render("noon").await?);

    // Nobody has a GPU now: it goes on.
    right.mesh().set_capability("gpu", None).await?;
    lines.push(render("dusk").await?);
    desk.mesh().set_capability("gpu", Some("yes")).await?;
    moves_to(&desk, "desk").await?;
    lines.push(render("night").await?);
    for node in [left, right, desk] {
        node.shutdown(MINUTE).await?;
    }
    Ok(lines)
}

#[tokio::main]
async fn main() -> Result {
    for line in run().await? {
        println!("{line}");
    }
    Ok(())
}
