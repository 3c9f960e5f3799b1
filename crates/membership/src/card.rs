//! What a node tells the others about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Incarnation, Member, NodeId};

/// Bytes of an encoded card. Ten addresses, a dozen capabilities and long names fit in a quarter
/// of it; at 1,000 nodes all cards together stay below 8 MB.
pub const CARD_BYTES_MAX: usize = 8 * 1024;

/// Bytes of each string in a card; a multiaddress with a relay circuit takes about 200.
pub const CARD_TEXT_BYTES_MAX: usize = 512;

/// Entries of each list and map in a card.
pub const CARD_ENTRIES_MAX: usize = 64;

/// A node's card: its name, where it is reached and what it can do.
///
/// Cards spread by gossip. Of two cards of a node the one with the higher
/// `(inc, version)` wins; [`Membership`](crate::Membership) raises the version by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCard {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub inc: Incarnation,
    /// Counts the changes of the card within one life.
    pub version: u64,
    /// The name people use.
    pub name: String,
    /// The libp2p peer id, in base 58.
    pub peer_id: String,
    /// Multiaddresses it listens on, best first.
    pub addresses: Vec<String>,
    /// What it offers, such as `cores`, `memory_mib`, `rules` or a label of its owner.
    pub capabilities: BTreeMap<String, String>,
    /// Other doors by name, such as `api` or `nws`, each a URL or `host:port`.
    pub services: BTreeMap<String, String>,
    /// Version of the software it runs.
    pub software: String,
    /// When this life began: milliseconds since 1970 by the node's own clock. For people only.
    pub started_unix_ms: u64,
    /// Runnable work per core, in thousandths: 1,000 is exactly busy.
    pub load_milli: u32,
}

impl NodeCard {
    /// A card with nothing but its owner and a name.
    #[must_use]
    pub fn new(member: Member, name: impl Into<String>) -> Self {
        Self {
            node: member.node,
            inc: member.inc,
            version: 1,
            name: name.into(),
            peer_id: String::new(),
            addresses: Vec::new(),
            capabilities: BTreeMap::new(),
            services: BTreeMap::new(),
            software: String::new(),
            started_unix_ms: 0,
            load_milli: 0,
        }
    }

    /// The node in the life this card describes.
    #[must_use]
    pub fn member(&self) -> Member {
        Member {
            node: self.node,
            inc: self.inc,
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`CardError`] names what is too large.
    pub fn check(&self) -> Result<(), CardError> {
        let pairs = || self.capabilities.iter().chain(&self.services);
        let texts = [&self.name, &self.peer_id, &self.software]
            .into_iter()
            .chain(&self.addresses)
            .chain(pairs().flat_map(|(key, value)| [key, value]));
        for text in texts {
            if text.len() > CARD_TEXT_BYTES_MAX {
                return Err(CardError::Text { bytes: text.len() });
            }
        }
        for entries in [
            self.addresses.len(),
            self.capabilities.len(),
            self.services.len(),
        ] {
            if entries > CARD_ENTRIES_MAX {
                return Err(CardError::Entries { entries });
            }
        }
        let bytes = crate::wire::card_bytes(self);
        if bytes > CARD_BYTES_MAX {
            return Err(CardError::Size { bytes });
        }
        Ok(())
    }

    /// The order of cards of one node: the greater replaces the lesser.
    pub(crate) fn rank(&self) -> (Incarnation, u64) {
        (self.inc, self.version)
    }
}

/// A card is larger than a mesh carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// One string is too long.
    #[error(
        "a string of the node card has {bytes} bytes, more than {CARD_TEXT_BYTES_MAX}; shorten it"
    )]
    Text {
        /// Its length.
        bytes: usize,
    },
    /// One list or map has too many entries.
    #[error(
        "a list of the node card has {entries} entries, more than {CARD_ENTRIES_MAX}; drop some"
    )]
    Entries {
        /// How many.
        entries: usize,
    },
    /// The card as a whole is too large.
    #[error("the node card takes {bytes} bytes, more than {CARD_BYTES_MAX}; drop capabilities")]
    Size {
        /// Encoded length.
        bytes: usize,
    },
}
