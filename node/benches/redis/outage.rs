//! How long nothing can be stored after the leader of its shard was killed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Process, until};
use crate::ours::{Mesh, WORKSPACE, store};

/// Milliseconds: the goal.
const GOAL_MS: f64 = 1_500.0;

/// How long stores go well before the leader dies, and after it has another.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(1);

/// Kills a leader in a mesh of three durable nodes, in a mesh of its own each time.
pub(crate) async fn report(rounds: usize) {
    let mut outages = Vec::new();
    for _ in 0..rounds {
        let mut mesh = Mesh::start(3, true).await;
        let space = mesh.client.space();
        store(&space, "v", "x").await;
        let leader = leader_of(&mesh.nodes, "v");
        let storing = tokio::spawn(async move {
            let (began, mut longest) = (Instant::now(), Duration::ZERO);
            while began.elapsed() < BEFORE + AFTER + longest {
                let asked = Instant::now();
                store(&space, "v", "x").await;
                longest = longest.max(asked.elapsed());
            }
            longest
        });
        tokio::time::sleep(BEFORE).await;
        mesh.nodes[leader].kill();
        outages.push(storing.await.unwrap().as_secs_f64() * 1e3);
        mesh.end().await;
    }
    let worst = outages.iter().copied().fold(0.0, f64::max);
    crate::say(&json!({
        "case": "longest store while the leader is killed, durable, 3 nodes",
        "value": crate::median(outages.into_iter()), "unit": "ms", "worst": worst,
        "baseline": "goal", "baseline_value": GOAL_MS, "rounds": rounds,
    }));
}

/// The number of the node that leads the shard of a variable.
fn leader_of(nodes: &[Process], variable: &str) -> usize {
    let ids: Vec<Value> = nodes
        .iter()
        .map(|node| node.get("/v1/status")["node"].clone())
        .collect();
    let list = |path: &str, wanted: &dyn Fn(&Value) -> bool| -> Option<Value> {
        nodes[0]
            .get(path)
            .as_array()?
            .iter()
            .find(|row| wanted(row))
            .cloned()
    };
    let mut found = None;
    until("the variable's shard has a leader", || {
        let path = format!("/v1/spaces/{WORKSPACE}");
        let Some(row) = list(&path, &|row| row["name"] == variable) else {
            return false;
        };
        let shard = list("/v1/shards", &|shard| shard["shard"] == row["shard"]);
        let leader = shard.map_or(Value::Null, |shard| shard["leader"].clone());
        found = ids.iter().position(|id| *id == leader);
        found.is_some()
    });
    found.unwrap()
}
