//! Where the current thread's stack ends.

use std::cell::Cell;
use std::mem::MaybeUninit;

/// Stack assumed below the caller where the system does not tell: half of the smallest default
/// (macOS secondary threads, 512 KiB).
const ASSUMED_BYTES: usize = 256 << 10;

/// Stack that stays free whatever the limit: CLIPS needs some of it between two checks.
const RESERVE_BYTES: usize = 512 << 10;

/// How low the stack may grow when `bytes` of it may be used from here on.
pub(super) fn floor(bytes: usize) -> usize {
    lowest()
        .saturating_add(RESERVE_BYTES)
        .max(pointer().saturating_sub(bytes))
}

/// The stack pointer, near enough.
#[inline(never)]
pub(super) fn pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)) as usize
}

/// Lowest address of the current thread's stack. Asked once per thread: on the main thread the
/// C library reads `/proc/self/maps` for it, which takes 50 us.
fn lowest() -> usize {
    thread_local!(static LOWEST: Cell<Option<usize>> = const { Cell::new(None) });
    LOWEST.with(|known| match known.get() {
        Some(address) => address,
        None => {
            let address = ask().unwrap_or_else(|| pointer().saturating_sub(ASSUMED_BYTES));
            known.set(Some(address));
            address
        }
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask() -> Option<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: `pthread_getattr_np` initialises the attributes when it returns 0, and only then are
    // they read and destroyed, once.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        let asked = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (asked == 0).then_some(low as usize)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn ask() -> Option<usize> {
    let _ = MaybeUninit::<u8>::uninit();
    None
}
