//! What examples share whose nodes are processes that are killed.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cpe::MeshKey;
use cpe::prelude::*;

pub(crate) type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn builder(name: &str, folder: &str) -> cpe::NodeBuilder {
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

/// A node of this process, and two processes that are nodes, each of which may be killed.
pub(crate) async fn begin(folder: &str) -> Result<(Node, BTreeMap<String, Child>)> {
    MeshKey::generate().save(&Path::new(folder).join("mesh.key"))?;
    let here = builder("here", folder).start().await?;
    let at = here.addresses().join("");
    let mut processes = BTreeMap::new();
    for name in ["one", "two"] {
        processes.insert(name.to_owned(), process(name, folder, &at)?);
    }
    safe(&here).await?;
    Ok((here, processes))
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

/// Kills the process that an actor lives in, and starts it anew; the name of its node.
pub(crate) async fn kill_host_of(
    actor: &str,
    here: &Node,
    folder: &str,
    processes: &mut BTreeMap<String, Child>,
) -> Result<String> {
    safe(here).await?;
    let record = here.actors().where_is(actor).await?;
    let host = record
        .and_then(|it| it.host)
        .ok_or("nobody has the actor")?;
    let peers = here.mesh().peers().await?;
    let peer = peers.iter().find(|it| it.node == host.node);
    let name = peer.ok_or("its node is unknown")?.name.clone();
    let child = processes.get_mut(&name).ok_or("not one of the processes")?;
    // On Unix this is SIGKILL: the process has no say in it.
    child.kill()?;
    child.wait()?;
    *child = process(&name, folder, &here.addresses().join(""))?;
    Ok(name)
}

/// Ends the processes, and then this node.
pub(crate) async fn end(here: Node, processes: BTreeMap<String, Child>) -> Result {
    for mut child in processes.into_values() {
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(here.shutdown(MINUTE).await?)
}

/// What each of the processes does: is a node until it is killed or its standard input ends.
pub(crate) async fn be_a_node(node: cpe::NodeBuilder, name: &str) -> Result {
    let node = node.start().await?;
    println!("node {name}");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(node.shutdown(MINUTE).await?)
}
