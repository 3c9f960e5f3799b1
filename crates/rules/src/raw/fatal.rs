//! When CLIPS wants the process to end.
//!
//! On an internal error, or when `malloc` fails, CLIPS calls for `exit` and does not expect a
//! return: going back into it, or unwinding over it, would run on with a broken heap. So the
//! thread tells whoever waits for it and stops for good. One parked thread is the price.

use std::cell::RefCell;
use std::ffi::c_int;

use clips_sys as c;

/// Why CLIPS can not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fatal {
    /// The system gives no more memory.
    Memory,
    /// CLIPS found itself in a state that can not be.
    Internal,
}

type Notice = Box<dyn FnOnce(Fatal)>;

thread_local!(static NOTICE: RefCell<Option<Notice>> = const { RefCell::new(None) });

/// What to do should CLIPS fail fatally on this thread; `None` when nothing runs any more.
pub(crate) fn on_fatal(notice: Option<Notice>) {
    NOTICE.with(|slot| *slot.borrow_mut() = notice);
}

/// Tell whoever waits, then stop this thread for good.
pub(crate) fn park(why: Fatal) -> ! {
    let notice = NOTICE.with(|slot| slot.try_borrow_mut().ok().and_then(|mut slot| slot.take()));
    if let Some(notice) = notice {
        // A panic must not unwind into CLIPS, and there is nobody left to tell.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| notice(why)));
    }
    loop {
        std::thread::park();
    }
}

pub(super) unsafe extern "C" fn out_of_memory(_: *mut c::Environment, _: c::size_t) -> bool {
    park(Fatal::Memory)
}

pub(super) unsafe extern "C" fn exit(
    env: *mut c::Environment,
    _code: c_int,
    _context: *mut std::ffi::c_void,
) {
    // SAFETY: called by the environment the router was added to.
    unsafe { super::shared_of(env) }.internal_error.set(true);
    park(Fatal::Internal)
}
