//! How many agents have their rules in a process of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The agents of this node whose rules run in processes of their own: not more than a number of
/// them, as each process may take several times what its engine may.
#[derive(Debug)]
pub(crate) struct Processes {
    max: usize,
    /// By name, how many there are of it: one that fails is made again before it goes.
    agents: Mutex<BTreeMap<String, usize>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Process {
    of: Arc<Processes>,
    name: String,
}

impl Processes {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            agents: Mutex::default(),
        })
    }

    /// Notes one of the agent called `name`.
    ///
    /// # Errors
    /// When there are as many others already.
    pub(super) fn begin(self: &Arc<Self>, name: &str) -> Result<Process, String> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= self.max && !agents.contains_key(name) {
            return Err(format!(
                "{} agents have a process of their own on this node, and more are not allowed \
                 (actors.rules_processes)",
                self.max
            ));
        }
        *agents.entry(name.to_owned()).or_default() += 1;
        Ok(Process {
            of: Arc::clone(self),
            name: name.to_owned(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let agents = self.of.agents.lock();
        let mut agents = agents.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = agents.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                agents.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_are_allowed_is_refused_until_one_has_gone() {
        let processes = Processes::new(2);
        let first = processes.begin("a").unwrap();
        let _second = processes.begin("b").unwrap();
        let refused = processes.begin("c").unwrap_err();
        assert!(refused.contains("2 agents"), "{refused}");
        let again = processes.begin("a").unwrap();
        drop(first);
        assert!(processes.begin("c").is_err(), "the next `a` is there");
        drop(again);
        assert!(processes.begin("c").is_ok());
    }
}
