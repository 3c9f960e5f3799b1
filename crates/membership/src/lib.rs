//! Who is in the mesh.
//!
//! [`Membership`] is one node's view of all others: alive, suspect, dead or gone. It wraps the
//! `foca` crate's SWIM with suspicion and adds node cards ([`NodeCard`]): names, addresses and
//! capabilities, spread by gossip.
//!
//! It does no I/O, has no clock and draws no entropy: packets, the time and a seed come in,
//! [`Output`]s come out, and the same inputs give the same bytes. What it says is a hint. It may
//! be wrong about who is dead, so nothing that must happen once may rest on it; home groups and
//! leases decide such things by majority.
//!
//! ```
//! use std::time::Duration;
//! use cpe_membership::{
//!     Incarnation, Member, Membership, MembershipConfig, NodeCard, NodeId, Output,
//! };
//!
//! # fn main() -> Result<(), cpe_membership::NewError> {
//! let now = Duration::ZERO;
//! let card = |n| NodeCard::new(Member { node: NodeId(n), inc: Incarnation(1) }, format!("n{n}"));
//! let mut one = Membership::new(card(1), MembershipConfig::lan(), 1, now)?;
//! let mut two = Membership::new(card(2), MembershipConfig::lan(), 2, now)?;
//!
//! one.announce(now, NodeId(2));
//! let mut up = Vec::new();
//! for _ in 0..4 {
//!     while let Some(output) = one.poll_output() {
//!         match output {
//!             Output::Send { bytes, .. } => two.handle_packet(now, NodeId(1), &bytes),
//!             Output::Up(member) => up.push(member.node),
//!             _ => {}
//!         }
//!     }
//!     while let Some(output) = two.poll_output() {
//!         if let Output::Send { bytes, .. } = output {
//!             one.handle_packet(now, NodeId(2), &bytes);
//!         }
//!     }
//! }
//! assert_eq!(up, [NodeId(2)]);
//! assert_eq!(two.card(NodeId(1)).map(|card| card.name.as_str()), Some("n1"));
//! # Ok(())
//! # }
//! ```

mod card;
mod cards;
mod config;
mod health;
mod id;
mod identity;
mod membership;
mod timers;
mod wire;

pub use card::{CARD_BYTES_MAX, CARD_ENTRIES_MAX, CARD_TEXT_BYTES_MAX, CardError, NodeCard};
pub use config::{ConfigError, MembershipConfig};
pub use id::{Incarnation, Member, NodeId};
pub use membership::{
    JOINS_MAX, MEMBERS_MAX, MemberState, MemberView, Membership, NewError, Output, SENDS_MAX, Stats,
};
pub use wire::FRAME_BYTES_MAX;
