//! A node's own clock: it may run fast or slow, and begins anywhere.

use std::time::Duration;

/// Millionths in one.
const MILLION: i128 = 1_000_000;

/// How a node's clock follows the time of the world.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    drift_ppm: i64,
    offset: Duration,
}

impl Clock {
    pub(crate) fn new(drift_ppm: i64, offset: Duration) -> Self {
        Self { drift_ppm, offset }
    }

    fn rate(self) -> i128 {
        MILLION + i128::from(self.drift_ppm)
    }

    /// What it shows.
    pub(crate) fn shows(self, now: Duration) -> Duration {
        if self.drift_ppm == 0 {
            return self.offset + now;
        }
        self.offset + nanos(now.as_nanos() as i128 * self.rate() / MILLION)
    }

    /// The first time of the world at which it shows `local` or more.
    pub(crate) fn reaches(self, local: Duration) -> Duration {
        let since = local.saturating_sub(self.offset);
        if self.drift_ppm == 0 {
            return since;
        }
        let rate = self.rate();
        nanos((since.as_nanos() as i128 * MILLION + rate - 1) / rate)
    }
}

fn nanos(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_reached_when_it_shows_the_time_and_not_before() {
        for drift in [-50_000, -7, 0, 1, 33_333, 50_000] {
            let clock = Clock::new(drift, Duration::from_millis(1_234));
            for ms in [1_234, 1_300, 5_001, 86_400_000] {
                let local = Duration::from_millis(ms);
                let at = clock.reaches(local);
                assert!(clock.shows(at) >= local, "{drift} {ms}");
                let before = at.saturating_sub(Duration::from_nanos(2));
                assert!(clock.shows(before) < local || at < Duration::from_nanos(2));
            }
        }
    }
}
