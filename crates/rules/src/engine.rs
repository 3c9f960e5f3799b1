//! A CLIPS engine with limits.

mod agenda;
mod constructs;
mod events;
mod facts;
mod inspect;
mod objects;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::ffi::CString;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub use agenda::{Activation, Matched, Matches, SalienceEvaluation, Strategy};
pub use constructs::{Construct, Kind, Method};
pub use events::{Event, WatchItem};
pub use facts::{Fact, rows::RowError};
pub use inspect::Slot;
pub use objects::{Class, ClassSlot, Handler, Instance};
pub use settings::Settings;
pub use snapshot::{Difference, SNAPSHOT_BYTES_MAX, Snapshot, SnapshotError, Source};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::error::{Diagnostic, EngineError, ParseErrors, Replacement};
use crate::limits::{HaltHandle, Limits, Trip};
use crate::raw::{Call, Env, Signature, now};
use crate::sandbox::{self, Clock};
use crate::value::Value;
use crate::vet::{VetLimits, is_blank, vet};

/// Bytes of CLIPS's own words kept in one error.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What CLIPS prints after `(run n)`, and when it does so it is wrong: see [`Engine::run`].
const FALSE_LIMIT_NOTICE: &str = "rule firing limit reached\n";

/// One CLIPS environment.
///
/// `Send` but not `Sync`: one owner at a time, on any thread. Give it a stack of 16 MiB (see
/// [`Worker`](crate::Worker)) where programs may recurse; on a smaller stack the limit on
/// recursion trips earlier.
///
/// Every call that can run rules is bounded by [`Limits`]. A call that hits one ends with
/// [`EngineError::Tripped`]; whatever the program had done until then stays done, and the engine
/// can be used again unless [`replacement`](Self::replacement) says otherwise.
///
/// ```
/// use cpe_rules::{Engine, Limits, Value};
///
/// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
/// engine.load(
///     "(deftemplate reading (slot sensor) (slot celsius (type NUMBER)))
///      (defrule hot (reading (sensor ?s) (celsius ?c&:(> ?c 80))) =>
///        (assert (alarm ?s)))",
/// )?;
/// engine.assert("reading", &[("sensor", Value::symbol("boiler")), ("celsius", 91.into())])?;
/// assert_eq!(engine.run(None)?, 1);
/// assert_eq!(engine.facts().last().unwrap().to_string(), "(alarm boiler)");
/// # Ok::<(), cpe_rules::EngineError>(())
/// ```
pub struct Engine {
    env: Env,
    vet: VetLimits,
    clock: Clock,
    /// What `(random)` draws from, in a sandboxed engine.
    random: Option<Arc<Mutex<ChaCha8Rng>>>,
    /// What was loaded.
    sources: Vec<Source>,
    scope: Option<Instant>,
    replacement: Option<Replacement>,
    /// Errors in the capture before the current call.
    heard: usize,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("memory_used", &self.memory_used())
            .field("facts", &self.env.fact_count())
            .field("replacement", &self.replacement)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine for a program you trust: all of CLIPS but `exit`, which would end your process.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let mut this = Self::bare(limits, HaltHandle::new());
        sandbox::remove(&mut this.env, "exit");
        this
    }

    /// An engine without the functions of [`REMOVED`](crate::REMOVED), with `format`, `random`
    /// (seeded with `seed`) and `time` in safe forms.
    #[must_use]
    pub fn sandboxed(limits: Limits, seed: u64) -> Self {
        Self::sandboxed_with(limits, seed, HaltHandle::new())
    }

    /// As [`sandboxed`](Self::sandboxed), listening to a handle that exists already.
    #[must_use]
    pub fn sandboxed_with(limits: Limits, seed: u64, halt: HaltHandle) -> Self {
        let mut this = Self::bare(limits, halt);
        sandbox::confine(&mut this.env);
        let clock = this.clock.clone();
        let random = Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed)));
        let given = sandbox::give_back(&mut this.env, random.clone(), clock);
        this.random = Some(random);
        debug_assert!(given.is_ok(), "the names were freed above: {given:?}");
        this
    }

    fn bare(limits: Limits, halt: HaltHandle) -> Self {
        let mut env = Env::new(limits, halt);
        let passed = sandbox::add_passed(&mut env);
        debug_assert!(passed.is_ok(), "the name is new: {passed:?}");
        Self {
            env,
            vet: VetLimits {
                nesting: limits.nesting,
                ..VetLimits::default()
            },
            clock: Arc::default(),
            random: None,
            sources: Vec::new(),
            scope: None,
            replacement: None,
            heard: 0,
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.env.shared().limits.get()
    }

    /// Change the limits from the next call on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.env.shared().limits.set(limits);
        self.vet.nesting = limits.nesting;
    }

    /// Change what texts may be loaded.
    pub fn set_vet_limits(&mut self, limits: VetLimits) {
        self.vet = limits;
    }

    /// A handle that stops this engine from any thread.
    #[must_use]
    pub fn halt_handle(&self) -> HaltHandle {
        self.env.shared().halt.clone()
    }

    /// What a sandboxed program's `(time)` says, in milliseconds since the Unix epoch or whatever
    /// the owner counts from. Stays until set again: the engine has no clock of its own for it.
    pub fn set_time_ms(&mut self, now_ms: i64) {
        self.clock.store(now_ms, Ordering::Relaxed);
    }

    /// Why this engine takes no more calls, if so. Make a new one and load the text again.
    #[must_use]
    pub fn replacement(&self) -> Option<Replacement> {
        self.replacement
    }

    /// Bytes CLIPS holds, its free lists included.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.env.memory_used()
    }

    /// Run several calls under one deadline: [`Limits::wall`] from now for all of them together.
    pub fn within<T>(&mut self, calls: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.scope;
        if outer.is_none() {
            self.scope = now().checked_add(self.limits().wall);
        }
        let result = calls(self);
        self.scope = outer;
        result
    }

    /// Load constructs. See [`load_named`](Self::load_named).
    ///
    /// # Errors
    /// As [`load_named`](Self::load_named), with `<text>` for the file.
    pub fn load(&mut self, text: &str) -> Result<(), EngineError> {
        self.load_named("<text>", text)
    }

    /// Load the constructs of `text`, which errors call `file`.
    ///
    /// # Errors
    /// [`EngineError::Parse`] when the text is over the limits of [`VetLimits`], in which case
    /// nothing was loaded; or when CLIPS could not parse some constructs, in which case the others
    /// **are** loaded: use a scratch engine if you want all or nothing.
    pub fn load_named(&mut self, file: &str, text: &str) -> Result<(), EngineError> {
        let (loaded, warnings) = self.load_reporting(file, text);
        let mut output = self.env.shared().output.borrow_mut();
        for warning in warnings {
            output.errors.push_str(&format!("{warning}\n"));
        }
        loaded
    }

    /// As [`load_named`](Self::load_named), with the warnings beside.
    pub(crate) fn load_reporting(
        &mut self,
        file: &str,
        text: &str,
    ) -> (Result<(), EngineError>, Vec<Diagnostic>) {
        if let Err(fault) = vet(file, text, &self.vet) {
            return (
                Err(EngineError::Parse(ParseErrors(vec![*fault]))),
                Vec::new(),
            );
        }
        if text.contains('\0') {
            return (Err(EngineError::Nul), Vec::new());
        }
        let loaded = match self.call(|env| env.load(text)) {
            Ok(loaded) => loaded,
            Err(error) => return (Err(error), Vec::new()),
        };
        // Also when some of it did not parse: the rest is there, and would be again.
        self.sources.push(Source {
            file: file.to_owned(),
            text: text.to_owned(),
        });
        let found = std::mem::take(&mut *self.env.shared().diagnostics.borrow_mut());
        let named = found.into_iter().map(|d| Diagnostic {
            file: file.to_owned(),
            ..d
        });
        let (warnings, mut errors): (Vec<_>, Vec<_>) = named.partition(|d| d.warning);
        let printed = self.take_complaint();
        if loaded {
            return (Ok(()), warnings);
        }
        if errors.is_empty() {
            errors.push(complaint(file, &printed));
        }
        (Err(EngineError::Parse(ParseErrors(errors))), warnings)
    }

    /// Build one construct.
    ///
    /// # Errors
    /// [`EngineError::Parse`] as for [`load`](Self::load), without line numbers.
    pub fn build(&mut self, construct: &str) -> Result<(), EngineError> {
        let text = self.vetted(construct)?;
        if self.call(|env| env.build(&text))? {
            self.sources.push(Source {
                file: "<construct>".to_owned(),
                text: construct.to_owned(),
            });
            return Ok(());
        }
        let printed = self.take_complaint();
        Err(EngineError::Parse(ParseErrors(vec![complaint(
            "<construct>",
            &printed,
        )])))
    }

    /// Evaluate one expression and copy its value out. Never give it text of a stranger: to pass
    /// data, use [`assert`](Self::assert) or [`set_global`](Self::set_global).
    ///
    /// # Errors
    /// [`EngineError::Evaluation`] when CLIPS can not parse or evaluate it.
    pub fn eval(&mut self, expression: &str) -> Result<Value, EngineError> {
        let text = self.vetted(expression)?;
        match self.call(|env| env.eval(&text))? {
            Some(value) => value.ok_or(EngineError::TooLarge("four times its memory limit")),
            None => {
                let message = crate::raw::first_complaint(&self.take_complaint());
                Err(EngineError::Evaluation { message, fired: 0 })
            }
        }
    }

    /// Do what CLIPS's prompt would do with a line: build a construct, or evaluate and print. What
    /// it prints is returned; complaints are among it, as a person at the prompt would see them. A
    /// variable that a line binds is there for the next ones; a line without anything to read does
    /// nothing.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// assert_eq!(engine.command("(deffunction f (?x) (* 2 ?x))")?, "");
    /// assert_eq!(engine.command("(f 21)")?, "42\n");
    /// assert_eq!(engine.command("red ; a comment")?, "red\n");
    /// assert_eq!(engine.command("(bind ?x 3)")?, "3\n");
    /// assert_eq!(engine.command("?x")?, "3\n");
    /// assert!(engine.command("(nope)")?.contains("Missing function declaration"));
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Parse`] when the vetting refuses it; a limit.
    pub fn command(&mut self, text: &str) -> Result<String, EngineError> {
        let command = self.vetted(text)?;
        if is_blank(text) {
            return Ok(String::new());
        }
        let ((), mut printed) = self.captured(|env| env.command(&command))?;
        printed.push_str(&self.take_complaint());
        Ok(printed)
    }

    /// Forget the variables that [`command`](Self::command)s have bound.
    pub(crate) fn forget_variables(&mut self) {
        self.env.forget_variables();
    }

    /// Retract all facts, delete instances, set globals to their first values, and assert the
    /// deffacts.
    ///
    /// # Errors
    /// [`EngineError::Tripped`]: deffacts and globals may compute.
    pub fn reset(&mut self) -> Result<(), EngineError> {
        self.call(Env::reset)
    }

    /// Fire rules until none is left or `limit` have fired; says how many did.
    ///
    /// # Errors
    /// [`EngineError::Evaluation`] when a rule's action failed: CLIPS stops there.
    pub fn run(&mut self, limit: Option<u64>) -> Result<u64, EngineError> {
        let bound = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let (fired, halted) = self.call(|env| {
            let fired = env.run(bound);
            (fired, env.halted())
        })?;
        // CLIPS compares what is left of the limit with what was fired, so the notice appears in
        // the one case where it is false (and at a limit of 0). The return value is what counts.
        if limit.is_some_and(|limit| limit.wrapping_sub(fired) == fired) {
            let mut output = self.env.shared().output.borrow_mut();
            if output.out.ends_with(FALSE_LIMIT_NOTICE) {
                let kept = output.out.len() - FALSE_LIMIT_NOTICE.len();
                output.out.truncate(kept);
            }
        }
        if halted {
            let message = crate::raw::first_complaint(&self.take_complaint());
            return Err(EngineError::Evaluation { message, fired });
        }
        Ok(fired)
    }

    /// Add a function that rules may call.
    ///
    /// The closure gets the arguments copied and must not block: the engine, and whoever waits
    /// for it, waits with it. An `Err` is printed with the function's name and ends the rule's
    /// actions; a panic is caught and trips the engine with [`Trip::Panic`].
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, Signature, Value};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// engine.add_function("double", Signature::exactly(1).types(";l"), |call| {
    ///     Ok(Value::Integer(2 * call.integer(0)?))
    /// })?;
    /// assert_eq!(engine.eval("(double 21)")?, Value::Integer(42));
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Function`] when the name is taken or the signature malformed.
    pub fn add_function<F>(
        &mut self,
        name: &str,
        signature: Signature,
        function: F,
    ) -> Result<(), EngineError>
    where
        F: FnMut(&mut Call<'_>) -> Result<Value, String> + Send + 'static,
    {
        self.env.add_function(name, &signature, Box::new(function))
    }

    /// Take away a function; for what must not exist before any construct is loaded.
    pub(crate) fn remove_function(&mut self, name: &str) {
        sandbox::remove(&mut self.env, name);
    }

    /// What was printed since it was last taken.
    pub fn take_output(&mut self) -> String {
        std::mem::take(&mut self.env.shared().output.borrow_mut().out)
    }

    /// Errors and warnings printed since they were last taken, without those that were returned.
    pub fn take_errors(&mut self) -> String {
        std::mem::take(&mut self.env.shared().output.borrow_mut().errors)
    }

    fn vetted(&self, text: &str) -> Result<CString, EngineError> {
        vet("<text>", text, &self.vet)
            .map_err(|fault| EngineError::Parse(ParseErrors(vec![*fault])))?;
        CString::new(text).map_err(|_| EngineError::Nul)
    }

    /// One host call: limits set before, measured and cleaned up after.
    fn call<T>(&mut self, call: impl FnOnce(&mut Env) -> T) -> Result<T, EngineError> {
        if let Some(replacement) = self.replacement {
            return Err(EngineError::Spent(replacement));
        }
        let shared = self.env.shared();
        shared.trip.set(None);
        shared.diagnostics.borrow_mut().clear();
        self.heard = shared.output.borrow().errors.len();
        if shared.halt.is_halted() {
            shared.halt.clear();
            return Err(EngineError::Tripped {
                trip: Trip::Halted,
                message: String::new(),
            });
        }
        shared.deadline.set(
            self.scope
                .or_else(|| now().checked_add(shared.limits.get().wall)),
        );
        self.env.prepare();
        let value = call(&mut self.env);
        match self.settle() {
            None => Ok(value),
            Some(trip) => {
                let panic = self.env.shared().panic.borrow_mut().take();
                let message = panic.map_or_else(|| self.take_complaint(), |p| panic_message(&*p));
                Err(EngineError::Tripped { trip, message })
            }
        }
    }

    /// Clean up after a call, decide whether a limit ended it and whether the engine is spent.
    fn settle(&mut self) -> Option<Trip> {
        let limits = self.limits();
        self.env.clean(false);
        if self.env.memory_used() > limits.memory_bytes {
            self.env.clean(true);
        }
        let shared = self.env.shared();
        let late = shared
            .deadline
            .take()
            .is_some_and(|deadline| now() >= deadline);
        let mut trip = shared.trip.get();
        if self.env.memory_used() > limits.memory_bytes {
            self.replacement = Some(Replacement::Memory);
            trip = trip.or(Some(Trip::Memory));
        } else if self.env.fact_count() > limits.facts {
            self.replacement = Some(Replacement::Facts);
            trip = trip.or(Some(Trip::Facts));
        } else if late {
            // A join inside one assert can not be stopped, only noticed.
            trip = trip.or(Some(Trip::Deadline));
        }
        if trip == Some(Trip::Halted) {
            self.env.shared().halt.clear();
        }
        trip
    }

    /// As `call`, with what it printed, taken out of the capture.
    fn captured<T>(
        &mut self,
        call: impl FnOnce(&mut Env) -> T,
    ) -> Result<(T, String), EngineError> {
        let before = self.env.shared().output.borrow().out.len();
        let value = self.call(call)?;
        let out = &mut self.env.shared().output.borrow_mut().out;
        let printed = out.split_off(before.min(out.len()));
        Ok((value, printed))
    }

    /// What CLIPS complained about in this call, taken out of the capture.
    fn take_complaint(&mut self) -> String {
        let mut output = self.env.shared().output.borrow_mut();
        let from = self.heard.min(output.errors.len());
        let mut complaint = output.errors.split_off(from);
        let mut end = complaint.len().min(MESSAGE_BYTES_MAX);
        while !complaint.is_char_boundary(end) {
            end -= 1;
        }
        complaint.truncate(end);
        complaint
    }
}

fn complaint(file: &str, printed: &str) -> Diagnostic {
    let message = crate::raw::first_complaint(printed);
    let message = if message.is_empty() {
        "not a CLIPS construct".to_owned()
    } else {
        message
    };
    Diagnostic {
        file: file.to_owned(),
        line: 0,
        column: None,
        warning: false,
        message,
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
