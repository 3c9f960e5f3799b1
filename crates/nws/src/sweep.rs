//! Purging what the owners of dead nodes left, and deletions left half done.
//!
//! Every node does this, each by itself: the exchange of the record decides who succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Gateway;
use crate::record::{Owner, Record};
use crate::spaces::{Health, Spaces, Trouble, Who};

/// How often.
const EVERY: Duration = Duration::from_secs(2);

/// How long a node must be believed dead, or to have left, before what its clients own is purged.
/// Long enough for a busy machine, a short break of the network or late news of its return not to
/// cost anybody a workspace.
const GRACE: Duration = Duration::from_secs(10);

/// Since when nodes are believed dead, or to have left.
#[derive(Debug, Default)]
struct Dead(BTreeMap<Who, Instant>);

impl Dead {
    /// Notes who is alive: who was heard has not been dead ever since, whatever it owns. Those
    /// whose connections own nothing any more are forgotten.
    fn look(&mut self, owners: &BTreeSet<Who>, nodes: &[(Who, Health)]) {
        self.0.retain(|who, _| {
            let lives = nodes.contains(&(*who, Health::Alive));
            owners.contains(who) && !lives
        });
    }

    /// Whether the connections of this life of a node are gone for certain, or for all that can be
    /// known.
    fn is_gone(&mut self, who: Who, nodes: &[(Who, Health)], now: Instant) -> bool {
        let same = nodes.iter().filter(|(other, _)| other.node == who.node);
        let latest = same.max_by_key(|(other, _)| other.life);
        match latest {
            // Another life has begun: this one is over.
            Some((other, _)) if other.life > who.life => true,
            Some((_, Health::Alive)) => {
                self.0.remove(&who);
                false
            }
            // Left: it may be back already, as news of that may come later than what it owns.
            // Unheard of: forgotten long ago, or not met yet.
            Some((_, Health::Left | Health::Dead)) | None => {
                let since = self.0.entry(who).or_insert(now);
                now.duration_since(*since) >= GRACE
            }
        }
    }
}

/// Purges what owners that are gone have left, every two seconds, until the token is set. Every
/// node does so, also one without a socket for clients: nobody else may be there to.
pub async fn purge<S: Spaces>(gateway: Arc<Gateway<S>>, stop: CancellationToken) {
    let mut dead = Dead::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let swept = stop.run_until_cancelled(gateway.sweep(&mut dead)).await;
        if let Some(Err(trouble)) = swept {
            tracing::debug!(%trouble, "the sweep of workspaces goes on later");
        }
    }
}

impl<S: Spaces> Gateway<S> {
    async fn sweep(&self, dead: &mut Dead) -> Result<(), Trouble> {
        self.clear_leftovers().await;
        let records = self.records().await?;
        if records.is_empty() {
            *dead = Dead::default();
            return Ok(());
        }
        let owners = records.iter().filter_map(|record| record.owner);
        let owners: BTreeSet<Who> = owners.map(|owner| owner.node).collect();
        let nodes = self.spaces.nodes().await?;
        dead.look(&owners, &nodes);
        let (me, now) = (self.spaces.me(), Instant::now());
        let mut is_gone = |owner: &Owner| {
            if owner.node == me {
                !self.is_live(owner.connection)
            } else {
                dead.is_gone(owner.node, &nodes, now)
            }
        };
        let abandoned: Vec<Record> = records
            .into_iter()
            .filter(|record| record.deleting || record.owner.as_ref().is_some_and(&mut is_gone))
            .collect();
        for record in abandoned {
            let name = record.name.escape_ascii();
            tracing::info!(%name, "purging a workspace whose owner is gone");
            let purged = match record.owner {
                Some(owner) if !record.deleting => self.disown(&record.name, owner).await,
                // To look at it is to complete its deletion.
                _ => match self.open(&record.name, None, false, false).await {
                    Err(Trouble::Absent) => Ok(()),
                    seen => seen.map(drop),
                },
            };
            // One that cannot be purged, as while a shard is unavailable, keeps no other.
            if let Err(trouble) = purged {
                tracing::debug!(%name, %trouble, "a workspace is purged later");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(node: u64, life: u64) -> Who {
        Who { node, life }
    }

    #[test]
    fn a_node_is_gone_once_it_lived_again_or_was_dead_or_had_left_for_a_while() {
        let (mut dead, start) = (Dead::default(), Instant::now());
        let mut check = |health: Option<(Who, Health)>, after: Duration| {
            let nodes: Vec<_> = health.into_iter().collect();
            dead.is_gone(who(1, 2), &nodes, start + after)
        };
        let at = |health| Some((who(1, 2), health));
        let second = Duration::from_secs(1);
        assert!(!check(at(Health::Alive), second));
        assert!(check(Some((who(1, 3), Health::Alive)), second));
        assert!(!check(at(Health::Dead), second));
        assert!(!check(at(Health::Alive), GRACE), "it was heard again");
        assert!(!check(None, 2 * GRACE));
        assert!(check(at(Health::Dead), 3 * GRACE));
    }

    /// Dead while it owned something, alive while it did not, dead again: the first time says
    /// nothing about the second.
    #[test]
    fn a_node_that_was_heard_while_it_owned_nothing_is_not_dead_since_before() {
        let (mut dead, start) = (Dead::default(), Instant::now());
        let owners = BTreeSet::from([who(1, 2)]);
        let at = |health| [(who(1, 2), health)];
        assert!(!dead.is_gone(who(1, 2), &at(Health::Dead), start));
        dead.look(&owners, &at(Health::Alive));
        let late = start + 2 * GRACE;
        dead.look(&owners, &at(Health::Dead));
        assert!(!dead.is_gone(who(1, 2), &at(Health::Dead), late));
        assert!(dead.is_gone(who(1, 2), &at(Health::Dead), late + GRACE));
        // What owns nothing is not remembered.
        dead.look(&BTreeSet::new(), &at(Health::Dead));
        assert!(dead.0.is_empty());
    }

    #[test]
    fn stale_news_that_a_node_has_left_costs_nobody_a_workspace() {
        let (mut dead, start) = (Dead::default(), Instant::now());
        let mut check = |life: u64, health: Health, after: Duration| {
            dead.is_gone(who(1, 2), &[(who(1, life), health)], start + after)
        };
        // Its life before.
        assert!(!check(1, Health::Left, Duration::ZERO));
        assert!(!check(2, Health::Alive, GRACE), "it was heard again");
        assert!(!check(2, Health::Left, GRACE));
        assert!(check(2, Health::Left, 2 * GRACE));
    }
}
