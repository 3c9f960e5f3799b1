//! Who is whose parent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ActorId, ActorInfo};

/// An actor with its children, oldest first; a moment's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorTree {
    /// The actor.
    #[serde(flatten)]
    pub info: ActorInfo,
    /// Its living children.
    pub children: Vec<Self>,
}

impl ActorTree {
    /// Makes trees of a list in which parents come before their children, as
    /// [`System::list`](crate::System::list) gives it. A child whose parent is not in it is a root.
    #[must_use]
    pub fn from_list(list: Vec<ActorInfo>) -> Vec<Self> {
        forest(list)
    }
}

fn forest(list: Vec<ActorInfo>) -> Vec<ActorTree> {
    let mut children: BTreeMap<ActorId, Vec<ActorTree>> = BTreeMap::new();
    let mut roots = Vec::new();
    let known: Vec<ActorId> = list.iter().map(|info| info.id).collect();
    // The youngest first: all of an actor's children are complete before it is.
    for info in list.into_iter().rev() {
        let mut below = children.remove(&info.id).unwrap_or_default();
        below.reverse();
        let parent = info
            .parent
            .filter(|parent| known.binary_search(parent).is_ok());
        let tree = ActorTree {
            info,
            children: below,
        };
        match parent {
            Some(parent) => children.entry(parent).or_default().push(tree),
            None => roots.push(tree),
        }
    }
    roots.reverse();
    roots
}
