//! How fast a store is seen everywhere.

use std::time::Duration;

use cpe_mesh::{Ack, Command, Input};
use cpe_space::{Name, shard_of};
use cpe_tuple::{Field, Template, Tuple, Value};
use rand::RngExt;

use crate::check::Violation;
use crate::world::World;

/// Nobody else uses it.
const WORKSPACE: &str = "spread";

/// How often it is looked who sees the store: the times are as exact as this.
const LOOK: Duration = Duration::from_millis(5);

/// How long a store may take until it is given up.
const LIMIT: Duration = Duration::from_secs(30);

impl World {
    /// Runs the scenario's work and faults, and then makes stores, one after the other, each at a
    /// node drawn anew, with the network as it is. How long each took until this share of all nodes
    /// found it in their own replica; [`Duration::MAX`] for one that did not within 30 s.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn spread(mut self, stores: usize, share: f64) -> Result<Vec<Duration>, Violation> {
        self.run_until(self.scenario.span())?;
        let enough = (self.nodes.len() as f64 * share).ceil() as usize;
        let mut times = Vec::with_capacity(stores);
        for number in 0..stores {
            let variable = Value::from(format!("s{number}"));
            let (Ok(tuple), Ok(template), Ok(workspace)) = (
                Tuple::new(vec![variable.clone()]),
                Template::new(vec![Field::Actual(variable.clone())]),
                Name::new(WORKSPACE),
            ) else {
                break;
            };
            let shard = usize::from(shard_of(&workspace, &variable, self.scenario.shards).0);
            let request = self.fresh_request();
            let n = self.rng.random_range(0..self.nodes.len());
            let command = Command::Out {
                workspace: WORKSPACE.to_owned(),
                tuple,
                ack: Ack::Home,
                deadline: LIMIT,
            };
            let began = self.now;
            self.input(n, Input::Command(request, command));
            let mut took = Duration::MAX;
            while took == Duration::MAX && self.now < began + LIMIT {
                let next = self.now + LOOK;
                self.run_until(next)?;
                let sees = self.nodes.iter().filter(|node| {
                    let peer = node.peer.as_ref();
                    let replica = peer.and_then(|peer| peer.shards().nth(shard));
                    replica.is_some_and(|replica| replica.find(&workspace, &template).is_some())
                });
                if sees.count() >= enough {
                    took = self.now - began;
                }
            }
            times.push(took);
        }
        Ok(times)
    }
}
