//! Two nodes over TCP loopback, beside a bare echo of tokio's over the same.
//!
//! ```text
//! cargo bench -p cpe --bench mesh            # a table
//! cargo bench -p cpe --bench mesh -- --json  # one JSON object
//! ```
//!
//! Both nodes are volatile and live in this process, on one runtime of two threads; one is home of
//! every shard, the other is where the operations start. A bare echo sends 100 bytes over a TCP
//! connection and gets them back, with as many in flight; it answers all that one read brought
//! with one write, as the mesh's own links do. Each measure runs both sides alternately and reports
//! the medians and their ratio, and the processor time per operation, which survives a noisy
//! machine.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports on stdout"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use cpe::{MeshKey, Node, NodeBuilder, NodeHandle, SpawnOptions, Stored, Template, Value};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Bytes of a message, of a stored string and of a bare echo.
const BYTES: usize = 100;
/// Longer than anything takes on a busy machine; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(60);
/// The variable all measures of the space use.
const JOB: &str = "job";

/// What one operation took.
#[derive(Clone, Copy)]
struct Sample {
    wall_ns: f64,
    cpu_ns: f64,
}

/// Wall clock and processor time since some point.
struct Watch {
    wall: Instant,
    cpu_ns: f64,
}

impl Watch {
    fn start() -> Self {
        Self {
            cpu_ns: cpu_ns(),
            wall: Instant::now(),
        }
    }

    fn per(&self, operations: u64) -> Sample {
        Sample {
            wall_ns: self.wall.elapsed().as_secs_f64() * 1e9 / operations as f64,
            cpu_ns: (cpu_ns() - self.cpu_ns) / operations as f64,
        }
    }
}

/// Processor time of this process's threads so far; 0 where `/proc` is not there.
fn cpu_ns() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Runs an operation so many times, so many of them at a time.
async fn times<F>(
    ops: u64,
    in_flight: u64,
    operation: impl Fn() -> F + Clone + Send + 'static,
) -> Sample
where
    F: Future<Output = ()> + Send,
{
    let each = ops / in_flight;
    let mut tasks = JoinSet::new();
    let watch = Watch::start();
    for _ in 0..in_flight {
        let operation = operation.clone();
        tasks.spawn(async move {
            for _ in 0..each {
                operation().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    watch.per(each * in_flight)
}

/// The home of all shards, and the node where operations start.
#[derive(Clone)]
struct Pair {
    home: NodeHandle,
    far: NodeHandle,
}

impl Pair {
    async fn store_one(node: &NodeHandle) {
        let value = Value::from("x".repeat(BYTES).as_str());
        let stored = node.space().store("w", JOB, value).await.unwrap();
        assert!(matches!(stored, Stored::Home { .. }), "{stored:?}");
    }

    /// Empties the space, and checks that the homes are where the measures want them.
    async fn clear(&self) {
        self.home.space().delete("w", None, LONG).await.unwrap();
        assert_eq!(self.far.mesh().status().await.unwrap().homes, 0);
    }

    async fn store(self, ops: u64, in_flight: u64) -> Sample {
        let far = self.far.clone();
        let sample = times(ops, in_flight, move || {
            let far = far.clone();
            async move { Self::store_one(&far).await }
        });
        let sample = sample.await;
        self.clear().await;
        sample
    }

    async fn fetch_try(self, ops: u64, in_flight: u64) -> Sample {
        let home = self.home.clone();
        let stores = times(ops, 64.min(ops), move || {
            let home = home.clone();
            async move { Self::store_one(&home).await }
        });
        stores.await;
        // `times` rounds down, by more here than there.
        for _ in 0..ops % 64.min(ops) {
            Self::store_one(&self.home).await;
        }
        let space = self.far.space().clone();
        let sample = times(ops, in_flight, move || {
            let space = space.clone();
            async move {
                let value = space.fetch_try("w", JOB, LONG).await.unwrap();
                assert!(value.is_some());
            }
        });
        let sample = sample.await;
        self.clear().await;
        sample
    }

    /// `fresh` asks the home; else the node's own replica answers.
    async fn find_try(self, ops: u64, in_flight: u64, fresh: Option<Duration>) -> Sample {
        let space = self.far.space().clone();
        Self::store_one(&self.home).await;
        space.find("w", JOB, LONG).await.unwrap();
        let template = Template::named(JOB).unwrap();
        let sample = times(ops, in_flight, move || {
            let (space, template) = (space.clone(), template.clone());
            async move { assert!(space.rdp("w", template, fresh).await.unwrap().is_some()) }
        });
        let sample = sample.await;
        self.clear().await;
        sample
    }

    /// A store here ends a waiting fetch there, which stores what a waiting fetch here gets.
    async fn hand_over(self, ops: u64) -> Sample {
        let (home, far) = (self.home.space().clone(), self.far.space().clone());
        let watch = Watch::start();
        let answers = tokio::spawn(async move {
            for _ in 0..ops {
                let ping = far.fetch("w", "ping", LONG).await.unwrap();
                far.store("w", "pong", ping).await.unwrap();
            }
        });
        let asks = tokio::spawn(async move {
            for _ in 0..ops {
                let ping = Value::from("x".repeat(BYTES).as_str());
                home.store("w", "ping", ping).await.unwrap();
                home.fetch("w", "pong", LONG).await.unwrap();
            }
        });
        answers.await.unwrap();
        asks.await.unwrap();
        let sample = watch.per(2 * ops);
        self.clear().await;
        sample
    }

    async fn ask(self, ops: u64, in_flight: u64) -> Sample {
        let actors = self.far.actors().clone();
        let message = Value::Bytes(vec![7; BYTES]);
        let operation = move || {
            let (actors, message) = (actors.clone(), message.clone());
            async move {
                let answer = actors.ask("parrot", message, LONG).await.unwrap();
                assert_eq!(answer.as_bytes().unwrap().len(), BYTES);
            }
        };
        times(ops, in_flight, operation).await
    }
}

/// Sends messages to an echo over TCP and reads them back.
async fn bare_echo(ops: u64, in_flight: u64) -> Sample {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                read => stream.write_all(&buffer[..read]).await.unwrap(),
            }
        }
    });
    let client = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![7; 64 * 1024];
        let total = usize::try_from(ops).unwrap() * BYTES;
        let mut sent = usize::try_from(in_flight).unwrap() * BYTES;
        let mut received = 0;
        let watch = Watch::start();
        stream.write_all(&buffer[..sent]).await.unwrap();
        while received < total {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the echo has hung up");
            received += read;
            let more = read.min(total - sent);
            stream.write_all(&buffer[..more]).await.unwrap();
            sent += more;
        }
        watch.per(ops)
    });
    let sample = client.await.unwrap();
    server.await.unwrap();
    sample
}

/// A question to another task of this process and its answer: what a look into the own replica
/// costs at least.
async fn bare_task(ops: u64, in_flight: u64) -> Sample {
    let (sender, mut receiver) = mpsc::channel::<oneshot::Sender<Vec<u8>>>(1024);
    let bytes = vec![7; BYTES];
    tokio::spawn(async move {
        while let Some(reply) = receiver.recv().await {
            drop(reply.send(bytes.clone()));
        }
    });
    let operation = move || {
        let sender = sender.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            sender.send(reply).await.unwrap();
            black_box(answer.await.unwrap());
        }
    };
    times(ops, in_flight, operation).await
}

/// Operations, and what each took.
type Side = Box<dyn Fn(u64) -> BoxFuture<'static, Sample>>;

struct Measure {
    name: &'static str,
    in_flight: u64,
    ops: u64,
    ours: Side,
    bare: Side,
}

fn measure<F, G>(
    (name, in_flight, ops): (&'static str, u64, u64),
    ours: impl Fn(u64) -> F + 'static,
    bare: impl Fn(u64, u64) -> G + 'static,
) -> Measure
where
    F: Future<Output = Sample> + Send + 'static,
    G: Future<Output = Sample> + Send + 'static,
{
    Measure {
        name,
        in_flight,
        ops,
        ours: Box::new(move |ops| Box::pin(ours(ops))),
        bare: Box::new(move |ops| Box::pin(bare(ops, in_flight))),
    }
}

fn measures(pair: &Pair) -> Vec<Measure> {
    let mut all = Vec::new();
    for (many, ops) in [(1, 5_000), (64, 50_000)] {
        let its = pair.clone();
        all.push(measure(
            ("store from afar / TCP echo", many, ops),
            move |ops| its.clone().store(ops, many),
            bare_echo,
        ));
        let its = pair.clone();
        all.push(measure(
            ("fetch-try from afar / TCP echo", many, ops),
            move |ops| its.clone().fetch_try(ops, many),
            bare_echo,
        ));
        let its = pair.clone();
        all.push(measure(
            ("find-try at the home / TCP echo", many, ops),
            move |ops| its.clone().find_try(ops, many, Some(LONG)),
            bare_echo,
        ));
        let its = pair.clone();
        all.push(measure(
            ("find-try in the replica / a task", many, 10 * ops),
            move |ops| its.clone().find_try(ops, many, None),
            bare_task,
        ));
        let its = pair.clone();
        all.push(measure(
            ("remote ask of 100 B / TCP echo", many, ops),
            move |ops| its.clone().ask(ops, many),
            bare_echo,
        ));
    }
    let its = pair.clone();
    all.push(measure(
        ("store to waiting fetch / TCP echo", 1, 2_000),
        move |ops| its.clone().hand_over(ops),
        bare_echo,
    ));
    all
}

async fn nodes() -> [Node; 2] {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("mesh.key");
    MeshKey::generate().save(&key).unwrap();
    let builder = |name: &str| -> NodeBuilder {
        let listen = "/ip4/127.0.0.1/tcp/0";
        let builder = Node::builder().name(name).ephemeral().listen(listen);
        builder.mesh_key(&key)
    };
    // Who founds a mesh is home of all its shards.
    let home = builder("home").start().await.unwrap();
    let far = builder("far").homes(false).bootstrap(&home.addresses()[0]);
    let nodes = [home, far.start().await.unwrap()];
    for node in &nodes {
        node.mesh().members(2, LONG).await.unwrap();
    }
    let options = SpawnOptions {
        node: Some("home".to_owned()),
        ..SpawnOptions::default()
    };
    let actors = nodes[1].actors();
    let spawned = actors.spawn("echo", "parrot", Value::Null, options).await;
    assert_eq!(spawned.unwrap().host, Some(nodes[0].member()));
    nodes
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn middle(samples: &[Sample]) -> Sample {
    Sample {
        wall_ns: median(samples, |sample| sample.wall_ns),
        cpu_ns: median(samples, |sample| sample.cpu_ns),
    }
}

fn main() {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (rounds, share) = if asked("--quick") { (3, 5) } else { (7, 1) };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let nodes = runtime.block_on(nodes());
    let [home, far] = [nodes[0].handle(), nodes[1].handle()];
    let mut rows = Vec::new();
    for measure in measures(&Pair { home, far }) {
        let ops = measure.ops / share;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(runtime.block_on((measure.ours)(ops)));
            bare.push(runtime.block_on((measure.bare)(ops)));
        }
        rows.push((
            measure.name,
            measure.in_flight,
            middle(&ours),
            middle(&bare),
        ));
    }
    for node in nodes {
        runtime.block_on(node.kill());
    }
    if asked("--json") {
        let measures: Vec<_> = rows
            .iter()
            .map(|(name, in_flight, ours, bare)| {
                json!({ "measure": name, "in_flight": in_flight, "rounds": rounds,
                        "ours_ns": ours.wall_ns, "bare_ns": bare.wall_ns,
                        "ours_cpu_ns": ours.cpu_ns, "bare_cpu_ns": bare.cpu_ns,
                        "ratio": bare.wall_ns / ours.wall_ns })
            })
            .collect();
        println!("{}", json!({ "bench": "cpe/mesh", "measures": measures }));
        return;
    }
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>7} {:>10} {:>10}",
        "measure (ns per operation)", "in flight", "ours", "bare", "ratio", "ours cpu", "bare cpu"
    );
    for (name, in_flight, ours, bare) in rows {
        println!(
            "{name:<34} {in_flight:>9} {:>9.0} {:>9.0} {:>7.3} {:>10.0} {:>10.0}",
            ours.wall_ns,
            bare.wall_ns,
            bare.wall_ns / ours.wall_ns,
            ours.cpu_ns,
            bare.cpu_ns
        );
    }
}
