//! Constructs: what an engine was taught, by kind and name.

use std::fmt;

use super::Engine;
use crate::error::EngineError;

/// A kind of construct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `defmodule`
    Module,
    /// `deftemplate`, the relations of ordered facts included
    Template,
    /// `deffacts`
    Facts,
    /// `defrule`
    Rule,
    /// `defglobal`
    Global,
    /// `deffunction`
    Function,
    /// `defgeneric`
    Generic,
    /// `defclass`
    Class,
    /// `definstances`
    Instances,
}

impl Kind {
    /// All kinds, in an order in which their sources can be loaded again within a module.
    pub const ALL: [Self; 9] = [
        Self::Module,
        Self::Class,
        Self::Template,
        Self::Global,
        Self::Generic,
        Self::Function,
        Self::Rule,
        Self::Facts,
        Self::Instances,
    ];
}

/// The word of CLIPS: `defrule`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "defmodule",
            Self::Template => "deftemplate",
            Self::Facts => "deffacts",
            Self::Rule => "defrule",
            Self::Global => "defglobal",
            Self::Function => "deffunction",
            Self::Generic => "defgeneric",
            Self::Class => "defclass",
            Self::Instances => "definstances",
        })
    }
}

/// A construct by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Construct {
    /// The module it is defined in.
    pub module: String,
    /// Its name.
    pub name: String,
}

impl Construct {
    /// The name by which it is found from any module: `MODULE::name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.module, self.name)
    }
}

impl From<(String, String)> for Construct {
    fn from((module, name): (String, String)) -> Self {
        Self { module, name }
    }
}

/// A method of a generic function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its number.
    pub number: u16,
    /// Its restrictions, as CLIPS prints them: `1  (INTEGER) (STRING)`.
    pub form: String,
}

impl Engine {
    /// Every construct of a kind, module by module. The name of a module is its own module.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Kind, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(deffacts start (a)) (deffunction twice (?x) (* 2 ?x))")?;
    /// assert_eq!(engine.constructs(Kind::Function)[0].path(), "MAIN::twice");
    /// let source = engine.source_of(Kind::Facts, "start")?.unwrap();
    /// assert_eq!(source, "(deffacts MAIN::start\n   (a))\n");
    /// engine.remove(Kind::Facts, "start")?;
    /// assert!(engine.constructs(Kind::Facts).is_empty());
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    pub fn constructs(&mut self, kind: Kind) -> Vec<Construct> {
        let found = self.env.constructs(kind).into_iter();
        found.map(Construct::from).collect()
    }

    /// Whether there is a construct of this name, `MODULE::name` or one visible from the current
    /// module.
    pub fn has(&mut self, kind: Kind, name: &str) -> bool {
        self.env.construct_is_deletable(kind, name).is_ok()
    }

    /// The source of a construct as CLIPS prints it; `None` where there is none, as for the
    /// relation of ordered facts.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn source_of(&mut self, kind: Kind, name: &str) -> Result<Option<String>, EngineError> {
        self.env.construct_text(kind, name)
    }

    /// The sources of all constructs, such that loading them makes the same engine. Methods and
    /// message handlers follow their generics and classes.
    pub fn source(&mut self) -> String {
        let mut source = String::new();
        for module in self.constructs(Kind::Module) {
            for kind in Kind::ALL {
                let constructs = self.constructs(kind);
                for construct in constructs.iter().filter(|c| c.module == module.name) {
                    // A module itself is found by its bare name.
                    let path = match kind {
                        Kind::Module => construct.name.clone(),
                        _ => construct.path(),
                    };
                    if let Ok(Some(text)) = self.source_of(kind, &path) {
                        source.push_str(text.trim_end());
                        source.push_str("\n\n");
                    }
                    self.parts_of(kind, &path, &mut source);
                }
            }
        }
        source
    }

    fn parts_of(&mut self, kind: Kind, path: &str, source: &mut String) {
        let mut parts = Vec::new();
        match kind {
            Kind::Generic => {
                let mut methods = self.methods(path).unwrap_or_default();
                // Loaded in this order they get the same numbers again.
                methods.sort_by_key(|method| method.number);
                for method in methods {
                    parts.push(self.method_source(path, method.number));
                }
            }
            Kind::Class => {
                for handler in self.handlers(path, false).unwrap_or_default() {
                    parts.push(self.handler_source(path, &handler.name, &handler.kind));
                }
            }
            _ => {}
        }
        for text in parts.into_iter().flatten().flatten() {
            source.push_str(text.trim_end());
            source.push_str("\n\n");
        }
    }

    /// Whether a construct could be removed now.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn is_removable(&mut self, kind: Kind, name: &str) -> Result<bool, EngineError> {
        self.env.construct_is_deletable(kind, name)
    }

    /// Remove a construct.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`], or [`EngineError::InUse`] when facts, instances or other
    /// constructs need it; a module is never removed.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Result<(), EngineError> {
        if self.call(|env| env.remove_construct(kind, name))?? {
            return Ok(());
        }
        let name = name.to_owned();
        Err(EngineError::InUse { kind, name })
    }

    /// The methods of a generic function, the most specific first.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defmethod area ((?a NUMBER)) (* ?a ?a))
    ///     (defmethod area ((?a NUMBER) (?b NUMBER)) (* ?a ?b))")?;
    /// assert_eq!(engine.call_function("area", &[3.into(), 4.into()])?, 12.into());
    /// let methods = engine.methods("area")?;
    /// engine.remove_method("area", methods[0].number)?;
    /// assert_eq!(engine.methods("area")?.len(), 1);
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn methods(&mut self, generic: &str) -> Result<Vec<Method>, EngineError> {
        let methods = self.env.methods(generic)?.into_iter();
        Ok(methods
            .map(|(number, form)| Method { number, form })
            .collect())
    }

    /// The source of a method; `None` for one that stands for a builtin, and where no method has
    /// the number.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn method_source(
        &mut self,
        generic: &str,
        number: u16,
    ) -> Result<Option<String>, EngineError> {
        self.env.method_text(generic, number)
    }

    /// Remove a method. In CLIPS 6.40 one that has been called must not be *redefined*: that
    /// corrupts memory. Removing is safe.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`], or [`EngineError::InUse`] when it runs or there is none
    /// of this number.
    pub fn remove_method(&mut self, generic: &str, number: u16) -> Result<(), EngineError> {
        if self.call(|env| env.remove_method(generic, number))?? {
            return Ok(());
        }
        let name = format!("{generic} #{number}");
        Err(EngineError::InUse {
            kind: Kind::Generic,
            name,
        })
    }
}
