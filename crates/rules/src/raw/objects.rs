//! Classes, instances, message handlers, generic functions, and calls of any function.

use std::ffi::CString;

use clips_sys as c;

use super::{Env, c_string, copied, slot_fault, value};
use crate::engine::Kind;
use crate::error::EngineError;
use crate::value::Value;

/// Bytes copied for a list of names.
const NAMES_BYTES: usize = 64 << 20;

/// An instance, copied.
#[derive(Debug)]
pub(crate) struct RawInstance {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) slots: Vec<(String, Value)>,
}

/// A slot of a class.
#[derive(Debug)]
pub(crate) struct RawClassSlot {
    pub(crate) name: String,
    pub(crate) facets: Vec<String>,
    pub(crate) types: Vec<String>,
    pub(crate) allowed: Vec<Value>,
    pub(crate) range: Vec<Value>,
    pub(crate) cardinality: Vec<Value>,
    pub(crate) default: Option<Value>,
}

/// A class.
#[derive(Debug)]
pub(crate) struct RawClass {
    pub(crate) is_abstract: bool,
    pub(crate) reactive: bool,
    pub(crate) superclasses: Vec<String>,
    pub(crate) subclasses: Vec<String>,
    pub(crate) slots: Vec<RawClassSlot>,
}

impl Env {
    /// Call a function, generic or builtin with values. `None` when the result is too large.
    pub(crate) fn call_function(
        &mut self,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, CallFault> {
        let text = c_string(name).map_err(CallFault::Value)?;
        // SAFETY: the builder is disposed of on every path; arguments are stored in it before
        // anything collects them; the result is copied at once.
        unsafe {
            let builder = c::CreateFunctionCallBuilder(self.env, arguments.len() as _);
            for argument in arguments {
                match value::write(self.env, argument) {
                    Ok(mut raw) => c::FCBAppend(builder, &mut raw),
                    Err(error) => {
                        c::FCBDispose(builder);
                        return Err(CallFault::Value(error));
                    }
                }
            }
            let mut result = c::CLIPSValue::default();
            let code = c::FCBCall(builder, text.as_ptr(), &mut result);
            c::FCBDispose(builder);
            match code {
                c::FunctionCallBuilderError_FCBE_NO_ERROR => {
                    Ok(value::try_read(&result, &mut self.copy_budget()))
                }
                c::FunctionCallBuilderError_FCBE_FUNCTION_NOT_FOUND_ERROR => {
                    Err(CallFault::Unknown)
                }
                c::FunctionCallBuilderError_FCBE_INVALID_FUNCTION_ERROR => Err(CallFault::Special),
                c::FunctionCallBuilderError_FCBE_ARGUMENT_COUNT_ERROR => Err(CallFault::Count),
                c::FunctionCallBuilderError_FCBE_ARGUMENT_TYPE_ERROR => Err(CallFault::Type),
                _ => Err(CallFault::Failed),
            }
        }
    }

    /// Number and form of each method of a generic.
    pub(crate) fn methods(&mut self, generic: &str) -> Result<Vec<(u16, String)>, EngineError> {
        let generic: *mut c::Defgeneric = self.find(Kind::Generic, generic)?.cast();
        let mut list = c::CLIPSValue::default();
        // SAFETY: found just now; texts are copied before the builder is disposed of.
        unsafe {
            c::GetDefmethodList(self.env, &mut list, generic);
            let Value::Multifield(fields) = value::read(&list, &mut NAMES_BYTES.clone()) else {
                return Ok(Vec::new());
            };
            // Name and number in turn.
            let numbers = fields.iter().skip(1).step_by(2);
            let numbers = numbers.filter_map(|n| u16::try_from(n.integer()?).ok());
            Ok(numbers
                .map(|number| {
                    let builder = c::CreateStringBuilder(self.env, 128);
                    c::DefmethodDescription(generic, number, builder);
                    let form = copied((*builder).contents);
                    c::SBDispose(builder);
                    (number, form)
                })
                .collect())
        }
    }

    /// `false` when the generic has no such method, or it runs.
    pub(crate) fn remove_method(
        &mut self,
        generic: &str,
        number: u16,
    ) -> Result<bool, EngineError> {
        let known = self.methods(generic)?.iter().any(|(n, _)| *n == number);
        let found = self.find(Kind::Generic, generic)?;
        // SAFETY: found just now; 0 would mean all methods and is never a method's number.
        Ok(known && number != 0 && unsafe { c::Undefmethod(found.cast(), number, self.env) })
    }

    /// The source of a method.
    pub(crate) fn method_text(
        &mut self,
        generic: &str,
        number: u16,
    ) -> Result<Option<String>, EngineError> {
        if !self.methods(generic)?.iter().any(|(n, _)| *n == number) {
            return Ok(None);
        }
        let found = self.find(Kind::Generic, generic)?;
        // SAFETY: the method exists.
        unsafe {
            let text = c::DefmethodPPForm(found.cast(), number);
            Ok((!text.is_null()).then(|| copied(text)))
        }
    }

    pub(crate) fn class(&mut self, name: &str) -> Result<RawClass, EngineError> {
        let class: *mut c::Defclass = self.find(Kind::Class, name)?.cast();
        // SAFETY: found just now; every list is copied before the next is made.
        unsafe {
            let mut list = c::CLIPSValue::default();
            c::ClassSuperclasses(class, &mut list, false);
            let superclasses = names(&list);
            c::ClassSubclasses(class, &mut list, false);
            let subclasses = names(&list);
            c::ClassSlots(class, &mut list, true);
            let slots = names(&list);
            Ok(RawClass {
                is_abstract: c::ClassAbstractP(class),
                reactive: c::ClassReactiveP(class),
                superclasses,
                subclasses,
                slots: slots
                    .into_iter()
                    .map(|name| class_slot(class, name))
                    .collect(),
            })
        }
    }

    /// Name and type of the handlers of a class, inherited ones too if asked: class, name, type.
    pub(crate) fn handlers(
        &mut self,
        class: &str,
        inherited: bool,
    ) -> Result<Vec<[String; 3]>, EngineError> {
        let found = self.find(Kind::Class, class)?;
        let mut list = c::CLIPSValue::default();
        // SAFETY: found just now; the list is copied at once.
        let fields = unsafe {
            c::GetDefmessageHandlerList(self.env, found.cast(), &mut list, inherited);
            names(&list)
        };
        let mut fields = fields.into_iter();
        let mut handlers = Vec::new();
        while let (Some(class), Some(name), Some(kind)) =
            (fields.next(), fields.next(), fields.next())
        {
            handlers.push([class, name, kind]);
        }
        Ok(handlers)
    }

    /// Number of a handler of a class itself, 0 for none.
    fn handler(&mut self, class: &str, name: &str, kind: &str) -> Result<Handler, EngineError> {
        let class = self.find(Kind::Class, class)?.cast();
        let (name, kind) = (c_string(name)?, c_string(kind)?);
        // SAFETY: found just now; terminated names.
        let number = unsafe { c::FindDefmessageHandler(class, name.as_ptr(), kind.as_ptr()) };
        Ok((class, number))
    }

    pub(crate) fn handler_text(
        &mut self,
        class: &str,
        name: &str,
        kind: &str,
    ) -> Result<Option<String>, EngineError> {
        let (class, number) = self.handler(class, name, kind)?;
        if number == 0 {
            return Ok(None);
        }
        // SAFETY: the handler exists.
        unsafe {
            let text = c::DefmessageHandlerPPForm(class, number);
            Ok((!text.is_null()).then(|| copied(text)))
        }
    }

    pub(crate) fn remove_handler(
        &mut self,
        class: &str,
        name: &str,
        kind: &str,
    ) -> Result<bool, EngineError> {
        let (class, number) = self.handler(class, name, kind)?;
        // SAFETY: the handler exists; 0 would mean all of them.
        Ok(number != 0
            && unsafe {
                c::DefmessageHandlerIsDeletable(class, number)
                    && c::UndefmessageHandler(class, number, self.env)
            })
    }

    /// Print which handlers a message would go through.
    pub(crate) fn preview_send(&mut self, class: &str, message: &str) -> Result<(), EngineError> {
        let class = self.find(Kind::Class, class)?;
        let message = c_string(message)?;
        // SAFETY: found just now; terminated names.
        unsafe { c::PreviewSend(class.cast(), c"stdout".as_ptr(), message.as_ptr()) };
        Ok(())
    }

    /// Up to `limit` instances, oldest first.
    pub(crate) fn instances(&mut self, limit: usize) -> Vec<RawInstance> {
        let mut instances = Vec::new();
        let mut budget = self.copy_budget();
        // SAFETY: no instance goes away while we walk the list: no rule runs meanwhile.
        unsafe {
            let mut instance = c::GetNextInstance(self.env, std::ptr::null_mut());
            while !instance.is_null() && instances.len() < limit {
                instances.push(copy_instance(instance, &mut budget));
                instance = c::GetNextInstance(self.env, instance);
            }
        }
        instances
    }

    pub(crate) fn instance_count(&self) -> usize {
        // SAFETY: reads a counter.
        unsafe { c::GetGlobalNumberOfInstances(self.env) as usize }
    }

    pub(super) fn find_instance(&mut self, name: &str) -> Result<*mut c::Instance, EngineError> {
        let text = c_string(name)?;
        // SAFETY: a terminated name; an instance that is found is live.
        let found = unsafe { value::instance(self.env, &text) };
        if found.is_null() {
            return Err(EngineError::UnknownInstance(name.to_owned()));
        }
        Ok(found)
    }

    pub(crate) fn instance(&mut self, name: &str) -> Result<RawInstance, EngineError> {
        let found = self.find_instance(name)?;
        let mut budget = self.copy_budget();
        // SAFETY: found just now.
        Ok(unsafe { copy_instance(found, &mut budget) })
    }

    /// Set a slot without sending a message.
    pub(crate) fn put_instance_slot(
        &mut self,
        name: &str,
        slot: &str,
        value: &Value,
    ) -> Result<(), EngineError> {
        let found = self.find_instance(name)?;
        let text = c_string(slot)?;
        // SAFETY: found just now; the value is fresh and stored before anything collects it.
        // Constraints are checked for what comes from outside, whatever the program chose.
        let code = unsafe {
            let mut raw = value::write(self.env, value)?;
            let checked = c::SetDynamicConstraintChecking(self.env, true);
            let code = c::DirectPutSlot(found, text.as_ptr(), &mut raw);
            c::SetDynamicConstraintChecking(self.env, checked);
            code
        };
        if code == c::PutSlotError_PSE_NO_ERROR {
            return Ok(());
        }
        Err(EngineError::Slot {
            template: name.to_owned(),
            slot: slot.to_owned(),
            reason: slot_fault(code),
        })
    }

    /// Delete an instance: with a `delete` message, or outright. `false` when it could not be.
    pub(crate) fn delete_instance(
        &mut self,
        name: &str,
        with_message: bool,
    ) -> Result<bool, EngineError> {
        let found = self.find_instance(name)?;
        // SAFETY: found just now.
        let code = unsafe {
            if with_message {
                c::UnmakeInstance(found)
            } else {
                c::DeleteInstance(found)
            }
        };
        Ok(code == c::UnmakeInstanceError_UIE_NO_ERROR)
    }

    /// Instances from text, with their `init` messages or as they stand. `None` on a fault.
    pub(crate) fn load_instances(&mut self, text: &CString, init: bool) -> Option<u64> {
        let (start, length) = (text.as_ptr(), text.as_bytes().len());
        // SAFETY: the length is the text's own.
        let loaded = unsafe {
            if init {
                c::LoadInstancesFromString(self.env, start, length as _)
            } else {
                c::RestoreInstancesFromString(self.env, start, length as _)
            }
        };
        u64::try_from(loaded).ok()
    }
}

type Handler = (*mut c::Defclass, u32);

/// Why a function was not called, or failed.
#[derive(Debug)]
pub(crate) enum CallFault {
    Unknown,
    Special,
    Count,
    Type,
    Failed,
    Value(EngineError),
}

/// # Safety
/// `list` was just made by CLIPS.
unsafe fn names(list: &c::CLIPSValue) -> Vec<String> {
    // SAFETY: as the caller promises.
    match unsafe { value::read(list, &mut NAMES_BYTES.clone()) } {
        Value::Multifield(fields) => fields
            .iter()
            .filter_map(|field| field.text().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// # Safety
/// `class` is live and has the slot.
unsafe fn class_slot(class: *mut c::Defclass, name: String) -> RawClassSlot {
    let slot = CString::new(name.as_str()).unwrap_or_default();
    let slot = slot.as_ptr();
    let mut raw = c::CLIPSValue::default();
    let fields = |raw: &c::CLIPSValue, known: bool| match known.then(|| {
        // SAFETY: CLIPS has just filled it in.
        unsafe { value::read(raw, &mut NAMES_BYTES.clone()) }
    }) {
        Some(Value::Multifield(fields)) => fields,
        _ => Vec::new(),
    };
    // SAFETY: as the caller promises; each list is copied before the next is made.
    unsafe {
        let known = c::SlotFacets(class, slot, &mut raw);
        let facets = if known { names(&raw) } else { Vec::new() };
        let known = c::SlotTypes(class, slot, &mut raw);
        let types = if known { names(&raw) } else { Vec::new() };
        let known = c::SlotAllowedValues(class, slot, &mut raw);
        let allowed = fields(&raw, known);
        let known = c::SlotRange(class, slot, &mut raw);
        let range = fields(&raw, known);
        let known = c::SlotCardinality(class, slot, &mut raw);
        let cardinality = fields(&raw, known);
        let known = c::SlotDefaultValue(class, slot, &mut raw);
        let default = known.then(|| value::read(&raw, &mut NAMES_BYTES.clone()));
        RawClassSlot {
            name,
            facets,
            types,
            allowed,
            range,
            cardinality,
            default,
        }
    }
}

/// # Safety
/// `instance` is live.
pub(super) unsafe fn copy_instance(instance: *mut c::Instance, budget: &mut usize) -> RawInstance {
    let mut list = c::CLIPSValue::default();
    // SAFETY: as the caller promises; every value is copied before the next is read.
    unsafe {
        let class = c::InstanceClass(instance);
        c::ClassSlots(class, &mut list, true);
        let mut slots = Vec::new();
        for slot in names(&list) {
            let text = CString::new(slot.as_str()).unwrap_or_default();
            let mut raw = c::CLIPSValue::default();
            let code = c::DirectGetSlot(instance, text.as_ptr(), &mut raw);
            if code == c::GetSlotError_GSE_NO_ERROR {
                slots.push((slot, value::read(&raw, budget)));
            }
        }
        RawInstance {
            name: copied(c::InstanceName(instance)),
            class: copied(c::DefclassName(class)),
            slots,
        }
    }
}
