//! How slow the other end may be: a bounded patience that is used up while it is waited for, and
//! comes back with the bytes that it moves.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::limits::SLOWEST_BYTES_PER_SECOND;

/// The patience with one transfer. What is announced counts for nothing; only what has come, or
/// was taken, does. Who moves [`SLOWEST_BYTES_PER_SECOND`] is never cut off, who stops is after
/// what is left of the patience, and what was once fast is not allowed a longer stop for it.
#[derive(Debug)]
pub(crate) struct Pace {
    most: Duration,
    left: Duration,
}

impl Pace {
    /// With all of its patience.
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, left: most }
    }

    /// Waits for a transfer that says how many bytes it has moved. What this side needs between
    /// two of them is not counted.
    ///
    /// # Errors
    /// `TimedOut` when the patience is used up, and what the transfer says.
    pub(crate) async fn moves(
        &mut self,
        transfer: impl Future<Output = std::io::Result<usize>>,
    ) -> std::io::Result<usize> {
        let begun = Instant::now();
        let moved = timeout(self.left, transfer).await;
        let moved = moved.map_err(|_| Error::from(ErrorKind::TimedOut))??;
        self.spend(begun.elapsed(), moved);
        Ok(moved)
    }

    fn spend(&mut self, waited: Duration, moved: usize) {
        let nanos = (moved as u64).saturating_mul(1_000_000_000) / SLOWEST_BYTES_PER_SECOND;
        let earned = Duration::from_nanos(nanos);
        self.left = (self.left + earned).saturating_sub(waited).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_keeps_the_pace_loses_no_patience_and_who_is_faster_gains_none() {
        let bytes = usize::try_from(SLOWEST_BYTES_PER_SECOND).unwrap();
        let mut pace = Pace::new(MOST);
        pace.spend(10 * SECOND, 0);
        assert_eq!(pace.left, 50 * SECOND);
        pace.spend(5 * SECOND, 5 * bytes);
        assert_eq!(pace.left, 50 * SECOND);
        pace.spend(SECOND, 1_000 * bytes);
        assert_eq!(pace.left, MOST);
        pace.spend(SECOND, usize::MAX);
        assert_eq!(pace.left, MOST);
        pace.spend(2 * MOST, 0);
        assert_eq!(pace.left, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_stops_is_given_up_after_what_is_left() {
        let mut pace = Pace::new(MOST);
        pace.spend(20 * SECOND, 0);
        let begun = Instant::now();
        let moved = pace.moves(std::future::pending()).await;
        assert_eq!(moved.unwrap_err().kind(), ErrorKind::TimedOut);
        let waited = begun.elapsed();
        assert!((40 * SECOND..41 * SECOND).contains(&waited), "{waited:?}");
    }
}
