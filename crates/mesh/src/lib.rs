//! One peer of the mesh as a state machine without I/O.
//!
//! A [`Peer`] joins membership, the replicated space, the homes that decide its takes, and the
//! registry of named actors. It reads no clock, opens no socket and no file: time, messages and
//! finished writes come in as [`Input`]s, and everything it wants done comes out as [`Output`]s.
//! The real node and the simulator drive the same code.
//!
//! The order of things: [`Peer::new`] over what storage holds; then, for ever,
//! [`Peer::handle`] an input, drain [`Peer::poll_output`], and call `handle` again at
//! [`Peer::next_wake`] at the latest.
//!
//! # Example
//! A mesh of one node that keeps nothing on disk:
//! ```
//! use std::time::Duration;
//!
//! use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
//! use cpe_mesh::{Ack, Command, Genesis, Image, Input, Output, Peer, PeerConfig, Reply, RequestId};
//! use cpe_tuple::{Template, Tuple, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let founder = Member { node: NodeId(1), inc: Incarnation(1) };
//! let mut config = PeerConfig::new(NodeCard::new(founder, "a"));
//! config.durable = false;
//! config.genesis = Some(Genesis {
//!     mesh: "demo".into(),
//!     shards: 16,
//!     volatile: 4,
//!     founder,
//!     group_size: 3,
//! });
//! let mut peer = Peer::new(config, &Image::default(), 42, Duration::ZERO)?;
//!
//! let second = Duration::from_secs(1);
//! let tuple = Tuple::new(vec![Value::from("job"), Value::from(17)])?;
//! let workspace = "w".to_owned();
//! let out = Command::Out { workspace, tuple: tuple.clone(), ack: Ack::Home, deadline: second };
//! peer.handle(Duration::ZERO, Input::Command(RequestId(1), out));
//! let workspace = "w".to_owned();
//! let template = Template::named("job")?;
//! let take = Command::Take { workspace, template, wait: true, deadline: second };
//! peer.handle(Duration::ZERO, Input::Command(RequestId(2), take));
//!
//! let mut replies = Vec::new();
//! while let Some(output) = peer.poll_output() {
//!     if let Output::Reply(request, reply) = output {
//!         replies.push((request, reply));
//!     }
//! }
//! assert!(matches!(replies[0], (RequestId(1), Reply::Stored { .. })));
//! assert_eq!(replies[1], (RequestId(2), Reply::Tuple(Some(tuple))));
//! # Ok(())
//! # }
//! ```

mod actor_ends;
mod actor_watch;
mod api;
mod body;
mod boot;
mod claims;
mod client;
mod config;
mod forwarding;
mod group;
mod guard;
mod handle;
mod handover;
mod heartbeat;
mod home;
mod io;
mod lease;
mod mailbox;
mod node_lease;
mod outbox;
mod peer;
mod persist;
mod placement;
mod query;
mod read;
mod recover;
mod request;
mod retire;
mod route;
mod scan;
mod serve;
mod show;
mod stale;
mod sync;
mod synced;
mod takes;
mod timers;
mod volatile;
mod vouch;
mod wire;

pub use actor_ends::ActorEnds;
pub use actor_watch::{ActorWatch, Heard, Seen, WatchEnd, WatchStep, WatchView};
pub use api::{
    Ack, ActorInfo, Command, Failure, PeerInfo, Recovered, Reply, RequestId, ShardInfo, Status,
    VariableInfo, WorkspaceInfo,
};
pub use body::{BodyDone, BodyMessage, BodyPart, BodyWork, MAX_BODIES};
pub use boot::BootError;
pub use claims::{is_replaced, meets};
pub use config::PeerConfig;
pub use forwarding::{AwaitStep, Awaiting, ForwardEnd, ForwardStep, Forwarding, Reached, Rest};
pub use group::Proposal;
#[cfg(feature = "mutants")]
pub use guard::{Guard, Mutant, without};
pub use handle::{HandleError, LeaseHandle, OpHandle};
pub use io::{Event, Input, Output, Took};
pub use mailbox::{Delivered, Mailbox, Moves, Room, TakenIn};
pub use peer::{GroupView, MAX_REQUESTS, Peer};
pub use persist::{Batch, Image, Table, Write};
pub use recover::{FORK_EPOCHS, Standing};
pub use stale::Staleness;
pub use wire::{
    FeedPart, Genesis, GroupMessage, Lane, MAX_CONTROL_BYTES, MAX_GOSSIP_BYTES, MAX_MESSAGE_BYTES,
    Message, Operation, Part, Want,
};
