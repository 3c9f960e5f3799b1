//! How a pool is made up.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use crate::{Options, Supervision};

/// The most workers of one pool. Least-loaded routing looks at each of them for each message.
pub const MAX_WORKERS: usize = 1_024;

/// How long an elastic pool's worker may have nothing to do unless set otherwise.
const DEFAULT_IDLE: Duration = Duration::from_secs(30);

/// What [`Routing::by_key`] sends by: equal keys go to the same worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey(pub(super) u64);

impl PoolKey {
    /// The key of some bytes; the same on every machine and in every version.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let hash = blake3::hash(bytes.as_ref());
        let (first, _) = hash
            .as_bytes()
            .split_first_chunk()
            .unwrap_or((&[0; 8], &[]));
        Self(u64::from_le_bytes(*first))
    }
}

impl From<u64> for PoolKey {
    fn from(key: u64) -> Self {
        Self(key)
    }
}

pub(super) type KeyOf<M> = Arc<dyn Fn(&M) -> PoolKey + Send + Sync>;

/// Which worker gets a message.
pub struct Routing<M>(pub(super) Way<M>);

pub(super) enum Way<M> {
    RoundRobin,
    LeastLoaded,
    ByKey(KeyOf<M>),
}

impl<M> Clone for Routing<M> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Way::RoundRobin => Way::RoundRobin,
            Way::LeastLoaded => Way::LeastLoaded,
            Way::ByKey(key) => Way::ByKey(Arc::clone(key)),
        })
    }
}

impl<M> fmt::Debug for Routing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Way::RoundRobin => "RoundRobin",
            Way::LeastLoaded => "LeastLoaded",
            Way::ByKey(_) => "ByKey",
        })
    }
}

impl<M> Routing<M> {
    /// One after the other; one that is full or has ended is passed over.
    #[must_use]
    pub const fn round_robin() -> Self {
        Self(Way::RoundRobin)
    }

    /// The one with the fewest messages, counting the one it is at. The default.
    #[must_use]
    pub const fn least_loaded() -> Self {
        Self(Way::LeastLoaded)
    }

    /// The one that the key's hash names, so that messages of one key are handled in order. A
    /// worker more or less moves only the keys that go to it or were its own; those may then
    /// overtake messages that wait at the former worker.
    #[must_use]
    pub fn by_key(key: impl Fn(&M) -> PoolKey + Send + Sync + 'static) -> Self {
        Self(Way::ByKey(Arc::new(key)))
    }
}

/// How a pool runs; see each setter for the default.
#[derive(Clone, Debug)]
pub struct PoolOptions<M> {
    pub(super) name: Option<Arc<str>>,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) idle: Duration,
    pub(super) routing: Routing<M>,
    pub(super) worker: Options,
    pub(super) supervision: Supervision,
}

impl<M> PoolOptions<M> {
    /// A pool of so many workers, at most [`MAX_WORKERS`].
    #[must_use]
    pub fn fixed(workers: NonZeroUsize) -> Self {
        Self::elastic(workers, workers)
    }

    /// A pool that begins with `min` workers, gets another when a message comes while all are busy,
    /// up to `max` (and at most [`MAX_WORKERS`]), and loses those that have nothing to do.
    #[must_use]
    pub fn elastic(min: NonZeroUsize, max: NonZeroUsize) -> Self {
        let min = min.get().min(MAX_WORKERS);
        Self {
            name: None,
            min,
            max: max.get().clamp(min, MAX_WORKERS),
            idle: DEFAULT_IDLE,
            routing: Routing::least_loaded(),
            worker: Options::default(),
            supervision: Supervision::default(),
        }
    }

    /// The pool's name; its workers are called `NAME/0`, `NAME/1` and so on. None by default.
    #[must_use]
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(Arc::from(name.as_ref()));
        self
    }

    /// How long a worker above the minimum may have nothing to do. 30 s by default.
    #[must_use]
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Which worker gets a message. The least loaded by default.
    #[must_use]
    pub fn routing(mut self, routing: Routing<M>) -> Self {
        self.routing = routing;
        self
    }

    /// The options of each worker; a name in them is not used.
    #[must_use]
    pub fn worker(mut self, options: Options) -> Self {
        self.worker = options;
        self
    }

    /// How often workers that ended are replaced: its limit; beyond it the pool fails. As often as
    /// an actor is restarted by default.
    #[must_use]
    pub const fn supervision(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }
}
