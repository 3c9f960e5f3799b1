//! How long durable actors are away when their node is killed, stops, or hands them on.
//!
//! ```text
//! cargo xtask bench actors_failover # or: cargo bench -p cpe-actors-peers --bench actors_failover
//! ```
//!
//! Four nodes, each a process of its own: this one, which asks; one that hosts the actors; two
//! more. Each actor has a state of 1 kB. What is reported is the time from the signal until the
//! last actor has answered with the state that it had; for one that moves, how long whoever asks it
//! all the time waited for the answer that took longest. Nobody else has such actors to measure
//! beside, so the figures stand alone, beside the goals.

#![allow(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cpe::{
    ActorError, DynActor, DynContext, MeshKey, Node, NodeBuilder, Rebalance, SpawnOptions, Value,
};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde_json::{Value as Json, json};

/// Longer than anything takes on a busy machine; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(300);

/// Bytes of an actor's state.
const STATE: usize = 1_024;

/// Requests under way at the same time.
const AT_ONCE: usize = 64;

/// How often each is done; the median is reported.
const ROUNDS: usize = 3;

/// Moves of one actor to and fro.
const MOVES: usize = 200;

/// Keeps a number and some bytes; told `true` it counts on.
struct Keeper(i64);

impl DynActor for Keeper {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            self.0 += i64::from(message == Value::Bool(true));
            Ok(Some(Value::from(self.0)))
        })
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        let state = vec![Value::from(self.0), Value::Bytes(vec![7; STATE])];
        Ok(Some(Value::List(state)))
    }

    fn restore(&mut self, state: Value) -> Result<(), ActorError> {
        let Value::List(state) = state else {
            return Err(ActorError::refused("no list"));
        };
        self.0 = state.first().and_then(Value::as_int).unwrap_or_default();
        Ok(())
    }
}

fn builder(name: &str, key: &str) -> NodeBuilder {
    let builder = Node::builder().name(name).ephemeral().mesh_key(key);
    let builder = builder.listen("/ip4/127.0.0.1/tcp/0").shards(16);
    // What is spread by itself would disturb what is measured.
    let builder = builder.rebalance(None::<Rebalance>);
    builder.kind("keeper", |_| Ok(Box::new(Keeper(0))))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    if let [flag, name, key, address] = arguments.as_slice()
        && flag == "--node"
    {
        return runtime.block_on(node(name, key, address));
    }
    let (counts, rounds, moves): (&[usize], _, _) = if has("--quick") {
        (&[1, 100], 1, MOVES / 10)
    } else {
        (&[1, 100, 10_000], ROUNDS, MOVES)
    };
    let mut rows = vec![runtime.block_on(pauses(moves))];
    for count in counts {
        for how in [How::Killed, How::Stopped, How::Moved] {
            let times = (0..rounds).map(|_| runtime.block_on(away(*count, how)));
            rows.push(row(*count, how, times.collect()));
        }
    }
    if has("--json") {
        println!("{}", json!({ "bench": "actors_failover", "results": rows }));
        return;
    }
    for row in rows {
        println!("{row}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Killed,
    Stopped,
    Moved,
}

fn row(count: usize, how: How, mut times: Vec<f64>) -> Json {
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let what = match how {
        How::Killed => "failover after kill -9",
        How::Stopped => "failover after a clean exit",
        How::Moved => "migration, 64 at a time",
    };
    let goal = match (how, count) {
        (How::Killed, 1) => Some(6.0),
        (How::Killed, 10_000) => Some(8.0),
        (How::Stopped, 1) => Some(0.5),
        (How::Moved, 10_000) => Some(10.0),
        _ => None,
    };
    let worst = times.last().copied().unwrap_or_default();
    json!({
        "case": format!("{what}, {count} actors"),
        "value": median,
        "unit": "s",
        "worst": worst,
        "goal": goal,
    })
}

/// A node until its standard input ends: then it stops in an orderly way.
async fn node(name: &str, key: &str, address: &str) {
    let node = builder(name, key)
        .bootstrap(address)
        .start()
        .await
        .expect("a node");
    node.mesh().joined(LONG).await.expect("a mesh");
    println!("ready");
    let wait = || std::io::stdin().lock().lines().count();
    tokio::task::spawn_blocking(wait).await.expect("it ends");
    node.shutdown(LONG).await.expect("it stops");
}

/// A mesh of this process and three more.
struct Mesh {
    here: Node,
    /// `host`, `b` and `c`.
    others: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Mesh {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("mesh.key");
        MeshKey::generate().save(&key).expect("a file");
        let here = builder("here", text(&key)).start().await.expect("a node");
        let address = here.addresses().join("");
        let program = std::env::current_exe().expect("this program has a path");
        let mut others = Vec::new();
        for name in ["host", "b", "c"] {
            let mut command = Command::new(&program);
            command.args(["--node", name, text(&key), &address]);
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("this program starts again");
            let out = child.stdout.take().expect("it is piped");
            let ready = BufReader::new(out).lines().next();
            assert!(ready.is_some(), "{name} did not start");
            others.push(child);
        }
        here.mesh().members(4, LONG).await.expect("a mesh of four");
        Self {
            here,
            others,
            _folder: folder,
        }
    }

    /// Starts so many actors on `host`, and has each count one.
    async fn populate(&self, count: usize) {
        let actors = self.here.actors();
        let all = futures::stream::iter(names(count)).for_each_concurrent(AT_ONCE, |name| {
            let actors = actors.clone();
            async move {
                let options = SpawnOptions {
                    node: Some("host".to_owned()),
                    durable: true,
                    deadline: LONG,
                    ..SpawnOptions::default()
                };
                let spawned = actors.spawn("keeper", &name, Value::Null, options);
                spawned.await.expect("an actor");
                let asked = actors.ask(&name, Value::Bool(true), LONG).await;
                assert_eq!(asked.expect("it answers"), Value::from(1));
            }
        });
        all.await;
        // What is kept by three nodes outlives any one of them.
        loop {
            let shards = self.here.mesh().shards().await.expect("shards");
            if shards.iter().all(|shard| shard.members.len() == 3) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until each actor has said elsewhere what it should.
    async fn all_answer(&self, count: usize) {
        let actors = self.here.actors();
        let all = futures::stream::iter(names(count)).for_each_concurrent(AT_ONCE, |name| {
            let actors = actors.clone();
            async move {
                // A question that finds nobody is asked again, within the deadline.
                while actors.ask(&name, Value::Bool(false), LONG).await != Ok(Value::from(1)) {}
            }
        });
        all.await;
    }

    async fn end(mut self) {
        for child in &mut self.others {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
        self.here.kill().await;
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("keeper-{n}"))
}

/// How long so many actors were away, in seconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn away(count: usize, how: How) -> f64 {
    let mut mesh = Mesh::start().await;
    mesh.populate(count).await;
    let begun = Instant::now();
    match how {
        How::Killed => {
            let host = mesh.others.first_mut().expect("it runs");
            // On Unix this is SIGKILL.
            host.kill().expect("it runs");
            mesh.all_answer(count).await;
        }
        How::Stopped => {
            let host = mesh.others.first_mut().expect("it runs");
            drop(host.stdin.take());
            // Not the actors that are still there: it goes when all have gone.
            mesh.all_answer(count).await;
            let mut elsewhere = false;
            while !elsewhere {
                let (all, host) = (mesh.here.actors().list().await, host_of(&mesh.here).await);
                let all = all.expect("a list");
                elsewhere = all.iter().all(|it| it.host.map(|it| it.node) != host);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        How::Moved => {
            let actors = mesh.here.actors();
            let all = futures::stream::iter(names(count)).for_each_concurrent(AT_ONCE, |name| {
                let actors = actors.clone();
                async move { actors.migrate(&name, "b", LONG).await.expect("it moves") }
            });
            all.await;
            mesh.all_answer(count).await;
        }
    }
    let away = begun.elapsed().as_secs_f64();
    mesh.end().await;
    away
}

/// The node that is called `host`; its id stays known when it has gone.
async fn host_of(here: &Node) -> Option<cpe::NodeId> {
    let peers = here.mesh().peers().await.expect("peers");
    peers
        .into_iter()
        .find(|peer| peer.name == "host")
        .map(|peer| peer.node)
}

/// How long an actor that moves to and fro keeps whoever asks it waiting.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn pauses(moves: usize) -> Json {
    let mesh = Mesh::start().await;
    mesh.populate(1).await;
    let actors = mesh.here.actors();
    let mut longest = Vec::new();
    for turn in 0..moves {
        let to = if turn % 2 == 0 { "b" } else { "host" };
        let moving = actors.migrate("keeper-0", to, LONG);
        let mut moving = std::pin::pin!(moving);
        let mut most = Duration::ZERO;
        let mut moved = false;
        while !moved {
            let begun = Instant::now();
            let mut asking = std::pin::pin!(actors.ask("keeper-0", Value::Bool(false), LONG));
            let answer = loop {
                tokio::select! {
                    answer = &mut asking => break answer,
                    done = &mut moving, if !moved => {
                        done.expect("it moves");
                        moved = true;
                    }
                }
            };
            assert_eq!(answer.expect("it answers"), Value::from(1));
            most = most.max(begun.elapsed());
        }
        longest.push(most.as_secs_f64() * 1e3);
    }
    mesh.end().await;
    longest.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let at = (longest.len() as f64 * share) as usize;
        longest.get(at).copied().unwrap_or_default()
    };
    json!({ "case": "pause of an actor that moves, p50", "value": at(0.5), "unit": "ms",
            "worst": at(0.99), "goal": 10.0 })
}
