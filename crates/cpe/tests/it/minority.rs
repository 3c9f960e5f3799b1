//! What a node answers that is parted from the majority of a home: the types of the library.

use std::collections::BTreeSet;
use std::time::Duration;

use cpe::testing::{PeerId, TestBlocks};
use cpe::{Ack, Failure, Fate, Mesh, Node, SpaceError, Stored, Template, Tuple, Value};

use crate::harness::{Ground, LONG, all_linked, join};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a minority is asked.
const SHORT: Duration = Duration::from_secs(1);

/// Three nodes that can be parted.
struct Three {
    _ground: Ground,
    nodes: [Node; 3],
    blocks: [TestBlocks; 3],
}

impl Three {
    /// All home groups have three members, and all nodes know it.
    async fn start() -> Self {
        let ground = Ground::new();
        let blocks = [(); 3].map(|()| TestBlocks::new());
        let a = ground.durable("a").test_blocks(blocks[0].clone());
        let a = a.start().await.unwrap();
        let b = join(ground.durable("b"), &a).test_blocks(blocks[1].clone());
        let b = b.start().await.unwrap();
        let c = join(ground.durable("c"), &a).test_blocks(blocks[2].clone());
        let nodes = [a, b, c.start().await.unwrap()];
        all_linked(&nodes).await;
        for node in &nodes {
            until("groups of three", async || {
                let status = node.mesh().status().await.unwrap();
                status.homes == usize::from(status.shards + status.volatile_shards)
            })
            .await;
        }
        Self {
            _ground: ground,
            nodes,
            blocks,
        }
    }

    fn peer(&self, n: usize) -> PeerId {
        self.nodes[n].peer_id().parse().unwrap()
    }

    /// Parts the last node from the others, and waits until all know.
    async fn cut(&self) {
        let last: BTreeSet<PeerId> = [self.peer(2)].into();
        self.blocks[0].set(last.clone());
        self.blocks[1].set(last);
        self.blocks[2].set([self.peer(0), self.peer(1)].into());
        for (n, wanted) in [(0, 2), (1, 2), (2, 1)] {
            let mesh = self.nodes[n].mesh();
            until("the nodes are parted", async || {
                linked(&mesh).await == wanted
            })
            .await;
        }
    }

    async fn heal(&self) {
        for blocks in &self.blocks {
            blocks.set(BTreeSet::new());
        }
        all_linked(&self.nodes).await;
    }

    /// A variable whose home another node than the last leads, and which one; with one value in it.
    async fn led_elsewhere(&self) -> (String, usize) {
        let space = self.nodes[0].space();
        for n in 0..50 {
            let name = format!("v{n}");
            space.store("w", &name, Value::from(0)).await.unwrap();
            let variables = space.variables("w").await.unwrap();
            let variable = variables.iter().find(|v| v.name == Value::from(&*name));
            let shard = variable.unwrap().shard;
            for (n, node) in self.nodes.iter().enumerate().take(2) {
                let shards = node.mesh().shards().await.unwrap();
                let info = shards.iter().find(|info| info.shard == shard).unwrap();
                if info.leader == Some(node.member().node) {
                    return (name, n);
                }
            }
        }
        panic!("the last node leads everything");
    }
}

async fn linked(mesh: &Mesh) -> usize {
    let peers = mesh.peers().await.unwrap();
    peers.iter().filter(|peer| peer.linked).count()
}

async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let all = async {
        while !so().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let met = tokio::time::timeout(LONG, all).await;
    assert!(met.is_ok(), "it never came to be that {what}");
}

fn tuple(name: &str, value: i64) -> Tuple {
    Tuple::new(vec![Value::from(name), Value::from(value)]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_answers_pending_and_unavailable() {
    let three = Three::start().await;
    let (name, _) = three.led_elsewhere().await;
    let [a, b, c] = &three.nodes;
    let (template, space) = (Template::named(&*name).unwrap(), c.space());
    let fresh = space.staleness("w", template.clone()).await.unwrap();
    assert_eq!(fresh, None, "the majority is within reach");
    let read = space.find("w", &name, LONG).await;
    assert_eq!(read, Ok(Value::from(0)), "its replica has it too");
    three.cut().await;

    for (ack, value) in [(Ack::Home, 1), (Ack::Local, 2)] {
        let stored = space.out_with("w", tuple(&name, value), ack, SHORT).await;
        assert_eq!(stored, Ok(Stored::Pending), "{ack:?}");
    }
    let read = space.find("w", &name, SHORT).await;
    assert_eq!(read, Ok(Value::from(0)));
    let stale = space.staleness("w", template.clone()).await.unwrap();
    let stale = stale.unwrap();
    assert!(stale.applied > 0 && stale.since < LONG, "{stale:?}");

    let unavailable = |failed: Result<Option<Tuple>, SpaceError>, what: &str| match failed {
        Err(SpaceError::Failed(Failure::Unavailable { .. })) => {}
        other => panic!("{what}: {other:?}"),
    };
    let taken = space.take("w", template.clone(), SHORT).await;
    unavailable(taken.map(Some), "take");
    let taken = space.try_take("w", template.clone(), SHORT).await;
    unavailable(taken, "try_take");
    let read = space.rdp("w", template.clone(), Some(SHORT)).await;
    unavailable(read, "rdp, asking the home");
    let read = space.rd_fresh("w", template.clone(), SHORT).await;
    unavailable(read.map(Some), "rd_fresh");
    // A try that was under way when its time was up may have been executed, as far as is known: it
    // is cancelled, and asked once more.
    let leased = async || {
        let leased = space.take_leased("w", template.clone(), LONG, SHORT).await;
        leased.map(|leased| Some(leased.tuple().clone()))
    };
    let mut answer = leased().await;
    for _ in 0..10 {
        if matches!(answer, Err(SpaceError::Failed(Failure::Unknown { .. }))) {
            answer = leased().await;
        }
    }
    unavailable(answer, "take_leased");

    // The majority answers, and what is pending comes to it once.
    let first = a.space().fetch("w", &name, LONG).await;
    assert_eq!(first, Ok(Value::from(0)));
    assert_eq!(b.space().fetch_try("w", &name, LONG).await, Ok(None));
    three.heal().await;
    for value in [1, 2] {
        let taken = b.space().fetch("w", &name, LONG).await;
        assert_eq!(taken, Ok(Value::from(value)));
    }
    assert_eq!(c.space().fetch_try("w", &name, LONG).await, Ok(None));
    until("the replica is not stale", async || {
        let stale = space.staleness("w", template.clone()).await;
        stale.unwrap().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_whose_home_goes_out_of_reach_is_unknown_until_it_is_asked_again() {
    let three = Three::start().await;
    let (name, leader) = three.led_elsewhere().await;
    let [a, b, c] = &three.nodes;
    a.space().fetch("w", &name, LONG).await.unwrap();
    let waiting = async || {
        let status = three.nodes[leader].mesh().status().await;
        status.unwrap().waiting
    };
    let before = waiting().await;
    let (space, template) = (c.space(), Template::named(&*name).unwrap());
    let within = 4 * SHORT;
    let take = tokio::spawn(async move { space.take("w", template, within).await });
    until("the take waits at its home", async || {
        waiting().await == before + 1
    })
    .await;
    three.cut().await;
    a.space().store("w", &name, Value::from(7)).await.unwrap();
    let failure = take.await.unwrap().unwrap_err();
    let SpaceError::Failed(Failure::Unknown { op }) = failure else {
        panic!("{failure:?}");
    };
    let asked = c.space().status(op, SHORT).await.unwrap_err();
    assert!(
        matches!(
            asked,
            SpaceError::Failed(Failure::Unavailable { .. } | Failure::Unknown { .. })
        ),
        "{asked:?}"
    );

    three.heal().await;
    let taken = b.space().fetch("w", &name, LONG).await;
    assert_eq!(taken, Ok(Value::from(7)), "it was put back, or never taken");
    assert_eq!(c.space().fetch_try("w", &name, LONG).await, Ok(None));
    let fate = c.space().status(op, LONG).await.unwrap();
    let over = matches!(
        fate,
        Fate::Took { .. } | Fate::Nothing | Fate::Never | Fate::Forgotten
    );
    assert!(over, "{fate:?}");
}
