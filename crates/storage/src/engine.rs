//! The database, redb: why, and what it costs, is in `docs/decisions/001-storage-engine.md`.

use std::path::Path;

use cpe_mesh::{Batch, Image, Table, Write};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

use crate::error::{OpenError, Place};
use crate::folder::Folder;
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

/// An open database.
#[derive(Debug)]
pub(crate) struct Engine {
    database: Database,
}

impl Engine {
    /// Opens or creates the database and reads all of it.
    pub(crate) fn open(folder: &Folder) -> Result<(Self, Image), OpenError> {
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
        let image = engine.read_all(folder.path())?;
        Ok((engine, image))
    }

    /// A database on something else than a file, called `name` in errors.
    pub(crate) fn on(
        backend: impl StorageBackend,
        name: &Path,
    ) -> Result<(Self, Image), OpenError> {
        let database = builder()
            .create_with_backend(backend)
            .map_err(|error| open_error(name, name, error))?;
        let engine = Self { database };
        let image = engine.read_all(name)?;
        Ok((engine, image))
    }

    fn read_all(&self, name: &Path) -> Result<Image, OpenError> {
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
        Ok(image)
    }

    /// Writes batches in order as one transaction; they are durable when it returns if `sync`.
    pub(crate) fn commit(&self, batches: &[Batch], sync: bool) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        let durability = if sync {
            Durability::Immediate
        } else {
            Durability::None
        };
        transaction.set_durability(durability)?;
        // With one sync per commit redb cannot tell damage to the last commit from a torn one, and
        // goes back to the commit before: acknowledged votes would be gone without a word.
        transaction.set_two_phase_commit(true);
        for table in Table::ALL {
            let writes = || batches.iter().flat_map(|batch| &batch.writes);
            let mut writes = writes().filter(|write| table_of(write) == table).peekable();
            if writes.peek().is_none() {
                continue;
            }
            // Tables are independent, so the order within each is all that matters.
            let mut open = transaction.open_table(definition(table))?;
            for write in writes {
                match write {
                    Write::Put { key, value, .. } => {
                        let stored = record::seal(table, key, value);
                        open.insert(key.as_slice(), stored.as_slice())?;
                    }
                    Write::Delete { key, .. } => {
                        open.remove(key.as_slice())?;
                    }
                    Write::DeleteRange { from, to, .. } => {
                        if from < to {
                            open.retain_in(from.as_slice()..to.as_slice(), |_, _| false)?;
                        }
                    }
                }
            }
        }
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

fn table_of(write: &Write) -> Table {
    match write {
        Write::Put { table, .. }
        | Write::Delete { table, .. }
        | Write::DeleteRange { table, .. } => *table,
    }
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
