//! The database, redb: why, and what it costs, is in `docs/decisions/001-storage-engine.md`.

use std::path::Path;

use cpe_mesh::{Image, Table};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

use crate::error::{OpenError, Place};
use crate::folder::Folder;
use crate::overlay::Overlay;
use crate::record;

/// Bytes redb may keep of the file in memory. The peer holds its state in memory anyway and reads
/// it only at start, so this only needs to hold the upper pages of the trees being written.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Outbox => "outbox",
        Table::Log => "log",
        Table::Snapshot => "snapshot",
        Table::Seat => "seat",
        Table::Decided => "decided",
    })
}

/// Says how far the log is in the database.
const CHECKPOINT: Definition = TableDefinition::new("checkpoint");
const SEQUENCE: &[u8] = b"sequence";

/// What was read from a database.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) image: Image,
    /// The last group of the log that is in it.
    pub(crate) sequence: u64,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Engine {
    database: Database,
}

impl Engine {
    /// Opens or creates the database and reads all of it.
    pub(crate) fn open(folder: &Folder) -> Result<(Self, Stored), OpenError> {
        let path = folder.database();
        let bytes = std::fs::metadata(&path).map_or(0, |data| data.len());
        if bytes == 0 && !folder.is_new() {
            // redb would begin a new one, and the peer would vote as if it never had before.
            return Err(OpenError::Corrupt {
                path: folder.path().to_owned(),
                place: Place::File,
                detail: "it is missing or empty".to_owned(),
            });
        }
        let database = builder()
            .create(&path)
            .map_err(|error| open_error(folder.path(), &path, error))?;
        let engine = Self { database };
        let stored = engine.read_all(folder.path())?;
        Ok((engine, stored))
    }

    /// A database on something else than a file, called `name` in errors.
    pub(crate) fn on(
        backend: impl StorageBackend,
        name: &Path,
    ) -> Result<(Self, Stored), OpenError> {
        let database = builder()
            .create_with_backend(backend)
            .map_err(|error| open_error(name, name, error))?;
        let engine = Self { database };
        let stored = engine.read_all(name)?;
        Ok((engine, stored))
    }

    fn read_all(&self, name: &Path) -> Result<Stored, OpenError> {
        let corrupt = |place, detail: &dyn std::fmt::Display| OpenError::Corrupt {
            path: name.to_owned(),
            place,
            detail: detail.to_string(),
        };
        let file = |error: redb::Error| corrupt(Place::File, &error);
        let mut image = Image::default();
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| file(error.into()))?;
        for table in Table::ALL {
            let stored = match transaction.open_table(definition(table)) {
                Ok(stored) => stored,
                Err(redb::TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(file(error.into())),
            };
            for entry in stored.iter().map_err(|error| file(error.into()))? {
                let (key, value) = entry.map_err(|error| file(error.into()))?;
                let key = key.value();
                let Some(value) = record::unseal(table, key, value.value()) else {
                    let place = Place::Record {
                        table,
                        key: key.to_vec(),
                    };
                    return Err(corrupt(place, &"its checksum does not match"));
                };
                image.entries.insert((table, key.to_vec()), value.to_vec());
            }
        }
        let sequence = match transaction.open_table(CHECKPOINT) {
            Ok(stored) => {
                let found = stored.get(SEQUENCE);
                let found = found.map_err(|error| file(error.into()))?;
                let found = found.as_ref().and_then(|found| {
                    let bytes = record::unseal(Table::Meta, SEQUENCE, found.value())?;
                    Some(u64::from_be_bytes(bytes.try_into().ok()?))
                });
                found.ok_or_else(|| corrupt(Place::File, &"its checkpoint cannot be read"))?
            }
            Err(redb::TableError::TableDoesNotExist(_)) => 0,
            Err(error) => return Err(file(error.into())),
        };
        Ok(Stored { image, sequence })
    }

    /// Brings the database up to a group of the log; it is durable when this returns.
    pub(crate) fn commit(&self, overlay: &Overlay, sequence: u64) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // With one sync per commit redb cannot tell damage to the last commit from a torn one, and
        // goes back to the commit before: the log in front of it may be gone by then.
        transaction.set_two_phase_commit(true);
        for table in Table::ALL {
            let all = || (table, Vec::new())..;
            let here = |at: Table| at == table;
            let ranges = overlay.ranges.range(all());
            let mut ranges = ranges.take_while(|((at, _), _)| here(*at)).peekable();
            let keys = overlay.keys.range(all());
            let mut keys = keys.take_while(|((at, _), _)| here(*at)).peekable();
            if ranges.peek().is_none() && keys.peek().is_none() {
                continue;
            }
            let mut open = transaction.open_table(definition(table))?;
            for ((_, from), to) in ranges {
                open.retain_in(from.as_slice()..to.as_slice(), |_, _| false)?;
            }
            for ((_, key), value) in keys {
                match value {
                    Some(value) => {
                        let stored = record::seal(table, key, value);
                        open.insert(key.as_slice(), stored.as_slice())?;
                    }
                    None => drop(open.remove(key.as_slice())?),
                }
            }
        }
        let stored = record::seal(Table::Meta, SEQUENCE, &sequence.to_be_bytes());
        transaction
            .open_table(CHECKPOINT)?
            .insert(SEQUENCE, stored.as_slice())?;
        transaction.commit()?;
        Ok(())
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    // A plain open trusts the pages, and a damaged tree may panic; everything is read at start
    // anyway, so checking it first costs little.
    builder
        .set_cache_size(CACHE_BYTES_MAX)
        .set_check_integrity_on_open(true);
    builder
}

fn open_error(folder: &Path, file: &Path, error: redb::DatabaseError) -> OpenError {
    match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != std::io::ErrorKind::InvalidData =>
        {
            OpenError::Io {
                action: "open",
                path: file.to_owned(),
                source,
            }
        }
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
            path: folder.to_owned(),
            pid: None,
        },
        other => OpenError::Corrupt {
            path: folder.to_owned(),
            place: Place::File,
            detail: other.to_string(),
        },
    }
}
