//! What a process may still do: limits that the system itself enforces.

use std::io;

/// End the process at once: nothing is unwound, no destructor of a broken heap runs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Seconds of processor time that this process has used.
pub(crate) fn cpu_seconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills in the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0)
}

/// Kill this process by a signal when it has used so many seconds of processor time; may be moved
/// on as long as the hard limit allows.
///
/// # Errors
/// What the system says.
pub(crate) fn limit_cpu(seconds: u64) -> io::Result<()> {
    /// A day: an agent of this node is started anew before.
    const HARD_SECONDS: u64 = 24 * 3600;
    set(libc::RLIMIT_CPU, seconds.min(HARD_SECONDS), HARD_SECONDS)
}

/// Let this process have no more address space than so much.
///
/// # Errors
/// What the system says.
pub(crate) fn limit_memory(bytes: u64) -> io::Result<()> {
    let limit = bytes;
    set(libc::RLIMIT_AS, limit, limit)
}

/// Let this process open no more files, write to none, and leave no image of its memory.
///
/// # Errors
/// What the system says.
pub(crate) fn limit_files() -> io::Result<()> {
    set(libc::RLIMIT_FSIZE, 0, 0)?;
    set(libc::RLIMIT_CORE, 0, 0)?;
    set(libc::RLIMIT_NOFILE, 0, 0)
}

fn set(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: reads the struct it is given.
    if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

/// Bytes of address space in use; as much as a large program has where the system does not say.
pub(crate) fn address_space() -> u64 {
    const ASSUMED: u64 = 8 << 30;
    const PAGE: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').next().and_then(|pages| pages.parse().ok());
    pages.map_or(ASSUMED, |pages: u64| pages * PAGE)
}

/// Close every file but the three standard ones: whoever started this process may have left some
/// open that were not meant for it.
#[cfg(target_os = "linux")]
pub(crate) fn close_other_files() {
    // SAFETY: nothing in this process has opened a file yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// As on Linux, as far as it is known how many there may be.
#[cfg(not(target_os = "linux"))]
pub(crate) fn close_other_files() {
    for file in 3..1024 {
        // SAFETY: as on Linux.
        unsafe { libc::close(file) };
    }
}

/// Be killed when the thread that started this process ends.
#[cfg(target_os = "linux")]
pub(crate) fn die_with_parent() {
    // SAFETY: sets a flag of the process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Other systems have no such thing: the process ends when its input does.
#[cfg(not(target_os = "linux"))]
pub(crate) fn die_with_parent() {}
