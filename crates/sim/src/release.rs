//! Actors whose names are given up: by their hosts, which have stopped them, and by others, who may
//! do so only when the life that hosts them is over (rule A3).

use std::time::Duration;

use cpe_mesh::{Command, Failure, Reply};

use crate::actors::{Asked, Step, name};
use crate::posts::Why;
use crate::world::{Happening, World};

/// Milliseconds. So often somebody gives a name up.
pub(crate) const RELEASE_MS: std::ops::Range<u64> = 200..2_000;

/// How long a question may take; then it is asked anew.
const DEADLINE: Duration = Duration::from_millis(700);

/// Pause before that.
const PAUSE: Duration = Duration::from_millis(50);

impl World {
    /// Some node gives up a name with the token that its replica shows, whoever hosts it.
    pub(crate) fn release_some(&mut self, actor: usize) {
        if self.calm || self.actors_end {
            return;
        }
        self.step_in(RELEASE_MS, Step::Release(actor));
        let n = self.any_node();
        let node = self.nodes.get(n).filter(|node| !node.is_held());
        let Some(peer) = node.and_then(|node| node.peer.as_ref()) else {
            return;
        };
        let record = peer
            .shards()
            .find_map(|shard| shard.sm().actor(&name(actor)));
        let Some((token, host)) = record.map(|record| (record.token, record.host)) else {
            return;
        };
        let kept = record.and_then(|record| record.kept.as_ref());
        let all_done = kept.filter(|kept| kept.outbox.is_empty());
        // The last commit of an actor whose effects are all done.
        let done = all_done.map_or(0, |kept| kept.seq);
        let mine = host.is_some_and(|host| host.node == peer.member().node);
        if mine && !self.actors.running.contains_key(&(n, actor)) {
            // It may be about to begin here.
            return;
        }
        if let Some(instance) = self.actors.running.get(&(n, actor)) {
            if instance.pending.is_some() || instance.moving.is_some() || instance.token != token {
                return;
            }
            // What it tells others is to be handled although they may be given up too: a name is
            // free only once all is done.
            if done != instance.seq {
                return;
            }
            // A host stops what it gives up before it says so.
            let born = instance.born;
            self.actors.running.remove(&(n, actor));
            self.mailbox_lost(n, actor, Why::Ended);
            self.actor_ended(n, actor, token, born);
        }
        self.release(n, actor, token);
    }

    /// Asks the home to give up a name of which this node runs nothing.
    pub(crate) fn release(&mut self, n: usize, actor: usize, token: u64) {
        let running = self.actors.running.get(&(n, actor));
        if running.is_some_and(|instance| instance.token == token) {
            return;
        }
        let command = Command::Release {
            name: name(actor),
            token,
            keeps: true,
            deadline: DEADLINE,
        };
        self.ask_actor(n, Asked::Release { actor, token }, command);
    }

    /// What a home said; a host that was told nothing, or that something is left to be done, asks
    /// again, since nobody runs its actor.
    pub(crate) fn release_ended(&mut self, n: usize, actor: usize, token: u64, reply: &Reply) {
        match reply {
            Reply::Done => {
                self.report.released += 1;
                self.actor_end_stands(n, actor, token);
            }
            // An earlier question was decided.
            Reply::Failed(Failure::Fenced {
                host: None,
                token: now,
            }) if *now == token => self.actor_end_stands(n, actor, token),
            // Another node has it, or has had it, and saw to its end.
            Reply::Failed(Failure::Fenced { token: now, .. }) if *now != token => {
                self.actor_goes_on(n, actor, token);
            }
            Reply::Failed(Failure::Fenced { .. } | Failure::Refused(_)) => {}
            _ => {
                let again = Step::ReleaseAgain(n, actor, token);
                self.at(self.now + PAUSE, Happening::Actor(again));
            }
        }
    }

    /// Whether a node's replica shows a name that nobody hosts.
    pub(crate) fn is_free(&self, n: usize, actor: usize) -> bool {
        let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
        let mut shards = peer.into_iter().flat_map(cpe_mesh::Peer::shards);
        let record = shards.find_map(|shard| shard.sm().actor(&name(actor)));
        record.is_some_and(|record| record.host.is_none())
    }
}
