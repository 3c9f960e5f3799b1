//! The demo's two agents, and their second life elsewhere when their node dies.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::crowd::{Crowd, Member};
use crate::client::ClientError;
use crate::exit::Fault;

/// How long an agent may take to start, on one node or another.
const SPAWN_WITHIN: Duration = Duration::from_secs(30);

/// How long one try to start it may take.
const TRY_WITHIN: Duration = Duration::from_secs(10);

/// How long one message may take until it is answered.
const SAID_WITHIN: Duration = Duration::from_secs(5);

/// How long a message is sent again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two tries.
const REST: Duration = Duration::from_millis(200);

/// An agent, wherever it lives.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    crowd: &'a Crowd,
    kind: &'static str,
    name: &'static str,
    args: Value,
    /// The node it lives on. Held while it is started, so that it is started once.
    home: Mutex<String>,
}

impl<'a> Agent<'a> {
    /// Starts an agent on the node of this number, or on another one if that is dead.
    ///
    /// # Errors
    /// When no node starts it in time.
    pub(crate) async fn start(
        crowd: &'a Crowd,
        (kind, name): (&'static str, &'static str),
        args: Value,
        number: usize,
    ) -> Result<Self, Fault> {
        let agent = Self {
            crowd,
            kind,
            name,
            args,
            home: Mutex::default(),
        };
        let mut home = agent.home.lock().await;
        agent.settle(&mut home, number).await?;
        drop(home);
        Ok(agent)
    }

    /// The node it lives on.
    pub(crate) async fn home(&self) -> String {
        self.home.lock().await.clone()
    }

    /// Sends it a message by `how`, `ask` or `tell`, through any node, as often as it takes while
    /// nodes die: who uses it must bear that it gets one twice. The answer, and the node the agent
    /// lived on.
    ///
    /// # Errors
    /// When it refuses, or nothing helps.
    pub(crate) async fn say(&self, how: &str, message: &Value) -> Result<(Value, String), Fault> {
        let path = format!("/v1/actors/{}/{how}", self.name);
        let timeout_ms = u64::try_from(SAID_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let body = json!({"message": message, "timeout_ms": timeout_ms});
        let until = Instant::now() + PATIENCE;
        let mut turn = 0;
        loop {
            let home = self.alive().await?;
            let Some(through) = self.crowd.living(turn) else {
                return Err(Fault::unavailable("no node is left"));
            };
            match through.client.post(&path, &body, SAID_WITHIN).await {
                Ok(answer) => return Ok((answer, home)),
                Err(error) if may_pass(&error) && Instant::now() < until => {}
                Err(error) => return Err(error.into()),
            }
            turn += 1;
            tokio::time::sleep(REST).await;
        }
    }

    /// The node it lives on, where it is started again if its own has died.
    async fn alive(&self) -> Result<String, Fault> {
        let mut home = self.home.lock().await;
        let there = |member: &Member| member.name == *home && member.is_alive();
        if !self.crowd.members.iter().any(there) {
            let before = self
                .crowd
                .members
                .iter()
                .position(|member| member.name == *home);
            self.settle(&mut home, before.map_or(0, |number| number + 1))
                .await?;
        }
        Ok(home.clone())
    }

    async fn settle(&self, home: &mut MutexGuard<'_, String>, number: usize) -> Result<(), Fault> {
        let timeout_ms = u64::try_from(TRY_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let until = Instant::now() + SPAWN_WITHIN;
        loop {
            let Some(host) = self.crowd.living(number) else {
                return Err(Fault::unavailable("no node is left"));
            };
            let body = json!({
                "kind": self.kind, "name": self.name, "args": self.args, "node": host.name,
                "timeout_ms": timeout_ms,
            });
            // Through its own node: who starts it there lives as long as it does.
            let started = host.client.post("/v1/actors", &body, TRY_WITHIN).await;
            let Err(why) = started else {
                home.clone_from(&host.name);
                return Ok(());
            };
            // A first try may have been heard after all. And a name is free only once the mesh has
            // found out that the node of its bearer is dead.
            if let Some(member) = self.bearer(host).await {
                home.clone_from(&member.name);
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Fault::from(why));
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// The living node that has the agent already, as another one says.
    async fn bearer(&self, asked: &Member) -> Option<&'a Member> {
        let path = format!("/v1/actors/{}", self.name);
        let actor = asked.client.get(&path, SAID_WITHIN).await.ok()?;
        let node = actor.pointer("/host/node")?.as_str()?;
        let living = |member: &&Member| member.node == node && member.is_alive();
        self.crowd.members.iter().find(living)
    }
}

/// Whether trying again can help: the node asked, or the agent's, may be dead, and the others may
/// not know it yet.
fn may_pass(error: &ClientError) -> bool {
    let gone = ["not_found", "dead"].iter().any(|kind| error.is(kind));
    gone || error.is_unavailable()
}
