//! Values across the border.

use std::ffi::c_char;

use clips_sys as c;

use super::{c_string, copied};
use crate::error::EngineError;
use crate::value::Value;

/// Copy a value of CLIPS's.
///
/// # Safety
/// `value` is a value CLIPS has just produced.
pub(super) unsafe fn read(value: &c::CLIPSValue) -> Value {
    // SAFETY: the header says which member of the union is there.
    unsafe {
        let raw = value.__bindgen_anon_1;
        match u32::from((*raw.header).type_) {
            c::SYMBOL_TYPE => Value::Symbol(copied((*raw.lexemeValue).contents)),
            c::STRING_TYPE => Value::String(copied((*raw.lexemeValue).contents)),
            c::INSTANCE_NAME_TYPE => Value::InstanceName(copied((*raw.lexemeValue).contents)),
            c::INTEGER_TYPE => Value::Integer((*raw.integerValue).contents),
            c::FLOAT_TYPE => Value::Float((*raw.floatValue).contents),
            c::MULTIFIELD_TYPE => {
                let length = (*raw.multifieldValue).length as usize;
                Value::Multifield(read_fields(raw.multifieldValue, 0, length))
            }
            c::FACT_ADDRESS_TYPE => Value::Fact(c::FactIndex(raw.factValue)),
            c::INSTANCE_ADDRESS_TYPE => Value::Instance(copied(c::InstanceName(raw.instanceValue))),
            c::EXTERNAL_ADDRESS_TYPE => {
                Value::External((*raw.externalAddressValue).contents as usize)
            }
            _ => Value::Void,
        }
    }
}

/// Copy an argument of a host function: its multifield may be a slice of a longer one.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn read_argument(value: &c::UDFValue) -> Value {
    // SAFETY: as `read`; `begin` and `range` lie inside the multifield.
    unsafe {
        let raw = value.__bindgen_anon_1;
        if u32::from((*raw.header).type_) == c::MULTIFIELD_TYPE {
            let fields = read_fields(
                raw.multifieldValue,
                value.begin as usize,
                value.range as usize,
            );
            return Value::Multifield(fields);
        }
        read(&c::CLIPSValue {
            __bindgen_anon_1: c::clipsValue__bindgen_ty_1 { value: raw.value },
        })
    }
}

/// # Safety
/// `from + count` does not exceed the multifield's length.
unsafe fn read_fields(multifield: *mut c::Multifield, from: usize, count: usize) -> Vec<Value> {
    // SAFETY: the contents follow the header, `length` of them; no reference to the one-element
    // array of the declaration is made.
    unsafe {
        let first = (&raw mut (*multifield).contents).cast::<c::CLIPSValue>();
        (from..from + count).map(|i| read(&*first.add(i))).collect()
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
            Value::Multifield(fields) => raw.multifieldValue = write_fields(env, fields)?,
            Value::Fact(index) => {
                let fact = c::FindIndexedFact(env, *index);
                if fact.is_null() {
                    return Err(EngineError::UnknownFact(*index));
                }
                raw.factValue = fact;
            }
            Value::Instance(name) => {
                let name = c_string(name)?;
                let none = std::ptr::null_mut();
                let instance = c::FindInstance(env, none, name.as_ptr(), true);
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

/// # Safety
/// As [`write`].
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
/// As [`write`].
unsafe fn write_fields(
    env: *mut c::Environment,
    fields: &[Value],
) -> Result<*mut c::Multifield, EngineError> {
    // SAFETY: the builder is disposed of on every path.
    unsafe {
        let builder = c::CreateMultifieldBuilder(env, fields.len() as _);
        for field in fields {
            let written = match field {
                Value::Multifield(_) | Value::Void => Err(EngineError::Nested(field.type_name())),
                _ => write(env, field),
            };
            match written {
                Ok(mut raw) => c::MBAppend(builder, &mut raw),
                Err(error) => {
                    c::MBDispose(builder);
                    return Err(error);
                }
            }
        }
        let multifield = c::MBCreate(builder);
        c::MBDispose(builder);
        Ok(multifield)
    }
}
