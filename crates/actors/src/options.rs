//! Settings of one actor.

use std::{any::Any, num::NonZeroUsize, sync::Arc, time::Duration};

use crate::{ActorId, Journal, Snapshot, Strategy, Supervision, durable::SharedJournal};

/// Messages a mailbox holds unless set otherwise.
pub const DEFAULT_MAILBOX: usize = 1_024;

/// The most messages a mailbox may be set to hold.
pub const MAX_MAILBOX: usize = 1 << 20;

/// How long a handler may go on after its actor was told to stop, unless set otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// Called with each snapshot an actor takes. Must not block: hand the value on.
pub type SnapshotSink = Arc<dyn Fn(ActorId, &Snapshot) + Send + Sync>;

/// How an actor runs; see each setter for the default.
#[derive(Clone)]
pub struct Options {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) kind: Option<Arc<str>>,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) mailbox: usize,
    pub(crate) supervision: Supervision,
    pub(crate) strategy: Strategy,
    /// Who gets the messages that the actor leaves behind, as a `pool::Heir` of its types.
    pub(crate) heir: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) grace: Duration,
    pub(crate) snapshot_every: Option<u64>,
    pub(crate) snapshot_within: Option<Duration>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) journal: Option<SharedJournal>,
    pub(crate) gated: bool,
    pub(crate) failures: u32,
    pub(crate) sink: Option<SnapshotSink>,
    pub(crate) foreign: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            kind: None,
            label: None,
            mailbox: DEFAULT_MAILBOX,
            supervision: Supervision::default(),
            strategy: Strategy::default(),
            heir: None,
            grace: DEFAULT_GRACE,
            snapshot_every: None,
            snapshot_within: None,
            snapshot: None,
            journal: None,
            gated: false,
            failures: 0,
            sink: None,
            foreign: false,
        }
    }
}

impl Options {
    /// A name, unique among the living actors of the system. None by default.
    #[must_use]
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(Arc::from(name.as_ref()));
        self
    }

    /// What it is called where it has no name: in errors, notices and spans. Unlike a name it need
    /// not be unique, and finds nothing. Its kind and number by default.
    #[must_use]
    pub fn label(mut self, label: impl AsRef<str>) -> Self {
        self.label = Some(Arc::from(label.as_ref()));
        self
    }

    /// The kind that listings show. The type's name by default.
    #[must_use]
    pub fn kind(mut self, kind: impl AsRef<str>) -> Self {
        self.kind = Some(Arc::from(kind.as_ref()));
        self
    }

    /// Messages the mailbox holds. [`DEFAULT_MAILBOX`] by default, at most [`MAX_MAILBOX`].
    #[must_use]
    pub fn mailbox(mut self, messages: NonZeroUsize) -> Self {
        self.mailbox = messages.get().min(MAX_MAILBOX);
        self
    }

    /// What a failure leads to. Restart with limits by default.
    #[must_use]
    pub const fn supervision(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }

    /// Which of the actor's children begin anew when one fails. The one that failed by default.
    #[must_use]
    pub const fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How long a handler may go on once the actor was told to stop; then it is cancelled at the
    /// await where it stands. [`DEFAULT_GRACE`] by default.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Takes a snapshot after every so many handled messages. Only on request by default.
    #[must_use]
    pub const fn snapshot_every(mut self, messages: std::num::NonZeroU64) -> Self {
        self.snapshot_every = Some(messages.get());
        self
    }

    /// Takes a snapshot so long after a message was handled at the latest, of all that were handled
    /// until then: an idle actor takes none. Only on request by default.
    #[must_use]
    pub const fn snapshot_within(mut self, time: Duration) -> Self {
        self.snapshot_within = Some(time);
        self
    }

    /// The snapshot to start from: handed to [`Actor::restore`](crate::Actor::restore), or
    /// [`restore_older`](crate::Actor::restore_older), before the first message.
    #[must_use]
    pub fn restore(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = Some(snapshot);
        self
    }

    /// Holds the actor, and the children it will have, behind the system's
    /// [`Gate`](crate::Gate). Not by default, unless its parent is.
    #[must_use]
    pub const fn gated(mut self) -> Self {
        self.gated = true;
        self
    }

    /// Makes the actor durable: what each message changed is committed before it is answered. The
    /// actor needs a [`snapshot`](crate::Actor::snapshot); a restart takes up the last commit.
    #[must_use]
    pub fn durable(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Failures of earlier instances that count: as if they had been when this one begins. They
    /// count towards the limit of its [`Supervision`], and lengthen the wait after the next one.
    /// None by default.
    #[must_use]
    pub const fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// Somebody else asked for the actor than who runs this program: its kind must not do for it
    /// what only that one may have done. Not by default.
    #[must_use]
    pub const fn foreign(mut self, foreign: bool) -> Self {
        self.foreign = foreign;
        self
    }

    /// Called with each snapshot, on the actor's task.
    #[must_use]
    pub fn on_snapshot(
        mut self,
        sink: impl Fn(ActorId, &Snapshot) + Send + Sync + 'static,
    ) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("mailbox", &self.mailbox)
            .field("supervision", &self.supervision)
            .field("strategy", &self.strategy)
            .field("grace", &self.grace)
            .field("snapshot_every", &self.snapshot_every)
            .field("snapshot_within", &self.snapshot_within)
            .field("durable", &self.journal.is_some())
            .field("restores", &self.snapshot.is_some())
            .finish_non_exhaustive()
    }
}
