//! What happens while rules run: facts that come and go, rules that fire.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clips_sys as c;

use super::agenda::Entity;
use super::{Env, Shared, agenda, copied, inspect, shared_from};
use crate::engine::Event;
use crate::limits::Trip;

/// Bytes of values copied for one event; larger ones are `Void`.
const EVENT_BYTES: usize = 64 << 10;

/// Hears of each event, within the call that caused it.
pub(crate) type Listener = Box<dyn FnMut(&Happened<'_>) + Send>;

/// An event while it happens. What it is about is still in the engine: a listener copies of it
/// what it needs.
pub(crate) enum Happened<'a> {
    Asserted(LiveFact<'a>),
    Retracted(LiveFact<'a>),
    Fires(LiveActivation<'a>),
    Fired,
}

impl Happened<'_> {
    /// All of it, copied.
    pub(crate) fn copied(&self) -> Event {
        match self {
            Self::Asserted(fact) => Event::Asserted(fact.copied()),
            Self::Retracted(fact) => Event::Retracted(fact.copied()),
            Self::Fires(activation) => Event::Fires(activation.copied()),
            Self::Fired => Event::Fired,
        }
    }
}

/// A fact that is there for as long as the event lasts.
pub(crate) struct LiveFact<'a>(*mut c::Fact, PhantomData<&'a ()>);

impl LiveFact<'_> {
    pub(crate) fn index(&self) -> i64 {
        // SAFETY: made for a live fact, which no code that could retract it runs meanwhile.
        unsafe { (*self.0).factIndex }
    }

    /// Append its text, as [`Fact`](crate::Fact) shows it; what goes far beyond `most` bytes is
    /// left off.
    pub(crate) fn write_text(&self, out: &mut String, most: usize) {
        // SAFETY: as `index`.
        unsafe { inspect::write_fact(self.0, out, most) }
    }

    fn copied(&self) -> crate::Fact {
        // SAFETY: as `index`.
        unsafe { inspect::copy_fact(self.0, &mut EVENT_BYTES.clone()) }.into()
    }
}

/// An activation that is there for as long as the event lasts.
pub(crate) struct LiveActivation<'a> {
    env: *mut c::Environment,
    activation: *mut c::Activation,
    lives: PhantomData<&'a ()>,
}

/// What an activation matched.
pub(crate) enum LiveMatch<'a> {
    Fact(LiveFact<'a>),
    Instance(String),
}

impl LiveActivation<'_> {
    /// `MODULE::name`
    pub(crate) fn rule(&self) -> String {
        // SAFETY: made for an activation that is about to fire; its rule is there as long as it is.
        unsafe {
            let rule = c::GetActivationRule(self.env, self.activation);
            let (module, name) = (c::DefruleModule(rule), c::DefruleName(rule));
            let (module, name) = (CStr::from_ptr(module), CStr::from_ptr(name));
            let mut text = String::with_capacity(module.count_bytes() + name.count_bytes() + 2);
            text.push_str(&module.to_string_lossy());
            text.push_str("::");
            text.push_str(&name.to_string_lossy());
            text
        }
    }

    /// Visit what the first `most` patterns matched.
    pub(crate) fn each_match(&self, most: usize, mut visit: impl FnMut(LiveMatch<'_>)) {
        // SAFETY: as `rule`; what an activation matched is live while it is on the agenda.
        unsafe {
            let entities = agenda::entities(self.env, (*self.activation).basis);
            for entity in entities.take(most).flatten() {
                visit(match entity {
                    Entity::Fact(fact) => LiveMatch::Fact(LiveFact(fact, PhantomData)),
                    Entity::Instance(instance) => {
                        LiveMatch::Instance(copied(c::InstanceName(instance)))
                    }
                });
            }
        }
    }

    fn copied(&self) -> crate::Activation {
        // SAFETY: as `rule`.
        unsafe { agenda::copy_activation(self.env, self.activation) }.into()
    }
}

/// What CLIPS knows our four callbacks by.
const NAME: &CStr = c"cpe-event";

/// # Safety
/// `shared` is the environment's state, and this is not called while rules run.
unsafe fn install(env: *mut c::Environment, shared: *mut Shared) {
    // SAFETY: as the caller promises. Below the priority of the limits, so that a quota trips
    // before anything is copied.
    unsafe {
        let context = shared.cast();
        let name = NAME.as_ptr();
        c::AddAssertFunction(env, name, Some(on_assert), -10, context);
        c::AddRetractFunction(env, name, Some(on_retract), -10, context);
        c::AddBeforeRuleFiresFunction(env, name, Some(before_rule), 0, context);
        c::AddAfterRuleFiresFunction(env, name, Some(after_rule), 0, context);
    }
}

/// # Safety
/// As [`install`].
unsafe fn remove(env: *mut c::Environment) {
    // SAFETY: as the caller promises; each was added under this name.
    unsafe {
        let name = NAME.as_ptr();
        c::RemoveAssertFunction(env, name);
        c::RemoveRetractFunction(env, name);
        c::RemoveBeforeRuleFiresFunction(env, name);
        c::RemoveAfterRuleFiresFunction(env, name);
    }
}

impl Env {
    /// Tell `listener` of each event from now on, or nobody.
    pub(crate) fn listen(&mut self, listener: Option<Listener>) {
        let shared = self.shared();
        let wanted = listener.is_some();
        // Rules of an engine that nobody listens to do not pay for it.
        if shared.listening.replace(wanted) != wanted {
            // SAFETY: a listener has no engine to call this with, so that no rule runs now.
            unsafe {
                if wanted {
                    install(self.env, self.shared);
                } else {
                    remove(self.env);
                }
            }
        }
        *shared.listener.borrow_mut() = listener;
    }
}

impl Shared {
    /// # Safety
    /// `env` is the environment this state belongs to.
    unsafe fn tell(&self, env: *mut c::Environment, event: &Happened<'_>) {
        // A listener can not be called from within itself: it has no engine to make events with.
        let Ok(mut listener) = self.listener.try_borrow_mut() else {
            return;
        };
        let Some(listener) = listener.as_mut() else {
            return;
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| listener(event))) {
            if let Ok(mut slot) = self.panic.try_borrow_mut() {
                *slot = Some(panic);
            }
            // SAFETY: as the caller promises.
            unsafe { self.set_trip(env, Trip::Panic) };
        }
    }
}

unsafe extern "C" fn on_assert(env: *mut c::Environment, fact: *mut c_void, context: *mut c_void) {
    // SAFETY: CLIPS passes a live fact, and what the function was registered with.
    unsafe {
        let fact = LiveFact(fact.cast(), PhantomData);
        shared_from(context).tell(env, &Happened::Asserted(fact));
    }
}

unsafe extern "C" fn on_retract(env: *mut c::Environment, fact: *mut c_void, context: *mut c_void) {
    // SAFETY: as `on_assert`; the fact goes after the call.
    unsafe {
        let fact = LiveFact(fact.cast(), PhantomData);
        shared_from(context).tell(env, &Happened::Retracted(fact));
    }
}

unsafe extern "C" fn before_rule(
    env: *mut c::Environment,
    activation: *mut c::Activation,
    context: *mut c_void,
) {
    let lives = PhantomData;
    // SAFETY: CLIPS passes the activation that is about to fire.
    unsafe {
        let activation = LiveActivation {
            env,
            activation,
            lives,
        };
        shared_from(context).tell(env, &Happened::Fires(activation));
    }
}

unsafe extern "C" fn after_rule(
    env: *mut c::Environment,
    activation: *mut c::Activation,
    context: *mut c_void,
) {
    // Called without an activation when a run fires nothing.
    if activation.is_null() {
        return;
    }
    // SAFETY: as `on_assert`.
    unsafe { shared_from(context).tell(env, &Happened::Fired) }
}
