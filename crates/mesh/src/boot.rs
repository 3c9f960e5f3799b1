//! What is on disk, under which keys, and how a peer comes back from it.

use std::collections::BTreeSet;
use std::time::Duration;

use cpe_consensus::{Hard, Held, Seat};
use cpe_membership::{Incarnation, Member, NewError};
use cpe_space::{Command, Config, Dot, Entry, FeedError, Item, Shard, ShardId, Sm};
use serde::{Deserialize, Serialize};

use crate::PeerConfig;
use crate::client::ShardClient;
use crate::group::{Kept, Proposal};
use crate::guard::{Guard, holds};
use crate::home::Proposed;
use crate::peer::{After, Peer, Slot};
use crate::persist::{Image, Table};
use crate::wire::Genesis;

const GENESIS_KEY: &[u8] = b"genesis";
const LIFE_KEY: &[u8] = b"life";
const DOT_PREFIX: &[u8] = b"dot/";

/// Bytes. The largest value of the `Meta` and `Outbox` tables.
const MAX_VALUE_BYTES: usize = cpe_space::MAX_ENTRY_BYTES;

/// Which life and start of the node this is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) inc: Incarnation,
    pub(crate) boot: u32,
    /// Of all lives: a node whose disk was lost begins above what it had.
    #[serde(default)]
    pub(crate) start: Incarnation,
}

/// Why a peer cannot come back from what is on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A record does not decode.
    #[error(
        "the stored {what} is unreadable ({reason}); to come back as a new node with nothing, \
         move the data folder away and keep its identity"
    )]
    Unreadable {
        /// Which record.
        what: String,
        /// What the decoder said.
        reason: String,
    },
    /// The settings found another mesh than the one on disk.
    #[error("the data folder belongs to the mesh {stored}, the settings to {configured}")]
    OtherMesh {
        /// The mesh on disk.
        stored: String,
        /// The mesh in the settings.
        configured: String,
    },
    /// The membership settings or the node's card are out of bounds.
    #[error(transparent)]
    Membership(#[from] NewError),
}

/// Key of a shard's record.
pub(crate) fn shard_key(shard: ShardId) -> Vec<u8> {
    shard.0.to_be_bytes().to_vec()
}

/// Key of a numbered record of a shard: ordered by shard, then number.
pub(crate) fn indexed(shard: ShardId, n: u64) -> Vec<u8> {
    let mut key = shard_key(shard);
    key.extend_from_slice(&n.to_be_bytes());
    key
}

/// Key of the count of own stores to a shard.
pub(crate) fn dot_key(shard: ShardId) -> Vec<u8> {
    let mut key = DOT_PREFIX.to_vec();
    key.extend_from_slice(&shard.0.to_be_bytes());
    key
}

fn read_indexed(key: &[u8]) -> Option<(ShardId, u64)> {
    let (shard, n) = key.split_first_chunk::<2>()?;
    Some((
        ShardId(u16::from_be_bytes(*shard)),
        u64::from_be_bytes(n.try_into().ok()?),
    ))
}

fn read<T: serde::de::DeserializeOwned>(
    what: impl FnOnce() -> String,
    bytes: &[u8],
    limit: usize,
) -> Result<T, BootError> {
    cpe_tuple::codec::decode(bytes, limit).map_err(|error| BootError::Unreadable {
        what: what(),
        reason: error.to_string(),
    })
}

/// The life after the one on disk; a first one where there is none.
pub(crate) fn life(config: &PeerConfig, image: &Image) -> Result<Life, BootError> {
    let stored = image.entries.get(&(Table::Meta, LIFE_KEY.to_vec()));
    match stored {
        None => Ok(Life {
            inc: config.inc(),
            boot: 1,
            start: config.inc(),
        }),
        Some(bytes) => {
            let life: Life = read(|| "life".to_owned(), bytes, MAX_VALUE_BYTES)?;
            Ok(Life {
                inc: life.inc,
                boot: life.boot.saturating_add(1),
                start: Incarnation(life.start.0.saturating_add(1)).max(config.inc()),
            })
        }
    }
}

impl Peer {
    pub(crate) fn save_life(&mut self) {
        let life = Life {
            inc: self.me.inc,
            boot: self.session.boot,
            start: self.start,
        };
        if let Ok(bytes) = cpe_tuple::codec::encode(&life) {
            self.batch.put(Table::Meta, LIFE_KEY.to_vec(), bytes);
        }
        self.afters.push(After::Life);
    }

    pub(crate) fn save_genesis(&mut self, genesis: &Genesis) {
        if let Ok(bytes) = cpe_tuple::codec::encode(genesis) {
            self.batch.put(Table::Meta, GENESIS_KEY.to_vec(), bytes);
        }
    }

    /// Sets up the shards of the mesh, knowing nothing of their history.
    pub(crate) fn found(&mut self, genesis: Genesis) {
        let config = Config {
            epoch: 1,
            members: vec![genesis.founder],
        };
        self.slots = (0..genesis.shards)
            .map(|n| {
                let shard = Shard::new(ShardId(n), config.clone());
                new_slot(shard, Seat::new(self.me), self.me)
            })
            .collect();
        self.found_volatile(&genesis);
        self.genesis = Some(genesis);
        for shard in self.all_shards() {
            self.settle_home(shard);
        }
    }

    /// Takes up what the image holds.
    pub(crate) fn restore(&mut self, image: &Image) -> Result<(), BootError> {
        let stored = image.entries.get(&(Table::Meta, GENESIS_KEY.to_vec()));
        let stored: Option<Genesis> = stored
            .map(|bytes| read(|| "mesh".to_owned(), bytes, MAX_VALUE_BYTES))
            .transpose()?;
        let genesis = match (stored, self.config.genesis.clone()) {
            (Some(stored), Some(configured)) if stored.mesh != configured.mesh => {
                let (stored, configured) = (stored.mesh, configured.mesh);
                return Err(BootError::OtherMesh { stored, configured });
            }
            (Some(stored), _) => stored,
            (None, Some(mut configured)) => {
                configured.founder = self.me;
                self.save_genesis(&configured);
                return {
                    self.found(configured);
                    Ok(())
                };
            }
            (None, None) => return Ok(()),
        };
        self.slots.clear();
        let config = Config {
            epoch: 1,
            members: vec![genesis.founder],
        };
        for n in 0..genesis.shards {
            self.restore_slot(ShardId(n), &config, image)?;
        }
        self.found_volatile(&genesis);
        self.genesis = Some(genesis);
        self.restore_outbox(image)?;
        for shard in self.all_shards() {
            self.clear_outbox(shard);
            self.settle_home(shard);
            self.registered(shard);
        }
        Ok(())
    }

    /// Rule R10: what is known to be decided is applied; what a member of the home group accepted
    /// beyond that is its tail again.
    fn restore_slot(
        &mut self,
        id: ShardId,
        config: &Config,
        image: &Image,
    ) -> Result<(), BootError> {
        let me = self.me;
        let unreadable = |what: &str, reason: String| BootError::Unreadable {
            what: format!("{what} of shard {id}"),
            reason,
        };
        let record = |table| image.entries.get(&(table, shard_key(id)));
        let mut shard = match record(Table::Snapshot) {
            None => Shard::new(id, config.clone()),
            Some(bytes) => {
                let sm: Sm = read(|| format!("snapshot of shard {id}"), bytes, usize::MAX)?;
                Shard::from_snapshot(id, sm)
            }
        };
        let saved = shard.version().index;
        let decided = match record(Table::Decided) {
            None => saved,
            Some(bytes) => {
                let bytes = bytes.as_slice().try_into();
                let bytes = bytes.map_err(|_| unreadable("index", "not eight bytes".to_owned()))?;
                u64::from_be_bytes(bytes).max(saved)
            }
        };
        let mut tail = Vec::new();
        let mut last = saved;
        let range = (Table::Log, indexed(id, saved + 1))..=(Table::Log, indexed(id, u64::MAX));
        for ((_, key), value) in image.entries.range(range) {
            let Some((_, index)) = read_indexed(key) else {
                continue;
            };
            if index != last + 1 {
                let gap = format!("entry {} is missing", last + 1);
                if index <= decided {
                    return Err(unreadable("log", gap));
                }
                break;
            }
            last = index;
            let entry = Entry::from_bytes(value);
            if index <= decided {
                let fed = shard.feed(index - 1, &[entry], |_, _, _| {});
                fed.map_err(|error: FeedError| unreadable("log", error.to_string()))?;
            } else {
                let proposal = Proposal::decode(entry);
                tail.push(proposal.map_err(|error| unreadable("log", error.to_string()))?);
            }
        }
        let index = shard.version().index;
        if index < decided {
            let gap = format!("entry {} is missing", index + 1);
            return Err(unreadable("log", gap));
        }
        let own = tail.iter().filter_map(|proposal| match proposal.command() {
            Command::Admit { dot, .. } if dot.origin == me => Some(dot.n),
            _ => None,
        });
        let stored = own.max().unwrap_or(0);
        let seat = match record(Table::Seat).filter(|_| holds(Guard::KeepVote)) {
            None => Seat::new(me),
            Some(bytes) => {
                let hard: Hard<Member> =
                    read(|| format!("vote of shard {id}"), bytes, MAX_VALUE_BYTES)?;
                let config = shard.sm().config();
                let held = Held {
                    epoch: config.epoch,
                    index,
                };
                Seat::restore(me, hard, held, config.members.clone(), tail, index)
            }
        };
        let kept = seat.group().map_or(index, cpe_consensus::Group::len);
        let mut slot = new_slot(shard, seat, me);
        slot.saved = saved;
        slot.saved_bytes = record(Table::Snapshot).map_or(0, Vec::len);
        slot.log_end = last.max(kept);
        slot.client.stored = stored;
        self.slots.push(slot);
        self.forget_tail(id, kept);
        Ok(())
    }

    fn restore_outbox(&mut self, image: &Image) -> Result<(), BootError> {
        let origin = self.me;
        for (key, value) in image.table(Table::Meta) {
            let shard = key
                .strip_prefix(DOT_PREFIX)
                .and_then(|rest| rest.try_into().ok());
            if let Some(shard) = shard.map(u16::from_be_bytes)
                && let Some(slot) = self.slot(ShardId(shard))
                && let Ok(n) = value.try_into()
            {
                slot.client.stored = slot.client.stored.max(u64::from_be_bytes(n));
            }
        }
        for (key, value) in image.table(Table::Outbox) {
            let Some((shard, n)) = read_indexed(key) else {
                continue;
            };
            let what = || format!("store {n} to shard {shard}");
            let item: Item = read(what, value, MAX_VALUE_BYTES)?;
            let (now, size) = (self.now, item.tuple.size());
            if let Some(slot) = self.slot(shard) {
                slot.shard.add_pending(Dot { origin, n }, item.clone());
                slot.client.restore(n, item);
                self.outbox_bytes += size;
                self.timers.set(crate::peer::Timer::Stores(shard), now);
            }
        }
        for slot in &mut self.slots {
            let admitted = slot.shard.sm().admitted(slot.me);
            slot.client.stored = slot.client.stored.max(admitted);
        }
        Ok(())
    }
}

pub(crate) fn new_slot(shard: Shard, seat: Seat<Member, Proposal>, me: Member) -> Slot {
    #[cfg(feature = "mutants")]
    let seat = crate::guard::seat(seat);
    let (map, index) = (shard.sm().config().clone(), shard.version().index);
    Slot {
        shard,
        volatile: false,
        me,
        seat,
        home: None,
        proposed: Proposed::default(),
        leader: None,
        redirect_after: Duration::ZERO,
        askers: BTreeSet::new(),
        map,
        client: ShardClient::default(),
        fed: index,
        led_until: 0,
        pull: None,
        saved: index,
        saved_bytes: 0,
        saved_applied: 0,
        marked: index,
        log_end: index,
        kept: Kept::default(),
        shown: None,
    }
}
