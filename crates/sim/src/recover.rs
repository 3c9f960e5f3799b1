//! Meshes that lose the majority of their home groups for ever, and are told to go on without it.

use std::time::Duration;

use cpe_mesh::{Command, Input, Peer};
use rand::RngExt;

use crate::check::Books;
use crate::swarm::swarm;
use crate::world::{Happening, World};
use crate::{Faults, Scenario};

const SECOND: Duration = Duration::from_secs(1);

/// How long the survivor has, to go on with all shards.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);

/// What users ask afterwards.
const ASKED: u64 = 200;

impl World {
    /// From here on the books are new: nothing is promised of what was decided before. But that a
    /// tuple is taken once holds for those who take it afterwards.
    fn fork_books(&mut self) {
        let stored = std::mem::take(&mut self.books.stored);
        self.books = Books {
            stored,
            ..Books::default()
        };
        self.record.give_up();
        self.prefixes = crate::prefix::Prefixes::default();
    }

    fn is_forked(&self, n: usize) -> bool {
        let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
        let mut shards = peer.into_iter().flat_map(Peer::shards);
        shards.all(|shard| shard.sm().forked_at().is_some())
    }
}

/// Three nodes work under faults; two of them are lost with their disks; the third goes on.
fn lose_two_of_three(seed: u64) {
    let scenario = swarm(seed);
    let faults = Faults {
        disk_losses: 0.0,
        ..scenario.faults
    };
    let scenario = Scenario {
        nodes: 3,
        homes: 3,
        volatile: 0,
        eligible_ms: 50.0,
        seconds: 6.0,
        faults,
        ..scenario
    };
    let mut world = World::new(scenario, seed);
    let survivor = world.rng.random_range(0..3);
    let end = world.scenario.span();
    world.run_until(end).unwrap();
    world.calm_down();
    // All groups have three members by then.
    world.run_until(end + 10 * SECOND).unwrap();
    for n in (0..3).filter(|n| *n != survivor) {
        world.forfeit(n, None);
    }
    world.fork_books();
    let limit = world.now + RECOVERED_WITHIN;
    while !world.is_forked(survivor) {
        assert!(world.now < limit, "seed {seed}: it did not go on");
        // Refused until the node knows that the others are gone.
        let request = world.fresh_request();
        let recover = Command::Recover {
            shard: None,
            deadline: 5 * SECOND,
        };
        world.input(survivor, Input::Command(request, recover));
        let next = world.now + 5 * SECOND;
        world.run_until(next).unwrap();
    }
    // Others come in the place of those that are lost, and users ask again.
    for n in 0..3 {
        world.start(n);
    }
    let now = world.now;
    for number in 0..ASKED {
        let at = now + Duration::from_millis(30 * number);
        world.at(at, Happening::Ask(1_000_000 + number));
    }
    world.run_until(now + 10 * SECOND).unwrap();
    let ended = world.finish();
    let report = ended.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    assert!(report.acknowledged > 0, "seed {seed}");
}

#[test]
fn a_mesh_that_goes_on_without_its_majority_takes_once_what_is_there_then() {
    for seed in 0..30 {
        lose_two_of_three(seed);
    }
}
