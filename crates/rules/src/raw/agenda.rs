//! The agenda, the focus, modules, and what a rule matches.

use clips_sys as c;

use super::{Env, copied, value};
use crate::engine::{Kind, Matched};
use crate::error::EngineError;
use crate::value::Value;

/// Bytes of an activation's facts as text; CLIPS cuts the rest off.
const BASIS_BYTES: usize = 1024;

/// An activation, copied.
#[derive(Debug)]
pub(crate) struct RawActivation {
    pub(crate) tag: u64,
    pub(crate) module: String,
    pub(crate) rule: String,
    pub(crate) salience: i32,
    pub(crate) basis: String,
    pub(crate) matched: Vec<Matched>,
}

/// What to do with an activation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OnActivation {
    Remove,
    Salience(i32),
}

impl Env {
    /// The agenda of a module, or of the current one, next to fire first.
    pub(crate) fn agenda(
        &mut self,
        module: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RawActivation>, EngineError> {
        let mut agenda = Vec::new();
        self.in_module(module, |this| {
            // SAFETY: nothing fires while we walk.
            unsafe {
                let mut activation = c::GetNextActivation(this.env, std::ptr::null_mut());
                while !activation.is_null() && agenda.len() < limit {
                    agenda.push(copy_activation(this.env, activation));
                    activation = c::GetNextActivation(this.env, activation);
                }
            }
        })?;
        Ok(agenda)
    }

    /// Whether any rule of the current focus waits to fire.
    pub(crate) fn agenda_is_empty(&mut self) -> bool {
        // SAFETY: reads the head of a list.
        unsafe { c::GetNextActivation(self.env, std::ptr::null_mut()).is_null() }
    }

    /// Do something to the activation of this number. `false` when it is gone.
    pub(crate) fn on_activation(
        &mut self,
        module: &str,
        tag: u64,
        what: OnActivation,
    ) -> Result<bool, EngineError> {
        self.in_module(Some(module), |this| {
            // SAFETY: the activation is on the agenda, hence live; nothing fires meanwhile.
            unsafe {
                let mut activation = c::GetNextActivation(this.env, std::ptr::null_mut());
                while !activation.is_null() && (*activation).timetag != tag {
                    activation = c::GetNextActivation(this.env, activation);
                }
                if activation.is_null() {
                    return false;
                }
                match what {
                    OnActivation::Remove => c::DeleteActivation(activation),
                    OnActivation::Salience(salience) => {
                        c::ActivationSetSalience(activation, salience);
                        c::ReorderAgenda(c::GetCurrentModule(this.env));
                    }
                }
                true
            }
        })
    }

    /// Compute saliences anew, in one module or in all.
    pub(crate) fn refresh_agenda(&mut self, module: Option<&str>) -> Result<(), EngineError> {
        // SAFETY: a module that is found is live.
        unsafe {
            match module {
                None => c::RefreshAllAgendas(self.env),
                Some(name) => c::RefreshAgenda(self.find(Kind::Module, name)?.cast()),
            }
        }
        Ok(())
    }

    /// Sort anew by strategy, in one module or in all.
    pub(crate) fn reorder_agenda(&mut self, module: Option<&str>) -> Result<(), EngineError> {
        // SAFETY: as `refresh_agenda`.
        unsafe {
            match module {
                None => c::ReorderAllAgendas(self.env),
                Some(name) => c::ReorderAgenda(self.find(Kind::Module, name)?.cast()),
            }
        }
        Ok(())
    }

    pub(crate) fn clear_agenda(&mut self) {
        // SAFETY: nothing fires meanwhile.
        unsafe { c::RemoveAllActivations(self.env) }
    }

    /// Let a rule fire again on what it has fired on.
    pub(crate) fn refresh_rule(&mut self, rule: &str) -> Result<(), EngineError> {
        let found = self.find(Kind::Rule, rule)?;
        // SAFETY: found just now.
        unsafe { c::Refresh(found.cast()) };
        Ok(())
    }

    pub(crate) fn set_breakpoint(&mut self, rule: &str, on: bool) -> Result<(), EngineError> {
        let found = self.find(Kind::Rule, rule)?;
        // SAFETY: found just now.
        unsafe {
            if on {
                c::SetBreak(found.cast());
            } else {
                c::RemoveBreak(found.cast());
            }
        }
        Ok(())
    }

    pub(crate) fn has_breakpoint(&mut self, rule: &str) -> Result<bool, EngineError> {
        let found = self.find(Kind::Rule, rule)?;
        // SAFETY: found just now.
        Ok(unsafe { c::DefruleHasBreakpoint(found.cast()) })
    }

    /// Print what a rule matches; gives the three counts: patterns, partial matches, activations.
    pub(crate) fn matches(&mut self, rule: &str) -> Result<[i64; 3], EngineError> {
        let found = self.find(Kind::Rule, rule)?;
        let mut counts = c::CLIPSValue::default();
        // SAFETY: found just now; the counts are copied at once.
        let counts = unsafe {
            c::Matches(found.cast(), c::Verbosity_VERBOSE, &mut counts);
            value::read(&counts, &mut 4096)
        };
        let Value::Multifield(counts) = counts else {
            return Ok([0; 3]);
        };
        let mut counts = counts.iter().map(|count| count.integer().unwrap_or(0));
        Ok(std::array::from_fn(|_| counts.next().unwrap_or(0)))
    }

    pub(crate) fn current_module(&mut self) -> String {
        // SAFETY: there always is one.
        unsafe { copied(c::DefmoduleName(c::GetCurrentModule(self.env))) }
    }

    pub(crate) fn set_current_module(&mut self, name: &str) -> Result<(), EngineError> {
        let module = self.find(Kind::Module, name)?;
        // SAFETY: found just now.
        unsafe { c::SetCurrentModule(self.env, module.cast()) };
        Ok(())
    }

    /// The focus stack, the top first.
    pub(crate) fn focus_stack(&mut self) -> Vec<String> {
        let mut stack = Vec::new();
        // SAFETY: nothing changes the stack while we walk it.
        unsafe {
            let mut focus = c::GetNextFocus(self.env, std::ptr::null_mut());
            while !focus.is_null() {
                stack.push(copied(c::FocalModuleName(focus)));
                focus = c::GetNextFocus(self.env, focus);
            }
        }
        stack
    }

    pub(crate) fn focus(&mut self, name: &str) -> Result<(), EngineError> {
        let module = self.find(Kind::Module, name)?;
        // SAFETY: found just now.
        unsafe { c::Focus(module.cast()) };
        Ok(())
    }

    pub(crate) fn pop_focus(&mut self) -> Option<String> {
        // SAFETY: a null is an empty stack.
        unsafe {
            let module = c::PopFocus(self.env);
            (!module.is_null()).then(|| copied(c::DefmoduleName(module)))
        }
    }

    pub(crate) fn clear_focus(&mut self) {
        // SAFETY: frees a list nothing else points into.
        unsafe { c::ClearFocusStack(self.env) }
    }

    pub(crate) fn strategy(&mut self) -> u32 {
        // SAFETY: reads a field.
        unsafe { c::GetStrategy(self.env) }
    }

    pub(crate) fn set_strategy(&mut self, strategy: u32) {
        // SAFETY: the number comes from `Strategy`.
        unsafe { c::SetStrategy(self.env, strategy) };
    }

    pub(crate) fn salience_evaluation(&mut self) -> u32 {
        // SAFETY: reads a field.
        unsafe { c::GetSalienceEvaluation(self.env) }
    }

    pub(crate) fn set_salience_evaluation(&mut self, when: u32) {
        // SAFETY: the number comes from `SalienceEvaluation`.
        unsafe { c::SetSalienceEvaluation(self.env, when) };
    }

    /// Do something with `module` current, and make the one current again that was.
    pub(super) fn in_module<T>(
        &mut self,
        module: Option<&str>,
        work: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, EngineError> {
        let Some(module) = module else {
            return Ok(work(self));
        };
        let module = self.find(Kind::Module, module)?;
        // SAFETY: modules are never removed short of a clear, which we do not offer.
        unsafe {
            let current = c::SetCurrentModule(self.env, module.cast());
            let done = work(self);
            c::SetCurrentModule(self.env, current);
            Ok(done)
        }
    }
}

/// # Safety
/// `activation` is live.
pub(super) unsafe fn copy_activation(
    env: *mut c::Environment,
    activation: *mut c::Activation,
) -> RawActivation {
    // SAFETY: as the caller promises; the buffer is as long as we say.
    unsafe {
        let rule = c::GetActivationRule(env, activation);
        let mut basis = vec![0_u8; BASIS_BYTES];
        let text = basis.as_mut_ptr().cast();
        c::GetActivationBasisPPForm(env, text, BASIS_BYTES as _, activation);
        RawActivation {
            tag: (*activation).timetag,
            module: copied(c::DefruleModule(rule)),
            rule: copied(c::DefruleName(rule)),
            salience: c::ActivationGetSalience(activation),
            basis: copied(text),
            matched: matched(env, (*activation).basis),
        }
    }
}

/// A fact or an instance that is part of a match.
pub(super) enum Entity {
    Fact(*mut c::Fact),
    Instance(*mut c::Instance),
}

/// What a partial match consists of, one for each pattern; `None` for a `not` and the like.
///
/// # Safety
/// `partial` is live, and stays so while the items are taken.
pub(super) unsafe fn entities(
    env: *mut c::Environment,
    partial: *mut c::partialMatch,
) -> impl Iterator<Item = Option<Entity>> {
    // SAFETY: as the caller promises; `binds` has `bcount` entries behind the declared one, and an
    // entity whose information is the facts' is a fact, any other an instance.
    unsafe {
        let facts = super::data::<c::factsData>(env, c::FACTS_DATA);
        let binds = (&raw mut (*partial).binds).cast::<c::genericMatch>();
        (0..usize::from((*partial).bcount)).map(move |i| {
            let alpha = (*binds.add(i)).gm.theMatch;
            if alpha.is_null() || (*alpha).matchingItem.is_null() {
                return None;
            }
            let entity = (*alpha).matchingItem;
            Some(if (*entity).theInfo == &raw mut (*facts).FactInfo {
                Entity::Fact(entity.cast())
            } else {
                Entity::Instance(entity.cast())
            })
        })
    }
}

/// As [`entities`], copied.
///
/// # Safety
/// As [`entities`].
pub(super) unsafe fn matched(
    env: *mut c::Environment,
    partial: *mut c::partialMatch,
) -> Vec<Matched> {
    // SAFETY: as the caller promises.
    let entities = unsafe { entities(env, partial) };
    // SAFETY: what a live match consists of is live.
    let each = entities.map(|entity| unsafe {
        match entity {
            None => Matched::Nothing,
            Some(Entity::Fact(fact)) => Matched::Fact(c::FactIndex(fact)),
            Some(Entity::Instance(instance)) => {
                Matched::Instance(copied(c::InstanceName(instance)))
            }
        }
    });
    each.collect()
}
