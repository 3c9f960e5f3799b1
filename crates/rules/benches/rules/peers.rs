//! Who is measured beside: CLIPS without our layer, Debian's `clips`, and clipspy.

use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The version of clipspy that is installed; it ships CLIPS 6.4.2.
const CLIPSPY: &str = "clipspy==1.0.6";

/// Processor time of this thread.
pub(crate) fn cpu() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is valid.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// Processor time of a process, all its threads together; 0 is this one.
pub(crate) fn cpu_of(process: u32) -> Duration {
    let mut id = 0;
    let process = libc::pid_t::try_from(process).unwrap();
    // SAFETY: the place is valid.
    let known = unsafe { libc::clock_getcpuclockid(process, &raw mut id) };
    assert_eq!(known, 0, "process {process} has ended");
    clock(id)
}

/// Loads, resets and runs a program without our layer; the seconds that running took, and how
/// many rules fired.
pub(crate) fn raw(text: &str) -> (f64, u64) {
    let text = CString::new(text).unwrap();
    // SAFETY: one environment, on this thread alone, from its creation to its end.
    unsafe {
        let env = clips_sys::CreateEnvironment();
        assert!(clips_sys::LoadFromString(
            env,
            text.as_ptr(),
            text.as_bytes().len() as u64
        ));
        clips_sys::Reset(env);
        let begun = cpu();
        let fired = clips_sys::Run(env, -1);
        let took = (cpu() - begun).as_secs_f64();
        clips_sys::DestroyEnvironment(env);
        (took, fired.unsigned_abs())
    }
}

/// Whether Debian's `clips` is there. Without `(exit)` it would read its closed input for ever.
pub(crate) fn debian_is_there(folder: &Path) -> bool {
    let script = folder.join("probe.clp");
    std::fs::write(&script, "(exit)\n").unwrap();
    let mut probe = Command::new("clips");
    probe.arg("-f2").arg(script).stdin(Stdio::null());
    let status = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Processor time of Debian's `clips` for a program, without what loading it takes.
pub(crate) fn debian(program: &Path, folder: &Path) -> f64 {
    let with = |ending: &str| {
        let script = folder.join("script.clp");
        let text = std::fs::read_to_string(program).unwrap();
        std::fs::write(&script, format!("{text}\n(reset)\n{ending}(exit)\n")).unwrap();
        let before = children();
        let status = Command::new("clips")
            .arg("-f2")
            .arg(&script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        (children() - before).as_secs_f64()
    };
    let loading = with("");
    (with("(run)\n") - loading).max(f64::MIN_POSITIVE)
}

/// Processor time of all children that have ended.
fn children() -> Duration {
    // SAFETY: all zeros is a valid value, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let part = |time: libc::timeval| {
        let micros = u64::try_from(time.tv_usec).unwrap();
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(micros)
    };
    part(usage.ru_utime) + part(usage.ru_stime)
}

/// A Python of the benchmark's own that has clipspy, or why there is none.
pub(crate) fn clipspy_python(target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("bench/clipspy");
    let python = folder.join("bin/python");
    let there = |python: &Path| {
        let mut probe = Command::new(python);
        probe.args(["-c", "import clips"]).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    if there(&python) {
        return Ok(python);
    }
    let steps: [(&Path, &[&str]); 2] = [
        (Path::new("python3"), &["-m", "venv"]),
        (
            &python,
            &[
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                CLIPSPY,
            ],
        ),
    ];
    for (index, (program, arguments)) in steps.into_iter().enumerate() {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null());
        if index == 0 {
            command.arg(&folder);
        }
        let status = command.status().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("{program:?} {arguments:?}: {status}"));
        }
    }
    Ok(python)
}

/// What `clipspy.py` says.
pub(crate) fn clipspy(python: &Path, folder: &Path, facts: usize, calls: usize) -> Value {
    let output = Command::new(python)
        .arg(folder.join("clipspy.py"))
        .arg(folder)
        .args([facts.to_string(), calls.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "clipspy: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Microseconds for `bytes` to another process and back, and the processor time of all rounds:
/// what two pipes cost by themselves.
pub(crate) fn pipes(bytes: usize, rounds: usize) -> (f64, Duration) {
    let mut cat = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let mut buffer = vec![7; bytes];
    let mut took = Vec::with_capacity(rounds);
    let before = cpu_of(0) + cpu_of(cat.id());
    for _ in 0..rounds {
        let begun = Instant::now();
        to.write_all(&buffer).unwrap();
        from.read_exact(&mut buffer).unwrap();
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let spent = cpu_of(0) + cpu_of(cat.id()) - before;
    drop(to);
    cat.wait().unwrap();
    (super::median(&mut took), spent)
}
