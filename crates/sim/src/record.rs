//! Keeps what the users of a run asked and were answered, as a history to check at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_mesh::{Failure, LeaseHandle, Reply, RequestId};
use cpe_space::Mode;
use cpe_tuple::{Tuple, Value};

use crate::history::{Conflict, Did, History, HistoryError, Operation, Stored, Taken};

/// Variables for which a take of anything that found nothing is checked: the first so many.
const SCANNED_MAX: usize = 16;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Store(i64),
    Take,
    Find,
    LocalFind,
}

#[derive(Debug)]
struct Asked {
    node: usize,
    /// `None`: by a template that names no variable.
    variable: Option<String>,
    at: Duration,
    what: What,
}

/// The history of a run, and the requests still open.
#[derive(Debug, Default)]
pub(crate) struct Record {
    history: History,
    open: BTreeMap<RequestId, Asked>,
    /// Leases whose end is not known: who asked, for what, and when it was received.
    leases: BTreeMap<LeaseHandle, (Asked, i64, Duration)>,
    variables: BTreeSet<String>,
    /// Variables that a take of anything does not look at.
    apart: BTreeSet<String>,
    /// An operation had no place: what is there cannot be judged.
    incomplete: bool,
}

/// The value of a tuple `[variable, value]`; -1 for what no run stores.
pub(crate) fn value_of(tuple: &Tuple) -> i64 {
    let value = tuple.get(1).and_then(|value| match value {
        // With a large body beside it.
        Value::List(both) => both.first()?.as_int(),
        value => value.as_int(),
    });
    value.unwrap_or(-1)
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

impl Record {
    pub(crate) fn declare(&mut self, variable: &str, mode: Mode) {
        self.history.declare(variable, mode);
    }

    pub(crate) fn asked(
        &mut self,
        request: RequestId,
        node: usize,
        at: Duration,
        variable: Option<String>,
        what: What,
    ) {
        self.variables.extend(variable.clone());
        let asked = Asked {
            node,
            variable,
            at,
            what,
        };
        self.open.insert(request, asked);
    }

    /// An answer came; `received` is false when nobody was there any more to take it.
    pub(crate) fn answered(
        &mut self,
        request: RequestId,
        at: Duration,
        reply: &Reply,
        received: bool,
    ) {
        let Some(asked) = self.open.remove(&request) else {
            return;
        };
        let found = match reply {
            Reply::Tuple(tuple) => Some(tuple.as_ref().map(value_of)),
            _ => None,
        };
        if let (Reply::Leased { tuple, lease, .. }, true) = (reply, received) {
            self.leases.insert(*lease, (asked, value_of(tuple), at));
            return;
        }
        let did = match (asked.what, reply, found) {
            (What::Store(value), Reply::Stored { .. }, _) => stored(value, Stored::Acknowledged),
            (What::Store(value), Reply::Pending, _) => stored(value, Stored::Pending),
            (What::Store(value), ..) => stored(value, Stored::Unknown),
            (What::Take, _, Some(Some(value))) if received => Did::Take(Taken::Value(value)),
            (What::Take, _, Some(None)) if asked.variable.is_none() => {
                return self.empty_everywhere(asked, at);
            }
            (What::Take, _, Some(None)) => Did::Take(Taken::Empty),
            // What it took, if anything, had been put back before the answer was given.
            (What::Take, Reply::Failed(Failure::TimedOut(_)), _) => Did::Take(Taken::Cancelled),
            (
                What::Take,
                Reply::Failed(Failure::Unavailable { .. } | Failure::Refused(_) | Failure::Busy(_)),
                _,
            ) => Did::Take(Taken::Unavailable),
            // It is put back when the home answers again, unless the node crashes before.
            (What::Take, ..) => return self.over(asked),
            (What::Find, _, Some(found)) => Did::Find(found),
            (What::LocalFind, _, Some(found)) => Did::LocalFind(found),
            (What::Find | What::LocalFind, ..) => return,
        };
        let to = match did {
            Did::Store { outcome, .. } if outcome != Stored::Acknowledged => None,
            _ => Some(micros(at)),
        };
        self.push(&asked, to, did);
    }

    /// A template that names no variable found none: each home said so, one after the other.
    fn empty_everywhere(&mut self, mut asked: Asked, at: Duration) {
        for variable in self
            .variables
            .difference(&self.apart)
            .take(SCANNED_MAX)
            .cloned()
            .collect::<Vec<_>>()
        {
            asked.variable = Some(variable);
            self.push(&asked, Some(micros(at)), Did::Take(Taken::Empty));
        }
    }

    /// This variable is in another workspace than the one where takes of anything look.
    pub(crate) fn set_apart(&mut self, variable: String) {
        self.apart.insert(variable);
    }

    /// Leaves out what is known of these variables: some of what they held is gone.
    pub(crate) fn leave_out(&mut self, forgotten: &BTreeSet<String>) {
        if forgotten.is_empty() {
            return;
        }
        self.variables.retain(|name| !forgotten.contains(name));
        let whole = std::mem::take(&mut self.history);
        for (variable, mode) in whole.modes() {
            self.history.declare(variable, *mode);
        }
        for operation in whole.operations() {
            let of = operation.variable.as_ref();
            if !of.is_some_and(|name| forgotten.contains(name)) {
                self.add(operation.clone());
            }
        }
    }

    /// A lease was committed: its take took.
    pub(crate) fn committed(&mut self, lease: LeaseHandle) {
        if let Some((asked, value, at)) = self.leases.remove(&lease) {
            self.push(&asked, Some(micros(at)), Did::Take(Taken::Value(value)));
        }
    }

    /// A lease ended, and its tuple was back at this time at the latest.
    pub(crate) fn back(&mut self, lease: LeaseHandle, at: Duration) {
        if let Some((asked, ..)) = self.leases.remove(&lease) {
            self.push(&asked, Some(micros(at)), Did::Take(Taken::Cancelled));
        }
    }

    /// Whoever asked went away.
    pub(crate) fn abandoned(&mut self, request: RequestId) {
        if let Some(asked) = self.open.remove(&request) {
            self.over(asked);
        }
    }

    /// A node went away, and everybody who had asked it.
    pub(crate) fn gone(&mut self, node: usize) {
        let open = std::mem::take(&mut self.open);
        for (request, asked) in open {
            if asked.node == node {
                self.over(asked);
            } else {
                self.open.insert(request, asked);
            }
        }
    }

    /// What is there cannot be judged any more: a part of the history is gone.
    #[cfg(test)]
    pub(crate) fn give_up(&mut self) {
        self.incomplete = true;
    }

    /// Nobody will learn how it ended.
    fn over(&mut self, asked: Asked) {
        let did = match asked.what {
            What::Store(value) => stored(value, Stored::Unknown),
            What::Take => Did::Take(Taken::Cancelled),
            What::Find | What::LocalFind => return,
        };
        self.push(&asked, None, did);
    }

    fn push(&mut self, asked: &Asked, to: Option<u64>, did: Did) {
        let operation = Operation {
            client: asked.node as u64 + 1,
            variable: asked.variable.clone(),
            from_us: micros(asked.at),
            to_us: to,
            did,
        };
        self.add(operation);
    }

    fn add(&mut self, operation: Operation) {
        let added: Result<(), HistoryError> = self.history.push(operation);
        self.incomplete |= added.is_err();
    }

    /// Ends the history: takes out what is left, until nothing is, and checks it. How many
    /// operations were checked; none when there were too many to keep.
    pub(crate) fn check(
        &mut self,
        at: Duration,
        mut left: BTreeMap<String, Vec<i64>>,
    ) -> Result<u64, Box<Conflict>> {
        // It may have been committed, or have gone back at some time.
        for (asked, ..) in std::mem::take(&mut self.leases).into_values() {
            self.over(asked);
        }
        let mut now = micros(at);
        for variable in std::mem::take(&mut self.variables) {
            let mut values = left.remove(&variable).unwrap_or_default();
            let mode = self.history.modes().get(&variable).copied();
            if mode == Some(Mode::Lifo) {
                values.reverse();
            }
            let takes = values.into_iter().map(Taken::Value).chain([Taken::Empty]);
            for taken in takes {
                now += 1;
                let did = Did::Take(taken);
                self.add(Operation::new(0, variable.clone(), now, Some(now), did));
            }
        }
        if self.incomplete {
            return Ok(0);
        }
        self.history
            .check()
            .map(|checked| checked.operations as u64)
    }
}

fn stored(value: i64, outcome: Stored) -> Did {
    Did::Store { value, outcome }
}
