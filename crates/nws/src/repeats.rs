//! A line of a log that is not written again and again.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// After so long a complaint that still holds is made again.
const AGAIN: Duration = Duration::from_secs(60);

/// Remembers the last complaint, so that the same one, which may come with every try, is made once
/// a minute.
#[derive(Debug, Default)]
pub struct Repeats {
    last: Option<(String, Instant)>,
}

impl Repeats {
    /// True when this was not said within the last minute, or something else was said since: then
    /// say it.
    pub fn is_new(&mut self, complaint: &impl Display) -> bool {
        let (complaint, now) = (complaint.to_string(), Instant::now());
        let said = |(last, at): &(String, Instant)| *last == complaint && now - *at < AGAIN;
        if self.last.as_ref().is_some_and(said) {
            return false;
        }
        self.last = Some((complaint, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_complaint_is_made_again_when_it_changes_or_after_a_minute() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_new(&"full"));
        assert!(!repeats.is_new(&"full"));
        assert!(repeats.is_new(&"broken"));
        assert!(repeats.is_new(&"full"));
        tokio::time::advance(AGAIN).await;
        assert!(repeats.is_new(&"full"));
    }
}
