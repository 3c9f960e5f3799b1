//! A running node: how its parts are put together, and how they end.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeCard};
use cpe_mesh::{Genesis, Peer, PeerConfig};
use cpe_network::{Identity, NetworkConfig};
use cpe_storage::{Bodies, BodyWorker, Opened, Storage};
use cpe_tuple::BlobHash;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actors::{self, Actors, Inner, Parts, place};
use crate::admission::{self, Admission, Wish};
use crate::borrowed::{self, Borrowed};
use crate::clock::{self, Clock};
use crate::desk::Desk;
use crate::driver::{self, Driver, MAIL_MAX};
use crate::kinds::NodeHandle;
use crate::life;
use crate::state::State;
use crate::{Mesh, NodeBuilder, ShutdownError, Space, StartError};

/// How long actors may take to end when a node stops without being asked to shut down.
const KILL_DEADLINE: Duration = Duration::from_secs(1);

/// A node of a mesh, running until it is shut down or dropped.
///
/// Dropping it stops it at once, as a crash would: nothing is handed over, and what is durable is
/// on disk. [`shutdown`](Self::shutdown) is the orderly way.
#[derive(Debug)]
pub struct Node {
    actors: Arc<Inner>,
    state: Arc<State>,
    name: Arc<str>,
    key: Option<PathBuf>,
    /// Ends the driver when dropped.
    stop: Stop,
    driver: JoinHandle<()>,
}

/// Tells those who wait that the node has ended, also after a panic.
struct End(Arc<State>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended(None);
    }
}

#[derive(Debug)]
struct Stop(CancellationToken);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Node {
    /// Starts collecting settings.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    pub(crate) async fn start(builder: NodeBuilder) -> Result<Self, StartError> {
        if !matches!(builder.group_size, 1 | 3 | 5) {
            return Err(StartError::Setting {
                what: "the size of home groups",
                value: builder.group_size.to_string(),
                why: "a group decides by majority; use 1, 3 or 5".to_owned(),
            });
        }
        let (listen, bootstrap) = builder.check()?;
        let Ground {
            opened,
            admission,
            borrowed,
            life,
            bodies,
            bodies_there,
        } = open(&builder, !bootstrap.is_empty()).await?;
        let Opened {
            storage,
            completions,
            mut image,
            lost,
        } = opened;
        image.bodies = bodies_there;
        let (body_worker, bodies_done) = BodyWorker::start(bodies.clone()).map_err(|error| {
            let folder = builder.data_dir.clone().unwrap_or_default();
            admission::file("work on large values in", &folder)(error)
        })?;

        let mut network = NetworkConfig::new(
            admission.identity.clone(),
            admission.certificate.clone(),
            admission.certificate.mesh,
        );
        network.listen = listen;
        network.bootstrap = bootstrap;
        network.mdns = builder.mdns;
        network.test_blocks = builder.test_blocks;

        let (registry, home) = builder.kinds.into_parts();
        // Who has forgotten a mesh must not found it again: the others would hold another history.
        let founds = image.entries.is_empty() && admission.may_found && !lost;
        let mut card = card(&admission.identity, &admission.name, &builder.capabilities);
        let kinds: Vec<_> = registry.names().collect();
        let kinds = kinds.join(",");
        if kinds.len() <= cpe_membership::CARD_TEXT_BYTES_MAX {
            card.capabilities
                .entry(place::KINDS.to_owned())
                .or_insert(kinds);
        }
        if let Some(life) = life {
            card.inc = Incarnation(life);
        }
        card.check()?;

        let (network, events) = cpe_network::start(network).await?;
        card.addresses = driver::addresses(&network);
        let clock = Clock::start();
        let mesh = admission.mesh_id().to_string();
        let mut config = PeerConfig::new(card.clone());
        config.durable = !builder.ephemeral;
        config.takes_homes = builder.homes;
        config.stands_by = true;
        config.genesis = founds.then(|| Genesis {
            mesh: mesh.clone(),
            shards: builder.shards,
            volatile: volatile_of(builder.shards),
            founder: card.member(),
            group_size: builder.group_size,
        });
        let peer = Peer::new(config, &image, rand::random(), clock.now())?;
        drop(image);
        if let Some(stored) = peer.genesis().filter(|genesis| genesis.mesh != mesh) {
            return Err(StartError::OtherMesh {
                folder: builder.data_dir.unwrap_or_default(),
                stored: stored.mesh.clone(),
                given: mesh,
            });
        }
        let me = peer.member();
        card.inc = me.inc;
        let founded = peer
            .genesis()
            .is_some_and(|genesis| genesis.founder.node == me.node);

        let (desk, orders) = Desk::new(bodies);
        let state = Arc::new(State::new(peer.genesis().is_some()));
        let name: Arc<str> = admission.name.into();
        let actors = Inner::new(Parts {
            me,
            session: peer.session(),
            name: Arc::clone(&name),
            desk: Arc::clone(&desk),
            mesh: Mesh::new(Arc::clone(&desk), Arc::clone(&state)),
            network: network.clone(),
            registry,
            seed: rand::random(),
        });
        actors.give_poison_back();
        // Only this call fills it.
        drop(home.set(Arc::downgrade(&actors)));

        let (mail, letters) = mpsc::channel(MAIL_MAX);
        let stop = CancellationToken::new();
        // Opened by the lease; only durable actors wait for it.
        actors.system.gate().close();
        let driver = Driver {
            peer,
            actors: Arc::clone(&actors),
            clock,
            network,
            events,
            storage,
            completions,
            desk,
            orders,
            mail,
            card,
            state: Arc::clone(&state),
            stop: stop.clone(),
            answers: BTreeMap::new(),
            unwritten: VecDeque::new(),
            bodies: body_worker,
            bodies_done,
            unworked: VecDeque::new(),
        };
        let office = actors::post::run(Arc::clone(&actors), letters);
        let moves = state.changes();
        let mover = actors::mover::run(Arc::clone(&actors), moves, builder.rebalance, stop.clone());
        let system = actors.system.clone();
        let end = End(Arc::clone(&state));
        let driver = tokio::spawn(async move {
            let _end = end;
            let office = tokio::spawn(office);
            let mover = tokio::spawn(mover);
            driver.run().await;
            // The driver held the other end.
            drop(office.await);
            drop(mover.await);
            system.shutdown(KILL_DEADLINE).await;
            drop(borrowed);
        });
        Ok(Self {
            actors,
            state,
            name,
            key: admission.key.filter(|_| founded),
            stop: Stop(stop),
            driver,
        })
    }

    /// The shared tuple space.
    #[must_use]
    pub fn space(&self) -> Space {
        self.actors.space.clone()
    }

    /// The named actors of the mesh.
    #[must_use]
    pub fn actors(&self) -> Actors {
        Actors::new(Arc::clone(&self.actors))
    }

    /// Members and homes of the mesh.
    #[must_use]
    pub fn mesh(&self) -> Mesh {
        self.actors.mesh.clone()
    }

    /// All of these, as an actor gets them.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        Arc::clone(&self.actors).handle(None)
    }

    /// The node's libp2p peer id.
    #[must_use]
    pub fn peer_id(&self) -> String {
        self.actors.network.peer_id().to_string()
    }

    /// The node and its life.
    #[must_use]
    pub fn member(&self) -> Member {
        self.actors.me
    }

    /// Where others reach this node: multiaddresses with its peer id, to give to `bootstrap`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        driver::addresses(&self.actors.network)
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the key of its mesh lies, when this node founded it: other nodes need that file.
    #[must_use]
    pub fn mesh_key_path(&self) -> Option<PathBuf> {
        self.key.clone()
    }

    /// Waits until the node has stopped by itself, and says why if something failed: its disk, or
    /// a later life of the same node was met.
    pub async fn stopped(&self) -> Option<String> {
        self.state.wait_ended().await
    }

    /// Stops at once, as a crash would, and waits until the data folder is free again.
    ///
    /// # Cancel safety
    /// The node stops even when the future is dropped; only the waiting ends.
    pub async fn kill(self) {
        let Self { stop, driver, .. } = self;
        drop(stop);
        // An error is a panic of the driver, which was reported where it happened.
        drop(driver.await);
    }

    /// Stops in an orderly way: ends the actors and gives up their names, hands all homes to other
    /// members, says good-bye, and closes network and storage.
    ///
    /// # Errors
    /// What did not finish within the deadline. The node has stopped all the same.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the node stops at once.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ShutdownError> {
        let until = Instant::now() + deadline;
        let mut unfinished = self
            .actors
            .stop_all(Instant::now() + deadline.mul_f64(0.6))
            .await;
        self.actors.system.shutdown(deadline.mul_f64(0.1)).await;
        // What is left of the time, but for the closing.
        let left = until.saturating_duration_since(Instant::now()).mul_f64(0.8);
        // Who has not joined has nothing to hand over.
        if self.state.is_joined()
            && let Err(error) = self.actors.mesh.hand_over(left).await
        {
            unfinished.push(format!("handing over: {error}"));
        }
        let leaving = self.actors.desk.leave();
        if tokio::time::timeout_at(until, leaving).await.is_err() {
            unfinished.push("saying good-bye: no time was left".to_owned());
        }
        let Self {
            stop,
            driver,
            state,
            actors,
            ..
        } = self;
        drop(stop);
        drop(actors);
        if let Err(error) = driver.await {
            unfinished.push(format!("closing: {error}"));
        }
        unfinished.extend(state.failure());
        if unfinished.is_empty() {
            Ok(())
        } else {
            Err(ShutdownError { unfinished })
        }
    }
}

/// What a node stands on.
struct Ground {
    opened: Opened,
    admission: Admission,
    /// The folder of an ephemeral node that has one.
    borrowed: Option<Borrowed>,
    /// The number of this life, where a folder remembers the earlier ones and it is a new one.
    life: Option<u32>,
    bodies: Bodies,
    bodies_there: BTreeMap<BlobHash, u64>,
}

/// Opens the state of a folder. One that is damaged is moved out of the way: votes it may have
/// forgotten must not be given again, so the node comes back as a new member that has nothing, and
/// others give it what they hold.
fn open_or_set_aside(folder: &Path) -> Result<Opened, StartError> {
    match Storage::open(folder) {
        Err(damage @ cpe_storage::OpenError::Corrupt { .. }) => {
            let aside = Storage::set_aside(folder)?;
            tracing::error!(
                %damage,
                aside = %aside.display(),
                "the state is damaged and was set aside: this node comes back as a new member and \
                 waits for the others, who have what was decided. If it was the only one, what it \
                 held is lost; delete the folder set aside and start again to found the mesh anew"
            );
            Ok(Storage::open(folder)?)
        }
        opened => Ok(opened?),
    }
}

/// Opens the state and settles who the node is.
async fn open(builder: &NodeBuilder, bootstrap: bool) -> Result<Ground, StartError> {
    let folder = builder.data_dir.clone();
    let (name, mesh_key) = (builder.name.clone(), builder.mesh_key.clone());
    let (ephemeral, seeks) = (builder.ephemeral, bootstrap || builder.mdns);
    let opening = move || {
        // The state first: its lock keeps a second process from the other files.
        let (opened, borrowed, life) = match &folder {
            Some(folder) if ephemeral => {
                let borrowed = borrowed::borrow(folder)?;
                (
                    Storage::ephemeral(),
                    Some(borrowed),
                    Some(life::begin(folder)?),
                )
            }
            Some(folder) => {
                let opened = open_or_set_aside(folder)?;
                let fresh = opened.image.entries.is_empty();
                let life = fresh.then(|| life::begin(folder)).transpose()?;
                (opened, None, life)
            }
            None => (Storage::ephemeral(), None, None),
        };
        let (bodies, bodies_there) = match &folder {
            Some(folder) if !ephemeral => {
                let opened = Bodies::open(folder);
                opened.map_err(admission::file(
                    "read the bodies of large values in",
                    folder,
                ))?
            }
            _ => {
                let bodies = Bodies::temporary();
                let folder = std::env::temp_dir();
                let bodies = bodies.map_err(admission::file("make a folder in", &folder))?;
                (bodies, BTreeMap::new())
            }
        };
        let admission = admission::admit(&Wish {
            folder: folder.as_deref(),
            mesh_key: mesh_key.as_deref(),
            name: name.as_deref(),
            seeks,
            bootstrap,
        })?;
        Ok(Ground {
            opened,
            admission,
            borrowed,
            life,
            bodies,
            bodies_there,
        })
    };
    match tokio::task::spawn_blocking(opening).await {
        Ok(done) => done,
        Err(panicked) => Err(StartError::File {
            action: "open",
            path: builder.data_dir.clone().unwrap_or_default(),
            why: panicked.to_string(),
        }),
    }
}

/// Volatile shards beside so many durable ones: a quarter, for what is in memory is decided without
/// waiting for a disk, and each costs heartbeats.
fn volatile_of(shards: u16) -> u16 {
    shards.div_ceil(4)
}

/// What the node tells others about itself, but for its addresses.
fn card(identity: &Identity, name: &str, capabilities: &BTreeMap<String, String>) -> NodeCard {
    let member = Member {
        node: identity.node_id(),
        inc: Incarnation(clock::incarnation()),
    };
    let mut card = NodeCard::new(member, name);
    card.peer_id = identity.peer_id().to_string();
    card.software = concat!("cpe ", env!("CARGO_PKG_VERSION")).to_owned();
    card.started_unix_ms = u64::try_from(clock::since_1970().as_millis()).unwrap_or(u64::MAX);
    card.capabilities.clone_from(capabilities);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    card.capabilities
        .entry("cores".to_owned())
        .or_insert_with(|| cores.to_string());
    card
}
