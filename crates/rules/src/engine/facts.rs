//! Facts in and out, typed: no text is ever parsed on this way.

pub(crate) mod rows;

use std::fmt;

use super::Engine;
use crate::error::EngineError;
use crate::raw::{Env, FactFault, RawFact};
use crate::value::Value;

/// A fact, copied out.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// The fact's index, as in `f-12`.
    pub index: i64,
    /// The name of its template or relation.
    pub template: String,
    /// Whether it has no named slots; then its fields are the one slot `implied`.
    pub ordered: bool,
    /// Slots in the order of the template.
    pub slots: Vec<(String, Value)>,
}

impl Fact {
    /// The value of a slot.
    #[must_use]
    pub fn slot(&self, name: &str) -> Option<&Value> {
        self.slots
            .iter()
            .find(|(slot, _)| slot == name)
            .map(|(_, value)| value)
    }

    /// The fields of an ordered fact.
    #[must_use]
    pub fn fields(&self) -> Option<&[Value]> {
        match self.slots.first() {
            Some((_, Value::Multifield(fields))) if self.ordered => Some(fields),
            _ => None,
        }
    }
}

/// As CLIPS prints it: `(reading (sensor boiler) (celsius 91))`.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}", self.template)?;
        for (slot, value) in &self.slots {
            if !self.ordered {
                write!(f, " ({slot}")?;
            }
            match value {
                Value::Multifield(fields) => {
                    for field in fields {
                        write!(f, " {field}")?;
                    }
                }
                value => write!(f, " {value}")?,
            }
            if !self.ordered {
                f.write_str(")")?;
            }
        }
        f.write_str(")")
    }
}

impl From<RawFact> for Fact {
    fn from(raw: RawFact) -> Self {
        let RawFact {
            index,
            template,
            ordered,
            slots,
        } = raw;
        Self {
            index,
            template,
            ordered,
            slots,
        }
    }
}

impl Engine {
    /// Assert a fact of a deftemplate; slots not named get their defaults. Returns its index, or
    /// that of an equal fact that exists already.
    ///
    /// # Errors
    /// [`EngineError::UnknownTemplate`], [`EngineError::OrderedTemplate`],
    /// [`EngineError::Slot`], or what matching it ran into.
    pub fn assert(&mut self, template: &str, slots: &[(&str, Value)]) -> Result<i64, EngineError> {
        self.assert_slots(template, slots.iter().map(|(name, value)| (*name, value)))
    }

    /// As [`assert`](Self::assert), of slots that lie elsewhere.
    pub(crate) fn assert_slots<'a>(
        &mut self,
        template: &str,
        slots: impl Iterator<Item = (&'a str, &'a Value)>,
    ) -> Result<i64, EngineError> {
        let asserted = self.call(|env| env.assert(template, slots, false))?;
        asserted.map_err(|fault| self.explain(template, fault))
    }

    /// Assert a fact to be retracted by [`retract_held`](Self::retract_held), if it is there yet;
    /// one at a time. When this ends with an error the fact is not there, except in an engine that
    /// is spent.
    pub(crate) fn assert_held<'a>(
        &mut self,
        template: &str,
        slots: impl Iterator<Item = (&'a str, &'a Value)>,
    ) -> Result<(), EngineError> {
        match self.call(|env| env.assert(template, slots, true)) {
            Ok(asserted) => asserted.map_err(|fault| self.explain(template, fault))?,
            Err(error) => {
                // A limit was hit while it was matched. What comes of taking it back is no news.
                let _ = self.retract_held();
                return Err(error);
            }
        };
        Ok(())
    }

    /// Retract the fact that is held, and hold none. `false` when the program has done so already.
    pub(crate) fn retract_held(&mut self) -> Result<bool, EngineError> {
        self.call(Env::retract_held)
    }

    /// Assert the ordered fact `(relation fields...)`. A relation never seen before is created.
    ///
    /// # Errors
    /// [`EngineError::UnknownTemplate`] when `relation` is a deftemplate with named slots.
    pub fn assert_ordered(
        &mut self,
        relation: &str,
        fields: Vec<Value>,
    ) -> Result<i64, EngineError> {
        let asserted = self.call(|env| env.assert_ordered(relation, fields))?;
        asserted.map_err(|fault| match fault {
            FactFault::OrderedTemplate => EngineError::Assert(
                relation.to_owned(),
                "the deftemplate has named slots: give them by name".to_owned(),
            ),
            other => self.explain(relation, other),
        })
    }

    /// Assert one fact from its text: `(reading (sensor boiler) (celsius (+ 90 1)))`.
    ///
    /// The text may compute, as in a rule: never give it what a stranger wrote. Data goes through
    /// [`assert`](Self::assert), facts as text through [`load_facts`](Self::load_facts).
    ///
    /// # Errors
    /// [`EngineError::Parse`] when the vetting refuses it, [`EngineError::Evaluation`] when CLIPS
    /// does.
    pub fn assert_text(&mut self, text: &str) -> Result<i64, EngineError> {
        let text = self.vetted(text)?;
        match self.call(|env| env.assert_text(&text))? {
            Some(index) => Ok(index),
            None => Err(self.evaluation()),
        }
    }

    /// Assert the facts of a text, each in the form of [`Fact`]'s `Display`; says how many. They
    /// must consist of constants: nothing is computed.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load_facts("(colour red) (size 3 \"wide\")")?;
    /// let saved: Vec<_> = engine.facts().iter().map(|fact| fact.to_string()).collect();
    /// assert_eq!(saved, ["(colour red)", "(size 3 \"wide\")"]);
    /// engine.load_facts("(size (+ 1 2))").unwrap_err();
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// As [`assert_text`](Self::assert_text); the facts before the fault are asserted.
    pub fn load_facts(&mut self, text: &str) -> Result<u64, EngineError> {
        self.vetted(text)?;
        let heard = self.env.shared().output.borrow().errors.len();
        let loaded = self.call(|env| env.load_facts(text))?;
        let quiet = self.env.shared().output.borrow().errors.len() == heard;
        match loaded {
            Some(count) if quiet => Ok(count),
            _ => Err(self.evaluation()),
        }
    }

    /// Retract a fact.
    ///
    /// # Errors
    /// [`EngineError::UnknownFact`] when there is none of this index.
    pub fn retract(&mut self, index: i64) -> Result<(), EngineError> {
        if self.call(|env| env.retract(index))? {
            Ok(())
        } else {
            Err(EngineError::UnknownFact(index))
        }
    }

    /// Change slots of a fact: it is retracted and asserted anew, under a new index that is
    /// returned. (CLIPS's own modify call corrupts memory in 6.40.)
    ///
    /// # Errors
    /// As [`assert`](Self::assert); the fact is then as it was, under a new index.
    pub fn modify(&mut self, index: i64, changes: &[(&str, Value)]) -> Result<i64, EngineError> {
        let fact = self.fact(index).ok_or(EngineError::UnknownFact(index))?;
        if fact.ordered {
            return Err(EngineError::OrderedTemplate(fact.template));
        }
        let old: Vec<_> = fact
            .slots
            .iter()
            .map(|(n, v)| (n.as_str(), v.clone()))
            .collect();
        let mut new = old.clone();
        for (name, value) in changes {
            match new.iter_mut().find(|(slot, _)| slot == name) {
                Some((_, slot)) => *slot = value.clone(),
                None => new.push((name, value.clone())),
            }
        }
        self.retract(index)?;
        self.assert(&fact.template, &new).inspect_err(|_| {
            // Best effort: what was there a moment ago is accepted again.
            let _ = self.assert(&fact.template, &old);
        })
    }

    /// All facts, oldest first. Values beyond four times the limit on memory, copied, are `Void`.
    pub fn facts(&mut self) -> Vec<Fact> {
        let limit = self.limits().facts.saturating_add(1);
        let facts = self.env.facts(limit, None);
        facts.into_iter().map(Fact::from).collect()
    }

    /// The facts of one template or relation, oldest first.
    pub fn facts_of(&mut self, template: &str) -> Vec<Fact> {
        let limit = self.limits().facts.saturating_add(1);
        let facts = self.env.facts(limit, Some(template));
        facts.into_iter().map(Fact::from).collect()
    }

    /// The fact of an index.
    pub fn fact(&mut self, index: i64) -> Option<Fact> {
        self.env.fact(index).map(Fact::from)
    }

    /// Facts that exist.
    #[must_use]
    pub fn fact_count(&self) -> usize {
        self.env.fact_count()
    }

    fn evaluation(&mut self) -> EngineError {
        let message = crate::raw::first_complaint(&self.take_complaint());
        EngineError::Evaluation { message, fired: 0 }
    }

    fn explain(&mut self, template: &str, raised: FactFault) -> EngineError {
        let template = template.to_owned();
        match raised {
            FactFault::UnknownTemplate => EngineError::UnknownTemplate(template),
            FactFault::OrderedTemplate => EngineError::OrderedTemplate(template),
            FactFault::Slot { slot, reason } => EngineError::Slot {
                template,
                slot,
                reason,
            },
            FactFault::Refused => {
                let message = crate::raw::first_complaint(&self.take_complaint());
                EngineError::Assert(template, message)
            }
            FactFault::Value(error) => error,
        }
    }
}
