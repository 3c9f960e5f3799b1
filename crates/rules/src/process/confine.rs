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
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch, apply_filter_all_threads,
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
        libc::SYS_getpid,
        libc::SYS_gettid,
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
    // These reach other processes of the same user, the node for one. A process may limit its own
    // processor time anew for each request, ask for its other limits, and end itself by a signal.
    let is = |index, length: &SeccompCmpArgLen, value| {
        SeccompCondition::new(index, length.clone(), SeccompCmpOp::Eq, value)
            .map(|condition| [condition])
    };
    let (number, pointer) = (&SeccompCmpArgLen::Dword, &SeccompCmpArgLen::Qword);
    let within = || {
        let this_process = is(0, number, 0)?;
        let its_time = is(1, number, u64::from(libc::RLIMIT_CPU))?;
        let nothing_new = is(2, pointer, 0)?;
        let to_itself = is(0, number, u64::from(std::process::id()))?;
        let limits = [its_time, nothing_new].map(|these| {
            let these = this_process.iter().cloned().chain(these);
            SeccompRule::new(these.collect())
        });
        let [time, asked] = limits;
        let signals = SeccompRule::new(to_itself.to_vec())?;
        Ok::<_, seccompiler::BackendError>([
            (libc::SYS_prlimit64, vec![time?, asked?]),
            (libc::SYS_tgkill, vec![signals]),
        ])
    };
    let (Ok(arch), Ok(within)) = (TargetArch::try_from(std::env::consts::ARCH), within()) else {
        return false;
    };
    let any = |calls: &'static [libc::c_long]| calls.iter().map(|call| (*call, Vec::new()));
    let apply = |rules, others, these| {
        let filter = SeccompFilter::new(rules, others, these, arch);
        let program = filter.and_then(BpfProgram::try_from);
        program.is_ok_and(|program| apply_filter_all_threads(&program).is_ok())
    };
    // Of two filters the stricter one decides; after the second there can be no third.
    let denied = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let allowed = any(ALLOWED).chain(any(FAILING)).chain(within);
    apply(any(FAILING).collect(), SeccompAction::Allow, denied)
        && apply(
            allowed.collect(),
            SeccompAction::KillProcess,
            SeccompAction::Allow,
        )
}

#[cfg(not(target_os = "linux"))]
fn seccomp() -> bool {
    false
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// Says to the test below, which is started again for it, what to try under the filter.
    const TRY: &str = "CPE_RULES_TEST_TRY";

    /// What a worker that was taken over could try, here on `process`.
    fn attempt(what: &str, process: libc::pid_t) -> libc::c_long {
        let mut limit = libc::rlimit {
            rlim_cur: 3600,
            rlim_max: 3600,
        };
        let limit = &raw mut limit;
        let none = std::ptr::null_mut::<libc::rlimit>();
        // SAFETY: plain calls, which get a struct that they fill in or read. No limit of another
        // process is changed, and signal 0 is none.
        unsafe {
            match what {
                "ask" => libc::syscall(libc::SYS_prlimit64, process, libc::RLIMIT_CPU, none, limit),
                "time" => libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_CPU, limit, none),
                "memory" => libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_AS, limit, none),
                _ => libc::syscall(libc::SYS_tgkill, process, process, 0),
            }
        }
    }

    #[test]
    fn a_worker_reaches_no_process_but_itself() {
        if let Ok(text) = std::env::var(TRY) {
            let (what, whom) = text.split_once(' ').unwrap();
            let whom = if whom == "itself" {
                own_id()
            } else {
                whom.parse().unwrap()
            };
            assert!(seccomp());
            let done = attempt(what, whom);
            system::exit_now(i32::from(done != 0));
        }
        let parent = &own_id().to_string();
        let ended = |what: &str, whom: &str| {
            let status = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "process::confine::tests::a_worker_reaches_no_process_but_itself",
                ])
                .env(TRY, format!("{what} {whom}"))
                .stdout(Stdio::null())
                .status()
                .unwrap();
            (status.code(), status.signal())
        };
        let killed = (None, Some(libc::SIGSYS));
        assert_eq!(ended("ask", parent), killed);
        assert_eq!(ended("signal", parent), killed);
        assert_eq!(ended("memory", "0"), killed);
        // What a worker needs.
        assert_eq!(ended("ask", "0"), (Some(0), None));
        assert_eq!(ended("time", "0"), (Some(0), None));
        assert_eq!(ended("signal", "itself"), (Some(0), None));
    }

    fn own_id() -> libc::pid_t {
        libc::pid_t::try_from(std::process::id()).unwrap()
    }
}
