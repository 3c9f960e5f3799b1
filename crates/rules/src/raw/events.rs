//! What happens while rules run: facts that come and go, rules that fire.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clips_sys as c;

use super::{Env, Shared, agenda, inspect, shared_from};
use crate::engine::Event;
use crate::limits::Trip;

/// Bytes of values copied for one event; larger ones are `Void`.
const EVENT_BYTES: usize = 64 << 10;

/// Hears of each event, within the call that caused it.
pub(crate) type Listener = Box<dyn FnMut(&Event) + Send>;

/// # Safety
/// Called once for a fresh environment; `shared` is its state.
pub(super) unsafe fn install(env: *mut c::Environment, shared: *mut Shared) {
    // SAFETY: as the caller promises. Below the priority of the limits, so that a quota trips
    // before anything is copied.
    unsafe {
        let context = shared.cast();
        let name = c"cpe-event".as_ptr();
        c::AddAssertFunction(env, name, Some(on_assert), -10, context);
        c::AddRetractFunction(env, name, Some(on_retract), -10, context);
        c::AddBeforeRuleFiresFunction(env, name, Some(before_rule), 0, context);
        c::AddAfterRuleFiresFunction(env, name, Some(after_rule), 0, context);
    }
}

impl Env {
    /// Tell `listener` of each event from now on, or nobody.
    pub(crate) fn listen(&mut self, listener: Option<Listener>) {
        let shared = self.shared();
        shared.listening.set(listener.is_some());
        *shared.listener.borrow_mut() = listener;
    }
}

impl Shared {
    /// # Safety
    /// `env` is the environment this state belongs to.
    unsafe fn tell(&self, env: *mut c::Environment, event: impl FnOnce() -> Event) {
        if !self.listening.get() {
            return;
        }
        // A listener can not be called from within itself: it has no engine to make events with.
        let Ok(mut listener) = self.listener.try_borrow_mut() else {
            return;
        };
        let Some(listener) = listener.as_mut() else {
            return;
        };
        let event = event();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| listener(&event))) {
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
        shared_from(context).tell(env, || {
            Event::Asserted(inspect::copy_fact(fact.cast(), &mut EVENT_BYTES.clone()).into())
        });
    }
}

unsafe extern "C" fn on_retract(env: *mut c::Environment, fact: *mut c_void, context: *mut c_void) {
    // SAFETY: as `on_assert`; the fact goes after the call.
    unsafe {
        shared_from(context).tell(env, || {
            Event::Retracted(inspect::copy_fact(fact.cast(), &mut EVENT_BYTES.clone()).into())
        });
    }
}

unsafe extern "C" fn before_rule(
    env: *mut c::Environment,
    activation: *mut c::Activation,
    context: *mut c_void,
) {
    // SAFETY: CLIPS passes the activation that is about to fire.
    unsafe {
        shared_from(context).tell(env, || {
            Event::Fires(agenda::copy_activation(env, activation).into())
        });
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
    unsafe { shared_from(context).tell(env, || Event::Fired) }
}
