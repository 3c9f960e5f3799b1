//! What is left of votes whose asker was killed: rows, results, and signs of life.
//!
//! Every node that votes looks for it, and whoever comes first removes it. Ballots are no trouble:
//! whoever takes one whose rows are gone has done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{ROWS, SPACE, rows_of};
use crate::map::sign::{Sign, Silence};

/// How often it is looked, at least and at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(15);

/// How long one operation on the space may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions that are watched at once; others wait until these are over.
const WATCHED_MAX: usize = 4096;

/// What variables of results begin with; `cpe_sleigh` has it so.
const RESULTS: &str = "result:";

/// Removes what is left of votes once nobody has been at them for so long. Has no end.
pub(in crate::forest) async fn remove_left(space: cpe::Space, orphaned: Duration) {
    let began = Instant::now();
    let mut watched: BTreeMap<String, Silence> = BTreeMap::new();
    loop {
        tokio::time::sleep((orphaned / 8).clamp(LOOK_EVERY, LOOK_EVERY_MAX)).await;
        let variables = match space.variables(SPACE).await {
            Ok(variables) => variables,
            Err(error) => {
                tracing::debug!(%error, "cannot look for what is left of votes");
                watched.clear();
                continue;
            }
        };
        let held = variables.iter().filter(|variable| variable.tuples > 0);
        let names = held.filter_map(|variable| variable.name.as_str());
        let asks: BTreeSet<&str> = names.filter_map(ask_of).take(WATCHED_MAX).collect();
        watched.retain(|ask, _| asks.contains(ask.as_str()));
        for ask in asks {
            let now = began.elapsed();
            let silence = watched.entry(ask.to_owned());
            let silence = silence.or_insert_with(|| Silence::new(now));
            // This node's replica first; that it shows nothing new may be its own fault.
            for fresh in [None, Some(PATIENCE)] {
                let Ok(seen) = sign_of(&space, ask, fresh).await else {
                    silence.blind(began.elapsed());
                    break;
                };
                if silence.look(seen, began.elapsed()) <= orphaned {
                    break;
                }
                if fresh.is_some() {
                    remove(&space, ask).await;
                    silence.blind(began.elapsed());
                }
            }
        }
    }
}

/// The question that a variable belongs to, if to any.
fn ask_of(variable: &str) -> Option<&str> {
    let prefixed = [ROWS, RESULTS].into_iter();
    let mut found = prefixed.filter_map(|prefix| variable.strip_prefix(prefix));
    found.next().or_else(|| Sign::job(variable))
}

async fn sign_of(
    space: &cpe::Space,
    ask: &str,
    fresh: Option<Duration>,
) -> Result<Option<Sign>, cpe::SpaceError> {
    let seen = space.rdp(SPACE, Sign::template(ask)?, fresh).await?;
    Ok(seen.as_ref().and_then(Sign::of))
}

async fn remove(space: &cpe::Space, ask: &str) {
    tracing::info!(
        ask,
        "nobody waits for votes any more; what is left of them is removed"
    );
    for variable in [rows_of(ask), format!("{RESULTS}{ask}"), Sign::variable(ask)] {
        let deleting = space.delete(SPACE, Some(variable.into()), PATIENCE);
        if let Err(error) = deleting.await {
            tracing::debug!(ask, %error, "a part of votes cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_no_question_is_left_alone() {
        for of_it in ["rows 12 3", "result:12 3", "alive 12 3"] {
            assert_eq!(ask_of(of_it), Some("12 3"));
        }
        assert_eq!(ask_of("task:vote"), None);
        assert_eq!(ask_of("of somebody else"), None);
    }
}
