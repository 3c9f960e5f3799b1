//! The handle a shell holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use cpe_mesh::{Batch, Image};
use redb::StorageBackend;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::{Failed, OpenError, WriteError};
use crate::folder::Folder;
use crate::writer::{self, Job, Shared, Writer};

/// Batches not yet answered, or answered and not yet taken from the completions.
pub const QUEUE_BATCHES_MAX: usize = 4_096;

/// Bytes of batches not yet written. A single larger batch is taken when nothing else waits.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The answer to one [`Storage::write`].
#[derive(Clone, Debug)]
pub struct Completion {
    /// The token given with the batch.
    pub token: u64,
    /// Written (and synced, if that was asked for), or why not.
    pub result: Result<(), Failed>,
}

/// A storage, what it held, and where its answers come out.
#[derive(Debug)]
pub struct Opened {
    /// Takes batches.
    pub storage: Storage,
    /// Answers in the order of the batches. Ends once the storage is closed and all are taken.
    pub completions: mpsc::Receiver<Completion>,
    /// Everything that was stored.
    pub image: Image,
    /// True when the folder had a state once that was [set aside](Storage::set_aside), and has none
    /// yet instead: whoever opens it has been a member before and has forgotten what it said.
    pub lost: bool,
}

/// The durable state of one peer.
///
/// Batches are written in order by one thread, as many at a time as wait; dropping the storage
/// waits for those already taken.
#[derive(Debug)]
pub struct Storage {
    answers: mpsc::Sender<Completion>,
    shared: Arc<Shared>,
    /// `None` in an ephemeral storage, which has nothing to wait for.
    writer: Option<Thread>,
}

#[derive(Debug)]
struct Thread {
    jobs: SyncSender<Job>,
    handle: JoinHandle<()>,
}

impl Storage {
    /// Opens the folder, creating it if need be, locks it and reads everything.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has been changed except that an empty folder may exist now.
    pub fn open(folder: &Path) -> Result<Opened, OpenError> {
        let mut folder = Folder::open(folder)?;
        let (engine, image) = Engine::open(&folder)?;
        folder.finish()?;
        let path = folder.path().to_owned();
        let lost = image.entries.is_empty() && folder.has_lost_state();
        Self::start(engine, Some(folder), image, lost).map_err(start_error(path))
    }

    /// Moves the state of a folder out of the way after [`OpenError::Corrupt`], so that the next
    /// [`open`](Self::open) begins an empty one; says where it lies now. Whoever opens it must
    /// come back as somebody new: in a new incarnation, and never as the founder of a mesh.
    ///
    /// # Errors
    /// [`OpenError`], as for opening; [`OpenError::DamagedAgain`] after nine times.
    pub fn set_aside(folder: &Path) -> Result<PathBuf, OpenError> {
        Folder::open(folder)?.set_aside()
    }

    /// A storage with the same face that keeps nothing: for nodes whose every start is a new
    /// incarnation.
    #[must_use]
    pub fn ephemeral() -> Opened {
        let (answers, completions) = mpsc::channel(QUEUE_BATCHES_MAX);
        let storage = Self {
            answers,
            shared: Arc::default(),
            writer: None,
        };
        Opened {
            storage,
            completions,
            image: Image::default(),
            lost: false,
        }
    }

    /// A storage on a backend of the caller's, such as one that fails on purpose.
    ///
    /// # Errors
    /// [`OpenError`], as for a folder.
    pub fn on_backend(backend: impl StorageBackend) -> Result<Opened, OpenError> {
        let name = Path::new("(backend)");
        let (engine, image) = Engine::on(backend, name)?;
        Self::start(engine, None, image, false).map_err(start_error(name.to_owned()))
    }

    fn start(
        engine: Engine,
        folder: Option<Folder>,
        image: Image,
        lost: bool,
    ) -> Result<Opened, std::io::Error> {
        let (answers, completions) = mpsc::channel(QUEUE_BATCHES_MAX);
        let (jobs, queue) = std::sync::mpsc::sync_channel(QUEUE_BATCHES_MAX);
        let shared = Arc::<Shared>::default();
        let writer = Writer {
            engine,
            _folder: folder,
            jobs: queue,
            shared: Arc::clone(&shared),
        };
        let handle = std::thread::Builder::new()
            .name("cpe-storage".to_owned())
            .spawn(move || writer.run())?;
        let storage = Self {
            answers,
            shared,
            writer: Some(Thread { jobs, handle }),
        };
        Ok(Opened {
            storage,
            completions,
            image,
            lost,
        })
    }

    /// Queues a batch; its [`Completion`] carries `token`. Never blocks.
    ///
    /// With `sync` the batch, and every one before it, is on disk when the completion arrives.
    /// Without, it is in order and will be on disk within about a second, or not at all if the
    /// process or the machine stops before.
    ///
    /// # Errors
    /// [`WriteError::Full`] gives the batch back; [`WriteError::Failed`] once any write has failed.
    pub fn write(&self, token: u64, batch: Batch, sync: bool) -> Result<(), WriteError> {
        if let Some(failed) = self.shared.failed.get() {
            return Err(failed.clone().into());
        }
        let bytes = writer::bytes_of(&batch);
        let queued = self.shared.queued_bytes.load(Ordering::Relaxed);
        if queued > 0 && queued.saturating_add(bytes) > QUEUE_BYTES_MAX {
            return Err(WriteError::Full { batch });
        }
        // The place of the answer is taken now, so that the writer never waits for the shell.
        let Ok(permit) = self.answers.clone().try_reserve_owned() else {
            return Err(WriteError::Full { batch });
        };
        let Some(thread) = &self.writer else {
            permit.send(Completion {
                token,
                result: Ok(()),
            });
            return Ok(());
        };
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if thread
            .jobs
            .try_send(Job {
                token,
                batch,
                sync,
                bytes,
                permit,
            })
            .is_err()
        {
            // As many places as permits: this is a writer thread that panicked.
            let gone = || Failed::new("the writer thread has ended");
            return Err(self.shared.failed.get_or_init(gone).clone().into());
        }
        Ok(())
    }

    /// Writes and syncs what was queued, then releases the folder. Blocks meanwhile.
    ///
    /// # Errors
    /// The first failure of this storage, if there was one.
    pub fn close(mut self) -> Result<(), Failed> {
        self.finish();
        self.shared
            .failed
            .get()
            .map_or(Ok(()), |failed| Err(failed.clone()))
    }

    fn finish(&mut self) {
        if let Some(Thread { jobs, handle }) = self.writer.take() {
            drop(jobs);
            if handle.join().is_err() {
                self.shared
                    .failed
                    .get_or_init(|| Failed::new("the writer thread panicked"));
            }
        }
    }
}

fn start_error(path: PathBuf) -> impl FnOnce(std::io::Error) -> OpenError {
    move |source| OpenError::Io {
        action: "start the writer thread of",
        path,
        source,
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.finish();
    }
}
