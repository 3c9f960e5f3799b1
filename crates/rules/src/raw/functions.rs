//! Functions of the host that rules may call.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clips_sys as c;

use super::router::Stream;
use super::{Env, Shared, hooks, shared_of, value};
use crate::error::EngineError;
use crate::limits::Trip;
use crate::value::Value;

/// A host function: arguments in, a value or a complaint out.
pub(crate) type HostFunction =
    Box<dyn FnMut(&mut Call<'_>) -> Result<Value, String> + Send + 'static>;

/// Any type; the bindings do not carry the C constant over.
const ANY_TYPE_BITS: u32 = 0x3ff;

/// Arguments of a call beyond these are not copied: the call fails. Rules that pass more lists
/// than this want a multifield.
const ARGUMENTS_MAX: u32 = 1024;

/// Bytes of arguments copied for one call; more fails it. Four of the largest tuples.
const ARGUMENT_BYTES_MAX: usize = 16 << 20;

pub(super) struct Entry {
    name: String,
    function: RefCell<HostFunction>,
}

/// How many arguments a host function takes, of what types, and what it returns.
///
/// Types are CLIPS's letters: `l` integer, `d` float, `s` string, `y` symbol, `n` instance name,
/// `m` multifield, `b` boolean, `v` void, `*` anything. CLIPS checks a literal argument when the
/// rule is loaded and every other one at the call.
#[derive(Clone, Debug)]
pub struct Signature {
    least: u16,
    most: Option<u16>,
    types: Option<String>,
}

impl Signature {
    /// Exactly `count` arguments.
    #[must_use]
    pub fn exactly(count: u16) -> Self {
        Self {
            least: count,
            most: Some(count),
            types: None,
        }
    }

    /// From `least` to `most` arguments.
    #[must_use]
    pub fn between(least: u16, most: u16) -> Self {
        Self {
            least,
            most: Some(most),
            types: None,
        }
    }

    /// `least` arguments or more.
    #[must_use]
    pub fn at_least(least: u16) -> Self {
        Self {
            least,
            most: None,
            types: None,
        }
    }

    /// What types are allowed: for any argument, then for the first, the second, ..., separated
    /// by semicolons. `";sy;l"`: a string or symbol, then an integer.
    #[must_use]
    pub fn types(mut self, types: impl Into<String>) -> Self {
        self.types = Some(types.into());
        self
    }
}

/// One call of a host function.
pub struct Call<'a> {
    env: *mut c::Environment,
    shared: &'a Shared,
    arguments: Vec<Value>,
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

impl Call<'_> {
    /// The arguments, copied.
    #[must_use]
    pub fn arguments(&self) -> &[Value] {
        &self.arguments
    }

    /// Take the arguments out.
    #[must_use]
    pub fn take_arguments(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.arguments)
    }

    /// Argument `index`, counted from 0.
    #[must_use]
    pub fn argument(&self, index: usize) -> Option<&Value> {
        self.arguments.get(index)
    }

    /// The text of argument `index`, a symbol or a string.
    ///
    /// # Errors
    /// Says which argument is not a text.
    pub fn text(&self, index: usize) -> Result<&str, String> {
        self.argument(index)
            .and_then(Value::text)
            .ok_or_else(|| format!("argument {} must be a symbol or a string", index + 1))
    }

    /// The integer that argument `index` is.
    ///
    /// # Errors
    /// Says which argument is not an integer.
    pub fn integer(&self, index: usize) -> Result<i64, String> {
        self.argument(index)
            .and_then(Value::integer)
            .ok_or_else(|| format!("argument {} must be an integer", index + 1))
    }

    /// End the whole host call as if the limit `trip` had been hit.
    pub fn trip(&self, trip: Trip) {
        // SAFETY: the environment is the one that is calling us.
        unsafe { self.shared.set_trip(self.env, trip) }
    }

    /// A value that the engine passes to its own expression.
    pub(crate) fn passed(&self, index: usize) -> Option<Value> {
        self.shared.passed.try_borrow().ok()?.get(index).cloned()
    }

    /// Write to a captured stream, as `printout` would.
    pub fn print(&self, stream: Stream, text: &str) {
        if !self.shared.write(stream, text) && stream == Stream::Out {
            self.trip(Trip::Output);
        }
    }
}

impl Env {
    pub(crate) fn add_function(
        &mut self,
        name: &str,
        signature: &Signature,
        function: HostFunction,
    ) -> Result<(), EngineError> {
        let fault = |reason| EngineError::Function {
            name: name.to_owned(),
            reason,
        };
        let c_name = CString::new(name).map_err(|_| EngineError::Nul)?;
        let types = signature.types.as_deref().map(CString::new).transpose();
        let types = types.map_err(|_| EngineError::Nul)?;
        let types = types
            .as_ref()
            .map_or(std::ptr::null(), |types| types.as_ptr());
        let entry = Entry {
            name: name.to_owned(),
            function: RefCell::new(function),
        };
        let entry = Box::into_raw(Box::new(entry));
        // SAFETY: the texts are copied by the callee, the entry is freed after the environment.
        let code = unsafe {
            c::AddUDF(
                self.env,
                c_name.as_ptr(),
                c"*".as_ptr() as *const c_char,
                signature.least,
                signature.most.unwrap_or(u16::MAX),
                types,
                Some(on_call),
                c"cpe-host-function".as_ptr(),
                entry.cast(),
            )
        };
        if code == c::AddUDFError_AUE_NO_ERROR {
            self.functions.push(entry);
            return Ok(());
        }
        // SAFETY: CLIPS did not take it.
        drop(unsafe { Box::from_raw(entry) });
        Err(fault(match code {
            c::AddUDFError_AUE_MIN_EXCEEDS_MAX_ERROR => "it needs more arguments than it takes",
            c::AddUDFError_AUE_FUNCTION_NAME_IN_USE_ERROR => "a function of this name exists",
            c::AddUDFError_AUE_INVALID_ARGUMENT_TYPE_ERROR => "its argument types are malformed",
            _ => "CLIPS refused it",
        }))
    }
}

unsafe extern "C" fn on_call(
    env: *mut c::Environment,
    context: *mut c::UDFContext,
    result: *mut c::UDFValue,
) {
    // SAFETY: called by a live environment with the entry its function was added with.
    let (shared, entry) = unsafe { (shared_of(env), &*(*context).context.cast::<Entry>()) };
    // SAFETY: as above; the result and the context are valid for the call.
    unsafe {
        hooks::refuse(env, result);
        if !shared.enter(env) {
            return;
        }
        let value = match arguments(context) {
            None => return,
            Some(Err(complaint)) => Err(complaint),
            Some(Ok(arguments)) => invoke(env, shared, entry, arguments),
        };
        let written = value
            .and_then(|value| Ok((value::write(env, &value).map_err(|e| e.to_string())?, value)));
        match written {
            Ok((raw, value)) => {
                (*result).__bindgen_anon_1.value = raw.__bindgen_anon_1.value;
                if matches!(value, Value::Multifield(_)) {
                    (*result).begin = 0;
                    (*result).range = (*raw.__bindgen_anon_1.multifieldValue).length;
                }
            }
            Err(complaint) => {
                shared.write(Stream::Error, &format!("[{}] {complaint}\n", entry.name));
                c::UDFThrowError(context);
            }
        }
    }
}

/// `None` when an argument could not be evaluated: CLIPS has said so already.
///
/// # Safety
/// `context` is the current call's.
unsafe fn arguments(context: *mut c::UDFContext) -> Option<Result<Vec<Value>, String>> {
    // SAFETY: as the caller promises; each argument is copied before the next is evaluated.
    unsafe {
        let count = c::UDFArgumentCount(context);
        if count > ARGUMENTS_MAX {
            return Some(Err(format!(
                "called with more than {ARGUMENTS_MAX} arguments"
            )));
        }
        let mut budget = ARGUMENT_BYTES_MAX;
        let mut arguments = Vec::with_capacity(count as usize);
        for i in 1..=count {
            let mut argument = c::UDFValue::default();
            if !c::UDFNthArgument(context, i, ANY_TYPE_BITS, &mut argument) {
                return None;
            }
            let Some(copied) = value::read_argument(&argument, &mut budget) else {
                let reason = format!("arguments take more than {ARGUMENT_BYTES_MAX} bytes");
                return Some(Err(reason));
            };
            arguments.push(copied);
        }
        Some(Ok(arguments))
    }
}

fn invoke(
    env: *mut c::Environment,
    shared: &Shared,
    entry: &Entry,
    arguments: Vec<Value>,
) -> Result<Value, String> {
    let Ok(mut function) = entry.function.try_borrow_mut() else {
        return Err("called from within itself".to_owned());
    };
    let mut call = Call {
        env,
        shared,
        arguments,
    };
    match catch_unwind(AssertUnwindSafe(|| function(&mut call))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            call.trip(Trip::Panic);
            if let Ok(mut slot) = shared.panic.try_borrow_mut() {
                *slot = Some(panic);
            }
            Err("panicked".to_owned())
        }
    }
}
