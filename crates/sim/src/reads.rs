//! Local reads (guarantee G5): each shows what its replica holds.

use cpe_space::{Name, ShardId};
use cpe_tuple::{Template, Tuple, Value};

use crate::check::Violation;
use crate::world::World;

impl World {
    /// A read that neither waits nor asks the home was answered just now, from the replica as it
    /// is: what it found is there, and when it found nothing, nothing is there.
    ///
    /// Nodes that work in turns answer later than they look: of those nothing is known.
    pub(crate) fn check_local_read(&mut self, n: usize, number: u32, found: Option<&Tuple>) {
        let workspace = self.workspace_of(number).to_owned();
        let variable = Value::from(format!("v{number}"));
        let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
        let (Some(peer), Ok(name)) = (peer, Name::new(&workspace)) else {
            return;
        };
        if self.scenario.faults.turns > 0.0 {
            return;
        }
        let Some(id) = peer.genesis().map(|mesh| mesh.shard_of(&name, &variable)) else {
            return;
        };
        let ShardId(shard) = id;
        let Some(replica) = peer.shards().nth(usize::from(shard)) else {
            return;
        };
        let Some(template) = variable.as_str().and_then(|it| Template::named(it).ok()) else {
            return;
        };
        let is_there = match found {
            Some(tuple) => {
                let mut decided = replica.sm().matches(&name, &template);
                let mut pending = replica.pending().values();
                decided.any(|(_, it)| it == tuple)
                    || pending.any(|it| it.workspace == name && it.tuple == *tuple)
            }
            None => replica.find(&name, &template).is_none(),
        };
        if !is_there {
            let node = n + 1;
            self.violation = Some(Violation::NoPrefix { node, shard });
        }
    }
}
