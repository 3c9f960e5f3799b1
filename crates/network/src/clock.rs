//! The one place where this crate reads clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Time since the network started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The instant at a time since the start.
    pub(crate) fn at(&self, time: Duration) -> Instant {
        self.start + time
    }
}

/// Seconds since 1970, for the windows of certificates.
#[expect(
    clippy::disallowed_methods,
    reason = "a shell reads the clock; certificates need a date"
)]
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
