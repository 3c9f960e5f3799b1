//! How many requests of this node wait, by variable: what listings show.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cpe_tuple::Value;

/// Waiting takes and reads of a variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) fetchers: usize,
    pub(crate) finders: usize,
}

pub(crate) type Place = (String, Value);

/// Bounded by the number of connections: each waits for one thing at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Arc<Mutex<BTreeMap<Place, Counts>>>);

/// A wait that is counted until it is dropped.
pub(crate) struct Wait {
    waits: Waits,
    place: Place,
    leave: bool,
}

impl Waits {
    pub(crate) fn begin(&self, workspace: &str, variable: &Value, leave: bool) -> Wait {
        let place = (workspace.to_owned(), variable.clone());
        let mut all = self.all();
        let counts = all.entry(place.clone()).or_default();
        *counts.of(leave) += 1;
        Wait {
            waits: self.clone(),
            place,
            leave,
        }
    }

    pub(crate) fn of(&self, workspace: &str, variable: &Value) -> Counts {
        let place = (workspace.to_owned(), variable.clone());
        self.all().get(&place).copied().unwrap_or_default()
    }

    pub(crate) fn list(&self) -> Vec<(Place, Counts)> {
        let all = self.all();
        let all = all.iter();
        all.map(|(place, counts)| (place.clone(), *counts))
            .collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Place, Counts>> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(&mut self, leave: bool) -> &mut usize {
        if leave {
            &mut self.finders
        } else {
            &mut self.fetchers
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut all = self.waits.all();
        if let Some(counts) = all.get_mut(&self.place) {
            let count = counts.of(self.leave);
            *count = count.saturating_sub(1);
            if *counts == Counts::default() {
                all.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_while_it_lasts() {
        let (waits, variable) = (Waits::default(), Value::from("v"));
        let one = waits.begin("w", &variable, true);
        let two = waits.begin("w", &variable, false);
        let both = Counts {
            fetchers: 1,
            finders: 1,
        };
        assert_eq!(waits.of("w", &variable), both);
        drop((one, two));
        assert_eq!(waits.of("w", &variable), Counts::default());
        assert!(waits.all().is_empty());
    }
}
