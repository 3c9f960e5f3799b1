//! The only module that talks to CLIPS, and the only one with `unsafe`.
//!
//! [`Env`] owns one CLIPS environment. Its methods are the C calls the engine needs, with values
//! copied in and out; what they mean and when they may be made is decided in `engine`. The rules
//! that make the blocks below sound, once for all:
//!
//! - An environment is used by one thread at a time: `Env` is `Send`, not `Sync`, and every method
//!   that can run CLIPS code takes `&mut self`.
//! - `Shared` lives in a box freed only after `DestroyEnvironment`; callbacks hold a pointer to it
//!   and read it through cells, so a callback during a host call aliases nothing.
//! - A pointer that CLIPS hands out is used before the next call that could collect garbage; only
//!   a fact that is retained may be kept longer.
//! - No panic may cross a C frame: callbacks do nothing that panics, and host functions run inside
//!   `catch_unwind`.

mod agenda;
pub(crate) mod batch;
mod constructs;
mod events;
mod fatal;
mod functions;
mod hooks;
mod inspect;
mod objects;
mod router;
#[cfg(test)]
mod scan;
mod settings;
mod stack;
mod state;
pub(crate) mod system;
mod value;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::Deref;
use std::time::Instant;

use clips_sys as c;

use crate::error::{Diagnostic, EngineError, SlotFault};
use crate::limits::{HaltHandle, Limits, Trip};
use crate::value::Value;

pub(crate) use agenda::{OnActivation, RawActivation};
pub(crate) use events::{Happened, Listener, LiveFact, LiveMatch};
#[cfg(test)]
pub(crate) use fatal::park;
pub(crate) use fatal::{Fatal, on_fatal};
pub use functions::{Call, Signature};
pub(crate) use hooks::now;
pub(crate) use inspect::RawFact;
pub(crate) use objects::{CallFault, RawClassSlot, RawInstance};
pub use router::Stream;
pub(crate) use router::first_complaint;
#[cfg(test)]
pub(crate) use scan::Scanned;
pub(crate) use state::{Loss, State};

// Exported by the CLIPS library, not declared in its public header.
unsafe extern "C" {
    fn FlushPPBuffer(env: *mut c::Environment);
    fn SetPPBufferStatus(env: *mut c::Environment, keep: bool);
    fn FlushBindList(env: *mut c::Environment, context: *mut c_void);
    fn CreateImpliedDeftemplate(
        env: *mut c::Environment,
        name: *mut c::CLIPSLexeme,
        set_flag: bool,
    ) -> *mut c::Deftemplate;
}

/// What CLIPS's callbacks need to reach, at a fixed address as long as the environment lives.
pub(crate) struct Shared {
    pub(crate) limits: Cell<Limits>,
    pub(crate) halt: HaltHandle,
    pub(crate) deadline: Cell<Option<Instant>>,
    pub(crate) trip: Cell<Option<Trip>>,
    /// CLIPS called for its process to end.
    pub(crate) internal_error: Cell<bool>,
    pub(crate) panic: RefCell<Option<Box<dyn Any + Send>>>,
    pub(crate) output: RefCell<router::Output>,
    pub(crate) diagnostics: RefCell<Vec<Diagnostic>>,
    /// What reads of standard input get; then they are at its end.
    pub(crate) input: RefCell<VecDeque<u8>>,
    /// Values that the expression which the engine is evaluating refers to by number.
    pub(crate) passed: RefCell<Vec<Value>>,
    /// Whether the callbacks for a listener are installed.
    listening: Cell<bool>,
    listener: RefCell<Option<Listener>>,
    stack_floor: Cell<usize>,
    ticks: Cell<u32>,
    hooks: hooks::Originals,
}

pub(crate) struct Env {
    env: *mut c::Environment,
    shared: *mut Shared,
    functions: Vec<*mut functions::Entry>,
    /// A fact that is retained, or null.
    held: *mut c::Fact,
    guarded: Vec<*mut hooks::Guarded>,
}

// SAFETY: CLIPS keeps no thread affinity, `Shared` and the host functions are `Send`, and whoever
// owns the `Env` is the only one to use it.
unsafe impl Send for Env {}

/// A slot of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawSlot {
    pub(crate) name: String,
    pub(crate) multi: bool,
    pub(crate) types: Vec<String>,
    pub(crate) allowed: Vec<Value>,
    pub(crate) range: Vec<Value>,
    pub(crate) cardinality: Vec<Value>,
    pub(crate) default: Option<Value>,
    pub(crate) dynamic_default: bool,
}

/// What became of putting a slot or asserting a fact.
#[derive(Debug)]
pub(crate) enum FactFault {
    UnknownTemplate,
    OrderedTemplate,
    Slot { slot: String, reason: SlotFault },
    Refused,
    Value(EngineError),
}

impl From<EngineError> for FactFault {
    fn from(error: EngineError) -> Self {
        Self::Value(error)
    }
}

fn slot_fault(code: c::PutSlotError) -> SlotFault {
    match code {
        c::PutSlotError_PSE_SLOT_NOT_FOUND_ERROR => SlotFault::Unknown,
        c::PutSlotError_PSE_TYPE_ERROR => SlotFault::Type,
        c::PutSlotError_PSE_RANGE_ERROR => SlotFault::Range,
        c::PutSlotError_PSE_ALLOWED_VALUES_ERROR => SlotFault::AllowedValues,
        c::PutSlotError_PSE_CARDINALITY_ERROR => SlotFault::Cardinality,
        _ => SlotFault::Other,
    }
}

/// Bytes that a name or a value usually needs, the NUL included.
const SHORT_BYTES: usize = 64;

/// A terminated copy of a text: of a short one on the stack.
enum Terminated {
    Short([u8; SHORT_BYTES]),
    Long(CString),
}

impl Terminated {
    fn as_ptr(&self) -> *const c_char {
        match self {
            Self::Short(bytes) => bytes.as_ptr().cast(),
            Self::Long(text) => text.as_ptr(),
        }
    }
}

impl Deref for Terminated {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        match self {
            // The last byte of a short one is always 0.
            Self::Short(bytes) => CStr::from_bytes_until_nul(bytes).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}

fn c_string(text: &str) -> Result<Terminated, EngineError> {
    let bytes = text.as_bytes();
    let mut short = [0; SHORT_BYTES];
    match short.get_mut(..bytes.len()) {
        Some(room) if bytes.len() < SHORT_BYTES => {
            if bytes.contains(&0) {
                return Err(EngineError::Nul);
            }
            room.copy_from_slice(bytes);
            Ok(Terminated::Short(short))
        }
        _ => {
            let long = CString::new(bytes).map_err(|_| EngineError::Nul)?;
            Ok(Terminated::Long(long))
        }
    }
}

/// Copy a C string of CLIPS's; text that is not UTF-8 is replaced, not refused.
///
/// # Safety
/// `text` is null or a terminated string.
unsafe fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, terminated as the caller promises.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

impl Env {
    pub(crate) fn new(limits: Limits, halt: HaltHandle) -> Self {
        let shared = Box::into_raw(Box::new(Shared {
            limits: Cell::new(limits),
            halt,
            deadline: Cell::new(None),
            trip: Cell::new(None),
            internal_error: Cell::new(false),
            panic: RefCell::new(None),
            output: RefCell::default(),
            diagnostics: RefCell::default(),
            input: RefCell::default(),
            passed: RefCell::default(),
            listening: Cell::new(false),
            listener: RefCell::default(),
            stack_floor: Cell::new(0),
            ticks: Cell::new(0),
            hooks: hooks::Originals::default(),
        }));
        // SAFETY: a fresh environment nobody else knows, and `shared` outlives it (see `Drop`).
        unsafe {
            let env = c::CreateEnvironment();
            let mut this = Self {
                env,
                shared,
                functions: Vec::new(),
                held: std::ptr::null_mut(),
                guarded: Vec::new(),
            };
            (*env).context = shared.cast();
            c::SetOutOfMemoryFunction(env, Some(fatal::out_of_memory));
            router::install(env, shared);
            hooks::install(&mut this);
            this
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: allocated in `new`, freed in `drop`; only ever shared references are made.
        unsafe { &*self.shared }
    }

    /// Forget what the last call left behind and find the stack's end on this thread.
    pub(crate) fn prepare(&mut self) {
        let shared = self.shared();
        shared
            .stack_floor
            .set(stack::floor(shared.limits.get().stack_bytes));
        // SAFETY: a live environment, used by this thread only.
        unsafe {
            c::ResetErrorFlags(self.env);
            c::SetHaltExecution(self.env, false);
        }
    }

    /// Free what the last call left as garbage, and with `thoroughly` give CLIPS's own free lists
    /// back to the allocator. Without this each assert of a loop would leak.
    pub(crate) fn clean(&mut self, thoroughly: bool) {
        // SAFETY: no pointer into the environment is held between calls.
        unsafe {
            c::ResetErrorFlags(self.env);
            c::SetHaltExecution(self.env, false);
            c::CleanCurrentGarbageFrame(self.env, std::ptr::null_mut());
            if thoroughly {
                c::ReleaseMem(self.env, -1);
            }
        }
    }

    pub(crate) fn memory_used(&self) -> usize {
        // SAFETY: reads a counter.
        usize::try_from(unsafe { c::MemUsed(self.env) }).unwrap_or(0)
    }

    /// Bytes that one call may copy out: four times what the engine itself may hold, since texts
    /// that facts share there are copied for each.
    fn copy_budget(&self) -> usize {
        self.shared().limits.get().memory_bytes.saturating_mul(4)
    }

    pub(crate) fn fact_count(&self) -> usize {
        // SAFETY: reads a counter.
        unsafe { c::GetNumberOfFacts(self.env) as usize }
    }

    /// Whether the last call was cut short by an error of the program.
    pub(crate) fn halted(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { c::GetHaltExecution(self.env) }
    }

    pub(crate) fn remove_function(&mut self, name: &CStr) -> bool {
        // SAFETY: only called at birth, before any construct could refer to the function.
        unsafe { c::RemoveUDF(self.env, name.as_ptr()) }
    }

    /// `text` has no NUL. Errors go to the diagnostics.
    pub(crate) fn load(&mut self, text: &str) -> bool {
        // SAFETY: the length is the text's own; CLIPS reads no further.
        unsafe { c::LoadFromString(self.env, text.as_ptr().cast(), text.len() as _) }
    }

    pub(crate) fn build(&mut self, text: &CStr) -> bool {
        // SAFETY: terminated text, live environment.
        unsafe { c::Build(self.env, text.as_ptr()) == c::BuildError_BE_NO_ERROR }
    }

    /// `None` when CLIPS could not evaluate it, `Some(None)` when the value is too large to copy.
    pub(crate) fn eval(&mut self, text: &CStr) -> Option<Option<Value>> {
        let mut result = c::CLIPSValue::default();
        // SAFETY: terminated text; the result is copied before anything can collect it.
        unsafe {
            (c::Eval(self.env, text.as_ptr(), &mut result) == c::EvalError_EE_NO_ERROR)
                .then(|| value::try_read(&result, &mut self.copy_budget()))
        }
    }

    /// What the prompt does with a line; prints what comes of it.
    pub(crate) fn command(&mut self, text: &CStr) {
        // SAFETY: terminated text. The flags are set as the prompt sets them before a command.
        unsafe {
            FlushPPBuffer(self.env);
            SetPPBufferStatus(self.env, false);
            c::RouteCommand(self.env, text.as_ptr(), true);
            FlushPPBuffer(self.env);
            c::FlushParsingMessages(self.env);
        }
    }

    /// Forget the variables that commands have bound.
    pub(crate) fn forget_variables(&mut self) {
        // SAFETY: nothing is being evaluated, so that nobody holds a value of theirs.
        unsafe { FlushBindList(self.env, std::ptr::null_mut()) };
    }

    pub(crate) fn reset(&mut self) {
        // SAFETY: not inside a run: host functions never see the `Env`.
        unsafe { c::Reset(self.env) }
    }

    /// Fire up to `limit` rules, all of them when it is negative.
    pub(crate) fn run(&mut self, limit: i64) -> u64 {
        // SAFETY: as `reset`.
        u64::try_from(unsafe { c::Run(self.env, limit) }).unwrap_or(0)
    }

    /// Assert a fact of a deftemplate; with `hold` for [`retract_held`](Self::retract_held).
    pub(crate) fn assert<'a>(
        &mut self,
        template: &str,
        slots: impl Iterator<Item = (&'a str, &'a Value)>,
        hold: bool,
    ) -> Result<i64, FactFault> {
        let name = c_string(template)?;
        // SAFETY: the builder is disposed of on every path after it was made.
        unsafe {
            let builder = c::CreateFactBuilder(self.env, name.as_ptr());
            if builder.is_null() {
                return Err(match c::FBError(self.env) {
                    c::FactBuilderError_FBE_IMPLIED_DEFTEMPLATE_ERROR => FactFault::OrderedTemplate,
                    _ => FactFault::UnknownTemplate,
                });
            }
            let asserted = self.fill_and_assert(builder, slots);
            c::FBDispose(builder);
            let fact = asserted?;
            if hold {
                self.release_held();
                c::RetainFact(fact);
                self.held = fact;
            }
            Ok((*fact).factIndex)
        }
    }

    /// # Safety
    /// `builder` was made by this environment and not disposed of.
    unsafe fn fill_and_assert<'a>(
        &mut self,
        builder: *mut c::FactBuilder,
        slots: impl Iterator<Item = (&'a str, &'a Value)>,
    ) -> Result<*mut c::Fact, FactFault> {
        for (slot, value) in slots {
            let name = c_string(slot)?;
            // SAFETY: the value was just made and is stored before anything collects it; the
            // builder is live as the caller promises.
            let code = unsafe {
                let mut raw = value::write(self.env, value)?;
                c::FBPutSlot(builder, name.as_ptr(), &mut raw)
            };
            if code != c::PutSlotError_PSE_NO_ERROR {
                return Err(FactFault::Slot {
                    slot: slot.to_owned(),
                    reason: slot_fault(code),
                });
            }
        }
        // SAFETY: as above.
        let fact = unsafe { c::FBAssert(builder) };
        if fact.is_null() {
            return Err(FactFault::Refused);
        }
        Ok(fact)
    }

    /// Retract the fact that is held, and hold none. `false` when it is gone already.
    ///
    /// To look it up by its index would be a walk over all facts, twice for each message.
    pub(crate) fn retract_held(&mut self) -> bool {
        // SAFETY: CLIPS does not free a fact that is retained. A `modify` keeps its place, and one
        // that was retracted says so.
        unsafe {
            let there = !self.held.is_null()
                && (*self.held).garbage() == 0
                && c::Retract(self.held) == c::RetractError_RE_NO_ERROR;
            self.release_held();
            there
        }
    }

    fn release_held(&mut self) {
        if !self.held.is_null() {
            // SAFETY: retained when it was put there, and released once.
            unsafe { c::ReleaseFact(self.held) };
            self.held = std::ptr::null_mut();
        }
    }

    pub(crate) fn assert_ordered(
        &mut self,
        relation: &str,
        fields: Vec<Value>,
    ) -> Result<i64, FactFault> {
        let name = c_string(relation)?;
        // SAFETY: the template is looked up or created here, the fact is made from it and either
        // asserted or handed back; the value is stored before anything collects it.
        unsafe {
            let mut template = c::FindDeftemplate(self.env, name.as_ptr());
            if template.is_null() {
                let symbol = c::CreateSymbol(self.env, name.as_ptr());
                template = CreateImpliedDeftemplate(self.env, symbol, true);
            } else if inspect::slot_names(template) != ["implied"] {
                return Err(FactFault::OrderedTemplate);
            }
            let mut raw = value::write(self.env, &Value::Multifield(fields))?;
            let fact = c::CreateFact(template);
            if !c::PutFactSlot(fact, std::ptr::null(), &mut raw) {
                c::ReturnFact(self.env, fact);
                return Err(FactFault::Refused);
            }
            let fact = c::Assert(fact);
            if fact.is_null() {
                Err(FactFault::Refused)
            } else {
                Ok(c::FactIndex(fact))
            }
        }
    }

    /// Assert a fact from its text, which may compute. `None` when it did not parse.
    pub(crate) fn assert_text(&mut self, text: &CStr) -> Option<i64> {
        // SAFETY: terminated text; the fact is read at once.
        unsafe {
            let fact = c::AssertString(self.env, text.as_ptr());
            (!fact.is_null()).then(|| c::FactIndex(fact))
        }
    }

    /// Assert the facts of a text of constants. `None` on a fault; those before it are asserted.
    pub(crate) fn load_facts(&mut self, text: &str) -> Option<u64> {
        // SAFETY: the length is the text's own; CLIPS reads no further.
        let loaded =
            unsafe { c::LoadFactsFromString(self.env, text.as_ptr().cast(), text.len() as _) };
        u64::try_from(loaded).ok()
    }

    /// `false` when no such fact exists.
    pub(crate) fn retract(&mut self, index: i64) -> bool {
        // SAFETY: the fact is live: it was just found among the existing ones.
        unsafe {
            let fact = c::FindIndexedFact(self.env, index);
            !fact.is_null() && c::Retract(fact) == c::RetractError_RE_NO_ERROR
        }
    }

    pub(crate) fn set_global(&mut self, name: &str, value: &Value) -> Result<bool, EngineError> {
        let name = c_string(name)?;
        // SAFETY: the global is live, the value fresh.
        unsafe {
            let global = c::FindDefglobal(self.env, name.as_ptr());
            if global.is_null() {
                return Ok(false);
            }
            let mut raw = value::write(self.env, value)?;
            c::DefglobalSetValue(global, &mut raw);
        }
        Ok(true)
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        // SAFETY: last use of the environment; what its callbacks point to is freed after it. The
        // pointers came from `Box::into_raw` and are freed once.
        unsafe {
            c::ResetErrorFlags(self.env);
            c::SetHaltExecution(self.env, false);
            c::DestroyEnvironment(self.env);
            for function in self.functions.drain(..) {
                drop(Box::from_raw(function));
            }
            for guarded in self.guarded.drain(..) {
                drop(Box::from_raw(guarded));
            }
            drop(Box::from_raw(self.shared));
        }
    }
}

/// Data of a part of CLIPS.
///
/// # Safety
/// `T` is the type of that part's data; `env` is live.
unsafe fn data<T>(env: *mut c::Environment, part: u32) -> *mut T {
    // SAFETY: the table has an entry for each part.
    unsafe { (*(*env).theData.add(part as usize)).cast() }
}

/// The shared state of the environment a callback was called for.
///
/// # Safety
/// `env` was made by [`Env::new`] and is alive.
unsafe fn shared_of<'a>(env: *mut c::Environment) -> &'a Shared {
    // SAFETY: `new` stored the pointer there, and it outlives the environment.
    unsafe { &*(*env).context.cast::<Shared>() }
}

/// What a callback was registered with.
///
/// # Safety
/// `context` is the `Shared` pointer given at registration.
unsafe fn shared_from<'a>(context: *mut c_void) -> &'a Shared {
    // SAFETY: as the caller promises.
    unsafe { &*context.cast::<Shared>() }
}
