//! The space in one process, beside bare maps and queues; the codec, beside ciborium.
//!
//! ```text
//! cargo bench -p cpe-mesh --bench space            # a table
//! cargo bench -p cpe-mesh --bench space -- --json  # one JSON object
//! ```
//!
//! Each measure runs both sides alternately and reports the medians and their ratio. The peer is
//! one volatile node that is home of every shard: no network, no disk, the whole protocol.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports on stdout"
)]

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::{Duration, Instant};

use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{Ack, Command, Genesis, Image, Input, Output, Peer, PeerConfig, Reply, RequestId};
use cpe_tuple::{Template, Tuple, Value, codec};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

/// A node, driven by hand.
struct Node {
    peer: Peer,
    next: u64,
}

impl Node {
    fn new() -> Self {
        let founder = Member {
            node: NodeId(1),
            inc: Incarnation(1),
        };
        let mut config = PeerConfig::new(NodeCard::new(founder, "bench"));
        config.durable = false;
        config.genesis = Some(Genesis {
            mesh: "bench".into(),
            shards: 256,
            volatile: 64,
            founder,
            group_size: Genesis::GROUP_SIZE,
        });
        let peer = Peer::new(config, &Image::default(), 1, Duration::ZERO).unwrap();
        Self { peer, next: 0 }
    }

    fn ask(&mut self, command: Command) -> Reply {
        self.next += 1;
        let request = RequestId(self.next);
        self.peer
            .handle(Duration::ZERO, Input::Command(request, command));
        let mut answer = None;
        while let Some(output) = self.peer.poll_output() {
            if let Output::Reply(_, reply) = output {
                answer = Some(reply);
            }
        }
        let answer = answer.unwrap();
        if matches!(answer, Reply::Tuple(Some(_))) {
            self.peer.handle(Duration::ZERO, Input::Received(request));
        }
        answer
    }

    fn store(&mut self, tuple: &Tuple) {
        let (workspace, tuple) = ("w".to_owned(), tuple.clone());
        let reply = self.ask(Command::Out {
            workspace,
            tuple,
            ack: Ack::Home,
            deadline: SECOND,
        });
        assert!(matches!(reply, Reply::Stored { .. }));
    }

    fn take(&mut self, template: &Template) {
        let (workspace, template) = ("w".to_owned(), template.clone());
        let take = Command::Take {
            workspace,
            template,
            wait: false,
            deadline: SECOND,
        };
        assert!(matches!(self.ask(take), Reply::Tuple(Some(_))));
    }

    fn find(&mut self, template: &Template) {
        let (workspace, template) = ("w".to_owned(), template.clone());
        let (wait, fresh) = (false, false);
        let read = Command::Read {
            workspace,
            template,
            wait,
            fresh,
            deadline: SECOND,
        };
        assert!(matches!(self.ask(read), Reply::Tuple(Some(_))));
    }
}

fn tuple() -> Tuple {
    let fields = vec![
        Value::from("job"),
        Value::from(17),
        Value::from("x".repeat(100).as_str()),
    ];
    Tuple::new(fields).unwrap()
}

fn template() -> Template {
    use cpe_tuple::Field::{Actual, Any};
    Template::new(vec![Actual(Value::from("job")), Any, Any]).unwrap()
}

type Bare = BTreeMap<String, VecDeque<Tuple>>;

/// Seconds that `ops` runs of something take.
type Side = Box<dyn Fn(u64) -> f64>;

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

fn measures() -> Vec<(&'static str, u64, Side, Side)> {
    let store_take: Side = Box::new(|ops| {
        let (mut node, tuple, template) = (Node::new(), tuple(), template());
        timed(|| {
            for _ in 0..ops {
                node.store(&tuple);
                node.take(&template);
            }
        })
    });
    let bare_store_take: Side = Box::new(|ops| {
        let (mut map, tuple) = (Bare::new(), tuple());
        timed(|| {
            for _ in 0..ops {
                map.entry("job".to_owned())
                    .or_default()
                    .push_back(tuple.clone());
                black_box(map.get_mut("job").and_then(VecDeque::pop_front));
            }
        })
    });
    let find: Side = Box::new(|ops| {
        let (mut node, template) = (Node::new(), template());
        node.store(&tuple());
        timed(|| {
            for _ in 0..ops {
                node.find(&template);
            }
        })
    });
    let bare_find: Side = Box::new(|ops| {
        let mut map = Bare::new();
        map.entry("job".to_owned()).or_default().push_back(tuple());
        timed(|| {
            for _ in 0..ops {
                black_box(map.get("job").and_then(|queue| queue.front()).cloned());
            }
        })
    });
    let encode: Side = Box::new(|ops| {
        let (tuple, mut bytes) = (tuple(), Vec::new());
        timed(|| {
            for _ in 0..ops {
                bytes.clear();
                codec::encode_into(&tuple, &mut bytes).unwrap();
                black_box(&bytes);
            }
        })
    });
    let bare_encode: Side = Box::new(|ops| {
        let (value, mut bytes) = (plain(), Vec::new());
        timed(|| {
            for _ in 0..ops {
                bytes.clear();
                ciborium::into_writer(&value, &mut bytes).unwrap();
                black_box(&bytes);
            }
        })
    });
    let decode: Side = Box::new(|ops| {
        let bytes = codec::encode(&tuple()).unwrap();
        timed(|| {
            for _ in 0..ops {
                black_box(codec::decode::<Tuple>(&bytes, 1024).unwrap());
            }
        })
    });
    let bare_decode: Side = Box::new(|ops| {
        let bytes = codec::encode(&tuple()).unwrap();
        timed(|| {
            for _ in 0..ops {
                black_box(ciborium::from_reader::<ciborium::Value, _>(bytes.as_slice()).unwrap());
            }
        })
    });
    vec![
        (
            "store + fetch-try / map of queues",
            100_000,
            store_take,
            bare_store_take,
        ),
        ("find-try / map of queues", 300_000, find, bare_find),
        ("encode a tuple / ciborium", 300_000, encode, bare_encode),
        ("decode a tuple / ciborium", 300_000, decode, bare_decode),
    ]
}

/// The same tuple as ciborium's own value.
fn plain() -> ciborium::Value {
    let text = |text: &str| ciborium::Value::Text(text.to_owned());
    ciborium::Value::Array(vec![text("job"), 17.into(), text(&"x".repeat(100))])
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (rounds, share) = if asked("--quick") { (3, 20) } else { (7, 1) };
    let mut rows = Vec::new();
    for (name, ops, ours, bare) in measures() {
        let ops = ops / share;
        let (mut our_times, mut bare_times) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            our_times.push(ours(ops));
            bare_times.push(bare(ops));
        }
        let each = |times| median(times) / ops as f64 * 1e9;
        rows.push((name, each(our_times), each(bare_times)));
    }
    if asked("--json") {
        let measures: Vec<_> = rows
            .iter()
            .map(|(name, ours, bare)| {
                json!({ "measure": name, "rounds": rounds, "ours_ns": ours, "bare_ns": bare,
                        "ratio": bare / ours })
            })
            .collect();
        println!("{}", json!({ "bench": "mesh/space", "measures": measures }));
        return;
    }
    println!(
        "{:<36} {:>10} {:>10} {:>7}",
        "measure (ns per operation)", "ours", "bare", "ratio"
    );
    for (name, ours, bare) in rows {
        println!("{name:<36} {ours:>10.0} {bare:>10.0} {:>7.3}", bare / ours);
    }
}
