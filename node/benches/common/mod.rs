//! Nodes as processes, for benchmarks: started, asked over HTTP, measured from outside, ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Whether a flag is on the command line.
pub(crate) fn asked(flag: &str) -> bool {
    std::env::args().any(|argument| argument == flag)
}

/// Looks again until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < LONG, "it never came to be that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Processor time of a process's threads so far.
pub(crate) fn cpu(process: u32) -> Duration {
    try_cpu(process).unwrap()
}

/// The same; none of a process that has ended.
pub(crate) fn try_cpu(process: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let of = |task: &Path| -> Option<u64> {
        let stat = std::fs::read_to_string(task.join("schedstat")).ok()?;
        stat.split(' ').next()?.parse().ok()
    };
    let sum = tasks.flatten().filter_map(|task| of(&task.path())).sum();
    Some(Duration::from_nanos(sum))
}

/// A `cpe node` process with a folder of its own.
pub(crate) struct Process {
    child: Child,
    folder: TempDir,
    pub(crate) api: String,
    /// Where clients of its NetWorkSpaces gateway connect.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub(crate) nws: String,
    pub(crate) address: String,
}

impl Process {
    /// Starts a node on free ports of loopback, in the mesh of `first` if there is one.
    pub(crate) fn start(first: Option<&Self>, args: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_cpe")), first, args)
    }

    /// The same on one core of the machine: so it has one worker of each kind.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub(crate) fn start_on(core: usize, first: Option<&Self>, args: &[&str]) -> Self {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &core.to_string()]);
        command.arg(env!("CARGO_BIN_EXE_cpe"));
        Self::start_by(command, first, args)
    }

    fn start_by(mut command: Command, first: Option<&Self>, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CPE_") {
                command.env_remove(name);
            }
        }
        command.env("CPE_NWS", "127.0.0.1:0");
        command.args(["node", "--json", "--log", "error"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0"]);
        command
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(args);
        if let Some(first) = first {
            command.args(["--bootstrap", &first.address, "--mesh-key"]);
            command.arg(first.key());
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        thread::spawn(move || out.read_to_string(&mut String::new()));
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("a node did not start ({error}): {line}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            child,
            api: text(&ready["api"]),
            nws: text(&ready["nws"]),
            address: text(&ready["addresses"][0]),
            folder,
        }
    }

    /// So many nodes of one mesh, once they see each other and, if they are three or more, every
    /// shard has three homes.
    pub(crate) fn mesh(count: usize, args: &[&str]) -> Vec<Self> {
        let mut nodes = vec![Self::start(None, args)];
        for _ in 1..count {
            let next = Self::start(nodes.first(), args);
            nodes.push(next);
        }
        until(
            "all nodes see each other, and shards have their homes",
            || {
                let homes: u64 = nodes.iter().map(|node| node.number("homes")).sum();
                let shards = nodes[0].number("shards") + nodes[0].number("volatile_shards");
                let group = if count < 3 { 1 } else { 3 };
                let seen = |node: &Self| node.number("alive") >= count as u64;
                nodes.iter().all(seen) && homes >= group * shards
            },
        );
        nodes
    }

    /// The mesh's key, in the folder of the node that founded it.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("data").join("mesh.key")
    }

    /// A number of the node's status.
    pub(crate) fn number(&self, field: &str) -> u64 {
        let status = self.get("/v1/status");
        status[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no {field} in {status}"))
    }

    /// Asks the node something.
    pub(crate) fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.api).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// Processor time of its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    /// Bytes of memory it has in use.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub(crate) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kilobytes: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
        kilobytes * 1024
    }

    /// Ends it at once, by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
