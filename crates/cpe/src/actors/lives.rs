//! How named actors begin and end: on which node, under which options, and what becomes of the
//! name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cpe_mesh::ActorInfo;
use cpe_tuple::Value;
use tokio::time::Instant;

use super::envelope::{Answer, Envelope, NotStarted};
use super::spec::{Spec, Wishes};
use super::{Actors, ActorsError, DEADLINE_MAX, host, milliseconds};

/// How long an actor may take to start unless set otherwise.
pub const SPAWN_DEADLINE: Duration = Duration::from_secs(10);

/// How an actor is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnOptions {
    /// The node it is to live on: its name, node id or peer id. Any able one by default.
    pub node: Option<String>,
    /// Capabilities its node must have, also one that is named.
    pub require: BTreeMap<String, String>,
    /// The crowd it belongs to, by which `cpe apply` knows it again. None by default.
    pub crowd: Option<String>,
    /// How long it may take. [`SPAWN_DEADLINE`] by default.
    pub deadline: Duration,
    /// Keep its state at the home of its name, and let another node go on with it when its own is
    /// gone: each message is answered once what it changed lasts. Its kind must have snapshots. Not
    /// by default.
    pub durable: bool,
    /// The actor it will talk with most: it is placed on that one's node, whatever the load there,
    /// if that node is able, and is not moved away from it for balance. A wish: if there is no such
    /// actor, or its node is not able, it is placed as any other. It does not follow a move.
    pub near: Option<String>,
}

impl Default for SpawnOptions {
    fn default() -> Self {
        Self {
            node: None,
            require: BTreeMap::new(),
            crowd: None,
            deadline: SPAWN_DEADLINE,
            durable: false,
            near: None,
        }
    }
}

/// What was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The actor of the name.
    Actor,
    /// No actor had the name: what one that failed for good had committed was given up.
    State,
}

impl Actors {
    /// Starts an actor under a name that no live actor has, here or on another node. Done when the
    /// name is its own; for a durable one, when it has taken up its state and is through its
    /// [`started`](cpe_actors::Actor::started).
    ///
    /// With the handle that an actor has (that of its [`KindStart`](crate::KindStart)), and on
    /// another node, its kind learns that somebody else than that node's own people asked for it.
    ///
    /// # Errors
    /// [`ActorsError::NameTaken`], [`ActorsError::NoSuchNode`] when nobody suits,
    /// [`ActorsError::NotStarted`] when the kind refused or cannot take up what is kept under the
    /// name ([`stop`](Self::stop) gives that up), [`ActorsError::TimedOut`] and
    /// [`ActorsError::Unreachable`] for a node that did not answer: the actor may have started.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the actor may or may not start; its name tells.
    pub async fn spawn(
        &self,
        kind: &str,
        name: &str,
        args: Value,
        options: SpawnOptions,
    ) -> Result<ActorInfo, ActorsError> {
        let inner = &self.inner;
        let after = options.deadline.min(DEADLINE_MAX);
        let until = Instant::now() + after;
        let peers = inner.mesh.peers().await?;
        let host = inner.place(&peers, name, kind, &options, until).await?;
        let name = name.to_owned();
        let spec = Spec {
            kind: kind.to_owned(),
            args,
            wishes: Wishes {
                require: options.require,
                node: options.node,
                crowd: options.crowd,
                durable: options.durable,
                near: options.near,
                foreign: self.from.is_some(),
            },
        };
        let record = spec.to_value();
        let started = if host.node == inner.me.node {
            let starting = host::start(Arc::clone(inner), name.clone(), spec, until);
            // A task of its own: dropping this future must not leave a claim without an actor.
            match inner.tasks.spawn(starting).await {
                Ok(started) => started,
                Err(error) => Err(NotStarted::Cannot(error.to_string())),
            }
        } else {
            let request = |id| Envelope::Spawn {
                id,
                kind: spec.kind.clone(),
                name: name.clone(),
                args: spec.args.clone(),
                within_ms: milliseconds(after),
                wishes: spec.wishes.clone(),
            };
            match inner.call(host.node, until, request).await {
                Ok(Answer::Started(token)) => Ok(token),
                Ok(Answer::NotStarted(why)) => Err(why),
                Ok(Answer::Busy) => Err(NotStarted::Cannot("the node is busy".to_owned())),
                Ok(_) => Err(NotStarted::Cannot("it answered something else".to_owned())),
                Err(error) => return Err(inner.not_called(&name, host.node, after, error).await),
            }
        };
        match started {
            Ok(token) => {
                let (host, leased) = (Some(host), options.durable);
                Ok(ActorInfo {
                    name,
                    spec: record,
                    token,
                    host,
                    leased,
                    born: token,
                    kept: options.durable,
                })
            }
            Err(NotStarted::Taken(by)) => Err(ActorsError::NameTaken { actor: name, by }),
            Err(NotStarted::Cannot(reason) | NotStarted::Registry(reason)) => {
                let node = inner.node_name(host.node).await;
                Err(ActorsError::NotStarted {
                    actor: name,
                    node,
                    reason,
                })
            }
        }
    }

    /// Stops an actor and gives up its name, with the state of a durable one. A name whose node is
    /// gone is given up for it. If no actor has the name, as one that failed for good left it, the
    /// state that is kept under it is given up.
    ///
    /// # Errors
    /// [`ActorsError::NoSuchActor`], and those of a node that did not answer or an actor that did
    /// not end in time.
    pub async fn stop(&self, name: &str, deadline: Duration) -> Result<Stopped, ActorsError> {
        self.stop_as(name, deadline, false).await
    }

    /// As [`stop`](Self::stop), and what a durable actor has committed stays: the next one of its
    /// name goes on from it, whatever else is asked of that.
    ///
    /// # Errors
    /// As for [`stop`](Self::stop).
    pub async fn stop_keeping(
        &self,
        name: &str,
        deadline: Duration,
    ) -> Result<Stopped, ActorsError> {
        self.stop_as(name, deadline, true).await
    }

    async fn stop_as(
        &self,
        name: &str,
        deadline: Duration,
        keeps: bool,
    ) -> Result<Stopped, ActorsError> {
        let deadline = deadline.min(DEADLINE_MAX);
        let until = Instant::now() + deadline;
        let answer = self
            .request(name, deadline, until, |place, inner| {
                let name = name.to_owned();
                async move {
                    let token = place.token;
                    let here = place.host.node == inner.me.node;
                    if here || !inner.is_there(place).await.unwrap_or(true) {
                        return Ok(host::stop(&inner, &name, token, until, keeps).await);
                    }
                    let left = until.saturating_duration_since(Instant::now());
                    let within_ms = milliseconds(left);
                    let request = |id| Envelope::Stop {
                        id,
                        name,
                        token,
                        within_ms,
                        keeps,
                    };
                    inner.call(place.host.node, until, request).await
                }
            })
            .await;
        let answer = match answer {
            Err(error @ ActorsError::NoSuchActor(_)) if !keeps => {
                let cleared = self.inner.give_up_state(name, until).await?;
                return if cleared {
                    Ok(Stopped::State)
                } else {
                    Err(error)
                };
            }
            answer => answer?,
        };
        self.inner.forget(name);
        match answer {
            (Answer::Done, _) => Ok(Stopped::Actor),
            (other, host) => Err(self.inner.refused(name, host, deadline, other).await),
        }
    }
}
