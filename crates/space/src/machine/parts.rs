//! A state in two parts: its tuples, and the outline, which is everything else.
//!
//! A replica that comes back after long has most of the tuples already. The rest of a state is
//! small and changes all the time. So the two travel in different ways.

use cpe_tuple::Tuple;
use serde::{Deserialize, Serialize};

use super::Sm;
use crate::{Name, variable_of};

/// A tuple that nobody has taken, and where it belongs.
///
/// The history decides it: a tuple admitted under an index is the same on all replicas, and
/// returns to that index when a take is undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Index that admitted it.
    pub index: u64,
    /// Workspace.
    pub workspace: Name,
    /// The tuple.
    pub tuple: Tuple,
}

impl Sm {
    /// Takes all tuples out, ordered by index; what is left is the outline of the state.
    pub fn take_tuples(&mut self) -> Vec<Live> {
        let mut live = Vec::new();
        self.workspaces.retain(|workspace, variables| {
            let was_empty = variables.is_empty();
            variables.retain(|_, variable| {
                // One that holds nothing already is a part of the outline.
                let keep = variable.is_empty();
                for (index, tuple) in variable.take() {
                    let workspace = workspace.clone();
                    live.push(Live {
                        index,
                        workspace,
                        tuple,
                    });
                }
                keep || !variable.is_forgettable()
            });
            was_empty || !variables.is_empty()
        });
        live.sort_unstable_by_key(|live| live.index);
        live
    }

    /// Puts tuples back into an outline. With all that were taken out, in whatever order, the
    /// state is what it was.
    pub fn put_tuples(&mut self, live: impl IntoIterator<Item = Live>) {
        for live in live {
            self.enter(&live.workspace, &variable_of(&live.tuple))
                .put_back(live.index, live.tuple);
        }
    }

    /// Indices of all tuples that are there, in no order.
    pub fn indices(&self) -> impl Iterator<Item = u64> {
        let variables = self.workspaces.values().flat_map(|them| them.values());
        variables
            .flat_map(crate::Variable::tuples)
            .map(|(index, _)| index)
    }

    /// Every tuple that is there, in no order.
    pub fn live(&self) -> impl Iterator<Item = Live> {
        self.workspaces.iter().flat_map(|(workspace, variables)| {
            variables
                .values()
                .flat_map(crate::Variable::tuples)
                .map(|(index, tuple)| Live {
                    index,
                    workspace: workspace.clone(),
                    tuple: tuple.clone(),
                })
        })
    }

    /// Names a state by its encoding: equal states have equal digests, and others do not. The
    /// first eight bytes of its BLAKE3 hash.
    #[must_use]
    pub fn digest(encoded: &[u8]) -> u64 {
        let mut first = [0_u8; 8];
        for (to, from) in first.iter_mut().zip(blake3::hash(encoded).as_bytes()) {
            *to = *from;
        }
        u64::from_be_bytes(first)
    }
}
