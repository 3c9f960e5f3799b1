//! Moves the durable actors of this node to others: those that it no longer has what they need for,
//! those that a node which has come could run as well, and all when it goes. What is to move is
//! decided in [`balance`](super::balance).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{ActorInfo, Command, PeerInfo, Reply, meets};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::balance::{Guest, Host, Move, Occasion, View};
use super::envelope::Answer;
use super::host::Hosted;
use super::spec::Spec;
use super::{Inner, lock, migrate, place};
use crate::SpaceError;

/// How often a node looks whether its actors fit; what it hears itself it looks at sooner.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at least, however much happens.
const LOOK_AT_LEAST: Duration = Duration::from_millis(100);

/// Actors under way at once from a node that should not run them.
const HANDED_AT_ONCE: usize = 64;

/// How long one move may take before it counts as failed: so long it waits for the message that the
/// actor is at. One that has come further goes on.
const MOVE_DEADLINE: Duration = Duration::from_secs(30);

/// The pause after the first failed move of an actor; it doubles with each.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// The longest such pause.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How a node spreads its durable actors over the others when a node has come.
///
/// Three seconds after the last node came, or got another capability, each node hands actors on to
/// those that have at least two fewer and meet their needs, until there are none. An actor that was
/// started for the node where it is stays there, and one that is beside the actor that it was to be
/// near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// Actors that this node hands on at the same time, at most; 1 at least.
    pub at_once: usize,
    /// Actors that it hands on in a second, at most; 1 at least.
    pub per_second: usize,
}

impl Default for Rebalance {
    /// 8 at once, 50 a second.
    fn default() -> Self {
        Self {
            at_once: 8,
            per_second: 50,
        }
    }
}

/// The nodes as places for durable actors. This one runs the kinds that it has, also where its card
/// has no room for them.
fn hosts(inner: &Inner, peers: &[PeerInfo]) -> Vec<Host> {
    let alive = peers.iter().filter(|peer| place::is_alive(peer));
    alive
        .map(|peer| Host {
            node: peer.node,
            takes: peer.state == "alive" && peer.linked && !place::is_draining(peer),
            capabilities: {
                let mut has = peer.capabilities.clone();
                if peer.node == inner.me.node && !has.contains_key(place::KINDS) {
                    let kinds: Vec<_> = inner.registry.names().collect();
                    has.insert(place::KINDS.to_owned(), kinds.join(","));
                }
                has
            },
        })
        .collect()
}

/// What the registry and the members say together.
fn view(inner: &Inner, peers: &[PeerInfo], all: &[ActorInfo]) -> View {
    let mut classes = BTreeMap::new();
    let mut view = View {
        hosts: hosts(inner, peers),
        ..View::default()
    };
    let hosts: BTreeMap<&str, NodeId> = all
        .iter()
        .filter_map(|info| Some((info.name.as_str(), info.host?.node)))
        .collect();
    for info in all.iter().filter(|info| info.leased) {
        let (Some(host), Some(spec)) = (info.host, Spec::from_value(&info.spec)) else {
            continue;
        };
        let peer = peers.iter().find(|peer| peer.node == host.node);
        let named = spec.wishes.node.as_deref().zip(peer);
        let near = spec.wishes.near.as_deref().and_then(|near| hosts.get(near));
        let near = near == Some(&host.node);
        let next = classes.len();
        let class = *classes.entry(spec.needs()).or_insert(next);
        view.guests.push(Guest {
            name: info.name.clone(),
            host: host.node,
            class,
            stays: named.is_some_and(|(node, peer)| place::is_meant(peer, node)) || near,
        });
    }
    let mut needs: Vec<_> = classes.into_iter().collect();
    needs.sort_by_key(|(_, class)| *class);
    view.needs = needs.into_iter().map(|(needs, _)| needs).collect();
    view
}

/// What became of a move.
struct Moved {
    name: String,
    done: bool,
}

/// See the module.
struct Mover {
    inner: Arc<Inner>,
    rebalance: Option<Rebalance>,
    began: Instant,
    occasion: Occasion,
    /// To be moved for balance, with their tokens, within this second.
    queue: VecDeque<(Move, u64)>,
    evened: Instant,
    moving: FuturesUnordered<BoxFuture<'static, Moved>>,
    names: BTreeSet<String>,
    /// When to try an actor again whose move failed, and the pause before that.
    failed: BTreeMap<String, (Instant, Duration)>,
    /// Actors that nobody can take, which was told.
    stuck: BTreeSet<String>,
}

/// Runs until the node stops.
pub(crate) async fn run(
    inner: Arc<Inner>,
    mut changes: watch::Receiver<u64>,
    rebalance: Option<Rebalance>,
    stop: CancellationToken,
) {
    let began = Instant::now();
    let mut mover = Mover {
        inner,
        rebalance,
        began,
        occasion: Occasion::default(),
        queue: VecDeque::new(),
        evened: began,
        moving: FuturesUnordered::new(),
        names: BTreeSet::new(),
        failed: BTreeMap::new(),
        stuck: BTreeSet::new(),
    };
    let mut looked = began;
    let mut next = began + LOOK;
    loop {
        let busy = !mover.moving.is_empty();
        tokio::select! {
            () = stop.cancelled() => return,
            Some(moved) = mover.moving.next(), if busy => mover.moved(moved),
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                next = next.min(looked + LOOK_AT_LEAST);
            }
            () = tokio::time::sleep_until(next) => {
                looked = Instant::now();
                next = looked + LOOK;
                if mover.inner.is_leaving() || mover.look().await.is_err() {
                    return;
                }
            }
        }
        mover.go_on();
    }
}

impl Mover {
    async fn look(&mut self) -> Result<(), SpaceError> {
        let me = self.inner.me.node;
        let peers = self.inner.mesh.peers().await?;
        let now = Instant::now();
        let hosts = hosts(&self.inner, &peers);
        let due = self.occasion.see(now.duration_since(self.began), &hosts);
        let own = hosts.iter().find(|host| host.node == me);
        let unfit = own.is_some_and(|own| self.inner.has_unfit(own));
        if !unfit {
            self.failed.clear();
            self.stuck.clear();
        }
        let idle = self.queue.is_empty() && self.moving.is_empty();
        let evens = due && idle && self.evened + Duration::from_secs(1) <= now;
        if !unfit && !evens {
            return Ok(());
        }
        let all = self.inner.all().await?;
        let view = view(&self.inner, &peers, &all);
        let tokens: BTreeMap<&str, u64> = all
            .iter()
            .map(|info| (info.name.as_str(), info.token))
            .collect();
        let token = |name: &str| tokens.get(name).copied().unwrap_or_default();
        if unfit {
            let (moves, stuck) = view.must_go(me);
            for it in moves {
                let waits = self.failed.get(&it.name).is_some_and(|(at, _)| *at > now);
                if self.moving.len() >= HANDED_AT_ONCE {
                    break;
                }
                if !waits && !self.names.contains(&it.name) {
                    let token = token(&it.name);
                    self.begin(it, token, "its node no longer has what it needs");
                }
            }
            for name in &stuck {
                if !self.stuck.contains(name) {
                    let why = "its node no longer has what it needs, and nobody else has it";
                    tracing::warn!(actor = %name, "{why}: it goes on here until somebody has");
                }
            }
            self.stuck = stuck.into_iter().collect();
        } else if let Some(rebalance) = self.rebalance {
            let evening = view.even(me, rebalance.per_second.max(1));
            self.occasion.looked(&evening);
            self.evened = now;
            let own = evening.own.into_iter();
            self.queue = own
                .map(|it| {
                    let token = token(&it.name);
                    (it, token)
                })
                .collect();
        }
        Ok(())
    }

    /// Begins what of the queue may be under way.
    fn go_on(&mut self) {
        let at_once = self
            .rebalance
            .map_or(1, |rebalance| rebalance.at_once.max(1));
        while self.moving.len() < at_once {
            let Some((it, token)) = self.queue.pop_front() else {
                return;
            };
            if !self.names.contains(&it.name) {
                self.begin(it, token, "another node has fewer actors");
            }
        }
    }

    fn begin(&mut self, Move { name, to }: Move, token: u64, why: &'static str) {
        self.names.insert(name.clone());
        let inner = Arc::clone(&self.inner);
        self.moving.push(Box::pin(async move {
            let until = Instant::now() + MOVE_DEADLINE;
            let done = hand_on(&inner, &name, token, to, why, until).await;
            Moved { name, done }
        }));
    }

    fn moved(&mut self, Moved { name, done }: Moved) {
        self.names.remove(&name);
        if done {
            self.failed.remove(&name);
            return;
        }
        let last = self.failed.get(&name).map(|(_, pause)| *pause);
        let pause = last.map_or(FAILED_PAUSE, |last| (last * 2).min(FAILED_PAUSE_MAX));
        self.failed.insert(name, (Instant::now() + pause, pause));
    }
}

/// Hands an actor of this node on; false if it did not come to that.
async fn hand_on(
    inner: &Arc<Inner>,
    name: &str,
    token: u64,
    to: NodeId,
    why: &'static str,
    until: Instant,
) -> bool {
    let handing = migrate::hand_on(Arc::clone(inner), name.to_owned(), token, to, until);
    match handing.await {
        Answer::Done => {
            tracing::info!(actor = %name, %to, %why, "moved");
            true
        }
        // It is somewhere else already, or has ended.
        Answer::NotHere => true,
        other => {
            tracing::warn!(actor = %name, %to, ?other, "not moved");
            false
        }
    }
}

impl Inner {
    /// All records of named actors.
    pub(super) async fn all(&self) -> Result<Vec<ActorInfo>, SpaceError> {
        match self.desk.ask(Command::Actors).await? {
            Reply::Actors(all) => Ok(all),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Whether this node runs a durable actor that it should not.
    fn has_unfit(&self, own: &Host) -> bool {
        let hosted = lock(&self.hosted);
        let mut durable = hosted.values().filter_map(|it| it.durable.as_ref());
        durable.any(|it| !own.takes || !meets(&own.capabilities, &it.needs))
    }

    /// Hands all durable actors of a node that stops to others, as far as there are any that take
    /// them. Nobody hands one to this node from now on.
    pub(super) async fn hand_all_on(self: &Arc<Self>, until: Instant) -> Result<(), SpaceError> {
        let is_durable = |hosted: &Hosted| hosted.durable.is_some();
        if !lock(&self.hosted).values().any(is_durable) {
            return Ok(());
        }
        let me = self.me.node;
        let why = "its node stops";
        // Who refuses may be about to stop too.
        let mut refused = BTreeSet::from([me]);
        while Instant::now() < until {
            let peers = self.mesh.peers().await?;
            let all = self.all().await?;
            let tokens: BTreeMap<&str, u64> = all
                .iter()
                .map(|info| (info.name.as_str(), info.token))
                .collect();
            let mut view = view(self, &peers, &all);
            for host in &mut view.hosts {
                host.takes &= !refused.contains(&host.node);
            }
            let here = |it: &Move| {
                let token = tokens.get(it.name.as_str()).copied()?;
                self.inbox(&it.name, token).map(|_| token)
            };
            let (moves, _) = view.must_go(me);
            let moves: Vec<_> = moves
                .into_iter()
                .filter_map(|it| here(&it).map(|token| (it, token)))
                .collect();
            if moves.is_empty() {
                return Ok(());
            }
            let handing = moves.into_iter().map(|(it, token)| async move {
                let done = hand_on(self, &it.name, token, it.to, why, until).await;
                (!done).then_some(it.to)
            });
            let handing = futures::stream::iter(handing).buffer_unordered(HANDED_AT_ONCE);
            let failed: Vec<Option<NodeId>> = handing.collect().await;
            refused.extend(failed.into_iter().flatten());
        }
        Ok(())
    }
}
