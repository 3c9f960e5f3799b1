//! The one place where this crate reads clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Seconds from 1970 to 2020: incarnations count from there, so that 32 bits last until 2156.
const YEAR_2020: u64 = 1_577_836_800;

/// Time since the node started: the `now` of its peer.
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

/// Time since 1970, for certificates, incarnations and people.
#[expect(
    clippy::disallowed_methods,
    reason = "a shell reads the clock; certificates and incarnations need a date"
)]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The number of a life that begins now: higher than that of every earlier one of the node, as
/// long as its clock is not set back.
pub(crate) fn incarnation() -> u32 {
    let seconds = since_1970().as_secs().saturating_sub(YEAR_2020);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}
