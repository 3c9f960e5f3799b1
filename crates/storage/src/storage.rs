//! The handle a shell holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use cpe_mesh::{Batch, Image};
use redb::StorageBackend;
use tokio::sync::mpsc;

use crate::engine::{Engine, Stored};
use crate::error::{Failed, OpenError, WriteError};
use crate::files::{Files, InFolder};
use crate::folder::Folder;
use crate::keeper::Keeper;
use crate::log::{self, Log, Unreadable};
use crate::overlay::Overlay;
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
        let (engine, stored) = Engine::open(&folder)?;
        let files = Arc::new(InFolder(folder.path().to_owned()));
        let ground = Ground::read(engine, stored, files, folder.path())?;
        folder.finish()?;
        let lost = ground.image.entries.is_empty() && folder.has_lost_state();
        ground.start(Some(folder), lost)
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

    /// A storage in places of the caller's, such as ones that fail on purpose.
    ///
    /// # Errors
    /// [`OpenError`], as for a folder.
    pub fn elsewhere(backend: impl StorageBackend, files: impl Files) -> Result<Opened, OpenError> {
        let name = Path::new("(elsewhere)");
        let (engine, stored) = Engine::on(backend, name)?;
        Ground::read(engine, stored, Arc::new(files), name)?.start(None, false)
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

/// What a storage begins on: a database that has all there is, and an empty log.
struct Ground {
    path: PathBuf,
    engine: Engine,
    files: Arc<dyn Files>,
    image: Image,
    log: Log,
}

impl Ground {
    /// Reads the log and brings the database up to it.
    fn read(
        engine: Engine,
        stored: Stored,
        files: Arc<dyn Files>,
        path: &Path,
    ) -> Result<Self, OpenError> {
        let Stored {
            mut image,
            sequence,
        } = stored;
        let mut overlay = Overlay::default();
        let found = log::read(&*files, sequence, |batch| {
            image.apply(batch.clone());
            overlay.apply(batch);
        });
        let found = found.map_err(|unreadable| match unreadable {
            Unreadable::Io(name, source) => OpenError::io("read", &path.join(name))(source),
            Unreadable::Lost(place, detail) => OpenError::Corrupt {
                path: path.to_owned(),
                place,
                detail,
            },
        })?;
        if found.last > sequence {
            let kept = engine.commit(&overlay, found.last);
            let kept = kept.map_err(std::io::Error::other);
            kept.map_err(OpenError::io("write the database of", path))?;
        }
        let log = Log::begin(Arc::clone(&files), found);
        Ok(Self {
            log: log.map_err(OpenError::io("begin a log in", path))?,
            path: path.to_owned(),
            engine,
            files,
            image,
        })
    }

    fn start(self, folder: Option<Folder>, lost: bool) -> Result<Opened, OpenError> {
        let (answers, completions) = mpsc::channel(QUEUE_BATCHES_MAX);
        let (jobs, queue) = std::sync::mpsc::sync_channel(QUEUE_BATCHES_MAX);
        let (checkpoints, parts) = std::sync::mpsc::sync_channel(1);
        let (done, kept) = std::sync::mpsc::channel();
        let shared = Arc::<Shared>::default();
        let keeper = Keeper {
            engine: self.engine,
            files: self.files,
            jobs: parts,
            done,
        };
        let writer = Writer {
            log: self.log,
            keeper: checkpoints,
            kept,
            _folder: folder,
            jobs: queue,
            shared: Arc::clone(&shared),
        };
        let run = || -> std::io::Result<JoinHandle<()>> {
            let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
            let keeper = thread("cpe-keeper").spawn(move || keeper.run())?;
            thread("cpe-storage").spawn(move || {
                let checkpoints = writer.run();
                // The folder stays locked until the database is closed too.
                drop(checkpoints.keeper);
                drop(keeper.join());
            })
        };
        let handle = run().map_err(OpenError::io("start the threads of", &self.path))?;
        let storage = Storage {
            answers,
            shared,
            writer: Some(Thread { jobs, handle }),
        };
        Ok(Opened {
            storage,
            completions,
            image: self.image,
            lost,
        })
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.finish();
    }
}
