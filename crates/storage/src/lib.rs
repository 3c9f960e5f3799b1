//! The durable state of a peer.
//!
//! [`Storage`] does what a peer asks for in [`cpe_mesh::Batch`]es and nothing else: it decides
//! nothing and interprets no key. One thread writes; all batches that wait become one group of a
//! log and one sync, because a sync costs milliseconds and a hundred shards share the disk. A
//! second thread brings a database up to the log before that grows long. Every group and every
//! record carries a checksum, and everything is read and checked at start: a peer whose state is
//! damaged must not vote again under its old incarnation, so it is told exactly what is wrong
//! ([`OpenError::Corrupt`]) instead of being given the rest.
//!
//! After a failed write nothing is written any more ([`Failed`]): what is on disk then is unclear
//! until the next start reads it.
//!
//! ```
//! use cpe_mesh::{Batch, Table};
//! use cpe_storage::Storage;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let mut opened = Storage::open(folder.path())?;
//! let mut batch = Batch::default();
//! batch.put(Table::Meta, b"incarnation".to_vec(), vec![1]);
//! opened.storage.write(7, batch, true)?;
//! let done = opened.completions.blocking_recv().ok_or("closed")?;
//! assert_eq!(done.token, 7);
//! done.result?;
//! opened.storage.close()?;
//!
//! let image = Storage::open(folder.path())?.image;
//! assert_eq!(image.table(Table::Meta).collect::<Vec<_>>(), [(&b"incarnation"[..], &[1][..])]);
//! # Ok(())
//! # }
//! ```

mod bodies;
mod engine;
mod error;
mod files;
mod folder;
mod group;
mod keeper;
mod log;
mod overlay;
mod record;
mod storage;
mod writer;

pub use bodies::{
    BODY_QUEUE_MAX, Bodies, BodyQueueFull, BodyReader, BodyWorker, BodyWriter, NewBody,
};
pub use error::{Failed, OpenError, Place, WriteError};
pub use files::{Files, LogFile};
pub use folder::write_atomically;
pub use redb::StorageBackend;
pub use storage::{Completion, Opened, QUEUE_BATCHES_MAX, QUEUE_BYTES_MAX, Storage};
