//! The node processes of the demo, and their end, whatever becomes of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::voice::Voice;
use crate::client::Client;
use crate::exit::{About, Fault};

/// How long a node may take until it is ready, and all of them until they see each other. On a
/// machine at rest both take well under a second.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long one question about a node may take.
const STATUS_WITHIN: Duration = Duration::from_secs(10);

/// How long a node may take to stop: its own deadline, and some time for the rest.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Members of a home group in a mesh of three and more nodes.
const GROUP: u64 = 3;

/// Bytes of the end of a node's log that an error shows.
const LOG_SHOWN: usize = 1500;

/// Why there is no mesh.
#[derive(Debug)]
pub(crate) enum NoMesh {
    /// A node was killed before the mesh could do without it: nothing is lost by starting again.
    Killed(String),
    /// Anything else.
    Fault(Fault),
}

impl NoMesh {
    /// A node has ended too early.
    fn of(name: &str, status: ExitStatus, logs: impl FnOnce() -> String) -> Self {
        if is_kill(status) {
            return Self::Killed(name.to_owned());
        }
        Self::Fault(Fault::failed(format!("node {name} ended with {status}")).next(logs()))
    }
}

impl From<Fault> for NoMesh {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// One node process.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name in the mesh.
    pub(crate) name: String,
    /// Its node id, in hexadecimal.
    pub(crate) node: String,
    /// Where its API listens.
    pub(crate) api: String,
    /// Talks to it.
    pub(crate) client: Client,
    address: String,
    /// Its folder.
    data: PathBuf,
    child: Mutex<Child>,
}

/// All of them. Dropped before [`stop`](Self::stop), they are killed.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// In the order they started; the first founded the mesh.
    pub(crate) members: Vec<Member>,
    folder: TempDir,
}

impl Crowd {
    /// Starts so many nodes on free ports of loopback; all but the first join the first.
    ///
    /// # Errors
    /// When a node does not start, with the end of its log, or is killed meanwhile.
    pub(crate) async fn start(count: u32) -> Result<Self, NoMesh> {
        let folder = tempfile::Builder::new().prefix("cpe-demo-").tempdir();
        let folder = folder.about("cannot make a folder for the nodes")?;
        let first = Member::start(folder.path(), 0, None).await?;
        let others = (1..count).map(|n| Member::start(folder.path(), n, Some(&first)));
        let others = try_join_all(others).await?;
        let mut members = vec![first];
        members.extend(others);
        Ok(Self { members, folder })
    }

    /// The node of this number, counted round, or the next one that lives.
    pub(crate) fn living(&self, number: usize) -> Option<&Member> {
        let count = self.members.len();
        let mut order = (0..count).filter_map(|n| self.members.get((number + n) % count));
        order.find(|member| member.is_alive())
    }

    /// Nodes that have ended, each with how.
    pub(crate) fn dead(&self) -> Vec<(&Member, ExitStatus)> {
        let dead = |member| Member::ended(member).map(|status| (member, status));
        self.members.iter().filter_map(dead).collect()
    }

    /// Where the mesh key is that other nodes would need.
    pub(crate) fn key(&self) -> PathBuf {
        let first = self.members.first();
        first
            .map(|member| member.data.join("mesh.key"))
            .unwrap_or_default()
    }

    /// An address other nodes can join by.
    pub(crate) fn address(&self) -> &str {
        self.living(0)
            .map(|member| member.address.as_str())
            .unwrap_or_default()
    }

    /// Waits until every node sees all others alive and linked.
    ///
    /// # Errors
    /// When they do not find together in time, or one is killed.
    pub(crate) async fn meet(&self) -> Result<(), NoMesh> {
        let wanted = self.members.len();
        let met = async || {
            for member in &self.members {
                if member.sees().await? < wanted {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let what = format!("{wanted} nodes did not all see each other");
        self.until(&what, met).await
    }

    /// Waits until every shard has a home group of three, where there are as many nodes: from then
    /// on the mesh can do without any one of them. It takes some ten seconds and shows how far it
    /// is.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub(crate) async fn spread(&self, voice: &Voice) -> Result<(), NoMesh> {
        if (self.members.len() as u64) < GROUP {
            return Ok(());
        }
        let shown = RefCell::new(None);
        let spread = async || {
            let (mut homes, mut shards) = (0, 0);
            for member in &self.members {
                let status = member.client.get("/v1/status", STATUS_WITHIN).await?;
                let number = |key: &str| status.get(key).and_then(Value::as_u64).unwrap_or(0);
                homes += number("homes");
                shards = number("shards") + number("volatile_shards");
            }
            let wanted = GROUP * shards;
            shown
                .borrow_mut()
                .get_or_insert_with(|| voice.progress("homes", wanted))
                .at(homes.min(wanted), "three for each shard")?;
            Ok(homes >= wanted)
        };
        let what = "the home groups did not all grow to three members";
        self.until(what, spread).await
    }

    /// Waits until something is so, while all nodes live.
    async fn until(
        &self,
        what: &str,
        so: impl AsyncFn() -> Result<bool, Fault>,
    ) -> Result<(), NoMesh> {
        let all = async {
            loop {
                let is_so = so().await;
                if matches!(is_so, Ok(true)) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
                // A node that is killed is silent first, and then found to be dead.
                if let Some((member, status)) = self.dead().into_iter().next() {
                    return Err(NoMesh::of(&member.name, status, || self.logs()));
                }
                is_so?;
            }
        };
        let late = || Fault::unavailable(format!("{what} within {READY_WITHIN:?}"));
        match timeout(READY_WITHIN, all).await {
            Ok(met) => met,
            Err(_) => Err(late().next(self.logs()).into()),
        }
    }

    /// A counter of each node that answers, by its name.
    pub(crate) async fn count(&self, counter: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.is_alive()) {
            // Who does not answer now is dead or about to be found so.
            let Ok(status) = member.client.get("/v1/status", STATUS_WITHIN).await else {
                continue;
            };
            let count = status
                .get("counters")
                .and_then(|counters| counters.get(counter)?.as_u64());
            counts.insert(member.name.clone(), count.unwrap_or(0));
        }
        counts
    }

    /// Asks all nodes to stop, one after another so that each can hand over what it is home of, and
    /// waits until they have. Gives the names of those that had been killed.
    ///
    /// # Errors
    /// When one does not stop, or ends in another way than with exit status 0 or SIGKILL.
    pub(crate) async fn stop(mut self) -> Result<Vec<String>, Fault> {
        let (mut killed, mut wrong) = (Vec::new(), Vec::new());
        while let Some(member) = self.members.pop() {
            let name = member.name.clone();
            match member.stop().await {
                Ok(status) if status.success() => {}
                Ok(status) if is_kill(status) => killed.push(name),
                Ok(status) => wrong.push(format!("node {name} ended with {status}")),
                Err(why) => wrong.push(format!("node {name}: {why}")),
            }
        }
        if wrong.is_empty() {
            return Ok(killed);
        }
        Err(Fault::failed(wrong.join("; ")).next(self.logs()))
    }

    /// The folder goes with the demo, so an error shows what matters of the logs.
    fn logs(&self) -> String {
        let ends = ('a'..='p').filter_map(|name| {
            let end = log_end(&self.folder.path().join(format!("{name}.log")))?;
            Some(format!("log of node {name}: {end}"))
        });
        ends.collect::<Vec<_>>().join("\n  ")
    }
}

impl Member {
    async fn start(folder: &Path, number: u32, first: Option<&Self>) -> Result<Self, NoMesh> {
        let name = name(number);
        let data = folder.join(&name);
        let log = folder.join(format!("{name}.log"));
        let about = format!("cannot start node {name}");
        let program = std::env::current_exe().about(&about)?;
        let mut command = Command::new(program);
        command.args(["node", "--name", &name, "--json", "--nws", "off"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0"]);
        command.args(["--log", "warn"]).arg("--data").arg(&data);
        if let Some(first) = first {
            command.arg("--mesh-key").arg(first.data.join("mesh.key"));
            command.args(["--bootstrap", &first.address]);
        }
        for (variable, _) in std::env::vars_os() {
            // What is set for nodes of one's own is not meant for these.
            if variable.to_string_lossy().starts_with("CPE_") {
                command.env_remove(variable);
            }
        }
        let errors = std::fs::File::create(&log).about(&about)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        // A group of their own: Ctrl-C reaches the demo alone, which then ends them in order.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().about(&about)?;
        let ready = timeout(READY_WITHIN, ready(&mut child))
            .await
            .ok()
            .flatten();
        let text = |name: &str| ready.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let address = ready
            .as_ref()
            .and_then(|ready| ready.pointer("/addresses/0")?.as_str());
        let (Some(api), Some(address)) = (text("api"), address.map(str::to_owned)) else {
            let end = log_end(&log).unwrap_or_else(|| "its log is empty".to_owned());
            if let Ok(Some(status)) = child.try_wait()
                && is_kill(status)
            {
                return Err(NoMesh::Killed(name));
            }
            let why = format!("{about}: it did not say that it is ready: {end}");
            return Err(Fault::failed(why).into());
        };
        let client = Client::new(&api);
        let status = client.get("/v1/status", STATUS_WITHIN).await;
        let node = status
            .ok()
            .and_then(|status| Some(status.get("node")?.as_str()?.to_owned()));
        Ok(Self {
            name,
            node: node.unwrap_or_default(),
            api,
            client,
            address,
            data,
            child: Mutex::new(child),
        })
    }

    /// Whether its process runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.ended().is_none()
    }

    /// How its process ended, if it has.
    fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().ok().flatten()
    }

    /// How many nodes it sees alive and has a link to, itself included.
    async fn sees(&self) -> Result<usize, Fault> {
        let peers = self.client.get("/v1/peers", STATUS_WITHIN).await?;
        let up = |peer: &&Value| {
            peer.get("state").and_then(Value::as_str) == Some("alive")
                && peer.get("linked").and_then(Value::as_bool) == Some(true)
        };
        Ok(peers
            .as_array()
            .map_or(0, |peers| peers.iter().filter(up).count()))
    }

    async fn stop(self) -> Result<ExitStatus, String> {
        let mut child = self
            .child
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status);
        }
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|error| error.to_string())?;
        }
        match timeout(STOP_WITHIN, child.wait()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => {
                let killed = child.kill().await;
                let after = killed.map_or_else(|error| error.to_string(), |()| "killed".to_owned());
                Err(format!("it did not stop within {STOP_WITHIN:?}: {after}"))
            }
        }
    }
}

/// Whether somebody killed it: a node that fails by itself ends otherwise.
fn is_kill(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// The line that a node writes once it is ready; later ones are read and dropped, for the pipe must
/// not fill up.
async fn ready(child: &mut Child) -> Option<Value> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    let line = lines.next_line().await.ok()??;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    serde_json::from_str(&line).ok()
}

/// `a`, `b`, `c`, ... A mesh of the demo has 16 at most.
fn name(number: u32) -> String {
    char::from_u32(u32::from('a') + number)
        .unwrap_or('?')
        .to_string()
}

fn log_end(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let text = text.trim();
    let from = text.ceil_char_boundary(text.len().saturating_sub(LOG_SHOWN));
    text.get(from..)
        .filter(|end| !end.is_empty())
        .map(str::to_owned)
}
