//! Reading an environment: facts, templates, rules, the agenda, globals. Nothing here runs rules.

use std::borrow::Cow;
use std::ffi::CStr;

use clips_sys as c;

use super::{Env, RawSlot, c_string, copied, value};
use crate::error::EngineError;
use crate::value::Value;

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

impl Env {
    /// Up to `limit` facts, oldest first: all, or those of one template.
    pub(crate) fn facts(&mut self, limit: usize, template: Option<&str>) -> Vec<RawFact> {
        let expected = match template {
            None => self.fact_count(),
            Some(_) => 0,
        };
        let mut facts = Vec::with_capacity(limit.min(expected));
        let mut budget = self.copy_budget();
        // SAFETY: no fact goes away while we walk the list: no rule runs meanwhile.
        unsafe {
            let mut fact = c::GetNextFact(self.env, std::ptr::null_mut());
            while !fact.is_null() && facts.len() < limit {
                if template.is_none_or(|wanted| is_of(fact, wanted)) {
                    facts.push(copy_fact(fact, &mut budget));
                }
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
            (!fact.is_null()).then(|| copy_fact(fact, &mut budget))
        }
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
            for name in slot_names(template) {
                let c_name = c_string(&name)?;
                slots.push(copy_slot(template, name, &c_name));
            }
            Ok(Some((slots, false)))
        }
    }

    /// Module, name and value of every global.
    pub(crate) fn globals(&mut self) -> Vec<(String, String, Value)> {
        let budget = std::cell::RefCell::new(self.copy_budget());
        // SAFETY: the list does not change while we walk it; values are copied at once.
        unsafe {
            self.each_module(|env, found| {
                let mut item = c::GetNextDefglobal(env, std::ptr::null_mut());
                while !item.is_null() {
                    let mut raw = c::CLIPSValue::default();
                    c::DefglobalGetValue(item, &mut raw);
                    found.push((
                        copied(c::DefglobalModule(item)),
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

    /// Collect from each module in turn, then make the module current that was.
    ///
    /// # Safety
    /// `collect` must not run rules or change constructs.
    pub(super) unsafe fn each_module<T>(
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

/// # Safety
/// `fact` is live.
unsafe fn is_of(fact: *mut c::Fact, template: &str) -> bool {
    // SAFETY: a template outlives its facts, and its name is terminated.
    let name = unsafe { CStr::from_ptr(c::DeftemplateName((*fact).whichDeftemplate)) };
    name.to_bytes() == template.as_bytes()
}

/// # Safety
/// `fact` is live.
pub(super) unsafe fn copy_fact(fact: *mut c::Fact, budget: &mut usize) -> RawFact {
    // SAFETY: as the caller promises; the template is live as long as its fact.
    unsafe {
        let template = (*fact).whichDeftemplate;
        let mut slots = Vec::with_capacity(usize::from((*template).numberOfSlots).max(1));
        each_slot(fact, |name, value| {
            slots.push((name.into_owned(), value::read(value, budget)));
        });
        RawFact {
            index: (*fact).factIndex,
            template: copied(c::DeftemplateName(template)),
            ordered: (*template).implied() != 0,
            slots,
        }
    }
}

/// Append a fact's text, as [`Fact`](crate::Fact) shows it. What goes far beyond `most` bytes is
/// left off: what was written is longer than `most` then.
///
/// # Safety
/// `fact` is live.
pub(super) unsafe fn write_fact(fact: *mut c::Fact, out: &mut String, most: usize) {
    let end = out.len().saturating_add(most);
    // SAFETY: as the caller promises; the name of a template is terminated.
    unsafe {
        let template = (*fact).whichDeftemplate;
        let ordered = (*template).implied() != 0;
        out.push('(');
        out.push_str(&CStr::from_ptr(c::DeftemplateName(template)).to_string_lossy());
        each_slot(fact, |name, value| {
            if out.len() > end {
                return;
            }
            if !ordered {
                out.push_str(" (");
                out.push_str(&name);
            }
            if u32::from((*value.__bindgen_anon_1.header).type_) != c::MULTIFIELD_TYPE {
                out.push(' ');
            }
            // Writes nothing of an empty multifield.
            value::write_text(value, out, end);
            if !ordered {
                out.push(')');
            }
        });
        out.push(')');
    }
}

/// Walk over the slots of a fact in order, names and values in their places: asking for each by
/// its name would look it up among the symbols and then among the slots. The one slot of an ordered
/// fact is `implied`. One that was retracted has none.
///
/// # Safety
/// `fact` is live.
unsafe fn each_slot<'a>(
    fact: *mut c::Fact,
    mut visit: impl FnMut(Cow<'a, str>, &'a c::CLIPSValue),
) {
    // SAFETY: as the caller promises. A fact has a value for each slot of its template, or one if
    // it is ordered; no reference to the one-element array of the declaration is made.
    unsafe {
        let template = (*fact).whichDeftemplate;
        if (*fact).garbage() != 0 {
            return;
        }
        let mut value = (&raw mut (*fact).theProposition.contents).cast::<c::CLIPSValue>();
        if (*template).implied() != 0 {
            visit(Cow::Borrowed("implied"), &*value);
            return;
        }
        let mut slot = (*template).slotList;
        while !slot.is_null() {
            visit(value::text((*slot).slotName), &*value);
            value = value.add(1);
            slot = (*slot).next;
        }
    }
}

/// The names of a template's slots in order; of an ordered one, `implied`.
///
/// # Safety
/// `template` is live.
pub(super) unsafe fn slot_names(template: *mut c::Deftemplate) -> Vec<String> {
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

/// # Safety
/// `template` is live and has the slot.
unsafe fn copy_slot(template: *mut c::Deftemplate, name: String, text: &CStr) -> RawSlot {
    let fields = |raw: &c::CLIPSValue, known: bool| match known.then(|| {
        // SAFETY: CLIPS has just filled it in.
        unsafe { value::read(raw, &mut NAMES_BYTES.clone()) }
    }) {
        Some(Value::Multifield(fields)) => fields,
        _ => Vec::new(),
    };
    let (mut raw, text) = (c::CLIPSValue::default(), text.as_ptr());
    // SAFETY: as the caller promises; each list is copied before the next is made.
    unsafe {
        let known = c::DeftemplateSlotTypes(template, text, &mut raw);
        let types = fields(&raw, known);
        let known = c::DeftemplateSlotAllowedValues(template, text, &mut raw);
        let allowed = fields(&raw, known);
        let known = c::DeftemplateSlotRange(template, text, &mut raw);
        let range = fields(&raw, known);
        let known = c::DeftemplateSlotCardinality(template, text, &mut raw);
        let cardinality = fields(&raw, known);
        let default = match c::DeftemplateSlotDefaultP(template, text) {
            c::DefaultType_STATIC_DEFAULT => {
                let known = c::DeftemplateSlotDefaultValue(template, text, &mut raw);
                known.then(|| value::read(&raw, &mut NAMES_BYTES.clone()))
            }
            _ => None,
        };
        RawSlot {
            multi: c::DeftemplateSlotMultiP(template, text),
            types: types
                .iter()
                .filter_map(|t| t.text().map(str::to_owned))
                .collect(),
            dynamic_default: c::DeftemplateSlotDefaultP(template, text)
                == c::DefaultType_DYNAMIC_DEFAULT,
            name,
            allowed,
            range,
            cardinality,
            default,
        }
    }
}
