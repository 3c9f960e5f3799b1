//! Templates, rules and globals.

use super::{Construct, Engine, Kind};
use crate::error::EngineError;
use crate::raw::RawSlot;
use crate::value::Value;

/// A slot of a deftemplate.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether it is a multislot.
    pub multi: bool,
    /// The types it allows, by CLIPS's names: `INTEGER`, `SYMBOL`, ...
    pub types: Vec<String>,
    /// The values it allows, empty for all.
    pub allowed: Vec<Value>,
    /// The least and the largest number; `-oo` and `+oo` for none.
    pub range: Vec<Value>,
    /// The least and the largest number of fields, of a multislot.
    pub cardinality: Vec<Value>,
    /// What it holds when nothing is given, where that is always the same.
    pub default: Option<Value>,
    /// Whether what it holds when nothing is given is computed each time.
    pub dynamic_default: bool,
}

impl From<RawSlot> for Slot {
    fn from(raw: RawSlot) -> Self {
        Self {
            name: raw.name,
            multi: raw.multi,
            types: raw.types,
            allowed: raw.allowed,
            range: raw.range,
            cardinality: raw.cardinality,
            default: raw.default,
            dynamic_default: raw.dynamic_default,
        }
    }
}

impl Slot {
    /// Whether the slot allows values of a type.
    #[must_use]
    pub fn allows(&self, type_name: &str) -> bool {
        self.types.iter().any(|allowed| allowed == type_name)
    }
}

impl Engine {
    /// All deftemplates, the relations of ordered facts included.
    pub fn templates(&mut self) -> Vec<Construct> {
        self.constructs(Kind::Template)
    }

    /// The slots of a deftemplate in order.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(deftemplate reading
    ///     (slot celsius (type NUMBER) (range -50 200) (default 20)))")?;
    /// let slot = &engine.slots("reading")?[0];
    /// assert_eq!((slot.name.as_str(), slot.multi), ("celsius", false));
    /// assert_eq!(slot.range, [(-50).into(), 200.into()]);
    /// assert_eq!(slot.default, Some(20.into()));
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::UnknownTemplate`], or [`EngineError::OrderedTemplate`] for the relation of
    /// ordered facts.
    pub fn slots(&mut self, template: &str) -> Result<Vec<Slot>, EngineError> {
        match self.env.slots(template)? {
            None => Err(EngineError::UnknownTemplate(template.to_owned())),
            Some((_, true)) => Err(EngineError::OrderedTemplate(template.to_owned())),
            Some((slots, false)) => Ok(slots.into_iter().map(Slot::from).collect()),
        }
    }

    /// All rules.
    pub fn rules(&mut self) -> Vec<Construct> {
        self.constructs(Kind::Rule)
    }

    /// All globals with their values.
    pub fn globals(&mut self) -> Vec<(String, Value)> {
        let globals = self.env.globals().into_iter();
        globals.map(|(_, name, value)| (name, value)).collect()
    }

    /// The value of `?*name*`.
    ///
    /// # Errors
    /// [`EngineError::UnknownGlobal`].
    pub fn global(&mut self, name: &str) -> Result<Value, EngineError> {
        self.env
            .global(name)?
            .ok_or_else(|| EngineError::UnknownGlobal(name.to_owned()))
    }

    /// Set `?*name*`. Rules that test the global in their conditions do not see the change; that
    /// is how CLIPS treats globals.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defglobal ?*limit* = 80)")?;
    /// engine.set_global("limit", &90.into())?;
    /// assert_eq!(engine.eval("(+ ?*limit* 1)")?, 91.into());
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::UnknownGlobal`].
    pub fn set_global(&mut self, name: &str, value: &Value) -> Result<(), EngineError> {
        if self.call(|env| env.set_global(name, value))?? {
            Ok(())
        } else {
            Err(EngineError::UnknownGlobal(name.to_owned()))
        }
    }
}
