//! The node processes of the demo, and their end, whatever becomes of it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

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

/// Bytes of the end of a node's log that an error shows.
const LOG_SHOWN: usize = 1500;

/// One node process.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name in the mesh.
    pub(crate) name: String,
    /// Where its API listens.
    pub(crate) api: String,
    /// Talks to it.
    pub(crate) client: Client,
    address: String,
    data: PathBuf,
    child: Child,
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
    /// When a node does not start, with the end of its log.
    pub(crate) async fn start(count: u32) -> Result<Self, Fault> {
        let folder = tempfile::Builder::new().prefix("cpe-demo-").tempdir();
        let folder = folder.about("cannot make a folder for the nodes")?;
        let first = Member::start(folder.path(), 0, None).await?;
        let others = (1..count).map(|n| Member::start(folder.path(), n, Some(&first)));
        let others = try_join_all(others).await?;
        let mut members = vec![first];
        members.extend(others);
        Ok(Self { members, folder })
    }

    /// The node by whose API the demo does everything.
    ///
    /// # Errors
    /// Never, in truth: there is at least one node.
    pub(crate) fn first(&self) -> Result<&Member, Fault> {
        self.members
            .first()
            .ok_or_else(|| Fault::failed("there is no node"))
    }

    /// The node of this number, or the last when there are fewer.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    pub(crate) fn at(&self, number: usize) -> Result<&Member, Fault> {
        let member = self.members.get(number).or_else(|| self.members.last());
        member.ok_or_else(|| Fault::failed("there is no node"))
    }

    /// Where the mesh key is that other nodes would need.
    pub(crate) fn key(&self) -> PathBuf {
        self.members
            .first()
            .map(|first| first.data.join("mesh.key"))
            .unwrap_or_default()
    }

    /// An address other nodes can join by.
    pub(crate) fn address(&self) -> &str {
        self.members
            .first()
            .map(|first| first.address.as_str())
            .unwrap_or_default()
    }

    /// Waits until every node sees all others alive and linked.
    ///
    /// # Errors
    /// When they do not find together in time.
    pub(crate) async fn meet(&self) -> Result<(), Fault> {
        let wanted = self.members.len();
        let meet = async {
            for member in &self.members {
                while member.sees().await? < wanted {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            Ok(())
        };
        match timeout(READY_WITHIN, meet).await {
            Ok(met) => met,
            Err(_) => Err(Fault::unavailable(format!(
                "{wanted} nodes did not all see each other within {READY_WITHIN:?}"
            ))
            .next(self.logs())),
        }
    }

    /// A counter of all nodes together.
    ///
    /// # Errors
    /// When a node does not answer.
    pub(crate) async fn count(&self, counter: &str) -> Result<u64, Fault> {
        let mut sum = 0;
        for member in &self.members {
            let status = member.client.get("/v1/status", STATUS_WITHIN).await?;
            let of = status
                .get("counters")
                .and_then(|counters| counters.get(counter));
            sum += of.and_then(Value::as_u64).unwrap_or(0);
        }
        Ok(sum)
    }

    /// Asks all nodes to stop, one after another so that each can hand over what it is home of, and
    /// waits until they have.
    ///
    /// # Errors
    /// When one does not stop, or not with exit status 0.
    pub(crate) async fn stop(mut self) -> Result<(), Fault> {
        let mut wrong = Vec::new();
        while let Some(mut member) = self.members.pop() {
            match member.stop().await {
                Ok(status) if status.success() => {}
                Ok(status) => wrong.push(format!("node {} ended with {status}", member.name)),
                Err(why) => wrong.push(format!("node {}: {why}", member.name)),
            }
        }
        if wrong.is_empty() {
            return Ok(());
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
    async fn start(folder: &Path, number: u32, first: Option<&Self>) -> Result<Self, Fault> {
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
            return Err(Fault::failed(format!(
                "{about}: it did not say that it is ready: {end}"
            )));
        };
        let client = Client::new(&api);
        Ok(Self {
            name,
            api,
            client,
            address,
            data,
            child,
        })
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

    async fn stop(&mut self) -> Result<ExitStatus, String> {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|error| error.to_string())?;
        }
        match timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => {
                let killed = self.child.kill().await;
                let after = killed.map_or_else(|error| error.to_string(), |()| "killed".to_owned());
                Err(format!("it did not stop within {STOP_WITHIN:?}: {after}"))
            }
        }
    }
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
