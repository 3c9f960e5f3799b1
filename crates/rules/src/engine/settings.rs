//! Switches of an engine.

use super::Engine;

/// Switches that change how CLIPS works, with CLIPS's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether equal facts may exist twice.
    pub fact_duplication: bool,
    /// Whether a reset sets globals to their first values.
    pub reset_globals: bool,
    /// Whether values are checked against constraints when rules run, not only when they load.
    pub dynamic_constraint_checking: bool,
    /// Whether `?*sequence*` of a multifield is spliced into a call.
    pub sequence_operator_recognition: bool,
    /// Whether classes get convenient defaults (CLIPS's `convenience` mode) rather than those of
    /// `conservation`.
    pub class_defaults_convenience: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fact_duplication: false,
            reset_globals: true,
            dynamic_constraint_checking: false,
            sequence_operator_recognition: false,
            class_defaults_convenience: true,
        }
    }
}

impl Engine {
    /// The switches in force.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, Settings};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// assert_eq!(engine.settings(), Settings::default());
    /// engine.set_settings(Settings { fact_duplication: true, ..Settings::default() });
    /// assert_ne!(engine.assert_ordered("a", vec![])?, engine.assert_ordered("a", vec![])?);
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    pub fn settings(&mut self) -> Settings {
        self.env.settings()
    }

    /// Change the switches.
    pub fn set_settings(&mut self, settings: Settings) {
        self.env.set_settings(settings);
    }

    /// What `(read)` and `(readline)` of the program get from now on, after what is left of
    /// earlier input. A sandboxed program has no such functions.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::new(Limits::PROGRAM);
    /// engine.push_input("Ada Lovelace\n");
    /// engine.eval("(printout t \"hello \" (readline) crlf)")?;
    /// assert_eq!(engine.take_output(), "hello Ada Lovelace\n");
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    pub fn push_input(&mut self, text: &str) {
        self.env.shared().input.borrow_mut().extend(text.bytes());
    }

    /// Pieces of memory CLIPS holds.
    #[must_use]
    pub fn memory_requests(&self) -> usize {
        self.env.memory_requests()
    }

    /// Give memory that CLIPS keeps for later use back to the system.
    pub fn release_memory(&mut self) {
        self.env.clean(true);
    }
}
