//! The agenda, its order, the focus, and what rules match.

use serde::{Deserialize, Serialize};

use super::{Engine, Kind};
use crate::error::EngineError;
use crate::raw::{OnActivation, RawActivation};

/// Activations listed at most; an agenda can be as long as working memory is combinable.
const AGENDA_MAX: usize = 100_000;

/// What a pattern of a rule matched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Matched {
    /// The fact of this index.
    Fact(i64),
    /// The instance of this name.
    Instance(String),
    /// Nothing: a `not`, `exists` or `forall`.
    Nothing,
}

/// A rule waiting to fire.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activation {
    /// A number that no other activation of this engine has.
    pub tag: u64,
    /// The rule's module.
    pub module: String,
    /// The rule's name.
    pub rule: String,
    /// Its salience.
    pub salience: i32,
    /// What matched, as CLIPS writes it: `f-1,*,f-4`. Cut off at a thousand bytes.
    pub basis: String,
    /// What matched, pattern by pattern.
    pub matched: Vec<Matched>,
}

impl From<RawActivation> for Activation {
    fn from(raw: RawActivation) -> Self {
        Self {
            tag: raw.tag,
            module: raw.module,
            rule: raw.rule,
            salience: raw.salience,
            basis: raw.basis,
            matched: raw.matched,
        }
    }
}

/// Which of several activations of the same salience fires first. New ones are sorted by the
/// strategy; those on the agenda are sorted anew when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The newest first; CLIPS's default.
    Depth,
    /// The oldest first.
    Breadth,
    /// The one with the most recent facts first, all of them compared.
    Lex,
    /// The one with the most recent first fact first.
    Mea,
    /// The most specific first.
    Complexity,
    /// The least specific first.
    Simplicity,
    /// By a random number of each activation. CLIPS draws it from a generator that all engines of
    /// the process share, so it can not be repeated.
    Random,
}

impl Strategy {
    const ALL: [Self; 7] = [
        Self::Depth,
        Self::Breadth,
        Self::Lex,
        Self::Mea,
        Self::Complexity,
        Self::Simplicity,
        Self::Random,
    ];
}

/// When the salience of a rule is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SalienceEvaluation {
    /// Once, when the rule is defined; CLIPS's default.
    WhenDefined,
    /// At each activation.
    WhenActivated,
    /// At each activation and after each firing.
    EveryCycle,
}

/// What a rule matches now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Matches {
    /// Facts and instances that match single patterns.
    pub patterns: i64,
    /// Matches of the first patterns taken together.
    pub partial: i64,
    /// Activations.
    pub activations: i64,
    /// All of them as CLIPS lists them.
    pub text: String,
}

impl Engine {
    /// The rules waiting to fire in the current focus, next one first; the first 100 000.
    pub fn agenda(&mut self) -> Vec<Activation> {
        // The current module exists.
        self.activations(None).unwrap_or_default()
    }

    /// The rules of a module waiting to fire.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn agenda_of(&mut self, module: &str) -> Result<Vec<Activation>, EngineError> {
        self.activations(Some(module))
    }

    /// The conflict set: every activation of every module, module by module, each in the order of
    /// its agenda.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, Matched, Strategy};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defrule one (a ?) => ) (defrule two (declare (salience 5)) (a ?) => )")?;
    /// engine.assert_ordered("a", vec![1.into()])?;
    /// let conflict = engine.conflict_set();
    /// assert_eq!((conflict[0].rule.as_str(), conflict[1].rule.as_str()), ("two", "one"));
    /// assert_eq!(conflict[0].matched, [Matched::Fact(1)]);
    /// engine.set_salience(&conflict[1], 10)?;
    /// assert_eq!(engine.agenda()[0].rule, "one");
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    pub fn conflict_set(&mut self) -> Vec<Activation> {
        let modules = self.constructs(Kind::Module).into_iter();
        modules
            .filter_map(|module| self.agenda_of(&module.name).ok())
            .flatten()
            .take(AGENDA_MAX)
            .collect()
    }

    fn activations(&mut self, module: Option<&str>) -> Result<Vec<Activation>, EngineError> {
        let agenda = self.env.agenda(module, AGENDA_MAX)?.into_iter();
        Ok(agenda.map(Activation::from).collect())
    }

    /// Whether no rule of the current focus waits to fire.
    pub fn is_quiet(&mut self) -> bool {
        self.env.agenda_is_empty()
    }

    /// Take an activation off the agenda: the rule does not fire on these facts.
    ///
    /// # Errors
    /// [`EngineError::UnknownActivation`] when it is not on the agenda any more.
    pub fn remove_activation(&mut self, activation: &Activation) -> Result<(), EngineError> {
        self.on_activation(activation, OnActivation::Remove)
    }

    /// Change the salience of one activation, and so its place.
    ///
    /// # Errors
    /// [`EngineError::UnknownActivation`]; [`EngineError::Salience`] beyond -10 000 to 10 000.
    pub fn set_salience(
        &mut self,
        activation: &Activation,
        salience: i32,
    ) -> Result<(), EngineError> {
        if !(-10_000..=10_000).contains(&salience) {
            return Err(EngineError::Salience(salience));
        }
        self.on_activation(activation, OnActivation::Salience(salience))
    }

    fn on_activation(
        &mut self,
        activation: &Activation,
        what: OnActivation,
    ) -> Result<(), EngineError> {
        let (module, tag) = (activation.module.as_str(), activation.tag);
        if self.call(|env| env.on_activation(module, tag, what))?? {
            return Ok(());
        }
        let (rule, basis) = (activation.rule.clone(), activation.basis.clone());
        Err(EngineError::UnknownActivation { rule, basis })
    }

    /// Compute saliences anew and sort, in one module or in all.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`], or a limit: saliences may be expressions.
    pub fn refresh_agenda(&mut self, module: Option<&str>) -> Result<(), EngineError> {
        self.call(|env| env.refresh_agenda(module))?
    }

    /// Sort by the strategy anew, in one module or in all.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn reorder_agenda(&mut self, module: Option<&str>) -> Result<(), EngineError> {
        self.call(|env| env.reorder_agenda(module))?
    }

    /// Take everything off the agendas of all modules.
    ///
    /// # Errors
    /// [`EngineError::Spent`].
    pub fn clear_agenda(&mut self) -> Result<(), EngineError> {
        self.call(|env| env.clear_agenda())
    }

    /// The strategy in force.
    pub fn strategy(&mut self) -> Strategy {
        let number = self.env.strategy() as usize;
        Strategy::ALL
            .get(number)
            .copied()
            .unwrap_or(Strategy::Depth)
    }

    /// Change the strategy and sort the agendas by it.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, Strategy};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defrule say (n ?x) => (printout t ?x))")?;
    /// engine.set_strategy(Strategy::Breadth)?;
    /// engine.assert_ordered("n", vec![1.into()])?;
    /// engine.assert_ordered("n", vec![2.into()])?;
    /// engine.run(None)?;
    /// assert_eq!(engine.take_output(), "12", "the default, depth, would print 21");
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Spent`].
    pub fn set_strategy(&mut self, strategy: Strategy) -> Result<(), EngineError> {
        self.call(|env| env.set_strategy(strategy as u32))
    }

    /// When saliences are computed.
    pub fn salience_evaluation(&mut self) -> SalienceEvaluation {
        match self.env.salience_evaluation() {
            1 => SalienceEvaluation::WhenActivated,
            2 => SalienceEvaluation::EveryCycle,
            _ => SalienceEvaluation::WhenDefined,
        }
    }

    /// Change when saliences are computed.
    ///
    /// # Errors
    /// [`EngineError::Spent`].
    pub fn set_salience_evaluation(&mut self, when: SalienceEvaluation) -> Result<(), EngineError> {
        self.call(|env| env.set_salience_evaluation(when as u32))
    }

    /// Let a rule fire again on what it fired on before and still matches.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn refresh_rule(&mut self, rule: &str) -> Result<(), EngineError> {
        self.call(|env| env.refresh_rule(rule))?
    }

    /// Halt a run before this rule fires, or no more.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn set_breakpoint(&mut self, rule: &str, on: bool) -> Result<(), EngineError> {
        self.env.set_breakpoint(rule, on)
    }

    /// Whether a run halts before this rule fires.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn has_breakpoint(&mut self, rule: &str) -> Result<bool, EngineError> {
        self.env.has_breakpoint(rule)
    }

    /// What a rule matches now: the first question to a rule that does not fire.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defrule pair (left ?x) (right ?x) => )")?;
    /// engine.assert_ordered("left", vec![1.into()])?;
    /// engine.assert_ordered("right", vec![2.into()])?;
    /// let matches = engine.matches("pair")?;
    /// assert_eq!((matches.patterns, matches.partial, matches.activations), (2, 0, 0));
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`], or [`Trip::Output`](crate::Trip::Output) when the list
    /// is too long.
    pub fn matches(&mut self, rule: &str) -> Result<Matches, EngineError> {
        let (counts, text) = self.captured(|env| env.matches(rule))?;
        let [patterns, partial, activations] = counts?;
        Ok(Matches {
            patterns,
            partial,
            activations,
            text,
        })
    }

    /// The module that names are looked up from.
    pub fn current_module(&mut self) -> String {
        self.env.current_module()
    }

    /// Look names up from another module.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn set_current_module(&mut self, module: &str) -> Result<(), EngineError> {
        self.env.set_current_module(module)
    }

    /// The focus stack, the module whose rules fire first.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.load("(defmodule MAIN (export ?ALL)) (defrule MAIN::m => (printout t m))
    ///     (defmodule OTHER) (defrule OTHER::o => (printout t o))")?;
    /// engine.reset()?;
    /// engine.focus("OTHER")?;
    /// assert_eq!(engine.focus_stack(), ["OTHER", "MAIN"]);
    /// engine.run(None)?;
    /// assert_eq!(engine.take_output(), "om");
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    pub fn focus_stack(&mut self) -> Vec<String> {
        self.env.focus_stack()
    }

    /// Put a module on the focus stack.
    ///
    /// # Errors
    /// [`EngineError::UnknownConstruct`].
    pub fn focus(&mut self, module: &str) -> Result<(), EngineError> {
        self.env.focus(module)
    }

    /// Take the top off the focus stack.
    pub fn pop_focus(&mut self) -> Option<String> {
        self.env.pop_focus()
    }

    /// Empty the focus stack.
    pub fn clear_focus(&mut self) {
        self.env.clear_focus();
    }
}
