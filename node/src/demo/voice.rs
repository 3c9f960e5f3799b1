//! What the demo says while it runs: bars on a terminal, lines otherwise, JSON on request.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::exit::Fault;
use crate::output;

/// A line of progress is said when so many parts of the whole have been done.
const PARTS: u64 = 5;

/// Who speaks, and since when.
#[derive(Debug)]
pub(crate) struct Voice {
    json: bool,
    bars: bool,
    began: Instant,
}

impl Voice {
    /// Begins to count the time.
    pub(crate) fn new(json: bool) -> Self {
        let bars = !json && std::io::stderr().is_terminal();
        Self {
            json,
            bars,
            began: Instant::now(),
        }
    }

    /// The time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether only JSON is said.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Says that something has come to be.
    ///
    /// # Errors
    /// When nobody can be told.
    pub(crate) fn say(&self, event: &str, text: &str, more: Value) -> Result<(), Fault> {
        let seconds = self.now().as_secs_f64();
        if !self.json {
            return output::line(format_args!("{seconds:>5.1} s  {event:<7} {text}"));
        }
        let mut line = json!({"event": event, "seconds": seconds, "text": text});
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        output::json(&line)
    }

    /// Begins something of which there are so many.
    pub(crate) fn progress(&self, event: &'static str, of: u64) -> Progress<'_> {
        let bar = if self.bars {
            ProgressBar::new(of)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("         {prefix:<7} {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(event);
        Progress {
            voice: self,
            event,
            of,
            bar,
            said: 0,
        }
    }
}

/// How far something is.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    voice: &'a Voice,
    event: &'static str,
    of: u64,
    bar: ProgressBar,
    said: u64,
}

impl Progress<'_> {
    /// So much is done now.
    ///
    /// # Errors
    /// When nobody can be told.
    pub(crate) fn at(&mut self, done: u64, text: &str) -> Result<(), Fault> {
        self.bar.set_message(text.to_owned());
        self.bar.set_position(done);
        let part = done * PARTS / self.of.max(1);
        if self.voice.bars || part <= self.said {
            return Ok(());
        }
        self.said = part;
        let line = format!("{done}/{} {text}", self.of);
        self.voice.say(
            self.event,
            line.trim_end(),
            json!({"done": done, "of": self.of}),
        )
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
