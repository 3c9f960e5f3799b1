//! The whole state of an environment, out and in again.
//!
//! CLIPS has no such thing: its own files hold facts or constructs, and forget which rules have
//! fired. What is copied here is enough that an environment with the same constructs goes on where
//! this one stood.

mod give;
mod order;
mod take;

use std::collections::BTreeMap;

use clips_sys as c;
use serde::{Deserialize, Serialize};

use super::{Env, copied, data};
use crate::engine::{Kind, Matched};
use crate::value::Value;
use order::Order;

/// A rule, or one of the several that its `or` elements make of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RuleId {
    /// `MODULE::name`
    pub(crate) rule: String,
    /// Counted from 0.
    pub(crate) disjunct: u32,
}

/// Why a fact or an instance exists: the match of a rule's `logical` elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Support {
    pub(crate) by: RuleId,
    pub(crate) matched: Vec<Matched>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FactState {
    pub(crate) index: i64,
    pub(crate) tag: u64,
    /// `MODULE::template`
    pub(crate) template: String,
    pub(crate) ordered: bool,
    pub(crate) slots: Vec<(String, Value)>,
    pub(crate) support: Vec<Support>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstanceState {
    pub(crate) name: String,
    /// `MODULE::CLASS`
    pub(crate) class: String,
    pub(crate) tag: u64,
    pub(crate) slots: Vec<(String, Value)>,
    pub(crate) support: Vec<Support>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ActivationState {
    pub(crate) of: RuleId,
    pub(crate) matched: Vec<Matched>,
    pub(crate) salience: i32,
    pub(crate) tag: u64,
    pub(crate) random: i32,
}

/// Everything but the constructs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// In the order of the fact list.
    pub(crate) facts: Vec<FactState>,
    /// In the order of the instance list.
    pub(crate) instances: Vec<InstanceState>,
    /// Module, name, value.
    pub(crate) globals: Vec<(String, String, Value)>,
    /// All modules' agendas one after the other.
    pub(crate) agenda: Vec<ActivationState>,
    /// The top first.
    pub(crate) focus: Vec<String>,
    pub(crate) module: String,
    pub(crate) strategy: u32,
    pub(crate) salience_evaluation: u32,
    pub(crate) fact_duplication: bool,
    pub(crate) reset_globals: bool,
    pub(crate) dynamic_constraint_checking: bool,
    pub(crate) next_fact: i64,
    pub(crate) next_tag: u64,
    pub(crate) next_activation: u64,
    pub(crate) gensym: i64,
    /// A digest of each rule's source, by path: a rule whose digest is the same has not changed.
    pub(crate) rules: BTreeMap<String, u64>,
    /// In which order CLIPS holds what has matched; snapshots of before do not tell.
    #[serde(default)]
    pub(crate) order: Order,
}

/// What could not be put back as it was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Loss {
    Fact(i64, String, &'static str),
    Slot(i64, String, String),
    Instance(String, String, &'static str),
    InstanceSlot(String, String),
    Global(String, String),
    Support(String),
    Activation(String, Vec<Matched>),
    Module(String),
    Changed(String),
}

/// The data of `gensym`, which has no header: its first field.
const MISCFUN_DATA: u32 = 9;

impl Env {
    fn facts_data(&self) -> *mut c::factsData {
        // SAFETY: the part's own type.
        unsafe { data(self.env, c::FACTS_DATA) }
    }

    fn rules_data(&self) -> *mut c::defruleData {
        // SAFETY: as above.
        unsafe { data(self.env, c::DEFRULE_DATA) }
    }

    fn agenda_data(&self) -> *mut c::agendaData {
        // SAFETY: as above.
        unsafe { data(self.env, c::AGENDA_DATA) }
    }

    fn gensym_counter(&self) -> *mut i64 {
        // SAFETY: `struct miscFunctionData` begins with a `long long GensymNumber`.
        unsafe { data(self.env, MISCFUN_DATA) }
    }

    /// Every disjunct of every rule by its address, and by its logical join where it has one.
    fn rule_ids(&mut self) -> RuleIds {
        let mut ids = RuleIds::default();
        for (module, name) in self.constructs(Kind::Rule) {
            let rule = format!("{module}::{name}");
            let Ok(found) = self.find(Kind::Rule, &rule) else {
                continue;
            };
            let mut next: *mut c::Defrule = found.cast();
            let mut disjunct = 0;
            // SAFETY: rules stay while nothing is loaded or removed.
            unsafe {
                while !next.is_null() {
                    let id = RuleId {
                        rule: rule.clone(),
                        disjunct,
                    };
                    if !(*next).logicalJoin.is_null() {
                        // Rules may share a join: any of them names it.
                        ids.joins
                            .entry((*next).logicalJoin as usize)
                            .or_insert_with(|| id.clone());
                        ids.join_of.insert(id.clone(), (*next).logicalJoin);
                    }
                    ids.rules.insert(next as usize, id);
                    next = (*next).disjunct;
                    disjunct += 1;
                }
            }
        }
        ids
    }

    /// A digest of each rule's source.
    fn digests(&mut self) -> BTreeMap<String, u64> {
        let mut digests = BTreeMap::new();
        for (module, name) in self.constructs(Kind::Rule) {
            let path = format!("{module}::{name}");
            let text = self.construct_text(Kind::Rule, &path).ok().flatten();
            digests.insert(path, digest(text.unwrap_or_default().as_bytes()));
        }
        digests
    }

    /// Do something to each activation of each module.
    fn each_activation(&mut self, mut work: impl FnMut(*mut c::Activation)) {
        let modules = self.constructs(Kind::Module);
        for (module, _) in modules {
            let _ = self.in_module(Some(&module), |this| {
                // SAFETY: nothing fires meanwhile; the next one is read before `work` may delete.
                unsafe {
                    let mut activation = c::GetNextActivation(this.env, std::ptr::null_mut());
                    while !activation.is_null() {
                        let next = c::GetNextActivation(this.env, activation);
                        work(activation);
                        activation = next;
                    }
                }
            });
        }
    }
}

#[derive(Default)]
struct RuleIds {
    rules: BTreeMap<usize, RuleId>,
    joins: BTreeMap<usize, RuleId>,
    join_of: BTreeMap<RuleId, *mut c::joinNode>,
}

/// FNV-1a: not against an enemy, only to see whether a text is the same.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// # Safety
/// `class` is live.
unsafe fn class_path(class: *mut c::Defclass) -> String {
    // SAFETY: as the caller promises.
    unsafe {
        let (module, name) = (c::DefclassModule(class), c::DefclassName(class));
        format!("{}::{}", copied(module), copied(name))
    }
}
