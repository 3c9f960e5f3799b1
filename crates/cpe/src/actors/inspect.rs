//! Looking at what runs on the nodes of a mesh.

use std::sync::Arc;
use std::time::Duration;

use cpe_actors::{ActorInfo, ActorTree, DeadLetter};
use cpe_membership::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::envelope::{Answer, Envelope, FRAME_BYTES_MAX};
use super::{Actors, ActorsError, DEADLINE_MAX, Inner, place};

/// Estimated bytes of one node's answer: half of what a frame carries, as it is an estimate.
const ANSWER_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Inspection {
    /// The living actors of the local runtime, named or not.
    Actors,
    /// Its newest dead letters.
    DeadLetters,
}

/// What one node answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected<T> {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it has; an error when it did not answer.
    pub found: Result<Found<T>, ActorsError>,
}

/// Some of what a node has.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<T> {
    /// Of actors the eldest, of dead letters the newest: as many as one answer carries.
    pub items: Vec<T>,
    /// How many there are, or of dead letters ever were.
    pub total: u64,
}

impl Actors {
    /// The actors of one node or, without one, of all that are alive, as trees.
    ///
    /// # Errors
    /// [`ActorsError::UnknownNode`] for a node that is not there or not alive. What goes wrong with
    /// one of several nodes stands in its place in the list.
    pub async fn tree(
        &self,
        node: Option<&str>,
        deadline: Duration,
    ) -> Result<Vec<Inspected<ActorTree>>, ActorsError> {
        self.inspect(node, deadline, Inspection::Actors, |answer| match answer {
            Answer::Actors { actors, total } => Ok(Found {
                items: ActorTree::from_list(actors),
                total,
            }),
            other => Err(other),
        })
        .await
    }

    /// The newest dead letters of one node or, without one, of all that are alive.
    ///
    /// # Errors
    /// As for [`tree`](Self::tree).
    pub async fn dead_letters(
        &self,
        node: Option<&str>,
        deadline: Duration,
    ) -> Result<Vec<Inspected<DeadLetter>>, ActorsError> {
        self.inspect(node, deadline, Inspection::DeadLetters, |it| match it {
            Answer::DeadLetters { letters, total } => Ok(Found {
                items: letters,
                total,
            }),
            other => Err(other),
        })
        .await
    }

    async fn inspect<T>(
        &self,
        node: Option<&str>,
        deadline: Duration,
        what: Inspection,
        read: impl Fn(Answer) -> Result<Found<T>, Answer>,
    ) -> Result<Vec<Inspected<T>>, ActorsError> {
        let inner = &self.inner;
        let peers = inner.mesh.peers().await?;
        let after = deadline.min(DEADLINE_MAX);
        let until = Instant::now() + after;
        let hosts: Vec<_> = match node {
            Some(node) => {
                let meant = place::named(&peers, node).map_err(ActorsError::UnknownNode)?;
                vec![meant.node]
            }
            None => peers
                .iter()
                .filter(|peer| place::is_alive(peer))
                .map(|peer| peer.node)
                .collect(),
        };
        let asked = hosts.into_iter().map(|node| async move {
            let answer = if node == inner.me.node {
                Ok(inner.look(what))
            } else {
                inner
                    .call(node, until, |id| Envelope::Inspect { id, what })
                    .await
            };
            (node, answer)
        });
        let mut all = Vec::new();
        for (node, answer) in futures::future::join_all(asked).await {
            let peer = peers.iter().find(|peer| peer.node == node);
            let found = match answer.map(&read) {
                Ok(Ok(found)) => Ok(found),
                Ok(Err(other)) => Err(inner.refused(ALL, node, after, other).await),
                Err(error) => Err(inner.not_called(ALL, node, after, error).await),
            };
            all.push(Inspected {
                node,
                name: peer.map_or_else(String::new, |peer| peer.name.clone()),
                found,
            });
        }
        Ok(all)
    }
}

/// What stands for a name in errors about no single actor.
const ALL: &str = "*";

impl Inner {
    /// Looks at this node.
    pub(super) fn look(self: &Arc<Self>, what: Inspection) -> Answer {
        match what {
            Inspection::Actors => {
                let all = self.system.list();
                let total = all.len() as u64;
                let actors = within(all, actor_bytes);
                Answer::Actors { actors, total }
            }
            Inspection::DeadLetters => {
                let total = self.system.dead_letter_count();
                let mut all = self.system.dead_letters();
                all.reverse();
                let letters = within(all, letter_bytes);
                Answer::DeadLetters { letters, total }
            }
        }
    }
}

/// The first items, as far as they fit into an answer.
fn within<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<T> {
    let mut left = ANSWER_BYTES_MAX;
    let fits = |item: &T| {
        let rest = left.checked_sub(bytes(item));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    items.into_iter().take_while(fits).collect()
}

fn actor_bytes(info: &ActorInfo) -> usize {
    let texts = [
        info.name.as_ref(),
        Some(&info.kind),
        info.last_error.as_ref(),
    ];
    150 + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

fn letter_bytes(letter: &DeadLetter) -> usize {
    let message = letter.message.as_ref().map_or(0, cpe_tuple::Value::size);
    100 + letter.actor.len() + letter.reason.to_string().len() + message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_what_fits_into_a_frame() {
        let sizes = vec![
            ANSWER_BYTES_MAX / 2,
            ANSWER_BYTES_MAX / 4,
            ANSWER_BYTES_MAX,
            1,
        ];
        assert_eq!(within(sizes.clone(), |size| *size), sizes[..2]);
        assert!(within(vec![ANSWER_BYTES_MAX + 1], |size| *size).is_empty());
    }
}
