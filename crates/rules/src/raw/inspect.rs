//! Reading an environment: facts, templates, rules, the agenda, globals. Nothing here runs rules.

use std::ffi::{CStr, c_char};

use clips_sys as c;

use super::{Env, RawSlot, c_string, copied, value};
use crate::error::EngineError;
use crate::value::Value;

/// Bytes of an activation's facts as text; CLIPS cuts the rest off.
const BASIS_BYTES: usize = 1024;

/// Bytes copied for a list of names.
const NAMES_BYTES: usize = 64 << 20;

/// A fact, copied.
#[derive(Debug)]
pub(crate) struct RawFact {
    pub(crate) index: i64,
    pub(crate) template: String,
    pub(crate) ordered: bool,
    pub(crate) slots: Vec<(String, Value)>,
}

/// An activation: rule, salience, basis.
pub(crate) type RawActivation = (String, i32, String);

impl Env {
    /// Up to `limit` facts, oldest first.
    pub(crate) fn facts(&mut self, limit: usize) -> Vec<RawFact> {
        let mut facts = Vec::new();
        let mut budget = self.copy_budget();
        // SAFETY: no fact goes away while we walk the list: no rule runs meanwhile.
        unsafe {
            let mut fact = c::GetNextFact(self.env, std::ptr::null_mut());
            while !fact.is_null() && facts.len() < limit {
                facts.push(self.copy_fact(fact, &mut budget));
                fact = c::GetNextFact(self.env, fact);
            }
        }
        facts
    }

    pub(crate) fn fact(&mut self, index: i64) -> Option<RawFact> {
        // SAFETY: the fact is live when it is found.
        unsafe {
            let fact = c::FindIndexedFact(self.env, index);
            let mut budget = self.copy_budget();
            (!fact.is_null()).then(|| self.copy_fact(fact, &mut budget))
        }
    }

    /// # Safety
    /// `fact` is live.
    unsafe fn copy_fact(&mut self, fact: *mut c::Fact, budget: &mut usize) -> RawFact {
        // SAFETY: as the caller promises; the template is live as long as its fact.
        unsafe {
            let template = c::FactDeftemplate(fact);
            let names = self.slot_names(template);
            let ordered = (*template).implied() != 0;
            let mut slots = Vec::with_capacity(names.len());
            for name in names {
                let mut raw = c::CLIPSValue::default();
                let Ok(c_name) = c_string(&name) else {
                    continue;
                };
                let slot = if ordered {
                    std::ptr::null()
                } else {
                    c_name.as_ptr()
                };
                if c::GetFactSlot(fact, slot, &mut raw) == c::GetSlotError_GSE_NO_ERROR {
                    slots.push((name, value::read(&raw, budget)));
                }
            }
            RawFact {
                index: c::FactIndex(fact),
                template: copied(c::DeftemplateName(template)),
                ordered,
                slots,
            }
        }
    }

    /// The names of a template's slots in order; of an ordered one, `implied`.
    ///
    /// # Safety
    /// `template` is live.
    pub(super) unsafe fn slot_names(&mut self, template: *mut c::Deftemplate) -> Vec<String> {
        let mut raw = c::CLIPSValue::default();
        // SAFETY: as the caller promises; the list is copied at once.
        let names = unsafe {
            c::DeftemplateSlotNames(template, &mut raw);
            value::read(&raw, &mut NAMES_BYTES.clone())
        };
        let Value::Multifield(names) = names else {
            return Vec::new();
        };
        names
            .iter()
            .filter_map(|name| name.text().map(str::to_owned))
            .collect()
    }

    /// The slots of a template, or `None` when there is none of this name. Second: whether it is
    /// the relation of ordered facts.
    pub(crate) fn slots(
        &mut self,
        template: &str,
    ) -> Result<Option<(Vec<RawSlot>, bool)>, EngineError> {
        let name = c_string(template)?;
        // SAFETY: the template is live when it is found; names are copied before the next call.
        unsafe {
            let template = c::FindDeftemplate(self.env, name.as_ptr());
            if template.is_null() {
                return Ok(None);
            }
            let ordered = (*template).implied() != 0;
            if ordered {
                return Ok(Some((Vec::new(), true)));
            }
            let mut slots = Vec::new();
            for name in self.slot_names(template) {
                let c_name = c_string(&name)?;
                let mut raw = c::CLIPSValue::default();
                c::DeftemplateSlotTypes(template, c_name.as_ptr(), &mut raw);
                let types = match value::read(&raw, &mut NAMES_BYTES.clone()) {
                    Value::Multifield(types) => types
                        .iter()
                        .filter_map(|t| t.text().map(str::to_owned))
                        .collect(),
                    _ => Vec::new(),
                };
                let multi = c::DeftemplateSlotMultiP(template, c_name.as_ptr());
                slots.push(RawSlot { name, multi, types });
            }
            Ok(Some((slots, false)))
        }
    }

    /// Module and name of every deftemplate, those of ordered facts included.
    pub(crate) fn templates(&mut self) -> Vec<(String, String)> {
        // SAFETY: the list of constructs does not change while we walk it, names are copied.
        unsafe {
            self.each_module(|env, found| {
                let mut item = c::GetNextDeftemplate(env, std::ptr::null_mut());
                while !item.is_null() {
                    found.push((
                        copied(c::DeftemplateModule(item)),
                        copied(c::DeftemplateName(item)),
                    ));
                    item = c::GetNextDeftemplate(env, item);
                }
            })
        }
    }

    /// Module and name of every rule.
    pub(crate) fn rules(&mut self) -> Vec<(String, String)> {
        // SAFETY: as `templates`.
        unsafe {
            self.each_module(|env, found| {
                let mut item = c::GetNextDefrule(env, std::ptr::null_mut());
                while !item.is_null() {
                    found.push((copied(c::DefruleModule(item)), copied(c::DefruleName(item))));
                    item = c::GetNextDefrule(env, item);
                }
            })
        }
    }

    /// Name and value of every global.
    pub(crate) fn globals(&mut self) -> Vec<(String, Value)> {
        let budget = std::cell::RefCell::new(self.copy_budget());
        // SAFETY: as `templates`; values are copied at once.
        unsafe {
            self.each_module(|env, found| {
                let mut item = c::GetNextDefglobal(env, std::ptr::null_mut());
                while !item.is_null() {
                    let mut raw = c::CLIPSValue::default();
                    c::DefglobalGetValue(item, &mut raw);
                    found.push((
                        copied(c::DefglobalName(item)),
                        value::read(&raw, &mut budget.borrow_mut()),
                    ));
                    item = c::GetNextDefglobal(env, item);
                }
            })
        }
    }

    pub(crate) fn global(&mut self, name: &str) -> Result<Option<Value>, EngineError> {
        let name = c_string(name)?;
        // SAFETY: the global is live when it is found; the value is copied at once.
        Ok(unsafe {
            let global = c::FindDefglobal(self.env, name.as_ptr());
            (!global.is_null()).then(|| {
                let mut raw = c::CLIPSValue::default();
                c::DefglobalGetValue(global, &mut raw);
                value::read(&raw, &mut self.copy_budget())
            })
        })
    }

    /// The agenda of the current focus, next to fire first.
    pub(crate) fn agenda(&mut self, limit: usize) -> Vec<RawActivation> {
        let mut agenda = Vec::new();
        // SAFETY: nothing fires while we walk; the buffer is as long as we say.
        unsafe {
            let mut activation = c::GetNextActivation(self.env, std::ptr::null_mut());
            while !activation.is_null() && agenda.len() < limit {
                let mut basis: Vec<c_char> = vec![0; BASIS_BYTES];
                c::GetActivationBasisPPForm(
                    self.env,
                    basis.as_mut_ptr(),
                    BASIS_BYTES as _,
                    activation,
                );
                agenda.push((
                    copied(c::ActivationRuleName(activation)),
                    c::ActivationGetSalience(activation),
                    CStr::from_ptr(basis.as_ptr())
                        .to_string_lossy()
                        .into_owned(),
                ));
                activation = c::GetNextActivation(self.env, activation);
            }
        }
        agenda
    }

    /// Whether any rule of the current focus waits to fire.
    pub(crate) fn agenda_is_empty(&mut self) -> bool {
        // SAFETY: reads the head of a list.
        unsafe { c::GetNextActivation(self.env, std::ptr::null_mut()).is_null() }
    }

    /// Collect from each module in turn, then make the module current that was.
    ///
    /// # Safety
    /// `collect` must not run rules or change constructs.
    unsafe fn each_module<T>(
        &mut self,
        collect: impl Fn(*mut c::Environment, &mut Vec<T>),
    ) -> Vec<T> {
        let mut found = Vec::new();
        // SAFETY: modules are never removed short of a clear, which we do not offer.
        unsafe {
            let current = c::GetCurrentModule(self.env);
            let mut module = c::GetNextDefmodule(self.env, std::ptr::null_mut());
            while !module.is_null() {
                c::SetCurrentModule(self.env, module);
                collect(self.env, &mut found);
                module = c::GetNextDefmodule(self.env, module);
            }
            c::SetCurrentModule(self.env, current);
        }
        found
    }
}
