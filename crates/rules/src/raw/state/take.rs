//! Copying the state out.

use clips_sys as c;

use super::super::{Env, agenda, copied, inspect, objects};
use super::{ActivationState, FactState, InstanceState, RuleIds, State, Support, class_path};

impl Env {
    /// The whole state; only between runs. `None` when values take more than the budget.
    pub(crate) fn state(&mut self) -> Option<State> {
        let ids = self.rule_ids();
        let mut budget = self.copy_budget();
        let settings = self.settings();
        let mut agenda = Vec::new();
        let env = self.env;
        self.each_activation(|activation| {
            // SAFETY: the activation is live, and its rule is one of those listed.
            unsafe {
                let Some(of) = ids.rules.get(&((*activation).theRule as usize)) else {
                    return;
                };
                agenda.push(ActivationState {
                    of: of.clone(),
                    matched: agenda::matched(env, (*activation).basis),
                    salience: (*activation).salience,
                    tag: (*activation).timetag,
                    random: (*activation).randomID,
                });
            }
        });
        let state = State {
            facts: self.fact_states(&ids, &mut budget),
            instances: self.instance_states(&ids, &mut budget),
            globals: self.globals(),
            agenda,
            focus: self.focus_stack(),
            module: self.current_module(),
            strategy: self.strategy(),
            salience_evaluation: self.salience_evaluation(),
            fact_duplication: settings.fact_duplication,
            reset_globals: settings.reset_globals,
            dynamic_constraint_checking: settings.dynamic_constraint_checking,
            // SAFETY: reads counters.
            next_fact: unsafe { (*self.facts_data()).NextFactIndex },
            // SAFETY: as above.
            next_tag: unsafe { (*self.rules_data()).CurrentEntityTimeTag },
            // SAFETY: as above.
            next_activation: unsafe { (*self.agenda_data()).CurrentTimetag },
            // SAFETY: as above.
            gensym: unsafe { *self.gensym_counter() },
            rules: self.digests(),
            order: self.order(),
        };
        // A value that did not fit is `Void`, and with it the budget has ended.
        (budget > 0).then_some(state)
    }

    fn fact_states(&mut self, ids: &RuleIds, budget: &mut usize) -> Vec<FactState> {
        let mut states = Vec::new();
        // SAFETY: no rule runs while we walk the list.
        unsafe {
            let mut fact = c::GetNextFact(self.env, std::ptr::null_mut());
            while !fact.is_null() {
                let raw = inspect::copy_fact(fact, budget);
                let entity = fact.cast::<c::patternEntity>();
                let module = copied(c::DeftemplateModule(c::FactDeftemplate(fact)));
                states.push(FactState {
                    index: raw.index,
                    tag: (*entity).timeTag,
                    template: format!("{module}::{}", raw.template),
                    ordered: raw.ordered,
                    slots: raw.slots,
                    support: support(self.env, entity, ids),
                });
                fact = c::GetNextFact(self.env, fact);
            }
        }
        states
    }

    fn instance_states(&mut self, ids: &RuleIds, budget: &mut usize) -> Vec<InstanceState> {
        let mut states = Vec::new();
        // SAFETY: as above.
        unsafe {
            let mut instance = c::GetNextInstance(self.env, std::ptr::null_mut());
            while !instance.is_null() {
                let raw = objects::copy_instance(instance, budget);
                let entity = instance.cast::<c::patternEntity>();
                states.push(InstanceState {
                    name: raw.name,
                    class: class_path(c::InstanceClass(instance)),
                    tag: (*entity).timeTag,
                    slots: raw.slots,
                    support: support(self.env, entity, ids),
                });
                instance = c::GetNextInstance(self.env, instance);
            }
        }
        states
    }
}

/// # Safety
/// `entity` is a live fact or instance.
unsafe fn support(
    env: *mut c::Environment,
    entity: *mut c::patternEntity,
    ids: &RuleIds,
) -> Vec<Support> {
    let mut found = Vec::new();
    // SAFETY: the dependents of an entity are partial matches of logical joins, all live.
    unsafe {
        let mut next = (*entity).dependents.cast::<c::dependency>();
        while !next.is_null() {
            let partial = (*next).dPtr.cast::<c::partialMatch>();
            if let Some(by) = ids.joins.get(&((*partial).owner as usize)) {
                found.push(Support {
                    by: by.clone(),
                    matched: agenda::matched(env, partial),
                });
            }
            next = (*next).next;
        }
    }
    found
}
