//! Functions a program from elsewhere must not reach, and what it gets in their place.

use std::ffi::CString;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::error::EngineError;
use crate::format::format;
use crate::raw::{Call, Env, Signature, Stream};
use crate::value::Value;

/// Builtins that a sandboxed engine does not have. They are removed at its birth, so that no text
/// can name them, not even by `funcall` of a computed symbol; a program may define functions of
/// its own by these names.
pub const REMOVED: &[&str] = &[
    // Processes and the host.
    "call",
    "chdir",
    "exit",
    "new",
    "operating-system",
    "set-locale",
    "system",
    // Files.
    "batch",
    "batch*",
    "bload",
    "bload-facts",
    "bload-instances",
    "bsave",
    "bsave-facts",
    "bsave-instances",
    "close",
    "constructs-to-c",
    "dribble-off",
    "dribble-on",
    "fetch",
    "flush",
    "get-region",
    "load",
    "load*",
    "load-facts",
    "load-instances",
    "open",
    "print-region",
    "remove",
    "rename",
    "restore-instances",
    "rewind",
    "save",
    "save-facts",
    "save-instances",
    "seek",
    "tell",
    "toss",
    // Standard input.
    "get-char",
    "read",
    "read-number",
    "readline",
    "unget-char",
    // Text to code: it would pass by the vetting.
    "assert-string",
    "build",
    "check-syntax",
    "eval",
    "str-assert",
    // Control of the engine, and state all engines of the process share.
    "clear",
    "conserve-mem",
    "profile",
    "profile-info",
    "profile-reset",
    "random",
    "release-mem",
    "reset",
    "run",
    "seed",
    "set-break",
    "set-class-defaults-mode",
    "set-current-module",
    "set-dynamic-constraint-checking",
    "set-fact-duplication",
    "set-reset-globals",
    "set-salience-evaluation",
    "set-sequence-operator-recognition",
    "set-strategy",
    "setgen",
    "time",
    "undefclass",
    "undeffacts",
    "undeffunction",
    "undefgeneric",
    "undefglobal",
    "undefinstances",
    "undefmessage-handler",
    "undefmethod",
    "undefrule",
    "undeftemplate",
    "unwatch",
    "watch",
    // They write past a fixed buffer in CLIPS 6.40.
    "describe-class",
    "format",
];

/// `(passed N)`: a value of the host's that an expression of its own refers to. Knows nothing
/// while no such expression is evaluated.
pub(crate) fn add_passed(env: &mut Env) -> Result<(), EngineError> {
    let passed = |call: &mut Call<'_>| {
        let number = usize::try_from(call.integer(0)?).ok();
        let value = number.and_then(|number| call.passed(number.checked_sub(1)?));
        value.ok_or_else(|| "nothing was passed".to_owned())
    };
    env.add_function("passed", &Signature::exactly(1), Box::new(passed))
}

/// Milliseconds that `(time)` counts from; the owner of the engine moves it.
pub(crate) type Clock = Arc<AtomicI64>;

/// Take away [`REMOVED`]; only for an environment without constructs.
pub(crate) fn confine(env: &mut Env) {
    for name in REMOVED {
        remove(env, name);
    }
}

/// `exit` would end the whole process; no engine has it.
pub(crate) fn remove(env: &mut Env, name: &str) {
    if let Ok(name) = CString::new(name) {
        env.remove_function(&name);
    }
}

/// Give back, written safely: `format`, `random` from a generator of the engine's own, `time`.
pub(crate) fn give_back(
    env: &mut Env,
    random: Arc<Mutex<ChaCha8Rng>>,
    clock: Clock,
) -> Result<(), EngineError> {
    env.add_function("format", &Signature::at_least(2), Box::new(call_format))?;

    let draw = move |call: &mut Call<'_>| {
        let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
        match call.arguments() {
            [] => Ok(Value::Integer(i64::from(random.next_u32() >> 1))),
            [Value::Integer(low), Value::Integer(high)] if low <= high => {
                Ok(Value::Integer(between(&mut *random, *low, *high)))
            }
            _ => Err("takes nothing, or two integers of which the first is not larger".to_owned()),
        }
    };
    env.add_function("random", &Signature::between(0, 2), Box::new(draw))?;

    let read =
        move |_: &mut Call<'_>| Ok(Value::Float(clock.load(Ordering::Relaxed) as f64 / 1000.0));
    env.add_function("time", &Signature::exactly(0), Box::new(read))
}

fn call_format(call: &mut Call<'_>) -> Result<Value, String> {
    let stream = match call.text(0)? {
        "nil" => None,
        "t" | "stdout" => Some(Stream::Out),
        "stderr" => Some(Stream::Error),
        "stdwrn" => Some(Stream::Warning),
        other => {
            return Err(format!(
                "no stream named {other}: use nil, t, stderr or stdwrn"
            ));
        }
    };
    let text = format(call.text(1)?, call.arguments().get(2..).unwrap_or_default())?;
    if let Some(stream) = stream {
        call.print(stream, &text);
    }
    Ok(Value::String(text))
}

/// Uniform over `low..=high`, by drawing again what does not divide evenly.
fn between(random: &mut impl Rng, low: i64, high: i64) -> i64 {
    let span = high.wrapping_sub(low) as u64;
    let offset = match span.checked_add(1) {
        None => random.next_u64(),
        Some(count) => {
            let fair = u64::MAX - u64::MAX % count;
            loop {
                let drawn = random.next_u64();
                if drawn < fair {
                    break drawn % count;
                }
            }
        }
    };
    low.wrapping_add(offset as i64)
}
