//! What happens to an actor that failed.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The highest intensity limit that can be set; each failure within the window is remembered.
pub const MAX_RESTARTS: u32 = 1_000;

/// What to do with an actor whose handler failed or panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// Go on with the state as it is. For actors whose state is valid between any two awaits.
    Resume,
    /// Build a new instance with the factory; children are stopped first, the mailbox is kept.
    /// An actor that was spawned without a factory is stopped instead.
    Restart,
    /// End with [`ExitReason::Failed`](crate::ExitReason::Failed).
    Stop,
    /// End, and let the parent fail in turn with this reason; without a parent as `Stop`.
    Escalate,
}

/// Which children of an actor begin anew when one of them is restarted after a failure.
///
/// Set with [`Options::strategy`](crate::Options::strategy) of the parent. The children keep their
/// addresses and mailboxes. The parent's own [`Supervision`] limits how often the children begin
/// anew together, and gives the wait before; beyond the limit the parent fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// The one that failed. The default.
    #[default]
    OneForOne,
    /// All of them: the others halt, the youngest first, then all start again, the eldest first.
    OneForAll,
    /// The one that failed and those that were started after it, in the order of `OneForAll`.
    RestForOne,
}

/// The waiting time before a restart: doubles from `first` to `max`, each less a random part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Before the first restart. 10 ms by default.
    pub first: Duration,
    /// The longest wait. 5 s by default.
    pub max: Duration,
    /// The part of each wait that is random, 0 (none) to 1 (all of it). 0.5 by default: actors
    /// that fell together do not come back together.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(10),
            max: Duration::from_secs(5),
            jitter: 0.5,
        }
    }
}

impl Backoff {
    /// No wait at all.
    pub const NONE: Self = Self {
        first: Duration::ZERO,
        max: Duration::ZERO,
        jitter: 0.0,
    };

    /// The wait before restart number `attempt` (from 0) of the current run of failures.
    #[must_use]
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        let full = self
            .first
            .saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        let full = full.min(self.max);
        let jitter = if self.jitter.is_finite() {
            self.jitter.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let random: f64 = ChaCha8Rng::seed_from_u64(seed).random();
        full.mul_f64(jitter.mul_add(-random, 1.0).clamp(0.0, 1.0))
    }
}

/// The policy of one actor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supervision {
    /// What a failure leads to.
    pub on_failure: OnFailure,
    /// Restarts or resumptions allowed within `within`; one more ends the actor. 5 by default, at
    /// most [`MAX_RESTARTS`].
    pub max_restarts: u32,
    /// The window of `max_restarts`. 60 s by default.
    pub within: Duration,
    /// The wait before a restart.
    pub backoff: Backoff,
    /// Whether the parent fails in turn when the limit is exceeded. False by default.
    pub escalate_at_limit: bool,
    /// Whether a restarted instance gets the last snapshot. True by default.
    pub from_snapshot: bool,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            on_failure: OnFailure::Restart,
            max_restarts: 5,
            within: Duration::from_secs(60),
            backoff: Backoff::default(),
            escalate_at_limit: false,
            from_snapshot: true,
        }
    }
}

impl Supervision {
    /// Resume after a failure, otherwise the default.
    #[must_use]
    pub fn resume() -> Self {
        Self {
            on_failure: OnFailure::Resume,
            ..Self::default()
        }
    }

    /// Restart after a failure: the default.
    #[must_use]
    pub fn restart() -> Self {
        Self::default()
    }

    /// Stop at the first failure.
    #[must_use]
    pub fn stop() -> Self {
        Self {
            on_failure: OnFailure::Stop,
            ..Self::default()
        }
    }

    /// Fail the parent.
    #[must_use]
    pub fn escalate() -> Self {
        Self {
            on_failure: OnFailure::Escalate,
            ..Self::default()
        }
    }

    /// Sets the intensity limit: at most `count` restarts or resumptions in any `within`.
    #[must_use]
    pub const fn limit(mut self, count: u32, within: Duration) -> Self {
        self.max_restarts = count;
        self.within = within;
        self
    }

    /// Has the parent fail in turn when the limit is exceeded.
    #[must_use]
    pub const fn escalate_at_limit(mut self) -> Self {
        self.escalate_at_limit = true;
        self
    }

    /// Sets the waiting times.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}
