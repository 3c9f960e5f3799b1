//! Signs of life of a job: as long as there are new ones, somebody is at it.
//!
//! They stand in one variable of the job, each in the place of the one before. Whoever asked gives
//! one every second; when none comes any more, a node that runs something for the job gives some in
//! its place, until that is done. After that there is nobody.

use std::time::Duration;

use cpe::{Field, Kind, LimitError, Template, Tuple, Value};

/// How often whoever asked says that it is there.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// How long there may be none before whoever asked counts as gone: its job can be taken up by
/// another then, and nodes give signs in its place.
pub(crate) const GONE_AFTER: Duration = Duration::from_secs(5);

/// Who "gives" the last sign of a job that somebody else has ended.
const CANCELLED: &str = "cancelled";

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    /// Who gives it: a node's name, or what one run of `cpe map` calls itself.
    who: String,
    /// Whether that is the one who asked.
    asks: bool,
    /// Different from that of the one before.
    number: i64,
}

impl Sign {
    /// The first sign of one who asks.
    pub(crate) fn of_asker(who: &str) -> Self {
        Self::new(who, true)
    }

    /// The first sign of a node.
    pub(crate) fn of_node(name: &str) -> Self {
        Self::new(name, false)
    }

    /// What tells whoever asked that its job is ended.
    pub(crate) fn cancelled() -> Self {
        Self::new(CANCELLED, true)
    }

    fn new(who: &str, asks: bool) -> Self {
        Self {
            who: who.to_owned(),
            asks,
            number: 0,
        }
    }

    /// The next one of the same.
    pub(crate) fn next(&mut self) {
        self.number = self.number.wrapping_add(1);
    }

    /// Whether somebody else than this one asks by it.
    pub(crate) fn is_of_other(&self, who: &str) -> bool {
        self.asks && self.who != who
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.asks && self.who == CANCELLED
    }

    /// Where those of a job stand.
    pub(crate) fn variable(job: &str) -> String {
        format!("alive {job}")
    }

    /// The job of which signs stand in this variable.
    pub(crate) fn job(variable: &str) -> Option<&str> {
        variable.strip_prefix("alive ")
    }

    pub(crate) fn template(job: &str) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(Self::variable(job))),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Bool),
            Field::Typed(Kind::Int),
        ])
    }

    pub(crate) fn to_tuple(&self, job: &str) -> Result<Tuple, LimitError> {
        Tuple::new(vec![
            Value::from(Self::variable(job)),
            Value::from(self.who.as_str()),
            Value::Bool(self.asks),
            Value::Int(self.number),
        ])
    }

    pub(crate) fn of(tuple: &Tuple) -> Option<Self> {
        let [_, who, Value::Bool(asks), number] = tuple.fields() else {
            return None;
        };
        Some(Self {
            who: who.as_str()?.to_owned(),
            asks: *asks,
            number: number.as_int()?,
        })
    }
}

/// How long there has been no new sign, as one sees it who looks again and again.
#[derive(Debug)]
pub(crate) struct Silence {
    last: Option<Sign>,
    since: Duration,
}

impl Silence {
    /// Begins now, by any clock.
    pub(crate) const fn new(now: Duration) -> Self {
        Self {
            last: None,
            since: now,
        }
    }

    /// How long it lasts, after a look that showed this.
    pub(crate) fn look(&mut self, seen: Option<Sign>, now: Duration) -> Duration {
        if seen != self.last {
            self.last = seen;
            self.since = now;
        }
        now.saturating_sub(self.since)
    }

    /// Nothing can be seen: there may be signs.
    pub(crate) const fn blind(&mut self, now: Duration) {
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_lasts_from_the_last_new_sign_that_was_seen() {
        let at = Duration::from_secs;
        let mut silence = Silence::new(at(10));
        let mut sign = Sign::of_asker("me");
        assert_eq!(silence.look(None, at(11)), at(1));
        assert_eq!(silence.look(Some(sign.clone()), at(12)), at(0));
        assert_eq!(silence.look(Some(sign.clone()), at(15)), at(3));
        sign.next();
        assert_eq!(silence.look(Some(sign.clone()), at(16)), at(0));
        silence.blind(at(18));
        assert_eq!(silence.look(Some(sign), at(20)), at(2));
        // One that is gone was something new too.
        assert_eq!(silence.look(None, at(21)), at(0));
    }

    #[test]
    fn a_sign_is_read_as_it_was_written() {
        let mut sign = Sign::of_node("b");
        sign.next();
        assert_eq!(Sign::of(&sign.to_tuple("j").unwrap()), Some(sign.clone()));
        assert!(!sign.is_of_other("me"));
        let asker = Sign::of_asker("you");
        assert!(asker.is_of_other("me") && !asker.is_of_other("you"));
        assert!(Sign::cancelled().is_cancelled() && Sign::cancelled().is_of_other("me"));
    }
}
