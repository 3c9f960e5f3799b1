//! What an engine holds: constructs, globals, the agenda.

use super::Engine;
use crate::error::EngineError;
use crate::value::Value;

/// Activations listed at most; an agenda can be as long as working memory is combinable.
const AGENDA_MAX: usize = 100_000;

/// A construct by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Construct {
    /// The module it is defined in.
    pub module: String,
    /// Its name.
    pub name: String,
}

impl From<(String, String)> for Construct {
    fn from((module, name): (String, String)) -> Self {
        Self { module, name }
    }
}

/// A slot of a deftemplate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether it is a multislot.
    pub multi: bool,
    /// The types it allows, by CLIPS's names: `INTEGER`, `SYMBOL`, ...
    pub types: Vec<String>,
}

impl Slot {
    /// Whether the slot allows values of a type.
    #[must_use]
    pub fn allows(&self, type_name: &str) -> bool {
        self.types.iter().any(|allowed| allowed == type_name)
    }
}

/// A rule waiting to fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The rule's name.
    pub rule: String,
    /// Its salience.
    pub salience: i32,
    /// The facts that matched, as CLIPS writes them: `f-1,*,f-4`.
    pub basis: String,
}

impl Engine {
    /// All deftemplates, the relations of ordered facts included.
    pub fn templates(&mut self) -> Vec<Construct> {
        self.env
            .templates()
            .into_iter()
            .map(Construct::from)
            .collect()
    }

    /// The slots of a deftemplate in order.
    ///
    /// # Errors
    /// [`EngineError::UnknownTemplate`], or [`EngineError::OrderedTemplate`] for the relation of
    /// ordered facts.
    pub fn slots(&mut self, template: &str) -> Result<Vec<Slot>, EngineError> {
        match self.env.slots(template)? {
            None => Err(EngineError::UnknownTemplate(template.to_owned())),
            Some((_, true)) => Err(EngineError::OrderedTemplate(template.to_owned())),
            Some((slots, false)) => Ok(slots
                .into_iter()
                .map(|slot| Slot {
                    name: slot.name,
                    multi: slot.multi,
                    types: slot.types,
                })
                .collect()),
        }
    }

    /// All rules.
    pub fn rules(&mut self) -> Vec<Construct> {
        self.env.rules().into_iter().map(Construct::from).collect()
    }

    /// All globals with their values.
    pub fn globals(&mut self) -> Vec<(String, Value)> {
        self.env.globals()
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
    /// # Errors
    /// [`EngineError::UnknownGlobal`].
    pub fn set_global(&mut self, name: &str, value: &Value) -> Result<(), EngineError> {
        if self.call(|env| env.set_global(name, value))?? {
            Ok(())
        } else {
            Err(EngineError::UnknownGlobal(name.to_owned()))
        }
    }

    /// The rules waiting to fire in the current focus, next one first; the first 100 000.
    pub fn agenda(&mut self) -> Vec<Activation> {
        let agenda = self.env.agenda(AGENDA_MAX).into_iter();
        agenda
            .map(|(rule, salience, basis)| Activation {
                rule,
                salience,
                basis,
            })
            .collect()
    }

    /// Whether no rule of the current focus waits to fire.
    pub fn is_quiet(&mut self) -> bool {
        self.env.agenda_is_empty()
    }
}
