//! Messages that waited for a durable actor when its host handed it on (rule A8): whom to send them
//! to and how often, and how long the next host waits for them.
//!
//! A [`Forwarding`] is with the former host, which keeps the messages. It sends them in batches,
//! one at a time, and a batch is done when its messages are handled and that lasts. Until then it
//! is sent again, to whoever has the actor by then: a host may die with what it was sent. An
//! [`Awaiting`] is with the next host, which gives the actor nothing else before: so what comes by
//! another way never overtakes what waited, also when that has to be sent twice.
//!
//! Whoever drives them sends, waits, and hands in what came of it.

use std::time::Duration;

use cpe_membership::Member;

use crate::guard::{Guard, holds};
use crate::{ActorInfo, Seen};

/// Pause before a batch is sent again that was not handled, and between two questions of an
/// [`Awaiting`].
const PAUSE: Duration = Duration::from_millis(100);

/// How long nobody may be there who takes a batch before it is given up: far longer than another
/// host needs to take an actor over.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

/// How long a former host may be silent whose life is not known to be over: as long as its lease,
/// and as long again for the news of its end.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// So many messages of it, the first ones, are handled, and that lasts.
    Handled(usize),
    /// The actor does not run there, or not any more.
    NotThere,
    /// The node did not answer, or has no time.
    Silent,
    /// The actor has ended there for good.
    Ended,
}

/// How a forwarding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardEnd {
    /// Nothing is left.
    Handled,
    /// What is left nobody will handle, and why.
    Undelivered(&'static str),
}

/// What a forwarding wants done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardStep {
    /// Send the next batch there, then call [`Forwarding::heard`].
    Send {
        /// Who hosts the actor.
        host: Member,
        /// Under which token.
        token: u64,
    },
    /// Call [`Forwarding::woke`] after so long.
    Wait(Duration),
    /// Nothing follows.
    Over(ForwardEnd),
}

/// See the module.
#[derive(Debug)]
pub struct Forwarding {
    to: Seen,
    left: usize,
    /// Since when nobody takes anything.
    stuck_since: Option<Duration>,
}

impl Forwarding {
    /// Begins to send so many messages after an actor, and what to do first.
    #[must_use]
    pub fn new(to: Seen, left: usize) -> (Self, ForwardStep) {
        let stuck_since = None;
        let forwarding = Self {
            to,
            left,
            stuck_since,
        };
        let first = forwarding.send();
        (forwarding, first)
    }

    /// Where the actor is, as far as is known.
    #[must_use]
    pub fn to(&self) -> &Seen {
        &self.to
    }

    fn send(&self) -> ForwardStep {
        if self.left == 0 {
            return ForwardStep::Over(ForwardEnd::Handled);
        }
        let Seen { host, token, .. } = self.to;
        ForwardStep::Send { host, token }
    }

    /// The batch came to this, at `now` by the clock of the node, whose replica shows this record
    /// of the name.
    pub fn heard(
        &mut self,
        now: Duration,
        reached: Reached,
        record: Option<&ActorInfo>,
    ) -> ForwardStep {
        match reached {
            Reached::Handled(count) => {
                self.left = self.left.saturating_sub(count);
                self.stuck_since = None;
                self.send()
            }
            Reached::Ended => ForwardStep::Over(ForwardEnd::Undelivered("the actor has ended")),
            Reached::NotThere | Reached::Silent => self.look(now, record, true),
        }
    }

    /// A pause is over.
    pub fn woke(&mut self, now: Duration, record: Option<&ActorInfo>) -> ForwardStep {
        self.look(now, record, false)
    }

    /// Whoever has the actor by now is sent what is left.
    fn look(&mut self, now: Duration, record: Option<&ActorInfo>, failed: bool) -> ForwardStep {
        let stuck_since = *self.stuck_since.get_or_insert(now);
        // A replica may lag behind what the home has said.
        let current = record.filter(|record| record.token >= self.to.token);
        if let Some(record) = current {
            let there = Seen::of(record).filter(|it| it.is_same(&self.to));
            let Some(there) = there else {
                let why = "the actor has ended: its name was given up";
                return ForwardStep::Over(ForwardEnd::Undelivered(why));
            };
            if there.token > self.to.token && holds(Guard::ForwardFollows) {
                self.to = there;
                self.stuck_since = None;
                return self.send();
            }
        }
        if now.saturating_sub(stuck_since) > GIVE_UP_AFTER {
            let why = "nobody who runs the actor has been reached for ten minutes";
            return ForwardStep::Over(ForwardEnd::Undelivered(why));
        }
        if failed {
            ForwardStep::Wait(PAUSE)
        } else {
            self.send()
        }
    }
}

/// What a former host says of the messages it still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There are some.
    Some,
    /// There are none.
    None,
    /// It did not answer.
    Silent,
}

/// What the next host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwaitStep {
    /// Ask the former host after so long, then call [`Awaiting::heard`].
    Ask(Duration),
    /// Nothing is to come: what came by another way is the actor's now.
    Open,
    /// The same, as the former host is gone, with whatever it had.
    Lost,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Awaiting {
    silent_since: Option<Duration>,
}

impl Awaiting {
    /// The former host said this, at `now` by the clock of the node, which knows whether the life
    /// of that host `is_over`.
    ///
    /// One that answers is waited for, however long it takes, also when its life is over: it has
    /// the messages all the same.
    pub fn heard(&mut self, now: Duration, rest: Rest, is_over: bool) -> AwaitStep {
        match rest {
            Rest::Some if !holds(Guard::AwaitWhoAnswers) && is_over => AwaitStep::Lost,
            Rest::None => AwaitStep::Open,
            Rest::Some => {
                self.silent_since = None;
                AwaitStep::Ask(PAUSE)
            }
            Rest::Silent => {
                let since = *self.silent_since.get_or_insert(now);
                if is_over || now.saturating_sub(since) > SILENT_MAX {
                    AwaitStep::Lost
                } else {
                    AwaitStep::Ask(PAUSE)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cpe_membership::{Incarnation, NodeId};
    use cpe_tuple::Value;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn seen(node: u64, token: u64) -> Seen {
        let (node, inc) = (NodeId(node), Incarnation(1));
        Seen {
            host: Member { node, inc },
            token,
            born: 1,
            leased: true,
        }
    }

    fn record(seen: Seen) -> ActorInfo {
        ActorInfo {
            name: "a".to_owned(),
            spec: Value::Null,
            token: seen.token,
            host: Some(seen.host),
            leased: true,
            born: seen.born,
            kept: false,
        }
    }

    fn send(seen: Seen) -> ForwardStep {
        let Seen { host, token, .. } = seen;
        ForwardStep::Send { host, token }
    }

    #[test]
    fn what_is_handled_is_sent_once_and_then_it_is_over() {
        let to = seen(2, 4);
        let (mut it, first) = Forwarding::new(to, 5);
        assert_eq!(first, send(to));
        let here = record(to);
        assert_eq!(it.heard(NOW, Reached::Handled(3), Some(&here)), send(to));
        let end = it.heard(NOW, Reached::Handled(2), Some(&here));
        assert_eq!(end, ForwardStep::Over(ForwardEnd::Handled));
        let (_, nothing) = Forwarding::new(to, 0);
        assert_eq!(nothing, ForwardStep::Over(ForwardEnd::Handled));
    }

    #[test]
    fn what_a_host_died_with_goes_to_the_next_one() {
        let (to, next) = (seen(2, 4), seen(3, 5));
        let (mut it, _) = Forwarding::new(to, 5);
        let (old, new) = (record(to), record(next));
        let wait = ForwardStep::Wait(PAUSE);
        assert_eq!(it.heard(NOW, Reached::Silent, Some(&old)), wait);
        // Nobody has it yet; a replica that lags says nothing.
        assert_eq!(it.woke(NOW, Some(&old)), send(to));
        let lags = record(seen(1, 3));
        assert_eq!(it.heard(NOW, Reached::NotThere, Some(&lags)), wait);
        assert_eq!(it.woke(NOW, Some(&new)), send(next));
        let end = it.heard(NOW, Reached::Handled(5), Some(&new));
        assert_eq!(end, ForwardStep::Over(ForwardEnd::Handled));
    }

    #[test]
    fn what_nobody_will_handle_is_given_up_with_a_reason() {
        let to = seen(2, 4);
        let over = |step: ForwardStep| {
            let ForwardStep::Over(ForwardEnd::Undelivered(why)) = step else {
                panic!("{step:?}");
            };
            why
        };
        let begun = || Forwarding::new(to, 5).0;
        let here = record(to);
        assert!(over(begun().heard(NOW, Reached::Ended, Some(&here))).contains("ended"));
        let free = ActorInfo {
            host: None,
            ..record(to)
        };
        let given_up = begun().heard(NOW, Reached::NotThere, Some(&free));
        assert!(over(given_up).contains("given up"));
        let other = ActorInfo {
            born: 5,
            ..record(seen(3, 6))
        };
        let another = begun().heard(NOW, Reached::Silent, Some(&other));
        assert!(over(another).contains("given up"));
        // Silence counts from the last word on, however long a batch took.
        let mut it = begun();
        let late = NOW + GIVE_UP_AFTER * 5;
        assert_eq!(
            it.heard(late, Reached::Silent, Some(&here)),
            ForwardStep::Wait(PAUSE)
        );
        let later = late + GIVE_UP_AFTER + SECOND;
        assert!(over(it.woke(later, Some(&here))).contains("ten minutes"));
    }

    #[test]
    fn a_former_host_that_answers_is_waited_for_however_long() {
        let mut it = Awaiting::default();
        let ask = AwaitStep::Ask(PAUSE);
        for minutes in 0..60 {
            let now = NOW + SECOND * 60 * minutes;
            assert_eq!(it.heard(now, Rest::Some, false), ask);
            assert_eq!(it.heard(now, Rest::Silent, false), ask);
        }
        // Its life is over, and it lives.
        assert_eq!(it.heard(NOW, Rest::Some, true), ask);
        assert_eq!(it.heard(NOW, Rest::None, false), AwaitStep::Open);
    }

    #[test]
    fn a_former_host_that_is_silent_is_waited_for_as_long_as_its_life_may_go_on() {
        let mut it = Awaiting::default();
        assert_eq!(it.heard(NOW, Rest::Silent, false), AwaitStep::Ask(PAUSE));
        let late = NOW + SILENT_MAX;
        assert_eq!(it.heard(late, Rest::Silent, false), AwaitStep::Ask(PAUSE));
        let late = late + SECOND;
        assert_eq!(it.heard(late, Rest::Silent, false), AwaitStep::Lost);
        let mut it = Awaiting::default();
        assert_eq!(it.heard(NOW, Rest::Silent, true), AwaitStep::Lost);
    }
}
