//! One run of a program, within limits, and what became of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cpe::Value;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::user::User;
use crate::reaper::Group;

/// Exit status of what could not be started, as shells have it.
const NOT_STARTED: i32 = 127;

/// How long what a program wrote may take to be read once it has ended, and all of its group.
/// Longer, and somebody who got away holds its output open: that one is not waited for.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Variables of the environment that programs get, and those among them that are of the user.
const PASSED_ON: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
];
const OF_USER: [&str; 3] = ["HOME", "USER", "LOGNAME"];

/// What a node allows a program, and how it runs it.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How long it may take.
    pub(crate) within: Duration,
    /// Bytes of memory it may map; none: as many as there are.
    pub(crate) memory: Option<u64>,
    /// Bytes it may write to standard output, and as many to standard error.
    pub(crate) output: usize,
    /// The user and group it runs as; none: the node's own.
    pub(crate) user: Option<User>,
    /// Where it runs.
    pub(crate) folder: PathBuf,
}

/// What became of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ran {
    /// Its exit status; none if it was killed, or lost with its node.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) out: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) err: Vec<u8>,
    /// How long it took.
    pub(crate) took: Duration,
    /// Why it has no exit status, or was not started.
    pub(crate) why: Option<String>,
    /// What a function returned, which is what `out` has as text.
    pub(crate) value: Option<Value>,
}

impl Ran {
    /// As it stands in the space.
    pub(crate) fn to_value(&self) -> Value {
        let value = self.value.clone().map(|value| ("value", value));
        let entries = [
            (
                "code",
                self.code
                    .map_or(Value::Null, |code| Value::Int(code.into())),
            ),
            ("out", Value::Bytes(self.out.clone())),
            ("err", Value::Bytes(self.err.clone())),
            (
                "us",
                Value::Int(i64::try_from(self.took.as_micros()).unwrap_or(i64::MAX)),
            ),
            ("why", self.why.as_deref().map_or(Value::Null, Value::from)),
        ];
        let entries = entries
            .into_iter()
            .chain(value)
            .map(|(key, value)| (key.to_owned(), value));
        Value::Map(entries.collect::<BTreeMap<_, _>>())
    }

    /// Reads it back; `None` for what is none.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let map = value.as_map()?;
        let bytes = |key: &str| map.get(key).and_then(Value::as_bytes).map(<[u8]>::to_vec);
        let code = map.get("code")?.as_int();
        let took = u64::try_from(map.get("us")?.as_int()?).ok()?;
        Some(Self {
            code: code.and_then(|code| i32::try_from(code).ok()),
            out: bytes("out")?,
            err: bytes("err")?,
            took: Duration::from_micros(took),
            why: map.get("why").and_then(Value::as_str).map(str::to_owned),
            value: map.get("value").cloned(),
        })
    }

    /// Whether it failed.
    pub(crate) fn is_failure(value: &Value) -> bool {
        Self::of(value).is_none_or(|ran| ran.code != Some(0))
    }

    fn failed(code: Option<i32>, why: String) -> Self {
        Self {
            code,
            why: Some(why),
            ..Self::default()
        }
    }
}

/// Runs a program to its end, or to the first limit that it meets.
///
/// # Cancel safety
/// Dropped before, the program is killed, with all that it started.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a program took is real time"
)]
pub(crate) async fn run(
    program: &str,
    args: &[Vec<u8>],
    input: Option<&[u8]>,
    limits: &Limits,
) -> Ran {
    let began = Instant::now();
    let mut command = limited(program, limits.memory);
    command
        .args(args.iter().map(|arg| OsStr::from_bytes(arg)))
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)))
        .current_dir(&limits.folder)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(user) = &limits.user {
        command.uid(user.id).gid(user.group);
        // Those of the node's user would lead it where it may not be.
        for name in OF_USER {
            command.env_remove(name);
        }
        if let Some((name, home)) = &user.known {
            command.env("HOME", home);
            command.env("USER", name).env("LOGNAME", name);
        }
    }
    let mut group = match Group::spawn(&mut command) {
        Ok(group) => group,
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::ArgumentListTooLong => "its arguments are too long".to_owned(),
                _ => format!("`{program}` cannot be started: {error}"),
            };
            return Ran::failed(Some(NOT_STARTED), why);
        }
    };
    let mut written = Written::default();
    let conversing = converse(&mut group, input, limits.output, &mut written);
    let ended = tokio::time::timeout(limits.within, conversing).await;
    let (code, why) = match ended {
        Ok(Ok(status)) => (status.code(), killed(status)),
        Ok(Err(why)) => (None, Some(why)),
        Err(_) => {
            let within = humantime::format_duration(limits.within);
            (None, Some(format!("it did not end within {within}")))
        }
    };
    let Written { mut out, mut err } = written;
    // What is too much was read to know that it is.
    out.truncate(limits.output);
    err.truncate(limits.output);
    Ran {
        code,
        out,
        err,
        took: began.elapsed(),
        why,
        value: None,
    }
}

/// A program that cannot map more memory than that from its beginning: a shell bounds itself, and
/// becomes the program.
fn limited(program: &str, memory: Option<u64>) -> Command {
    let Some(memory) = memory else {
        return Command::new(program);
    };
    let mut command = Command::new("/bin/sh");
    let script = "ulimit -v \"$0\" && exec \"$@\"";
    let kibibytes = (memory / 1024).max(1).to_string();
    command.args(["-c", script, &kibibytes, program]);
    command
}

/// Whether a variable of the node's environment is passed on: what programs need to find their way,
/// and nothing that is meant for the node.
fn is_passed_on(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| PASSED_ON.contains(&name) || name.starts_with("LC_"))
}

/// What a program has written so far.
#[derive(Debug, Default)]
struct Written {
    out: Vec<u8>,
    err: Vec<u8>,
}

/// Feeds it and reads what it writes, until it has ended. What it started ends with it, whether
/// that holds its output open or not.
async fn converse(
    group: &mut Group,
    input: Option<&[u8]>,
    output_max: usize,
    written: &mut Written,
) -> Result<ExitStatus, String> {
    let (stdin, stdout, stderr) = (
        group.child.stdin.take(),
        group.child.stdout.take(),
        group.child.stderr.take(),
    );
    // All at once: a program may write before it has read all.
    let feeding = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // It need not read its input.
            let _ = stdin.write_all(input).await;
        }
    };
    let reading = async {
        tokio::try_join!(
            first(stdout, output_max, "standard output", &mut written.out),
            first(stderr, output_max, "standard error", &mut written.err)
        )
    };
    let mut conversing = pin!(async { tokio::join!(reading, feeding).0.map(drop) });
    let read = tokio::select! {
        read = &mut conversing => Some(read),
        true = has_ended(group) => None,
    };
    let is_read = read.transpose()?.is_some();
    // Before it is waited for: until then its number is that of no other group.
    if has_ended(group).await {
        group.kill();
    }
    if !is_read {
        match tokio::time::timeout(READ_WITHIN, conversing).await {
            Ok(read) => read?,
            Err(_) => tracing::debug!("what a program started holds its output open"),
        }
    }
    let status = group.child.wait().await;
    status.map_err(|error| format!("it cannot be waited for: {error}"))
}

/// Waits for its end and leaves it to be waited for; false when that cannot be done here.
async fn has_ended(group: &Group) -> bool {
    let (Some(pid), Ok(mut ends)) = (group.pid(), signal(SignalKind::child())) else {
        return false;
    };
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), how) {
            Ok(Some(_)) => return true,
            Ok(None) => {}
            Err(_) => return false,
        }
        // Of some child; one that ended since the look above is told too.
        if ends.recv().await.is_none() {
            return false;
        }
    }
}

fn killed(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal()?;
    Some(format!("it was ended by signal {signal}"))
}

/// Reads all that comes, if it is not more than so much.
async fn first(
    from: Option<impl AsyncRead + Unpin>,
    bytes_max: usize,
    what: &str,
    bytes: &mut Vec<u8>,
) -> Result<(), String> {
    let Some(from) = from else { return Ok(()) };
    let most = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let read = from.take(most).read_to_end(bytes).await;
    read.map_err(|error| format!("its {what} cannot be read: {error}"))?;
    if bytes.len() > bytes_max {
        return Err(format!(
            "it wrote more than {bytes_max} bytes to {what} and was ended: let it write to a file"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            within: Duration::from_secs(60),
            memory: None,
            output: 1 << 16,
            user: None,
            folder: std::env::temp_dir(),
        }
    }

    async fn sh(script: &str, input: Option<&[u8]>, limits: &Limits) -> Ran {
        let args = ["-c", script, "sh", "it's $HOME"].map(|arg| arg.as_bytes().to_vec());
        run("sh", &args, input, limits).await
    }

    #[tokio::test]
    async fn streams_and_exit_status_are_carried() {
        let ran = sh(
            "cat; printf '%s' \"$1\" >&2; exit 7",
            Some(b"in\xff"),
            &limits(),
        )
        .await;
        assert_eq!((ran.code, ran.why.as_deref()), (Some(7), None));
        assert_eq!(
            (&ran.out[..], &ran.err[..]),
            (&b"in\xff"[..], &b"it's $HOME"[..])
        );
        let read = Ran::of(&ran.to_value()).unwrap();
        assert_eq!(
            (&read.out, &read.err, read.code),
            (&ran.out, &ran.err, ran.code)
        );
        assert!(Ran::is_failure(&ran.to_value()) && Ran::is_failure(&Value::Null));
        let good = sh("exit 0", None, &limits()).await;
        assert!(!Ran::is_failure(&good.to_value()));
        let none = run("/no/such/program", &[], None, &limits()).await;
        assert_eq!(none.code, Some(NOT_STARTED));
        assert!(none.why.unwrap().contains("cannot be started"));
    }

    #[tokio::test]
    async fn a_program_that_meets_a_limit_is_ended_with_all_that_it_started() {
        let mut short = limits();
        short.within = Duration::from_millis(200);
        // The child of the shell holds the pipes open; it ends with the shell.
        let ran = sh("sleep 1000 & wait", None, &short).await;
        assert_eq!(
            (ran.code, ran.why.as_deref()),
            (None, Some("it did not end within 200ms"))
        );
        // Gigabytes: read as far as allowed, and no further.
        let ran = run("yes", &[], None, &limits()).await;
        assert!(
            ran.why
                .unwrap()
                .contains("more than 65536 bytes to standard output")
        );
        let ran = sh("kill -9 $$", None, &limits()).await;
        assert_eq!(
            (ran.code, ran.why.as_deref()),
            (None, Some("it was ended by signal 9"))
        );
    }

    #[tokio::test]
    async fn it_runs_as_the_user_it_should() {
        if !rustix::process::geteuid().is_root() {
            // Nobody else may run programs as others; said where skipped tests are said.
            if let Some(path) = std::env::var_os("CPE_SKIPPED_TESTS") {
                let file = std::fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path);
                let line = b"it_runs_as_the_user_it_should: needs root\n";
                std::io::Write::write_all(&mut file.unwrap(), line).unwrap();
            }
            return;
        }
        let mut other = limits();
        other.user = Some(User {
            id: 65_534,
            group: 65_533,
            known: Some(("nobody".to_owned(), "/nonexistent".into())),
        });
        let script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME";
        let ran = sh(script, None, &other).await;
        assert_eq!(
            String::from_utf8_lossy(&ran.out),
            "65534\n65533\n65533\n/nonexistent nobody nobody\n",
            "{ran:?}"
        );
        // One without a name has none, and not the node's.
        other.user = other.user.map(|user| User {
            known: None,
            ..user
        });
        let ran = sh(
            "echo ${HOME-none} ${USER-none} ${LOGNAME-none}",
            None,
            &other,
        )
        .await;
        assert_eq!(ran.out, b"none none none\n", "{ran:?}");
    }

    #[tokio::test]
    async fn memory_is_limited() {
        let mut small = limits();
        small.memory = Some(64 << 20);
        // Wants twice as much.
        let script = "head -c 134217728 /dev/zero | tail -c 134217728 | wc -c";
        let ran = sh(script, None, &small).await;
        assert!(
            !String::from_utf8_lossy(&ran.out).contains("134217728"),
            "{ran:?}"
        );
        // From the beginning on, for it and all that it starts.
        let ran = sh("ulimit -v; ulimit -H -v", None, &small).await;
        assert_eq!(ran.out, b"65536\n65536\n", "{ran:?}");
        let none = run("/no/such/program", &[], None, &small).await;
        assert_eq!(none.code, Some(NOT_STARTED));
    }

    /// What it leaves behind, with nothing open that anybody reads.
    #[tokio::test]
    async fn what_a_program_started_ends_with_it() {
        let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
        let ran = sh(script, None, &limits()).await;
        assert_eq!((ran.code, ran.why.as_deref()), (Some(0), None));
        let pid: u32 = String::from_utf8_lossy(&ran.out).trim().parse().unwrap();
        // Killed, and perhaps not yet waited for by whoever has it now.
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let ends = async {
            while state().is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), ends).await;
        assert!(ended.is_ok(), "{:?}", state());
    }

    #[tokio::test]
    async fn what_holds_the_output_open_costs_its_command_nothing() {
        let mut long = limits();
        long.within = Duration::from_secs(3600);
        let soon = Duration::from_secs(30);
        let script = "sleep 1000 & echo hi";
        let ran = tokio::time::timeout(soon, sh(script, None, &long));
        let ran = ran.await.unwrap();
        assert_eq!((ran.code, ran.why.as_deref()), (Some(0), None));
        assert_eq!(ran.out, b"hi\n");
        // One that got away holds it still.
        let script = "setsid sleep 1000 & echo $!";
        let ran = tokio::time::timeout(soon, sh(script, None, &long));
        let ran = ran.await.unwrap();
        assert_eq!((ran.code, ran.why.as_deref()), (Some(0), None));
        let pid: i32 = String::from_utf8_lossy(&ran.out).trim().parse().unwrap();
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        );
    }

    #[tokio::test]
    async fn what_was_written_before_a_limit_is_kept() {
        let mut short = limits();
        short.within = Duration::from_secs(2);
        let ran = sh("echo begun; echo why >&2; sleep 1000", None, &short).await;
        assert_eq!(
            (&ran.out[..], &ran.err[..]),
            (&b"begun\n"[..], &b"why\n"[..])
        );
        let ran = sh("echo why >&2; yes", None, &limits()).await;
        assert!(ran.out.starts_with(b"y\ny\n"));
        assert_eq!((ran.out.len(), &ran.err[..]), (1 << 16, &b"why\n"[..]));
    }

    #[tokio::test]
    async fn the_environment_of_the_node_is_its_own() {
        let ran = sh("env", None, &limits()).await;
        let names = String::from_utf8_lossy(&ran.out).into_owned();
        let names = names.lines().filter_map(|line| line.split_once('='));
        let names: Vec<_> = names.map(|(name, _)| name.to_owned()).collect();
        assert!(names.iter().any(|name| name == "PATH"));
        // The shell sets some itself. Tests run with those of cargo.
        let own = ["PWD", "OLDPWD", "SHLVL", "_"];
        let passed = |name: &String| own.contains(&name.as_str()) || is_passed_on(name.as_ref());
        assert!(names.iter().all(passed), "{names:?}");
        let mut own = std::env::vars_os();
        assert!(
            own.any(|(name, _)| !is_passed_on(&name)),
            "nothing to keep back"
        );
    }
}
