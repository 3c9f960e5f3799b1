//! What rules have the node's log say: not more than people can read, whatever they write.

use std::fmt::{Display, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cpe_rules::Level;
use tokio::time::Instant;

/// Characters of a line at most.
const LINE_MAX: usize = 1024;

/// Lines of one agent in one [`PERIOD`] at most.
const LINES_MAX: u32 = 100;

/// For how long lines are counted.
const PERIOD: Duration = Duration::from_secs(5);

/// The log of one agent.
#[derive(Debug)]
pub(super) struct Log {
    actor: String,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Log {
    pub(super) fn new(actor: &str) -> Self {
        Self {
            actor: actor.to_owned(),
            counted: Mutex::new(Counted {
                since: Instant::now(),
                lines: 0,
                left_out: 0,
            }),
        }
    }

    /// Writes a line, if there were not too many.
    pub(super) fn line(&self, level: Level, text: impl Display) {
        let before = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(before) = counted.next(Instant::now()) else {
                return;
            };
            before
        };
        if before > 0 {
            tracing::warn!(
                actor = self.actor,
                "{before} lines of its log were left out"
            );
        }
        let text = cut(&text);
        match level {
            Level::Error => tracing::error!(actor = self.actor, "{text}"),
            Level::Warn => tracing::warn!(actor = self.actor, "{text}"),
            Level::Info => tracing::info!(actor = self.actor, "{text}"),
            Level::Debug => tracing::debug!(actor = self.actor, "{text}"),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let counted = self.counted.get_mut();
        let left_out = counted.unwrap_or_else(PoisonError::into_inner).left_out;
        if left_out > 0 {
            let what = "lines of its log were left out";
            tracing::warn!(actor = self.actor, "{left_out} {what} at its end");
        }
    }
}

impl Counted {
    /// Counts one more line: how many were left out before it, or nothing when this one is.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= PERIOD {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The beginning of a text, without what a terminal or a reader of lines would take for something
/// else.
fn cut(text: &impl Display) -> String {
    let text = text.to_string();
    let mut cut = String::with_capacity(text.len().min(LINE_MAX));
    let mut characters = text.chars();
    for c in characters.by_ref().take(LINE_MAX) {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            cut.extend(c.escape_default());
        } else {
            cut.push(c);
        }
    }
    let rest = characters.as_str().len();
    if rest > 0 {
        // Writing to a string does not fail.
        let _ = write!(cut, "... and {rest} bytes more");
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_rules_is_one_line_and_no_longer_than_that() {
        let forged = cut(&"x\n2026-11-27 ERROR cpe::driver: forged\r\x1b[2J");
        assert_eq!(
            forged,
            "x\\n2026-11-27 ERROR cpe::driver: forged\\r\\u{1b}[2J"
        );
        let long = cut(&"ü".repeat(2000));
        assert!(long.ends_with("ü... and 1952 bytes more"), "{long}");
    }

    #[test]
    fn lines_beyond_the_rate_are_counted_and_not_written() {
        let begun = Instant::now();
        let mut counted = Counted {
            since: begun,
            lines: 0,
            left_out: 0,
        };
        let written = (0..9_000).filter(|_| counted.next(begun).is_some()).count();
        assert_eq!(written, 100);
        assert_eq!(counted.next(begun + PERIOD), Some(8_900));
        assert_eq!(counted.next(begun + PERIOD), Some(0));
    }
}
