//! What a worker gives up before it reads the first byte of a rule.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::raw::system;

/// Whether the kernel keeps a worker from files and the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Landlock {
    /// It does.
    Full,
    /// An older kernel, which keeps it from files but not from all else.
    Partial,
    /// This system has no landlock.
    Missing,
}

/// What a worker has given up. Only Linux has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Files and the network.
    pub landlock: Landlock,
    /// Every system call but those that memory and the two pipes need.
    pub seccomp: bool,
    /// Memory, processor time, open files.
    pub limits: bool,
}

impl Confinement {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.landlock == Landlock::Full && self.seccomp && self.limits
    }
}

/// What is missing, for the log: an operator must know.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_full() {
            return f.write_str(
                "fully confined: no files, no network, no system calls but for memory and pipes",
            );
        }
        f.write_str("not fully confined:")?;
        match self.landlock {
            Landlock::Full => {}
            Landlock::Partial => f.write_str(" this kernel's landlock is older than needed;")?,
            Landlock::Missing => f.write_str(" this kernel has no landlock;")?,
        }
        if !self.seccomp {
            f.write_str(" this system has no seccomp;")?;
        }
        if !self.limits {
            f.write_str(" resource limits could not be set;")?;
        }
        f.write_str(" rules of strangers run in a process of their own all the same")
    }
}

/// What is done before anything else, for the whole process. Threads that start later inherit it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    landlock: Landlock,
    /// Address space that the process itself takes.
    own_bytes: u64,
}

/// Give up what no part of a worker needs.
pub(super) fn begin() -> Begun {
    system::die_with_parent();
    system::close_other_files();
    Begun {
        own_bytes: system::address_space(),
        landlock: landlock(),
    }
}

/// The rest, for all threads; `memory` more bytes than at the beginning may be taken.
pub(super) fn finish(begun: Begun, memory: u64) -> Confinement {
    let memory = begun.own_bytes.saturating_add(memory);
    let limits = system::limit_memory(memory).is_ok() && system::limit_files().is_ok();
    Confinement {
        landlock: begun.landlock,
        limits,
        seccomp: seccomp(),
    }
}

#[cfg(target_os = "linux")]
fn landlock() -> Landlock {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
        RulesetError, RulesetStatus, Scope,
    };
    let restrict = || -> Result<RulesetStatus, RulesetError> {
        // Everything that is handled and allowed nowhere is forbidden everywhere.
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?;
        Ok(ruleset.create()?.restrict_self()?.ruleset)
    };
    match restrict() {
        Ok(RulesetStatus::FullyEnforced) => Landlock::Full,
        Ok(RulesetStatus::PartiallyEnforced) => Landlock::Partial,
        Ok(RulesetStatus::NotEnforced) | Err(_) => Landlock::Missing,
    }
}

#[cfg(not(target_os = "linux"))]
fn landlock() -> Landlock {
    Landlock::Missing
}

#[cfg(target_os = "linux")]
fn seccomp() -> bool {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads,
    };
    // Memory, the two pipes, locks, clocks, the limits of this process, and its end.
    const ALLOWED: &[libc::c_long] = &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        // Asked by the C library when it is asked where the stack ends.
        libc::SYS_sched_getaffinity,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_getrandom,
        libc::SYS_prlimit64,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_tgkill,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_rseq,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    // The C library asks the system about its memory, by a file, before it gives memory back, and
    // does without an answer: to open fails, and does not end the process.
    const FAILING: &[libc::c_long] = &[libc::SYS_openat];
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return false;
    };
    let apply = |calls: &[&[libc::c_long]], others, these| {
        let calls = calls.iter().copied().flatten();
        let rules = calls.map(|call| (*call, Vec::new())).collect();
        let filter = SeccompFilter::new(rules, others, these, arch);
        let program = filter.and_then(BpfProgram::try_from);
        program.is_ok_and(|program| apply_filter_all_threads(&program).is_ok())
    };
    // Of two filters the stricter one decides; after the second there can be no third.
    let denied = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    apply(&[FAILING], SeccompAction::Allow, denied)
        && apply(
            &[ALLOWED, FAILING],
            SeccompAction::KillProcess,
            SeccompAction::Allow,
        )
}

#[cfg(not(target_os = "linux"))]
fn seccomp() -> bool {
    false
}
