//! Which bodies a state refers to: what must not be thrown away.

use cpe_tuple::Blob;

use super::Sm;
use crate::Outcome;

/// How a state refers to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refers {
    /// By an outcome that its taker has not acknowledged: the tuple may yet be put back.
    Taken,
    /// By a tuple that is there or under a lease, or by an actor.
    Live,
}

impl Sm {
    /// Visits every body that the state refers to, in an order that depends on the state alone;
    /// one that is referred to twice is visited twice.
    pub fn bodies(&self, mut visit: impl FnMut(Blob, Refers)) {
        let variables = self.workspaces.values().flat_map(|them| them.values());
        let tuples = variables.flat_map(crate::Variable::tuples);
        let leased = self.leases().map(|(_, lease)| lease.tuple());
        for tuple in tuples.map(|(_, tuple)| tuple).chain(leased) {
            for blob in tuple.blobs() {
                visit(blob, Refers::Live);
            }
        }
        for record in self.actors.values() {
            for blob in record.spec.blobs() {
                visit(blob, Refers::Live);
            }
        }
        for kept in self.sessions.all() {
            if let Outcome::Taken { tuple, .. } | Outcome::Leased { tuple, .. } = &kept.outcome {
                for blob in tuple.blobs() {
                    visit(blob, Refers::Taken);
                }
            }
        }
        for blob in self.takers.tuples().flat_map(cpe_tuple::Tuple::blobs) {
            visit(blob, Refers::Taken);
        }
    }
}
