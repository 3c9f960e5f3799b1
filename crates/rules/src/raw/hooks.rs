//! Where limits are checked: the points of CLIPS from which it calls back.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::time::Instant;

use clips_sys as c;

use super::{Env, Shared, shared_from, shared_of, stack};
use crate::limits::Trip;

type Evaluate = unsafe extern "C" fn(*mut c::Environment, *mut c_void, *mut c::UDFValue) -> bool;
type Builtin = unsafe extern "C" fn(*mut c::Environment, *mut c::UDFContext, *mut c::UDFValue);

/// The evaluators of deffunction and generic calls that our guards stand in front of.
#[derive(Default)]
pub(super) struct Originals {
    deffunction: Cell<Option<Evaluate>>,
    generic: Cell<Option<Evaluate>>,
}

/// A builtin through which a program can recurse, with our guard in front.
pub(super) struct Guarded {
    original: Builtin,
    context: *mut c_void,
}

/// Builtins by which a program can recurse without calling a deffunction or a generic.
const RECURSIVE: &[&str] = &[
    "active-duplicate-instance",
    "active-initialize-instance",
    "active-make-instance",
    "active-message-duplicate-instance",
    "active-message-modify-instance",
    "active-modify-instance",
    "call-next-handler",
    "call-next-method",
    "call-specific-method",
    "duplicate-instance",
    "funcall",
    "initialize-instance",
    "make-instance",
    "message-duplicate-instance",
    "message-modify-instance",
    "modify-instance",
    "override-next-handler",
    "override-next-method",
    "send",
    "sort",
];

/// Builtins that make large values without ever calling back; guarded so that one inside the other
/// can not outgrow the limit on memory by more than its own result.
const GROWING: &[&str] = &[
    "create$",
    "implode$",
    "insert$",
    "replace$",
    "str-cat",
    "str-replace",
    "sym-cat",
];

/// The clock is read once in so many ticks: a tick is a few nanoseconds, the clock fifty.
const TICKS_PER_CLOCK: u32 = 32;

/// The engine's clock. Deadlines are the one thing here that needs one.
#[expect(
    clippy::disallowed_methods,
    reason = "limits on wall time need the wall's clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// # Safety
/// Called once for a fresh environment.
pub(super) unsafe fn install(this: &mut Env) {
    let env = this.env;
    let shared = this.shared;
    // SAFETY: the environment is live; the entity records are its own, so that replacing their
    // evaluator concerns no other environment.
    unsafe {
        c::AddPeriodicFunction(env, c"cpe-tick".as_ptr(), Some(on_tick), 0, shared.cast());
        c::AddAssertFunction(
            env,
            c"cpe-assert".as_ptr(),
            Some(on_assert),
            0,
            shared.cast(),
        );

        let data = (*env).theData.add(c::EVALUATION_DATA as usize);
        let evaluation = (*data).cast::<c::evaluationData>();
        let primitives = (&raw mut (*evaluation).PrimitivesArray).cast::<*mut c::entityRecord>();
        let deffunction = *primitives.add(c::PCALL as usize);
        (*shared)
            .hooks
            .deffunction
            .set((*deffunction).evaluateFunction);
        (*deffunction).evaluateFunction = Some(on_deffunction);
        let generic = *primitives.add(c::GCALL as usize);
        (*shared).hooks.generic.set((*generic).evaluateFunction);
        (*generic).evaluateFunction = Some(on_generic);
    }
    for name in RECURSIVE.iter().chain(GROWING) {
        // SAFETY: as above.
        unsafe { guard(this, name) };
    }
}

/// # Safety
/// As [`install`].
unsafe fn guard(this: &mut Env, name: &str) {
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: the definition is the environment's own and lives as long as it does.
    unsafe {
        let definition = c::FindFunction(this.env, name.as_ptr());
        if definition.is_null() {
            return;
        }
        let Some(original) = (*definition).functionPointer else {
            return;
        };
        let guarded = Box::into_raw(Box::new(Guarded {
            original,
            context: (*definition).context,
        }));
        (*definition).functionPointer = Some(on_builtin);
        (*definition).context = guarded.cast();
        this.guarded.push(guarded);
    }
}

impl Shared {
    /// Record the first limit that was hit, and make CLIPS unwind.
    ///
    /// # Safety
    /// `env` is live and belongs to this state.
    pub(super) unsafe fn set_trip(&self, env: *mut c::Environment, trip: Trip) {
        if self.trip.get().is_none() {
            self.trip.set(Some(trip));
        }
        // SAFETY: sets two flags. The evaluation error also ends the actions of a rule.
        unsafe {
            c::SetEvaluationError(env, true);
            c::SetHaltExecution(env, true);
        }
    }

    /// The cheap check of every hook. `false` when the program must stop.
    ///
    /// # Safety
    /// As [`Self::set_trip`].
    pub(super) unsafe fn tick(&self, env: *mut c::Environment) -> bool {
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        // SAFETY: reads a counter.
        let memory = usize::try_from(unsafe { c::MemUsed(env) }).unwrap_or(0);
        let trip = if let Some(earlier) = self.trip.get() {
            // Sticky: some of CLIPS's own code clears the flags, so raise them again.
            Some(earlier)
        } else if self.halt.is_halted() {
            Some(Trip::Halted)
        } else if memory > self.limits.get().memory_bytes {
            Some(Trip::Memory)
        } else if ticks.is_multiple_of(TICKS_PER_CLOCK)
            && self
                .deadline
                .get()
                .is_some_and(|deadline| now() >= deadline)
        {
            Some(Trip::Deadline)
        } else {
            None
        };
        let Some(trip) = trip else { return true };
        // SAFETY: as the caller promises.
        unsafe { self.set_trip(env, trip) };
        false
    }

    /// A tick that also looks at the stack; for every point of recursion.
    ///
    /// # Safety
    /// As [`Self::set_trip`].
    pub(super) unsafe fn enter(&self, env: *mut c::Environment) -> bool {
        // SAFETY: as the caller promises.
        unsafe {
            if !self.tick(env) {
                return false;
            }
            if stack::pointer() < self.stack_floor.get() {
                self.set_trip(env, Trip::Stack);
                return false;
            }
        }
        true
    }
}

unsafe extern "C" fn on_tick(env: *mut c::Environment, context: *mut c_void) {
    // SAFETY: CLIPS passes back what the function was registered with.
    unsafe {
        shared_from(context).tick(env);
    }
}

unsafe extern "C" fn on_assert(env: *mut c::Environment, _fact: *mut c_void, context: *mut c_void) {
    // SAFETY: as `on_tick`.
    unsafe {
        let shared = shared_from(context);
        if c::GetNumberOfFacts(env) as usize > shared.limits.get().facts {
            shared.set_trip(env, Trip::Facts);
        }
        shared.tick(env);
    }
}

unsafe extern "C" fn on_deffunction(
    env: *mut c::Environment,
    callee: *mut c_void,
    result: *mut c::UDFValue,
) -> bool {
    // SAFETY: called by CLIPS in place of the original, with its arguments.
    unsafe {
        let shared = shared_of(env);
        match shared.hooks.deffunction.get() {
            Some(original) if shared.enter(env) => original(env, callee, result),
            _ => refuse(env, result),
        }
    }
}

unsafe extern "C" fn on_generic(
    env: *mut c::Environment,
    callee: *mut c_void,
    result: *mut c::UDFValue,
) -> bool {
    // SAFETY: as `on_deffunction`.
    unsafe {
        let shared = shared_of(env);
        match shared.hooks.generic.get() {
            Some(original) if shared.enter(env) => original(env, callee, result),
            _ => refuse(env, result),
        }
    }
}

unsafe extern "C" fn on_builtin(
    env: *mut c::Environment,
    call: *mut c::UDFContext,
    result: *mut c::UDFValue,
) {
    // SAFETY: the context is the `Guarded` put there by `guard`; the original gets its own back.
    unsafe {
        if !shared_of(env).enter(env) {
            refuse(env, result);
            return;
        }
        let guarded = (*call).context.cast::<Guarded>();
        (*call).context = (*guarded).context;
        ((*guarded).original)(env, call, result);
    }
}

/// The symbol FALSE, as CLIPS's own functions return on error.
///
/// # Safety
/// Live environment, valid result.
pub(super) unsafe fn refuse(env: *mut c::Environment, result: *mut c::UDFValue) -> bool {
    // SAFETY: as the caller promises.
    unsafe { (*result).__bindgen_anon_1.lexemeValue = (*env).FalseSymbol };
    false
}
