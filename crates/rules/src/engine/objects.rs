//! Classes, instances, messages, and calls of functions with values.

use std::ffi::CString;
use std::fmt;
use std::fmt::Write as _;

use super::{Engine, Kind, Settings};
use crate::error::EngineError;
use crate::raw::{CallFault, RawClassSlot, RawInstance};
use crate::value::Value;
use crate::vet::is_symbol;

/// An instance of a class, copied out.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its name, without brackets.
    pub name: String,
    /// Its class.
    pub class: String,
    /// Its slots, inherited ones included.
    pub slots: Vec<(String, Value)>,
}

impl Instance {
    /// The value of a slot.
    #[must_use]
    pub fn slot(&self, name: &str) -> Option<&Value> {
        let mut slots = self.slots.iter();
        slots.find(|(slot, _)| slot == name).map(|(_, value)| value)
    }
}

/// As CLIPS saves it: `([pump] of DEVICE (state on))`.
impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "([{}] of {}", self.name, self.class)?;
        for (slot, value) in &self.slots {
            write!(f, " ({slot}")?;
            match value {
                Value::Multifield(fields) => {
                    for field in fields {
                        write!(f, " {field}")?;
                    }
                }
                value => write!(f, " {value}")?,
            }
            f.write_str(")")?;
        }
        f.write_str(")")
    }
}

impl From<RawInstance> for Instance {
    fn from(raw: RawInstance) -> Self {
        Self {
            name: raw.name,
            class: raw.class,
            slots: raw.slots,
        }
    }
}

/// A class.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Class {
    /// Whether it has no direct instances.
    pub is_abstract: bool,
    /// Whether its instances match patterns.
    pub reactive: bool,
    /// The classes it directly is a kind of.
    pub superclasses: Vec<String>,
    /// The classes that directly are kinds of it.
    pub subclasses: Vec<String>,
    /// Its slots, inherited ones included.
    pub slots: Vec<ClassSlot>,
}

/// A slot of a class.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClassSlot {
    /// Its name.
    pub name: String,
    /// Facets as CLIPS tells them: `SGL` or `MLT`, `STC` or `DYN`, `INH`, `RW`, `LCL`, ...
    pub facets: Vec<String>,
    /// The types it allows.
    pub types: Vec<String>,
    /// The values it allows, empty for all.
    pub allowed: Vec<Value>,
    /// The least and the largest number; `-oo` and `+oo` for none.
    pub range: Vec<Value>,
    /// The least and the largest number of fields, of a multislot.
    pub cardinality: Vec<Value>,
    /// What it holds when nothing is given.
    pub default: Option<Value>,
}

impl From<RawClassSlot> for ClassSlot {
    fn from(raw: RawClassSlot) -> Self {
        Self {
            name: raw.name,
            facets: raw.facets,
            types: raw.types,
            allowed: raw.allowed,
            range: raw.range,
            cardinality: raw.cardinality,
            default: raw.default,
        }
    }
}

/// A message handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// The class it belongs to.
    pub class: String,
    /// The message it handles.
    pub name: String,
    /// `primary`, `before`, `after` or `around`.
    pub kind: String,
}

impl Engine {
    /// Call a function, generic or builtin with values: no text is parsed.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, Value};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(deffunction greet (?who) (str-cat \"hello \" ?who))")?;
    /// let answer = engine.call_function("greet", &[Value::string("a)(exit")])?;
    /// assert_eq!(answer, Value::string("hello a)(exit"));
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Uncallable`] for a name that is no function, one with a syntax of its own
    /// (`if`, `bind`), or arguments that do not fit; [`EngineError::Evaluation`] when it failed.
    pub fn call_function(&mut self, name: &str, arguments: &[Value]) -> Result<Value, EngineError> {
        let uncallable = |reason| EngineError::Uncallable {
            name: name.to_owned(),
            reason,
        };
        match self.call(|env| env.call_function(name, arguments))? {
            Ok(value) => value.ok_or(EngineError::TooLarge("four times its memory limit")),
            Err(CallFault::Unknown) => Err(uncallable("there is no such function")),
            Err(CallFault::Special) => Err(uncallable("it has a syntax of its own: use eval")),
            Err(CallFault::Count) => Err(uncallable("it takes another number of arguments")),
            Err(CallFault::Type) => Err(uncallable("an argument has the wrong type")),
            Err(CallFault::Failed) => Err(evaluation(&self.take_complaint())),
            Err(CallFault::Value(error)) => Err(error),
        }
    }

    /// A class and its slots.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defclass DEVICE (is-a USER) (slot state (default off)))
    ///     (defmessage-handler DEVICE start () (bind ?self:state on))")?;
    /// let class = engine.class("DEVICE")?;
    /// assert_eq!(class.superclasses, ["USER"]);
    /// assert_eq!(class.slots[0].name, "state");
    /// assert!(engine.handlers("DEVICE", false)?.iter().any(|handler| handler.name == "start"));
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn class(&mut self, name: &str) -> Result<Class, EngineError> {
        let raw = self.call(|env| env.class(name))??;
        Ok(Class {
            is_abstract: raw.is_abstract,
            reactive: raw.reactive,
            superclasses: raw.superclasses,
            subclasses: raw.subclasses,
            slots: raw.slots.into_iter().map(ClassSlot::from).collect(),
        })
    }

    /// The message handlers of a class, with those it inherits if asked.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn handlers(&mut self, class: &str, inherited: bool) -> Result<Vec<Handler>, EngineError> {
        let handlers = self.env.handlers(class, inherited)?.into_iter();
        Ok(handlers
            .map(|[class, name, kind]| Handler { class, name, kind })
            .collect())
    }

    /// The source of a handler of a class; `None` for one of CLIPS's own, or none at all.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn handler_source(
        &mut self,
        class: &str,
        name: &str,
        kind: &str,
    ) -> Result<Option<String>, EngineError> {
        self.env.handler_text(class, name, kind)
    }

    /// Remove a handler of a class.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`], or [`EngineError::InUse`] when it runs, is one of
    /// CLIPS's own, or does not exist.
    pub fn remove_handler(
        &mut self,
        class: &str,
        name: &str,
        kind: &str,
    ) -> Result<(), EngineError> {
        if self.call(|env| env.remove_handler(class, name, kind))?? {
            return Ok(());
        }
        let name = format!("{class} {name} {kind}");
        Err(EngineError::InUse {
            kind: Kind::Class,
            name,
        })
    }

    /// Which handlers a message to an instance of a class would go through, as CLIPS lists them.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn preview_send(&mut self, class: &str, message: &str) -> Result<String, EngineError> {
        let (found, text) = self.captured(|env| env.preview_send(class, message))?;
        found.map(|()| text)
    }

    /// Make an instance: its slots are set, then it gets its `init` message, as by
    /// `make-instance`. One of the same name is deleted first.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, Value};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defclass PUMP (is-a USER) (slot bar (type NUMBER)) (multislot tags))
    ///     (defmessage-handler PUMP bar-in-psi () (* ?self:bar 14.5))")?;
    /// engine.make_instance("pump-1", "PUMP", &[("bar", 2.into())])?;
    /// assert_eq!(engine.send("pump-1", "bar-in-psi", &[])?, Value::Float(29.0));
    /// assert_eq!(engine.instance("pump-1")?.to_string(), "([pump-1] of PUMP (bar 2) (tags))");
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`] for the class, [`EngineError::Slot`] for a slot it lacks,
    /// [`EngineError::Evaluation`] when a constraint or a handler refused.
    pub fn make_instance(
        &mut self,
        name: &str,
        class: &str,
        slots: &[(&str, Value)],
    ) -> Result<(), EngineError> {
        let known = self.class(class)?;
        // Values are passed by number, so that none of them is parsed.
        let mut text = format!("(make-instance (passed 1) of {class}");
        let mut values = vec![Value::InstanceName(name.to_owned())];
        for (slot, value) in slots {
            let exists = known.slots.iter().any(|known| known.name == **slot);
            if !exists || !is_symbol(slot) {
                return Err(EngineError::Slot {
                    template: class.to_owned(),
                    slot: (*slot).to_owned(),
                    reason: crate::error::SlotFault::Unknown,
                });
            }
            values.push(value.clone());
            let _ = write!(text, " ({slot} (passed {}))", values.len());
        }
        text.push(')');
        // Constraints are checked for what comes from outside, whatever the program chose.
        let before = self.settings();
        self.set_settings(Settings {
            dynamic_constraint_checking: true,
            ..before
        });
        let made = self.eval_passing(&text, values);
        self.set_settings(before);
        match made? {
            Value::InstanceName(_) => Ok(()),
            _ => Err(evaluation(&self.take_complaint())),
        }
    }

    /// Send a message to an instance.
    ///
    /// # Errors
    /// [`EngineError::UnknownInstance`], or [`EngineError::Evaluation`] when no handler takes it
    /// or one failed.
    pub fn send(
        &mut self,
        instance: &str,
        message: &str,
        arguments: &[Value],
    ) -> Result<Value, EngineError> {
        self.instance(instance)?;
        let mut values = vec![
            Value::InstanceName(instance.to_owned()),
            Value::symbol(message),
        ];
        values.extend_from_slice(arguments);
        self.call_function("send", &values)
    }

    /// All instances, oldest first; as many as facts may exist.
    pub fn instances(&mut self) -> Vec<Instance> {
        let limit = self.limits().facts.saturating_add(1);
        let instances = self.env.instances(limit).into_iter();
        instances.map(Instance::from).collect()
    }

    /// How many instances there are.
    #[must_use]
    pub fn instance_count(&self) -> usize {
        self.env.instance_count()
    }

    /// An instance, from any module.
    ///
    /// # Errors
    /// [`EngineError::UnknownInstance`].
    pub fn instance(&mut self, name: &str) -> Result<Instance, EngineError> {
        self.env.instance(name).map(Instance::from)
    }

    /// Set a slot outright: no message is sent, patterns see the change.
    ///
    /// # Errors
    /// [`EngineError::UnknownInstance`], [`EngineError::Slot`].
    pub fn put_instance_slot(
        &mut self,
        instance: &str,
        slot: &str,
        value: &Value,
    ) -> Result<(), EngineError> {
        self.call(|env| env.put_instance_slot(instance, slot, value))?
    }

    /// Delete an instance by a `delete` message, so that its handlers hear of it.
    ///
    /// # Errors
    /// [`EngineError::UnknownInstance`]; [`EngineError::Evaluation`] when it could not be.
    pub fn unmake_instance(&mut self, name: &str) -> Result<(), EngineError> {
        if self.call(|env| env.delete_instance(name, true))?? {
            return Ok(());
        }
        Err(evaluation(&self.take_complaint()))
    }

    /// Delete an instance outright.
    ///
    /// # Errors
    /// As [`unmake_instance`](Self::unmake_instance).
    pub fn delete_instance(&mut self, name: &str) -> Result<(), EngineError> {
        if self.call(|env| env.delete_instance(name, false))?? {
            return Ok(());
        }
        Err(evaluation(&self.take_complaint()))
    }

    /// Make the instances of a text, each in the form of [`Instance`]'s `Display`, with their
    /// `init` messages; says how many.
    ///
    /// # Errors
    /// [`EngineError::Parse`] when the vetting refuses it, [`EngineError::Evaluation`] when CLIPS
    /// does; the instances before the fault exist then.
    pub fn load_instances(&mut self, text: &str) -> Result<u64, EngineError> {
        self.read_instances(text, true)
    }

    /// As [`load_instances`](Self::load_instances), but the instances are put back as they were:
    /// no message is sent.
    ///
    /// # Errors
    /// As [`load_instances`](Self::load_instances).
    pub fn restore_instances(&mut self, text: &str) -> Result<u64, EngineError> {
        self.read_instances(text, false)
    }

    fn read_instances(&mut self, text: &str, init: bool) -> Result<u64, EngineError> {
        let text: CString = self.vetted(text)?;
        let loaded = self.call(|env| env.load_instances(&text, init))?;
        let complaint = self.take_complaint();
        // An unknown class is told, but not by the return value.
        match loaded {
            Some(count) if complaint.is_empty() => Ok(count),
            _ => Err(evaluation(&complaint)),
        }
    }

    /// Evaluate text in which `(passed N)` stands for the Nth of `values`.
    pub(super) fn eval_passing(
        &mut self,
        text: &str,
        values: Vec<Value>,
    ) -> Result<Value, EngineError> {
        *self.env.shared().passed.borrow_mut() = values;
        let evaluated = self.eval(text);
        self.env.shared().passed.borrow_mut().clear();
        evaluated
    }
}

fn evaluation(printed: &str) -> EngineError {
    let message = crate::raw::first_complaint(printed);
    EngineError::Evaluation { message, fired: 0 }
}
