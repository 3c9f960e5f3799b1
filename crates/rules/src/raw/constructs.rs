//! Constructs by kind: CLIPS has the same calls for each, under other names.

use std::ffi::{c_char, c_void};

use clips_sys as c;

use super::{Env, c_string, copied};
use crate::engine::Kind;
use crate::error::EngineError;

type Pointer = *mut c_void;

/// The calls of one kind.
struct Ops {
    next: unsafe fn(*mut c::Environment, Pointer) -> Pointer,
    find: unsafe fn(*mut c::Environment, *const c_char) -> Pointer,
    name: unsafe fn(Pointer) -> *const c_char,
    module: unsafe fn(Pointer) -> *const c_char,
    text: unsafe fn(Pointer) -> *const c_char,
    deletable: unsafe fn(Pointer) -> bool,
    remove: unsafe fn(*mut c::Environment, Pointer) -> bool,
}

macro_rules! ops {
    ($next:ident $find:ident $name:ident $module:ident $text:ident $deletable:ident
     $remove:ident) => {
        // SAFETY: each closure passes on what its caller promises: a live environment, and an
        // item of the kind that this table is for, or null where the call allows it.
        unsafe {
            Ops {
                next: |env, item| c::$next(env, item.cast()).cast(),
                find: |env, name| c::$find(env, name).cast(),
                name: |item| c::$name(item.cast()),
                module: |item| c::$module(item.cast()),
                text: |item| c::$text(item.cast()),
                deletable: |item| c::$deletable(item.cast()),
                remove: |env, item| c::$remove(item.cast(), env),
            }
        }
    };
}

fn ops(kind: Kind) -> Ops {
    match kind {
        // SAFETY: as in `ops!`. A module can not be removed, which CLIPS has no call to say.
        Kind::Module => unsafe {
            Ops {
                next: |env, item| c::GetNextDefmodule(env, item.cast()).cast(),
                find: |env, name| c::FindDefmodule(env, name).cast(),
                name: |item| c::DefmoduleName(item.cast()),
                module: |item| c::DefmoduleName(item.cast()),
                text: |item| c::DefmodulePPForm(item.cast()),
                deletable: |_| false,
                remove: |_, _| false,
            }
        },
        Kind::Template => ops!(GetNextDeftemplate FindDeftemplate DeftemplateName
            DeftemplateModule DeftemplatePPForm DeftemplateIsDeletable Undeftemplate),
        Kind::Facts => ops!(GetNextDeffacts FindDeffacts DeffactsName
            DeffactsModule DeffactsPPForm DeffactsIsDeletable Undeffacts),
        Kind::Rule => ops!(GetNextDefrule FindDefrule DefruleName
            DefruleModule DefrulePPForm DefruleIsDeletable Undefrule),
        Kind::Global => ops!(GetNextDefglobal FindDefglobal DefglobalName
            DefglobalModule DefglobalPPForm DefglobalIsDeletable Undefglobal),
        Kind::Function => ops!(GetNextDeffunction FindDeffunction DeffunctionName
            DeffunctionModule DeffunctionPPForm DeffunctionIsDeletable Undeffunction),
        Kind::Generic => ops!(GetNextDefgeneric FindDefgeneric DefgenericName
            DefgenericModule DefgenericPPForm DefgenericIsDeletable Undefgeneric),
        Kind::Class => ops!(GetNextDefclass FindDefclass DefclassName
            DefclassModule DefclassPPForm DefclassIsDeletable Undefclass),
        Kind::Instances => ops!(GetNextDefinstances FindDefinstances DefinstancesName
            DefinstancesModule DefinstancesPPForm DefinstancesIsDeletable Undefinstances),
    }
}

impl Env {
    /// Module and name of every construct of a kind.
    pub(crate) fn constructs(&mut self, kind: Kind) -> Vec<(String, String)> {
        let ops = ops(kind);
        let collect = |env, found: &mut Vec<_>| {
            // SAFETY: the list of constructs does not change while we walk it; names are copied.
            unsafe {
                let mut item = (ops.next)(env, std::ptr::null_mut());
                while !item.is_null() {
                    found.push((copied((ops.module)(item)), copied((ops.name)(item))));
                    item = (ops.next)(env, item);
                }
            }
        };
        if kind == Kind::Module {
            let mut found = Vec::new();
            collect(self.env, &mut found);
            return found;
        }
        // SAFETY: the closure only reads.
        unsafe { self.each_module(collect) }
    }

    /// The construct of a name, `MODULE::name` or one visible from the current module.
    pub(super) fn find(&mut self, kind: Kind, name: &str) -> Result<Pointer, EngineError> {
        let text = c_string(name)?;
        // SAFETY: a terminated name; a construct that is found is live.
        let found = unsafe { (ops(kind).find)(self.env, text.as_ptr()) };
        if found.is_null() {
            let name = name.to_owned();
            return Err(EngineError::UnknownConstruct { kind, name });
        }
        Ok(found)
    }

    /// The source of a construct as CLIPS prints it; `None` where it keeps none.
    pub(crate) fn construct_text(
        &mut self,
        kind: Kind,
        name: &str,
    ) -> Result<Option<String>, EngineError> {
        let found = self.find(kind, name)?;
        // SAFETY: found just now; the text is copied.
        unsafe {
            let text = (ops(kind).text)(found);
            Ok((!text.is_null()).then(|| copied(text)))
        }
    }

    pub(crate) fn construct_is_deletable(
        &mut self,
        kind: Kind,
        name: &str,
    ) -> Result<bool, EngineError> {
        let found = self.find(kind, name)?;
        // SAFETY: found just now.
        Ok(unsafe { (ops(kind).deletable)(found) })
    }

    /// `false` when something still uses it.
    pub(crate) fn remove_construct(&mut self, kind: Kind, name: &str) -> Result<bool, EngineError> {
        let found = self.find(kind, name)?;
        let ops = ops(kind);
        // SAFETY: found just now, and CLIPS says itself that nothing refers to it.
        Ok(unsafe { (ops.deletable)(found) && (ops.remove)(self.env, found) })
    }

    /// Watch one construct, or stop to. `false` for a kind that CLIPS can not watch one by one.
    pub(crate) fn watch_construct(
        &mut self,
        kind: Kind,
        name: &str,
        on: bool,
    ) -> Result<bool, EngineError> {
        let found = self.find(kind, name)?;
        // SAFETY: found just now, and of the kind that each call takes.
        unsafe {
            match kind {
                Kind::Template => c::DeftemplateSetWatch(found.cast(), on),
                Kind::Rule => {
                    c::DefruleSetWatchFirings(found.cast(), on);
                    c::DefruleSetWatchActivations(found.cast(), on);
                }
                Kind::Global => c::DefglobalSetWatch(found.cast(), on),
                Kind::Function => c::DeffunctionSetWatch(found.cast(), on),
                Kind::Generic => c::DefgenericSetWatch(found.cast(), on),
                Kind::Class => {
                    c::DefclassSetWatchInstances(found.cast(), on);
                    c::DefclassSetWatchSlots(found.cast(), on);
                }
                Kind::Module | Kind::Facts | Kind::Instances => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether a construct is watched; `None` for a kind that is never watched one by one.
    pub(crate) fn construct_is_watched(
        &mut self,
        kind: Kind,
        name: &str,
    ) -> Result<Option<bool>, EngineError> {
        let found = self.find(kind, name)?;
        // SAFETY: as `watch_construct`.
        Ok(Some(unsafe {
            match kind {
                Kind::Template => c::DeftemplateGetWatch(found.cast()),
                Kind::Rule => c::DefruleGetWatchFirings(found.cast()),
                Kind::Global => c::DefglobalGetWatch(found.cast()),
                Kind::Function => c::DeffunctionGetWatch(found.cast()),
                Kind::Generic => c::DefgenericGetWatch(found.cast()),
                Kind::Class => c::DefclassGetWatchInstances(found.cast()),
                Kind::Module | Kind::Facts | Kind::Instances => return Ok(None),
            }
        }))
    }

    pub(crate) fn watch(&mut self, item: u32, on: bool) {
        // SAFETY: sets flags; `item` comes from `WatchItem`.
        unsafe { c::SetWatchState(self.env, item, on) }
    }

    pub(crate) fn is_watched(&mut self, item: u32) -> bool {
        // SAFETY: reads a flag.
        unsafe { c::GetWatchState(self.env, item) }
    }
}
