//! Operations on variables.
//!
//! An operation goes to the variable's home at once, under the terms of the instance that the
//! connection knows. If the variable is part of that instance, that is all: its home decides in one
//! step, and a deleted workspace has no such variables any more. Only when the home says *absent*
//! is the record of the workspace asked: then either the workspace is gone, or this is the first
//! that is heard of the variable and it is declared. A deletion that comes between is caught by
//! asking the record once more afterwards.

use cpe_space::{After, Bound, Mode, Terms};
use cpe_tuple::Value;

use crate::gateway::{Outcome, Target};
use crate::limits::{DECIDED_WITHIN, WAITS};
use crate::payload::Handed;
use crate::registry::{TRIES_MAX, contended};
use crate::spaces::{Answer, Spaces, Trouble};
use crate::waits::Wait;
use crate::wire::Reply;
use crate::{Gateway, Payload, Retrieve, payload};

/// A request that waits for a value.
pub(crate) struct Waiting {
    target: Target,
    terms: Terms,
    variable: Value,
    leave: bool,
    _counted: Wait,
}

impl<S: Spaces> Gateway<S> {
    /// Makes a variable part of the instance.
    pub(crate) async fn declare(
        &self,
        target: &Target,
        variable: &Value,
        mode: Option<Mode>,
    ) -> Result<(), Trouble> {
        let gone = || Trouble::Refused("the workspace was deleted since it was opened".to_owned());
        if !self.is_current(&target.name, target.instance).await? {
            return Err(gone());
        }
        let act = Bound::Declare {
            variable: variable.clone(),
            mode,
        };
        let doubt = self.leftovers.doubt(target, variable);
        match self.act(target, act).await {
            // Decided, and not done.
            Err(trouble @ (Trouble::Absent | Trouble::Refused(_))) => {
                doubt.settle();
                return Err(trouble);
            }
            done => done?,
        };
        let current = self.is_current(&target.name, target.instance).await?;
        if !current {
            let variable = variable.clone();
            self.act(target, Bound::Drop { variable }).await?;
        }
        doubt.settle();
        if current { Ok(()) } else { Err(gone()) }
    }

    pub(crate) async fn delete_variable(
        &self,
        target: &Target,
        variable: Value,
    ) -> Result<(), Trouble> {
        match self
            .act(
                target,
                Bound::Drop {
                    variable: variable.clone(),
                },
            )
            .await
        {
            Err(Trouble::Absent) => {}
            done => return done.map(drop),
        }
        // Others may have stored to it who know no instances, a moment ago and at another node.
        let workspace = Some(target.workspace.as_str());
        self.spaces.sync(workspace, DECIDED_WITHIN).await?;
        let listed = self.spaces.list(&target.workspace).await?;
        let plain = |it: &crate::Listed| it.name == variable && it.instance.is_none();
        if !listed.iter().any(plain) {
            return Err(Trouble::Absent);
        }
        self.declare(target, &variable, None).await?;
        self.act(target, Bound::Drop { variable }).await.map(drop)
    }

    pub(crate) async fn store(
        &self,
        target: &Target,
        variable: Value,
        descriptor: u64,
        payload: Payload,
        life: Option<u64>,
    ) -> Result<(), Trouble> {
        let tuple = payload::tuple(variable.clone(), descriptor, payload)
            .map_err(|error| Trouble::Refused(error.to_string()))?;
        let after = life.map(|life| After {
            variable: Some(life),
            ordinal: 0,
        });
        let terms = Terms {
            after,
            ..target.terms()
        };
        for _ in 0..TRIES_MAX {
            let tuple = tuple.clone();
            let put = self.spaces.act(
                &target.workspace,
                terms,
                Bound::Put { tuple },
                DECIDED_WITHIN,
            );
            match put.await {
                Err(Trouble::Absent) => self.declare(target, &variable, None).await?,
                done => return done.map(drop),
            }
        }
        Err(contended())
    }

    /// Reads or takes a value if there is one. If there is none and the request waits, what it
    /// waits for.
    pub(crate) async fn try_retrieve(
        &self,
        target: Target,
        variable: Value,
        how: Retrieve,
    ) -> Result<Outcome<S>, Trouble> {
        let terms = Terms {
            after: how.after,
            ..target.terms()
        };
        for _ in 0..TRIES_MAX {
            match self.take(&target, terms, &variable, how.leave, false).await {
                Err(Trouble::Absent) => self.declare(&target, &variable, None).await?,
                Err(trouble) => return Err(trouble),
                Ok(Some(value)) => return Ok(Outcome::Value(value)),
                Ok(None) if !how.wait => return Ok(Outcome::Reply(Reply::Nothing)),
                Ok(None) => {
                    let waits = self.waits.begin(&target.workspace, &variable, how.leave);
                    return Ok(Outcome::Wait(Waiting {
                        target,
                        terms,
                        variable,
                        leave: how.leave,
                        _counted: waits,
                    }));
                }
            }
        }
        Err(contended())
    }

    /// Waits for a value; `None` if there will be none. The variable was there: that it is absent
    /// means that it was deleted.
    ///
    /// # Cancel safety
    /// Dropped, it gives back what it has taken.
    pub(crate) async fn wait(&self, waiting: &Waiting) -> Option<Handed<S>> {
        let Waiting {
            target,
            terms,
            variable,
            leave,
            ..
        } = waiting;
        let taken = self.take(target, *terms, variable, *leave, true).await;
        taken.unwrap_or_else(|trouble| {
            let name = target.name.escape_ascii();
            let variable = crate::names::shown(variable);
            let variable = variable.escape_ascii();
            tracing::debug!(workspace = %name, %variable, %trouble, "who waited is refused");
            None
        })
    }

    async fn take(
        &self,
        target: &Target,
        terms: Terms,
        variable: &Value,
        leave: bool,
        wait: bool,
    ) -> Result<Option<Handed<S>>, Trouble> {
        let act = Bound::Take {
            variable: variable.clone(),
            wait,
            leave,
        };
        let within = if wait { WAITS } else { DECIDED_WITHIN };
        let acted = self.spaces.act(&target.workspace, terms, act, within);
        match acted.await? {
            (Answer::Tuple(tuple), receipt) => Ok(tuple.map(|tuple| Handed {
                workspace: target.workspace.clone(),
                tuple,
                receipt,
            })),
            _ => Err(Trouble::Undecided("an answer of another kind".to_owned())),
        }
    }

    async fn act(&self, target: &Target, act: Bound) -> Result<Answer, Trouble> {
        let acted = self
            .spaces
            .act(&target.workspace, target.terms(), act, DECIDED_WITHIN);
        acted.await.map(|(answer, _)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::Late;
    use crate::gateway::DEFAULT;

    /// Another node has acknowledged the store; this one's replica has not heard of it yet.
    #[tokio::test]
    async fn a_variable_that_others_stored_to_elsewhere_a_moment_ago_is_deleted() {
        let variable = Value::from("v");
        let mut spaces = Late::default();
        spaces.later.push(crate::Listed {
            name: variable.clone(),
            mode: None,
            instance: None,
            values: 1,
        });
        let gateway = Gateway::new(spaces);
        let target = Target {
            name: DEFAULT.to_vec(),
            workspace: "w".to_owned(),
            instance: 1,
        };
        let deleted = gateway.delete_variable(&target, variable.clone()).await;
        assert_eq!(deleted, Ok(()));
        let last = gateway.spaces.acts.lock().unwrap().last().cloned();
        assert_eq!(last, Some(Bound::Drop { variable }));
        let synced = gateway.spaces.synced.lock().unwrap().clone();
        assert_eq!(synced, [Some("w".to_owned())], "only its homes are asked");
    }
}
