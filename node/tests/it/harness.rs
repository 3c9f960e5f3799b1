//! Starts nodes as processes and ends them, whatever becomes of the test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a node may take until it says that it is ready, on a machine that is busy testing.
const READY_WITHIN: Duration = Duration::from_secs(40);

/// How the story of a start that took longer begins.
const LATE: &str = "too late: ";

/// The binary with nothing of the tester's environment.
pub(crate) fn cpe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpe"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CPE_") {
            command.env_remove(name);
        }
    }
    // Nodes side by side must not compete for the gateway's one default port.
    command.env("CPE_NWS", "off");
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    Ran::of(cpe().args(args).output().unwrap())
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Demands an exit status.
    #[track_caller]
    pub(crate) fn code(self, wanted: i32) -> Self {
        assert_eq!(self.code, Some(wanted), "{self:#?}");
        self
    }

    /// Demands exit status 0 and reads the JSON document.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let this = self.code(0);
        serde_json::from_str(&this.out).unwrap_or_else(|error| panic!("{error}: {this:#?}"))
    }

    /// Demands that an error says something.
    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.err.contains(part), "{part:?} is not in {self:#?}");
        self
    }
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pub(crate) ready: Value,
    pub(crate) api: String,
    folder: Arc<TempDir>,
    log: Arc<Log>,
}

/// What a node wrote to standard error.
#[derive(Debug, Default)]
struct Log {
    /// The text so far, and whether there will be more.
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Log {
    fn read(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = String::new();
            while from.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                log.text.lock().unwrap().0.push_str(&line);
                log.more.notify_all();
                line.clear();
            }
            log.text.lock().unwrap().1 = true;
            log.more.notify_all();
        });
    }

    /// Waits until `so` of the text and whether it has ended.
    fn wait(&self, mut so: impl FnMut(&str, bool) -> bool) -> Result<String, String> {
        let text = self.text.lock().unwrap();
        let patience = READY_WITHIN;
        let (text, waited) = self
            .more
            .wait_timeout_while(text, patience, |(text, ended)| !so(text, *ended))
            .unwrap();
        if waited.timed_out() {
            return Err(text.0.clone());
        }
        Ok(text.0.clone())
    }
}

impl Node {
    /// Starts a node with a mesh of its own.
    pub(crate) fn alone() -> Self {
        Self::start(&[])
    }

    /// Starts a node on free ports of loopback and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = cpe();
        command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(["--api", "127.0.0.1:0"]).args(args);
        Self::run(command)
    }

    /// Runs a command that starts a node, with a data folder, and waits until it is ready.
    pub(crate) fn run(command: Command) -> Self {
        Self::run_in(command, Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Runs a command that starts a node with the data folder of another, which has stopped.
    pub(crate) fn run_in(mut command: Command, folder: Arc<TempDir>) -> Self {
        command.arg("--data").arg(folder.path().join("data"));
        Self::run_as_it_is(command, folder)
    }

    /// Runs a command that starts a node, as it is, and waits until it is ready. A node that was
    /// not in time, or found its port taken, is started once more: on a machine that is busy
    /// testing that says nothing about the node.
    pub(crate) fn run_as_it_is(mut command: Command, folder: Arc<TempDir>) -> Self {
        match Self::try_run(&mut command, &folder) {
            Ok(node) => node,
            Err(why) if why.starts_with(LATE) || why.contains("Address already in use") => {
                println!("a start failed, once more: {why}");
                Self::try_run(&mut command, &folder).unwrap_or_else(|why| panic!("{why}"))
            }
            Err(why) => panic!("{why}"),
        }
    }

    /// Why it did not start, otherwise.
    fn try_run(command: &mut Command, folder: &Arc<TempDir>) -> Result<Self, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Both pipes are read to their end by threads of their own: a full one would stop the node.
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).ok();
            sender.send(line).ok();
            out.read_to_string(&mut String::new()).ok();
        });
        let log = Arc::new(Log::default());
        log.read(child.stderr.take().unwrap());
        let line = receiver.recv_timeout(READY_WITHIN);
        let late = if line.is_err() { LATE } else { "" };
        let line = line.unwrap_or_default();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            child.kill().ok();
            let status = child.wait();
            let log = log.wait(|_, ended| ended).unwrap_or_else(|text| text);
            return Err(format!(
                "{late}the node said {line:?} and ended with {status:?}: {log}"
            ));
        };
        let api = ready["api"].as_str().unwrap().to_owned();
        let folder = Arc::clone(folder);
        Ok(Self {
            child,
            ready,
            api,
            folder,
            log,
        })
    }

    /// Waits until its log has this.
    #[track_caller]
    pub(crate) fn logs(&self, part: &str) {
        let logged = self.log.wait(|text, ended| ended || text.contains(part));
        let text = logged.unwrap_or_else(|text| text);
        assert!(text.contains(part), "{part:?} is not in {text}");
    }

    /// Starts another node of this one's mesh.
    pub(crate) fn join(&self, args: &[&str]) -> Self {
        let key = self.data().join("mesh.key");
        let mut all = vec![
            "--mesh-key",
            key.to_str().unwrap(),
            "--bootstrap",
            self.address(),
        ];
        all.extend(args);
        Self::start(&all)
    }

    /// Three nodes of one mesh that all see each other alive.
    pub(crate) fn three() -> [Self; 3] {
        let a = Self::start(&["--name", "a"]);
        let b = a.join(&["--name", "b"]);
        let c = a.join(&["--name", "c"]);
        for node in [&a, &b, &c] {
            node.sees(3);
        }
        [a, b, c]
    }

    /// Waits until so many members are alive and linked, this node among them.
    #[track_caller]
    pub(crate) fn sees(&self, members: usize) {
        until(&format!("{members} members are alive and linked"), || {
            let peers = self.cpe(&["mesh", "peers", "--json"]).json();
            let up = |peer: &&Value| peer["state"] == "alive" && peer["linked"] == true;
            peers.as_array().unwrap().iter().filter(up).count() == members
        });
    }

    /// Waits until each shard written to has a home group of three, so that one of them may die.
    #[track_caller]
    pub(crate) fn has_homes(&self) {
        until("all shards have three homes", || {
            let shards = self.cpe(&["mesh", "shards", "--json"]).json();
            let whole = |shard: &Value| {
                let members = shard["members"].as_array().map_or(0, Vec::len);
                members == 3 && !shard["leader"].is_null()
            };
            shards.as_array().unwrap().iter().all(whole)
        });
    }

    /// The folder that goes with the node; keeping it outlives the node.
    pub(crate) fn keep_folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// A folder that goes with the node, for a test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An address other nodes can dial.
    pub(crate) fn address(&self) -> &str {
        self.ready["addresses"][0].as_str().unwrap()
    }

    /// A command that talks to this node.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = cpe();
        command.args(args).env("CPE_API", &self.api);
        command
    }

    /// Runs a command that talks to this node.
    pub(crate) fn cpe(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Freezes it. When this returns none of its threads goes on: the signal alone stops them one
    /// by one, as each is given a processor.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.pid());
        until("all its threads are stopped", || {
            let threads = std::fs::read_dir(&threads).unwrap();
            threads.flatten().all(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat"));
                // One that has ended meanwhile is not there.
                stat.is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" T"))
            })
        });
    }

    /// How many requests wait at this node, of whomever: for an answer, or at their homes here.
    pub(crate) fn waiting(&self) -> u64 {
        let status = self.cpe(&["mesh", "status", "--json"]).json();
        status["waiting"].as_u64().unwrap()
    }

    /// How many requests of the node's own workers wait: once it has been the same for a while.
    pub(crate) fn own_waiting(&self) -> u64 {
        let (mut last, mut same) = (0, 0);
        until("a node's own workers wait", || {
            let now = self.waiting();
            same = if now == last { same + 1 } else { 0 };
            last = now;
            now > 0 && same == 20
        });
        last
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(self) -> ExitStatus {
        self.end_by(Signal::TERM).0
    }

    /// Waits until it has ended by itself: its exit status and all that it wrote to standard error.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let log = self.log.wait(|_, ended| ended).unwrap();
        (self.child.wait().unwrap(), log)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it by a signal: its exit status and all that it wrote to standard error.
    pub(crate) fn end_by(mut self, signal: Signal) -> (ExitStatus, String) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        (status, self.log.wait(|_, ended| ended).unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // By its handle, hence by its id: nothing else can be hit.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Asks again until something is so; fails after three minutes.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    // Most questions start a process, which paces this loop. The bound only ends a test that
    // would never end.
    const PATIENCE: Duration = Duration::from_secs(180);
    #[expect(clippy::disallowed_methods, reason = "real nodes take real time")]
    let begun = Instant::now();
    while !so() {
        assert!(
            begun.elapsed() < PATIENCE,
            "it never came to be that {what}"
        );
        thread::yield_now();
    }
}
