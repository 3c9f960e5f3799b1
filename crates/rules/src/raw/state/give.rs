//! Putting a state back into an environment that has constructs and nothing else.

use std::collections::BTreeMap;

use clips_sys as c;

use super::super::{CreateImpliedDeftemplate, Env, agenda, c_string, data, value};
use super::{ActivationState, FactState, InstanceState, Loss, RuleId, RuleIds, State, Support};
use crate::engine::{Kind, Matched, Settings};
use crate::value::Value;

/// As CLIPS numbers what happens to an object.
const OBJECT_ASSERT: i32 = 1;

/// Facts that are made, by their index.
type Facts = BTreeMap<i64, *mut c::Fact>;

impl Env {
    /// Put `state` back. The environment has its constructs, and no facts or instances.
    ///
    /// Facts are made first and asserted then, in the order in which they once came, so that a
    /// slot may hold the address of a later one.
    pub(crate) fn give(&mut self, state: &State) -> Vec<Loss> {
        let mut losses = Vec::new();
        let settings = self.settings();
        self.set_strategy(state.strategy);
        self.set_salience_evaluation(state.salience_evaluation);
        self.set_settings(Settings {
            fact_duplication: true,
            reset_globals: state.reset_globals,
            dynamic_constraint_checking: false,
            ..settings
        });
        self.give_globals(state, &mut Vec::new());
        let made = self.make_facts(&state.facts, &mut losses);
        self.assert_all(state, &made, &mut losses);
        self.set_settings(Settings {
            fact_duplication: state.fact_duplication,
            reset_globals: state.reset_globals,
            dynamic_constraint_checking: state.dynamic_constraint_checking,
            ..settings
        });
        self.give_support(state, &mut losses);
        self.give_agenda(state, &mut losses);
        self.relink_facts(state);
        self.relink_instances(state);
        if losses.is_empty() {
            self.give_order(&state.order);
        }
        self.give_globals(state, &mut losses);
        // SAFETY: the counters are beyond all numbers of the facts and instances put back, unless
        // the state is made up: then they are beyond what was given out meanwhile.
        unsafe {
            let highest = state
                .facts
                .iter()
                .map(|fact| fact.index + 1)
                .max()
                .unwrap_or(1);
            (*self.facts_data()).NextFactIndex = state.next_fact.max(highest);
            let facts = state.facts.iter().map(|fact| fact.tag + 1);
            let instances = state.instances.iter().map(|one| one.tag + 1);
            let highest = facts.chain(instances).max().unwrap_or(0);
            (*self.rules_data()).CurrentEntityTimeTag = state.next_tag.max(highest);
            *self.gensym_counter() = state.gensym;
        }
        self.clear_focus();
        for module in state.focus.iter().rev() {
            if self.focus(module).is_err() {
                losses.push(Loss::Module(module.clone()));
            }
        }
        let _ = self.set_current_module(&state.module);
        losses
    }

    fn give_globals(&mut self, state: &State, losses: &mut Vec<Loss>) {
        for (module, name, value) in &state.globals {
            let given = self.in_module(Some(module), |this| this.set_global(name, value));
            if !matches!(given, Ok(Ok(true))) {
                losses.push(Loss::Global(module.clone(), name.clone()));
            }
        }
    }

    /// Every fact, filled in and not asserted yet.
    fn make_facts(&mut self, facts: &[FactState], losses: &mut Vec<Loss>) -> Facts {
        let mut made = Facts::new();
        for fact in facts {
            match self.template_of(fact) {
                // SAFETY: the template is live.
                Some(template) => drop(made.insert(fact.index, unsafe { c::CreateFact(template) })),
                None => {
                    let lost = "there is no such deftemplate any more";
                    losses.push(Loss::Fact(fact.index, fact.template.clone(), lost));
                }
            }
        }
        made
    }

    fn template_of(&mut self, fact: &FactState) -> Option<*mut c::Deftemplate> {
        if let Ok(found) = self.find(Kind::Template, &fact.template) {
            let template: *mut c::Deftemplate = found.cast();
            // SAFETY: found just now.
            let ordered = unsafe { (*template).implied() != 0 };
            return (ordered == fact.ordered).then_some(template);
        }
        if !fact.ordered {
            return None;
        }
        let (module, name) = fact.template.split_once("::")?;
        let name = c_string(name).ok()?;
        let create = |this: &mut Self| {
            // SAFETY: the symbol is fresh; the relation exists nowhere in scope.
            unsafe {
                let symbol = c::CreateSymbol(this.env, name.as_ptr());
                CreateImpliedDeftemplate(this.env, symbol, true)
            }
        };
        self.in_module(Some(module), create).ok()
    }

    fn assert_all(&mut self, state: &State, made: &Facts, losses: &mut Vec<Loss>) {
        enum Entity<'s> {
            Fact(&'s FactState),
            Instance(&'s InstanceState),
        }
        let facts = state
            .facts
            .iter()
            .map(|fact| (fact.tag, Entity::Fact(fact)));
        let instances = state.instances.iter();
        let instances = instances.map(|one| (one.tag, Entity::Instance(one)));
        let mut all: Vec<_> = facts.chain(instances).collect();
        all.sort_by_key(|(tag, _)| *tag);

        // Everything is filled in before anything is matched.
        let mut held = Vec::new();
        let instances = self.make_instances(&state.instances, losses);
        for (one, raw) in &instances {
            self.fill_instance(one, *raw, made, losses);
        }
        for fact in &state.facts {
            if let Some(raw) = made.get(&fact.index) {
                self.fill(fact, *raw, made, &mut held, losses);
            }
        }
        let instances: BTreeMap<_, _> = instances
            .into_iter()
            .map(|(one, raw)| (one.name.as_str(), raw))
            .collect();
        for (tag, entity) in all {
            // SAFETY: the counter is what the entity gets; a made instance is live.
            unsafe {
                (*self.rules_data()).CurrentEntityTimeTag = tag;
                match entity {
                    Entity::Fact(fact) => {
                        if let Some(raw) = made.get(&fact.index) {
                            self.assert_made(fact, *raw, losses);
                        }
                    }
                    Entity::Instance(one) => {
                        if let Some(raw) = instances.get(one.name.as_str()).copied() {
                            if (*(*raw).cls).reactive() != 0 {
                                c::ObjectNetworkAction(self.env, OBJECT_ASSERT, raw, -1);
                            }
                            (*raw.cast::<c::patternEntity>()).timeTag = one.tag;
                        }
                    }
                }
            }
        }
        for mut raw in held {
            // SAFETY: retained once when it was filled in.
            unsafe { c::ReleaseCV(self.env, &mut raw) };
        }
    }

    /// Fill in a fact's slots. What its template lacks is lost, what it has more keeps defaults.
    fn fill(
        &mut self,
        fact: &FactState,
        raw: *mut c::Fact,
        made: &Facts,
        held: &mut Vec<c::CLIPSValue>,
        losses: &mut Vec<Loss>,
    ) {
        for (slot, value) in &fact.slots {
            let Ok(name) = c_string(slot) else { continue };
            let name = if fact.ordered {
                std::ptr::null()
            } else {
                name.as_ptr()
            };
            // SAFETY: the value is held until the fact is asserted, and the fact holds it then.
            let put = unsafe {
                let template = c::FactDeftemplate(raw);
                self.field(value, made, template).is_some_and(|mut field| {
                    c::RetainCV(self.env, &mut field);
                    held.push(field);
                    c::PutFactSlot(raw, name, &mut field)
                })
            };
            if !put {
                losses.push(Loss::Slot(fact.index, fact.template.clone(), slot.clone()));
            }
        }
    }

    fn assert_made(&mut self, fact: &FactState, raw: *mut c::Fact, losses: &mut Vec<Loss>) {
        // SAFETY: made by us and not asserted yet; the counter is what the fact gets.
        let asserted = unsafe {
            c::AssignFactSlotDefaults(raw);
            (*self.facts_data()).NextFactIndex = fact.index;
            !c::Assert(raw).is_null()
        };
        if !asserted {
            let lost = "CLIPS refused it";
            losses.push(Loss::Fact(fact.index, fact.template.clone(), lost));
        }
    }

    /// Every instance without its slots, and not matched yet.
    fn make_instances<'s>(
        &mut self,
        instances: &'s [InstanceState],
        losses: &mut Vec<Loss>,
    ) -> Vec<(&'s InstanceState, *mut c::Instance)> {
        let mut made = Vec::new();
        for one in instances {
            let lost = |why| Loss::Instance(one.name.clone(), one.class.clone(), why);
            let Ok(class) = self.find(Kind::Class, &one.class) else {
                losses.push(lost("there is no such class any more"));
                continue;
            };
            let Ok(name) = c_string(&one.name) else {
                continue;
            };
            // SAFETY: the class is live; while it is not reactive nothing is matched.
            unsafe {
                let class: *mut c::Defclass = class.cast();
                let reactive = (*class).reactive();
                (*class).set_reactive(0);
                let instance = c::CreateRawInstance(self.env, class, name.as_ptr());
                (*class).set_reactive(reactive);
                if instance.is_null() {
                    losses.push(lost("CLIPS refused it"));
                } else {
                    made.push((one, instance));
                }
            }
        }
        made
    }

    fn fill_instance(
        &mut self,
        one: &InstanceState,
        instance: *mut c::Instance,
        made: &Facts,
        losses: &mut Vec<Loss>,
    ) {
        // SAFETY: the instance and its class are live; values are stored before anything collects
        // them; while the class is not reactive nothing is matched.
        unsafe {
            let class = (*instance).cls;
            let reactive = (*class).reactive();
            (*class).set_reactive(0);
            for (slot, value) in &one.slots {
                let Ok(text) = c_string(slot) else { continue };
                let put = self
                    .field(value, made, class_template(made))
                    .is_some_and(|mut field| {
                        c::DirectPutSlot(instance, text.as_ptr(), &mut field)
                            == c::PutSlotError_PSE_NO_ERROR
                    });
                if !put {
                    losses.push(Loss::InstanceSlot(one.name.clone(), slot.clone()));
                }
            }
            (*class).set_reactive(reactive);
        }
    }

    /// A value with addresses of facts that are made, or that were retracted before and are
    /// known by their number alone.
    ///
    /// # Safety
    /// As [`value::write`]; `template` is live.
    unsafe fn field(
        &mut self,
        value: &Value,
        made: &Facts,
        template: *mut c::Deftemplate,
    ) -> Option<c::CLIPSValue> {
        let env = self.env;
        // SAFETY: as the caller promises.
        let resolve = |index: i64| unsafe {
            match made.get(&index) {
                Some(fact) => *fact,
                None if template.is_null() => std::ptr::null_mut(),
                None => retracted(env, index, template),
            }
        };
        // SAFETY: as the caller promises.
        unsafe { value::write_with(env, &without_externals(value), &resolve).ok() }
    }

    /// Make facts and instances depend again on what they depended on. One whose reasons are all
    /// gone goes with them.
    fn give_support(&mut self, state: &State, losses: &mut Vec<Loss>) {
        let ids = self.rule_ids();
        for fact in state.facts.iter().filter(|fact| !fact.support.is_empty()) {
            // SAFETY: a fact that is found is live.
            let found = unsafe { c::FindIndexedFact(self.env, fact.index) };
            if !found.is_null() && !self.depend(found.cast(), &fact.support, &ids) {
                losses.push(Loss::Support(format!("f-{}", fact.index)));
                // SAFETY: as above.
                unsafe { c::Retract(found) };
            }
        }
        for one in state.instances.iter().filter(|one| !one.support.is_empty()) {
            let Ok(found) = self.find_instance(&one.name) else {
                continue;
            };
            if !self.depend(found.cast(), &one.support, &ids) {
                losses.push(Loss::Support(format!("[{}]", one.name)));
                // SAFETY: found just now.
                unsafe { c::DeleteInstance(found) };
            }
        }
    }

    /// `false` when none of the reasons exists.
    fn depend(
        &mut self,
        entity: *mut c::patternEntity,
        support: &[Support],
        ids: &RuleIds,
    ) -> bool {
        let mut depends = false;
        // Dependencies are added in front.
        for one in support.iter().rev() {
            let Some(join) = ids.join_of.get(&one.by).copied() else {
                continue;
            };
            // SAFETY: the join and the partial match are live, and nothing runs; the engine's
            // two fields are as it sets them itself while a rule's actions run.
            unsafe {
                let partial = find_partial(self.env, join, &one.matched);
                if partial.is_null() {
                    continue;
                }
                let engine = data::<c::engineData>(self.env, c::ENGINE_DATA);
                (*engine).TheLogicalJoin = join;
                (*engine).TheLogicalBind = partial;
                depends |= c::AddLogicalDependencies(self.env, entity, false);
                (*engine).TheLogicalJoin = std::ptr::null_mut();
                (*engine).TheLogicalBind = std::ptr::null_mut();
            }
        }
        depends
    }

    /// Take off the agenda what had fired already, and put the rest into its old order. A rule
    /// that is new, or whose source has changed, sees all facts as new.
    fn give_agenda(&mut self, state: &State, losses: &mut Vec<Loss>) {
        let ids = self.rule_ids();
        let digests = self.digests();
        for (rule, digest) in &digests {
            if state.rules.get(rule) != Some(digest) {
                losses.push(Loss::Changed(rule.clone()));
            }
        }
        let mut wanted: BTreeMap<(RuleId, Vec<Matched>), Vec<&ActivationState>> = BTreeMap::new();
        for one in state.agenda.iter().rev() {
            let key = (one.of.clone(), one.matched.clone());
            wanted.entry(key).or_default().push(one);
        }
        let env = self.env;
        let mut fired = Vec::new();
        let mut last = state.next_activation;
        self.each_activation(|activation| {
            // SAFETY: the activation is live, and its rule is one of those listed.
            unsafe {
                let Some(of) = ids.rules.get(&((*activation).theRule as usize)) else {
                    return;
                };
                let key = (of.clone(), agenda::matched(env, (*activation).basis));
                if let Some(one) = wanted.get_mut(&key).and_then(Vec::pop) {
                    (*activation).salience = one.salience;
                    (*activation).timetag = one.tag;
                    (*activation).randomID = one.random;
                } else if state.rules.get(&of.rule) == digests.get(&of.rule) {
                    fired.push(activation);
                } else {
                    (*activation).timetag = last;
                    last += 1;
                }
            }
        });
        for activation in fired {
            // SAFETY: still on the agenda: nothing ran since it was listed.
            unsafe { c::DeleteActivation(activation) };
        }
        for ((of, matched), rest) in wanted {
            for _ in rest {
                losses.push(Loss::Activation(of.rule.clone(), matched.clone()));
            }
        }
        // SAFETY: the counter only grows; the sort is by the numbers just written.
        unsafe {
            (*self.agenda_data()).CurrentTimetag = last;
            c::ReorderAllAgendas(self.env);
        }
    }

    /// Put the fact list into its old order, which a `modify` keeps: queries walk it.
    fn relink_facts(&mut self, state: &State) {
        // SAFETY: every fact is taken off its lists and put on them again, exactly once.
        unsafe {
            let data = self.facts_data();
            let mut found: BTreeMap<i64, *mut c::Fact> = BTreeMap::new();
            let mut order = Vec::new();
            let mut fact = (*data).FactList;
            while !fact.is_null() {
                found.insert((*fact).factIndex, fact);
                let template = (*fact).whichDeftemplate;
                (*template).factList = std::ptr::null_mut();
                (*template).lastFact = std::ptr::null_mut();
                fact = (*fact).nextFact;
            }
            order.extend(
                state
                    .facts
                    .iter()
                    .filter_map(|fact| found.remove(&fact.index)),
            );
            order.extend(found.into_values());
            let mut previous: *mut c::Fact = std::ptr::null_mut();
            (*data).FactList = std::ptr::null_mut();
            for fact in order {
                (*fact).previousFact = previous;
                (*fact).nextFact = std::ptr::null_mut();
                match previous.as_mut() {
                    None => (*data).FactList = fact,
                    Some(previous) => previous.nextFact = fact,
                }
                previous = fact;
                let template = (*fact).whichDeftemplate;
                let last = (*template).lastFact;
                (*fact).previousTemplateFact = last;
                (*fact).nextTemplateFact = std::ptr::null_mut();
                match last.as_mut() {
                    None => (*template).factList = fact,
                    Some(last) => last.nextTemplateFact = fact,
                }
                (*template).lastFact = fact;
            }
            (*data).LastFact = previous;
        }
    }

    /// As `relink_facts`, for instances.
    fn relink_instances(&mut self, state: &State) {
        let names: Vec<_> = state.instances.iter().map(|one| one.name.clone()).collect();
        let found: Vec<_> = names
            .iter()
            .filter_map(|name| self.find_instance(name).ok())
            .collect();
        if found.len() != self.instance_count() {
            return;
        }
        // SAFETY: `found` is every instance once; each is put on its lists again.
        unsafe {
            let data = data::<c::instanceData>(self.env, c::INSTANCE_DATA);
            for instance in &found {
                (*(**instance).cls).instanceList = std::ptr::null_mut();
                (*(**instance).cls).instanceListBottom = std::ptr::null_mut();
            }
            (*data).InstanceList = std::ptr::null_mut();
            let mut previous: *mut c::Instance = std::ptr::null_mut();
            for instance in found {
                (*instance).prvList = previous;
                (*instance).nxtList = std::ptr::null_mut();
                match previous.as_mut() {
                    None => (*data).InstanceList = instance,
                    Some(previous) => previous.nxtList = instance,
                }
                previous = instance;
                let class = (*instance).cls;
                let last = (*class).instanceListBottom;
                (*instance).prvClass = last;
                (*instance).nxtClass = std::ptr::null_mut();
                match last.as_mut() {
                    None => (*class).instanceList = instance,
                    Some(last) => last.nxtClass = instance,
                }
                (*class).instanceListBottom = instance;
            }
            (*data).InstanceListBottom = previous;
        }
    }
}

/// The match in a join's memory that consists of just these, or null.
///
/// # Safety
/// `join` is live.
unsafe fn find_partial(
    env: *mut c::Environment,
    join: *mut c::joinNode,
    wanted: &[Matched],
) -> *mut c::partialMatch {
    // SAFETY: memories have `size` chains of live matches.
    unsafe {
        for memory in [(*join).leftMemory, (*join).rightMemory] {
            if memory.is_null() {
                continue;
            }
            for bucket in 0..(*memory).size as usize {
                let mut partial = *(*memory).beta.add(bucket);
                while !partial.is_null() {
                    let own = (*partial).owner.cast::<c::joinNode>() == join;
                    if own && agenda::matched(env, partial) == wanted {
                        return partial;
                    }
                    partial = (*partial).nextInMemory;
                }
            }
        }
    }
    std::ptr::null_mut()
}

/// The template of any made fact, or null.
fn class_template(made: &Facts) -> *mut c::Deftemplate {
    let fact = made.values().next();
    // SAFETY: made facts are live, also while they are not asserted.
    fact.map_or(std::ptr::null_mut(), |fact| unsafe {
        c::FactDeftemplate(*fact)
    })
}

/// The address of a fact that exists no more: its number, and nothing behind it.
///
/// # Safety
/// `template` is live.
unsafe fn retracted(
    env: *mut c::Environment,
    index: i64,
    template: *mut c::Deftemplate,
) -> *mut c::Fact {
    // SAFETY: a fresh fact is made to look as one that was asserted and retracted: its fields are
    // installed, and it lies among the garbage until nothing refers to it.
    unsafe {
        let facts = data::<c::factsData>(env, c::FACTS_DATA);
        let mut known = (*facts).GarbageFacts;
        while !known.is_null() {
            if (*known).factIndex == index {
                return known;
            }
            known = (*known).nextFact;
        }
        let fact = c::CreateFact(template);
        let fields = &raw mut (*fact).theProposition;
        let first = (&raw mut (*fields).contents).cast::<c::CLIPSValue>();
        for i in 0..(*fields).length as usize {
            let field = (*first.add(i)).__bindgen_anon_1;
            c::AtomInstall(env, (*field.header).type_, field.value);
        }
        (*fact).factIndex = index;
        (*fact).set_garbage(1);
        (*fact).nextFact = (*facts).GarbageFacts;
        (*facts).GarbageFacts = fact;
        fact
    }
}

/// Pointers of a host mean nothing in another process.
fn without_externals(value: &Value) -> Value {
    match value {
        Value::External(_) | Value::Void => Value::symbol("nil"),
        Value::Multifield(fields) => {
            Value::Multifield(fields.iter().map(without_externals).collect())
        }
        value => value.clone(),
    }
}
