//! Values across the border.

use std::borrow::Cow;
use std::ffi::{CStr, c_char};
use std::fmt::Write as _;

use clips_sys as c;

use super::{c_string, copied};
use crate::error::EngineError;
use crate::value::{Value, write_quoted};

/// More than a value takes that is not a multifield or a text of the program's.
const SCALAR_BYTES: usize = 64 << 10;

/// Copy a value of CLIPS's, or `Void` when that would take more than is left of `budget` bytes.
///
/// CLIPS shares texts: a multifield of a million references to one megabyte is small there, and a
/// terabyte when copied.
///
/// # Safety
/// `value` is a value CLIPS has just produced.
pub(super) unsafe fn read(value: &c::CLIPSValue, budget: &mut usize) -> Value {
    // SAFETY: as the caller promises.
    unsafe { try_read(value, budget) }.unwrap_or(Value::Void)
}

/// As [`read`], with `None` for what is too large.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn try_read(value: &c::CLIPSValue, budget: &mut usize) -> Option<Value> {
    *budget = budget.checked_sub(size_of::<Value>())?;
    // SAFETY: the header says which member of the union is there.
    Some(unsafe {
        let raw = value.__bindgen_anon_1;
        match u32::from((*raw.header).type_) {
            c::SYMBOL_TYPE => Value::Symbol(read_text(raw.lexemeValue, budget)?),
            c::STRING_TYPE => Value::String(read_text(raw.lexemeValue, budget)?),
            c::INSTANCE_NAME_TYPE => Value::InstanceName(read_text(raw.lexemeValue, budget)?),
            c::INTEGER_TYPE => Value::Integer((*raw.integerValue).contents),
            c::FLOAT_TYPE => Value::Float((*raw.floatValue).contents),
            c::MULTIFIELD_TYPE => {
                let length = (*raw.multifieldValue).length as usize;
                Value::Multifield(read_fields(raw.multifieldValue, 0, length, budget)?)
            }
            c::FACT_ADDRESS_TYPE => Value::Fact(c::FactIndex(raw.factValue)),
            c::INSTANCE_ADDRESS_TYPE => Value::Instance(copied(c::InstanceName(raw.instanceValue))),
            c::EXTERNAL_ADDRESS_TYPE => {
                Value::External((*raw.externalAddressValue).contents as usize)
            }
            _ => Value::Void,
        }
    })
}

/// # Safety
/// `text` is a live lexeme.
unsafe fn read_text(lexeme: *mut c::CLIPSLexeme, budget: &mut usize) -> Option<String> {
    // SAFETY: as the caller promises; it is copied at once.
    let text = unsafe { text(lexeme) };
    *budget = budget.checked_sub(text.len())?;
    Some(text.into_owned())
}

/// The text of a symbol, a string or an instance name; what is not UTF-8 in it is replaced.
///
/// # Safety
/// `lexeme` is live, and stays so while the text is used.
pub(super) unsafe fn text<'a>(lexeme: *mut c::CLIPSLexeme) -> Cow<'a, str> {
    // SAFETY: a lexeme's contents are terminated.
    unsafe { CStr::from_ptr((*lexeme).contents) }.to_string_lossy()
}

/// Append a value's text as [`Value`] shows it, without copying the value first; of a multifield
/// its fields, each with a blank before it. What goes far beyond `most` bytes of `out` is left off.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn write_text(value: &c::CLIPSValue, out: &mut String, most: usize) {
    // SAFETY: the header says which member of the union is there; the contents of a multifield
    // follow its header, and no reference to the one-element array of the declaration is made.
    unsafe {
        let raw = value.__bindgen_anon_1;
        match u32::from((*raw.header).type_) {
            c::SYMBOL_TYPE => out.push_str(beginning(&text(raw.lexemeValue), out, most)),
            c::STRING_TYPE => {
                let text = text(raw.lexemeValue);
                let text = beginning(&text, out, most);
                // A `String` takes all that is written.
                let _ = write_quoted(out, text);
            }
            c::MULTIFIELD_TYPE => {
                let multifield = raw.multifieldValue;
                let first = (&raw mut (*multifield).contents).cast::<c::CLIPSValue>();
                for i in 0..(*multifield).length as usize {
                    if out.len() > most {
                        return;
                    }
                    out.push(' ');
                    write_text(&*first.add(i), out, most);
                }
            }
            _ => {
                let _ = write!(out, "{}", read(value, &mut SCALAR_BYTES.clone()));
            }
        }
    }
}

/// As much of `text` as brings `out` to `most` bytes, and a few more.
fn beginning<'a>(text: &'a str, out: &str, most: usize) -> &'a str {
    let mut end = most.saturating_sub(out.len()).saturating_add(1);
    while end < text.len() && !text.is_char_boundary(end) {
        end += 1;
    }
    text.get(..end).unwrap_or(text)
}

/// Copy an argument of a host function: its multifield may be a slice of a longer one. `None`
/// when it is larger than what is left of `budget`.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn read_argument(value: &c::UDFValue, budget: &mut usize) -> Option<Value> {
    // SAFETY: as `read`; `begin` and `range` lie inside the multifield.
    unsafe {
        let raw = value.__bindgen_anon_1;
        if u32::from((*raw.header).type_) == c::MULTIFIELD_TYPE {
            let (from, count) = (value.begin as usize, value.range as usize);
            return Some(Value::Multifield(read_fields(
                raw.multifieldValue,
                from,
                count,
                budget,
            )?));
        }
        let inner = c::clipsValue__bindgen_ty_1 { value: raw.value };
        try_read(
            &c::CLIPSValue {
                __bindgen_anon_1: inner,
            },
            budget,
        )
    }
}

/// # Safety
/// `from + count` does not exceed the multifield's length.
unsafe fn read_fields(
    multifield: *mut c::Multifield,
    from: usize,
    count: usize,
    budget: &mut usize,
) -> Option<Vec<Value>> {
    // SAFETY: the contents follow the header, `length` of them; no reference to the one-element
    // array of the declaration is made.
    unsafe {
        let first = (&raw mut (*multifield).contents).cast::<c::CLIPSValue>();
        (from..from + count)
            .map(|i| try_read(&*first.add(i), budget))
            .collect()
    }
}

/// Make a value for CLIPS. It lives until the next garbage collection.
///
/// # Safety
/// `env` is live and used by this thread only.
pub(super) unsafe fn write(
    env: *mut c::Environment,
    value: &Value,
) -> Result<c::CLIPSValue, EngineError> {
    // SAFETY: as the caller promises; a fact that is found is live.
    unsafe { write_with(env, value, &|index| c::FindIndexedFact(env, index)) }
}

/// As [`write`], with facts looked up by `fact`, which gives null for one that does not exist.
///
/// # Safety
/// As [`write`]; what `fact` gives is live.
pub(super) unsafe fn write_with(
    env: *mut c::Environment,
    value: &Value,
    fact: &dyn Fn(i64) -> *mut c::Fact,
) -> Result<c::CLIPSValue, EngineError> {
    let mut out = c::CLIPSValue::default();
    let raw = &mut out.__bindgen_anon_1;
    // SAFETY: each constructor copies its argument; the strings are terminated.
    unsafe {
        match value {
            Value::Symbol(text) => raw.lexemeValue = lexeme(env, text, c::CreateSymbol)?,
            Value::String(text) => raw.lexemeValue = lexeme(env, text, c::CreateString)?,
            Value::InstanceName(text) => {
                raw.lexemeValue = lexeme(env, text, c::CreateInstanceName)?;
            }
            Value::Integer(n) => raw.integerValue = c::CreateInteger(env, *n),
            Value::Float(x) => raw.floatValue = c::CreateFloat(env, *x),
            Value::Multifield(fields) => raw.multifieldValue = write_fields(env, fields, fact)?,
            Value::Fact(index) => {
                let fact = fact(*index);
                if fact.is_null() {
                    return Err(EngineError::UnknownFact(*index));
                }
                raw.factValue = fact;
            }
            Value::Instance(name) => {
                let name = c_string(name)?;
                let instance = instance(env, &name);
                if instance.is_null() {
                    raw.lexemeValue = c::CreateInstanceName(env, name.as_ptr());
                } else {
                    raw.instanceValue = instance;
                }
            }
            // A number a rule could have made up must not become a pointer.
            Value::External(_) => return Err(EngineError::Nested("external address")),
            Value::Void => raw.voidValue = (*env).VoidConstant,
        }
    }
    Ok(out)
}

/// The instance of a name in any module, or null.
///
/// CLIPS 6.40's own `FindInstance` misses instances whose name is also a symbol somewhere.
///
/// # Safety
/// As `write`.
pub(super) unsafe fn instance(env: *mut c::Environment, name: &CStr) -> *mut c::Instance {
    // SAFETY: a terminated name, looked up before anything collects it.
    unsafe { c::FindInstanceBySymbol(env, c::CreateInstanceName(env, name.as_ptr())) }
}

/// # Safety
/// As `write`.
unsafe fn lexeme(
    env: *mut c::Environment,
    text: &str,
    create: unsafe extern "C" fn(*mut c::Environment, *const c_char) -> *mut c::CLIPSLexeme,
) -> Result<*mut c::CLIPSLexeme, EngineError> {
    let text = c_string(text)?;
    // SAFETY: terminated, and copied by the callee.
    Ok(unsafe { create(env, text.as_ptr()) })
}

/// # Safety
/// As `write`.
unsafe fn write_fields(
    env: *mut c::Environment,
    fields: &[Value],
    fact: &dyn Fn(i64) -> *mut c::Fact,
) -> Result<*mut c::Multifield, EngineError> {
    // SAFETY: the new multifield has room for that many fields behind its header, and no reference
    // to the one-element array of the declaration is made. Collecting one that no value refers to
    // looks at its length alone, so that it may be left half filled.
    unsafe {
        let multifield = c::CreateMultifield(env, fields.len() as _);
        let first = (&raw mut (*multifield).contents).cast::<c::CLIPSValue>();
        for (i, field) in fields.iter().enumerate() {
            if matches!(field, Value::Multifield(_) | Value::Void) {
                return Err(EngineError::Nested(field.type_name()));
            }
            first.add(i).write(write_with(env, field, fact)?);
        }
        Ok(multifield)
    }
}
