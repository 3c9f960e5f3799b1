//! What a peer asks its storage to keep: ordered byte keys in a few tables, written in batches.

use std::collections::BTreeMap;

use cpe_tuple::BlobHash;

/// The tables of a peer's durable state. The discriminant is part of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Mesh identity, incarnation, dot counters and the shard map.
    Meta = 0,
    /// Own stores that no home has admitted yet (rule R16).
    Outbox = 1,
    /// Entries, by shard and index: decided ones, and beyond them what a member of the home group
    /// has accepted.
    Log = 2,
    /// State machine snapshots, by shard.
    Snapshot = 3,
    /// What a member of a home group must not forget, by shard (rules R10 and R13).
    Seat = 4,
    /// How much of the log is known to be decided, by shard. May lag.
    Decided = 5,
}

impl Table {
    /// Every table, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::Meta,
        Self::Outbox,
        Self::Log,
        Self::Snapshot,
        Self::Seat,
        Self::Decided,
    ];
}

/// One change to the durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Where.
        table: Table,
        /// Key; compared bytewise.
        key: Vec<u8>,
        /// Value.
        value: Vec<u8>,
    },
    /// Removes a key; nothing happens if it is not there.
    Delete {
        /// Where.
        table: Table,
        /// Key.
        key: Vec<u8>,
    },
    /// Removes every key in `from..to`.
    DeleteRange {
        /// Where.
        table: Table,
        /// First key removed.
        from: Vec<u8>,
        /// First key kept.
        to: Vec<u8>,
    },
}

/// Changes that become durable together or not at all, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes.
    pub writes: Vec<Write>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push(Write::Put { table, key, value });
    }

    /// Removes a key.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.writes.push(Write::Delete { table, key });
    }

    /// Removes every key in `from..to`.
    pub fn delete_range(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        self.writes.push(Write::DeleteRange { table, from, to });
    }

    /// True when there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// Everything a storage holds, as read at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Values by table and key.
    pub entries: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// The bodies of large values that are there, whole, with their lengths.
    pub bodies: BTreeMap<BlobHash, u64>,
}

impl Image {
    /// Applies a batch: what a storage does, and what the simulator's disk is.
    pub fn apply(&mut self, batch: Batch) {
        for write in batch.writes {
            match write {
                Write::Put { table, key, value } => {
                    self.entries.insert((table, key), value);
                }
                Write::Delete { table, key } => {
                    self.entries.remove(&(table, key));
                }
                Write::DeleteRange { table, from, to } => {
                    if from < to {
                        let gone: Vec<_> = self
                            .entries
                            .range((table, from)..(table, to))
                            .map(|(key, _)| key.clone())
                            .collect();
                        for key in gone {
                            self.entries.remove(&key);
                        }
                    }
                }
            }
        }
    }

    /// The entries of one table, in key order.
    pub fn table(&self, table: Table) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries
            .range((table, Vec::new())..)
            .take_while(move |((at, _), _)| *at == table)
            .map(|((_, key), value)| (key.as_slice(), value.as_slice()))
    }
}
