//! What is seen of a map: results, what failed, a bar.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use cpe_sleigh::{Done, Standing};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};

use super::lines::{LINE_BYTES_MAX, Read};
use super::signals::Asked;
use crate::cli::Common;
use crate::exit::{Fault, Status};
use crate::map::program::Ran;
use crate::output::{self, Reader};

/// What a person sees of it.
pub(super) struct Show {
    json: bool,
    bar: ProgressBar,
    nodes: usize,
    began: Instant,
    good: usize,
    failed: usize,
    /// What was asked for before all was done.
    asked: Asked,
    /// Nobody reads standard output any more.
    unread: bool,
    read: Read,
    /// Lines that are too long of which was told.
    long: usize,
}

impl Show {
    #[expect(clippy::disallowed_methods, reason = "how long it took is real time")]
    pub(super) fn new(common: &Common, nodes: usize) -> Self {
        let quiet = common.json || !std::io::stderr().is_terminal();
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}{msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !quiet {
            bar.set_message(" lines");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self {
            json: common.json,
            bar,
            nodes,
            began: Instant::now(),
            good: 0,
            failed: 0,
            asked: Asked::Nothing,
            unread: false,
            read: Read::default(),
            long: 0,
        }
    }

    /// The bar, which others may write above.
    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// What is known of the input comes from here.
    pub(super) fn reads(&mut self, read: Read) {
        self.read = read;
    }

    /// This was asked for before all was done.
    pub(super) const fn asked(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// Whether nobody reads standard output any more: then all that is still done is for nobody.
    pub(super) const fn is_unread(&self) -> bool {
        self.unread
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if !self.unread {
            self.unread = output::write(bytes)? == Reader::Gone;
        }
        Ok(())
    }

    fn json(&mut self, record: &Json) -> Result<(), Fault> {
        self.write(format!("{record}\n").as_bytes())
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| output::warn(format_args!("{text}")));
    }

    pub(super) fn standing(&self, standing: Standing) {
        let done = (self.good + self.failed) as u64;
        let offered = (standing.offered + self.long) as u64;
        let all = all(standing.complete, offered, self.read.about());
        self.bar.set_length(all.map_or(offered, |(_, all)| all));
        self.bar.set_position(done);
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let rate = done as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
        let left = all.map_or(String::new(), |(about, all)| {
            let left = all.saturating_sub(done) as f64 / rate.max(1e-3);
            let left = humantime::format_duration(Duration::from_secs(left.ceil() as u64));
            format!(", {about}{left} left")
        });
        let more = if standing.complete { "" } else { "+" };
        let running = standing.running;
        self.bar.set_message(format!(
            "{more} lines, {running} running{failed}, {rate:.1}/s{left}"
        ));
    }

    /// Writes what came of a line; true if it failed.
    pub(super) fn done(&mut self, done: &Done) -> Result<bool, Fault> {
        let number = self.read.number(done.index);
        let long = self.long_lines(number)?;
        let ran = match &done.outcome {
            Ok(value) => Ran::of(value).unwrap_or_else(|| Ran {
                why: Some("what came of it cannot be read".to_owned()),
                ..Ran::default()
            }),
            Err(why) => Ran {
                why: Some(why.clone()),
                ..Ran::default()
            },
        };
        let failed = ran.code != Some(0);
        if failed {
            self.failed += 1;
        } else {
            self.good += 1;
        }
        let node = done.node.rsplit_once('.').map_or("", |(node, _)| node);
        if self.json {
            self.json(&record(number, done.tries, &ran, node))?;
            return Ok(failed || long);
        }
        self.bar().suspend(|| {
            self.write(&ran.out)?;
            // Nothing can be done about a failure here.
            let _ = std::io::stderr().lock().write_all(&ran.err);
            Ok::<(), Fault>(())
        })?;
        if failed {
            let what = match (&ran.why, ran.code) {
                (Some(why), _) => why.clone(),
                (None, Some(code)) => format!("exit status {code}"),
                (None, None) => "it has no exit status".to_owned(),
            };
            let on = match node {
                "" => String::new(),
                node => format!(" on {node}"),
            };
            let again = match done.tries {
                0 | 1 => String::new(),
                tries => format!(", the last of {tries} tries"),
            };
            self.say(&format!("line {number} failed{on}: {what}{again}"));
        }
        Ok(failed || long)
    }

    /// Tells of lines below this number that are too long: they have failed. True if there were
    /// any.
    fn long_lines(&mut self, below: u64) -> Result<bool, Fault> {
        let numbers = self.read.long(self.long, below);
        for number in &numbers {
            let why = format!("it has more than {LINE_BYTES_MAX} bytes");
            if self.json {
                let ran = Ran {
                    why: Some(why),
                    ..Ran::default()
                };
                self.json(&record(*number, 0, &ran, ""))?;
            } else {
                self.say(&format!("line {number} failed: {why}"));
            }
        }
        self.long += numbers.len();
        self.failed += numbers.len();
        Ok(!numbers.is_empty())
    }

    pub(super) fn end(mut self, standing: Standing) -> Result<Status, Fault> {
        if self.unread {
            // As `head` does to every filter: the reader has what it came for.
            return Ok(Status::Done);
        }
        self.long_lines(u64::MAX)?;
        let ran = self.good + self.failed;
        let interrupted = self.asked != Asked::Nothing;
        let left = (standing.offered + self.long).saturating_sub(ran);
        let ended = left.saturating_sub(standing.cancelled);
        // Some may have been read that no task was made of yet.
        let read = usize::try_from(self.read.lines()).unwrap_or(usize::MAX);
        let not_begun = standing
            .cancelled
            .max(read.saturating_sub(ran).saturating_sub(ended));
        if self.json && (self.failed > 0 || interrupted) {
            self.json(&json!({
                "ran": ran, "failed": self.failed, "not_begun": not_begun,
                "ended": ended, "interrupted": interrupted,
            }))?;
        }
        if let Some(fault) = self.read.fault() {
            return Err(Fault::failed(format!(
                "standard input cannot be read further: {fault}; {ran} lines ran, {} failed",
                self.failed
            )));
        }
        if interrupted || left > 0 {
            let ended = match ended {
                0 => String::new(),
                many => format!(", {many} were ended while they ran"),
            };
            let what = format!(
                "{ran} lines ran, {} of them failed; {not_begun} that were read were not begun\
                 {ended}",
                self.failed
            );
            return Err(match self.asked {
                Asked::Terminate => Fault::terminated(what),
                _ => Fault::failed(what),
            });
        }
        if self.failed > 0 {
            let took = self.began.elapsed();
            return Err(Fault::failed(format!(
                "{} of {ran} lines failed, in {:.1} s on {} nodes",
                self.failed,
                took.as_secs_f64(),
                self.nodes
            )));
        }
        Ok(Status::Done)
    }
}

/// How many lines there are in all, and what is said before a guess: known only once all are read,
/// and guessed from the size of a file.
fn all(complete: bool, offered: u64, about: Option<u64>) -> Option<(&'static str, u64)> {
    match (complete, about) {
        (true, _) => Some(("", offered)),
        (false, about) => about.map(|about| ("about ", about.max(offered))),
    }
}

/// What came of a line, as data.
fn record(number: u64, tries: u32, ran: &Ran, node: &str) -> Json {
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            use base64::Engine as _;
            json!({"bytes": base64::engine::general_purpose::STANDARD.encode(bytes)})
        }
    };
    let mut record = json!({
        "line": number,
        "exit": ran.code,
        "out": bytes(&ran.out),
        "err": bytes(&ran.err),
        "error": ran.why,
        "node": node,
        "seconds": ran.took.as_secs_f64(),
        "tries": tries,
    });
    if let (Some(value), Some(record)) = (&ran.value, record.as_object_mut()) {
        record.insert("value".to_owned(), cpe_tuple::json::value_to_json(value));
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_not_told_from_the_lines_that_happen_to_be_read() {
        assert_eq!(all(false, 300, None), None);
        assert_eq!(all(false, 300, Some(9000)), Some(("about ", 9000)));
        assert_eq!(all(false, 300, Some(200)), Some(("about ", 300)));
        assert_eq!(all(true, 300, Some(9000)), Some(("", 300)));
    }
}
