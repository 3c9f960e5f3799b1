//! Variables that may have been left in an instance that is gone.
//!
//! A variable is declared between two looks at the record of its workspace. Where the second look,
//! or the taking back after it, did not come to its end, as when a home did not answer or the
//! client went away, a deletion that came between may have missed the variable. It is looked at
//! again until that is settled. Should this node die before, the deletion of the next instance of
//! that name drops it too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cpe_space::Bound;
use cpe_tuple::Value;

use crate::Gateway;
use crate::gateway::Target;
use crate::limits::{DECIDED_WITHIN, LEFTOVERS_MAX};
use crate::spaces::{Spaces, Trouble};

/// The workspace in the space, the instance, the variable.
type Place = (String, u64, Value);

/// Variables in doubt, each with what is needed to look at it.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Mutex<BTreeMap<Place, Target>>);

/// A declaration under way. Dropped unsettled, its variable is in doubt.
pub(crate) struct Doubt<'a> {
    leftovers: &'a Leftovers,
    about: Option<(Target, Value)>,
}

impl Leftovers {
    pub(crate) fn doubt(&self, target: &Target, variable: &Value) -> Doubt<'_> {
        Doubt {
            leftovers: self,
            about: Some((target.clone(), variable.clone())),
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Place, Target>> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doubt<'_> {
    /// The variable is part of a current instance, or was taken back.
    pub(crate) fn settle(mut self) {
        self.about = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        let Some((target, variable)) = self.about.take() else {
            return;
        };
        let mut all = self.leftovers.all();
        if all.len() < LEFTOVERS_MAX {
            let place = (target.workspace.clone(), target.instance, variable);
            all.insert(place, target);
        }
    }
}

impl<S: Spaces> Gateway<S> {
    /// Looks at what is in doubt; what cannot be settled now is looked at again.
    pub(crate) async fn clear_leftovers(&self) {
        let all: Vec<_> = self.leftovers.all().clone().into_iter().collect();
        for (place, target) in all {
            match self.clear(&target, place.2.clone()).await {
                Ok(()) => drop(self.leftovers.all().remove(&place)),
                // The others would mostly wait for the same.
                Err(trouble) => {
                    tracing::debug!(%trouble, "what is left of deleted workspaces stays for now");
                    return;
                }
            }
        }
    }

    async fn clear(&self, target: &Target, variable: Value) -> Result<(), Trouble> {
        if self.is_current(&target.name, target.instance).await? {
            return Ok(());
        }
        let (terms, act) = (target.terms(), Bound::Drop { variable });
        let dropped = self
            .spaces
            .act(&target.workspace, terms, act, DECIDED_WITHIN);
        match dropped.await {
            Ok(_) | Err(Trouble::Absent) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::Late;
    use crate::record::Record;

    /// The workspace is deleted while a variable is declared in it, and its home does not answer
    /// when the record is looked at again.
    #[tokio::test]
    async fn a_variable_declared_in_an_instance_that_goes_meanwhile_is_dropped_in_the_end() {
        let record = Record {
            instance: Some(7),
            ..Record::new(b"w")
        };
        let silent = || Err(Trouble::Undecided("no answer".to_owned()));
        let spaces = Late::default();
        let reads = [Ok(record.to_tuple()), silent(), silent(), Ok(None)];
        spaces.reads.lock().unwrap().extend(reads);
        let gateway = Gateway::new(spaces);
        let target = Target {
            name: b"w".to_vec(),
            workspace: "w".to_owned(),
            instance: 7,
        };
        let variable = Value::from("v");
        let declared = gateway.declare(&target, &variable, None).await;
        assert!(matches!(declared, Err(Trouble::Undecided(_))));
        gateway.clear_leftovers().await;
        let acts = gateway.spaces.acts.lock().unwrap().len();
        assert_eq!(acts, 1, "nothing can be said yet");
        gateway.clear_leftovers().await;
        let last = gateway.spaces.acts.lock().unwrap().last().cloned();
        assert_eq!(last, Some(Bound::Drop { variable }));
        assert!(gateway.leftovers.all().is_empty());
    }

    #[tokio::test]
    async fn a_variable_of_a_current_instance_is_not_in_doubt() {
        let record = Record {
            instance: Some(7),
            ..Record::new(b"w")
        };
        let spaces = Late::default();
        let reads = [Ok(record.to_tuple()), Ok(record.to_tuple())];
        spaces.reads.lock().unwrap().extend(reads);
        let gateway = Gateway::new(spaces);
        let target = Target {
            name: b"w".to_vec(),
            workspace: "w".to_owned(),
            instance: 7,
        };
        let declared = gateway.declare(&target, &Value::from("v"), None).await;
        assert_eq!(declared, Ok(()));
        assert!(gateway.leftovers.all().is_empty());
    }
}
