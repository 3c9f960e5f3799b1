//! Operations bound to one instance of a workspace.
//!
//! To most programs a workspace is a name. To clients of a server that knew more, it is an
//! *instance*: deleted and made again it is another one, and who knew the first must not touch the
//! second. Which instance is the current one is written elsewhere. Here each variable knows the
//! instance it was declared in, and an operation that names another is told
//! [`Outcome::Absent`] and changes nothing. The client then looks up what is current.
//!
//! A variable declared so has a [`Life`](crate::Life): it stays when it is empty, until it is
//! deleted, and gives each of its tuples an ordinal in its [`Mark`](cpe_tuple::Mark). So reads can
//! go from one tuple to the next although others take some in between.
//!
//! Bound operations are decided like takes, under an operation id, also the puts: they do not go
//! through the origin's outbox, and one that is cancelled before it is decided never happens.

use cpe_tuple::{Mark, Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::{Applied, Mode, Name, OpId, Outcome, Sm, Variable, variable_of};

/// Under which terms a bound operation is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The instance of the workspace.
    pub instance: u64,
    /// Which tuple, for takes of an iteration; for a put, which life of the variable.
    pub after: Option<After>,
}

/// The place an iteration has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The variable's life that the iteration is over; none before its first tuple.
    pub variable: Option<u64>,
    /// The last ordinal seen, when it has begun.
    pub ordinal: u64,
}

/// What to do with a variable of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Bound {
    /// Add a tuple to its variable, which must be there.
    Put {
        /// The tuple.
        tuple: Tuple,
    },
    /// Take a tuple of two fields, or a copy.
    Take {
        /// First field.
        variable: Value,
        /// A waiting take that finds nothing leaves no outcome, as it will be tried again.
        wait: bool,
        /// Leave the tuple and answer with a copy.
        leave: bool,
    },
    /// Make the variable a part of the instance, if it is not. Tuples it has from operations that
    /// know no instances stay; those of an earlier instance go.
    Declare {
        /// First field of its tuples.
        variable: Value,
        /// Its mode; none leaves that to the first put, which makes it fifo.
        mode: Option<Mode>,
    },
    /// Delete the variable, which must be there.
    Drop {
        /// First field of its tuples.
        variable: Value,
    },
    /// Put one tuple in the place of another if that is what the variable holds. Knows no instance.
    Exchange {
        /// First field of both.
        variable: Value,
        /// What must be there: this, or nothing.
        expect: Option<Tuple>,
        /// What is there afterwards: this, marked with the index as its variable, or nothing.
        put: Option<Tuple>,
    },
}

impl Bound {
    /// The variable it concerns.
    #[must_use]
    pub fn variable(&self) -> Value {
        match self {
            Self::Put { tuple } => variable_of(tuple),
            Self::Take { variable, .. }
            | Self::Declare { variable, .. }
            | Self::Drop { variable }
            | Self::Exchange { variable, .. } => variable.clone(),
        }
    }
}

impl Terms {
    /// Whether a take under these terms may have this tuple.
    #[must_use]
    pub fn accept(&self, tuple: &Tuple) -> bool {
        let begun = self.after.filter(|after| after.variable.is_some());
        tuple.len() == 2
            && begun.is_none_or(|after| {
                tuple
                    .mark()
                    .is_some_and(|mark| mark.ordinal > after.ordinal)
            })
    }
}

impl Sm {
    /// The variable, if it is part of the instance.
    fn of_instance(&self, workspace: &Name, key: &Value, instance: u64) -> Option<&Variable> {
        self.variable(workspace, key)
            .filter(|variable| variable.life().is_some_and(|it| it.instance == instance))
    }

    /// What a bound take would be told at once, whatever comes; `None` when it may take or wait.
    #[must_use]
    pub fn refusal(&self, workspace: &Name, key: &Value, terms: &Terms) -> Option<Outcome> {
        let Some(variable) = self.of_instance(workspace, key, terms.instance) else {
            return Some(Outcome::Absent);
        };
        let after = terms.after?;
        let ordered = matches!(variable.mode(), Mode::Fifo | Mode::Single);
        let same = variable
            .life()
            .is_some_and(|life| after.variable.is_none_or(|born| born == life.born));
        (!ordered || !same).then_some(Outcome::NoIteration)
    }

    /// The tuple a bound take finds.
    #[must_use]
    pub fn find_bound(
        &self,
        workspace: &Name,
        key: &Value,
        terms: &Terms,
        draw: u64,
    ) -> Option<(u64, &Tuple)> {
        self.of_instance(workspace, key, terms.instance)?
            .pick_where(draw, |tuple| terms.accept(tuple))
    }

    pub(crate) fn act_bound(
        &mut self,
        op: OpId,
        workspace: &Name,
        terms: &Terms,
        act: &Bound,
    ) -> Applied {
        let outcome = match act {
            Bound::Put { tuple } => return self.put_bound(op, workspace, terms, tuple),
            Bound::Take {
                variable,
                wait,
                leave,
            } => return self.take_bound(op, workspace, terms, variable, *wait, *leave),
            Bound::Declare { variable, mode } => {
                self.declare_bound(workspace, terms.instance, variable, *mode)
            }
            Bound::Drop { variable } => {
                if self
                    .of_instance(workspace, variable, terms.instance)
                    .is_some()
                {
                    self.delete(workspace, Some(variable));
                    Outcome::Done
                } else {
                    Outcome::Absent
                }
            }
            Bound::Exchange {
                variable,
                expect,
                put,
            } => {
                let (outcome, added) =
                    self.exchange(workspace, variable, expect.as_ref(), put.as_ref());
                if let Some(tuple) = added {
                    self.conclude(op, outcome, None);
                    return Applied::Added {
                        index: self.index(),
                        dot: None,
                        pending: false,
                        workspace: workspace.clone(),
                        tuple,
                    };
                }
                outcome
            }
        };
        self.conclude(op, outcome, None)
    }

    fn put_bound(&mut self, op: OpId, workspace: &Name, terms: &Terms, tuple: &Tuple) -> Applied {
        let key = variable_of(tuple);
        let Some(variable) = self.of_instance(workspace, &key, terms.instance) else {
            return self.conclude(op, Outcome::Absent, None);
        };
        let meant = terms.after.and_then(|after| after.variable);
        if meant.is_some_and(|meant| variable.life().is_none_or(|life| life.born != meant)) {
            return self.conclude(op, Outcome::NoIteration, None);
        }
        let index = self.index();
        let tuple = self.enter(workspace, &key).insert(index, tuple.clone());
        self.conclude(op, Outcome::Done, None);
        Applied::Added {
            index,
            dot: None,
            pending: false,
            workspace: workspace.clone(),
            tuple,
        }
    }

    fn take_bound(
        &mut self,
        op: OpId,
        workspace: &Name,
        terms: &Terms,
        key: &Value,
        wait: bool,
        leave: bool,
    ) -> Applied {
        if self.is_full_of_outcomes(op.session) {
            return Applied::Missed(op);
        }
        if let Some(outcome) = self.refusal(workspace, key, terms) {
            return self.conclude(op, outcome, None);
        }
        let found = self.find_bound(workspace, key, terms, self.index());
        let found = found.map(|(index, tuple)| (index, tuple.clone()));
        match found {
            None if wait => Applied::Missed(op),
            None => self.conclude(op, Outcome::Empty, None),
            Some((_, tuple)) if leave => self.conclude(op, Outcome::Found { tuple }, None),
            Some((index, tuple)) => {
                self.remove(workspace, key, index);
                self.conclude(op, Outcome::Taken { index, tuple }, Some(workspace.clone()))
            }
        }
    }

    fn declare_bound(
        &mut self,
        workspace: &Name,
        instance: u64,
        key: &Value,
        mode: Option<Mode>,
    ) -> Outcome {
        let life = self
            .variable(workspace, key)
            .and_then(Variable::life)
            .copied();
        if life.is_some_and(|life| life.instance > instance) {
            return Outcome::Absent;
        }
        if life.is_some_and(|life| life.instance < instance) {
            self.delete(workspace, Some(key));
        }
        let born = self.index();
        let there = self.enter(workspace, key);
        if there.life().is_none() {
            there.live(instance, born);
        }
        match mode.map(|mode| there.declare(mode)) {
            None | Some(Ok(())) => Outcome::Done,
            Some(Err(other)) => Outcome::ModeIs(other),
        }
    }

    /// What came of it, and the tuple that is there now.
    fn exchange(
        &mut self,
        workspace: &Name,
        key: &Value,
        expect: Option<&Tuple>,
        put: Option<&Tuple>,
    ) -> (Outcome, Option<Tuple>) {
        let there = self.variable(workspace, key);
        let there = there.and_then(|variable| variable.tuples().next());
        if there.map(|(_, tuple)| tuple) != expect {
            let there = there.map(|(_, tuple)| tuple.clone());
            return (Outcome::Differs(there), None);
        }
        let old = there.map(|(at, _)| at);
        let index = self.index();
        if let Some(old) = old {
            self.remove(workspace, key, old);
        }
        let added = put.map(|tuple| {
            let mark = Mark {
                descriptor: tuple.mark().and_then(|mark| mark.descriptor),
                variable: index,
                ordinal: 0,
            };
            let tuple = tuple.clone().with_mark(mark);
            self.enter(workspace, key).insert(index, tuple)
        });
        (Outcome::Exchanged { index }, added)
    }
}
