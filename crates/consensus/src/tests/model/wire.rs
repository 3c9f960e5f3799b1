//! What a network that loses, repeats, delays and reorders holds of all that was ever sent.
//!
//! Nothing ever leaves it, so a set of messages would do. This keeps less than the set, and can
//! deliver more: what a leader told a member under one ballot is one statement, "this is my log,
//! and so far it is decided", which is delivered up to any index of the log and any index of what
//! is decided. Each of these is true when it is delivered, though perhaps no message said just
//! that. So there is every run that the messages have, and runs that differ only in how they cut
//! the same words into messages are one.

use std::collections::BTreeMap;

use super::{Id, Word};
use crate::{Ballot, Group, Message};

/// An epoch, a ballot, and the member at the other end than the ballot's owner.
pub(super) type Link = (u64, Ballot<Id>, Id);

/// What a leader has told a member of its log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Told {
    /// If it sent a `Sync`: the lowest index at which one began, and the lowest at which one ended.
    /// The member must not be left with less.
    sync: Option<(u64, u64)>,
    /// The index before the first entry.
    from: u64,
    entries: Vec<Word>,
    decided: u64,
}

/// The lowest and the highest index that a member acknowledged. What it knows to be decided only
/// tells the leader what to repeat, and here leaders repeat everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Acked {
    pub(super) lowest: u64,
    pub(super) highest: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Wire {
    /// The first question of each ballot. A leader asks again with what it has by then, but of the
    /// answer it reads only what the member knows to be decided.
    pub(super) prepares: BTreeMap<Link, Message<Id, Word>>,
    /// In order, without repetition.
    pub(super) promises: BTreeMap<Link, Vec<Message<Id, Word>>>,
    pub(super) told: BTreeMap<Link, Told>,
    pub(super) acked: BTreeMap<Link, Acked>,
    /// By epoch, sender and receiver the highest index: a lower one does nothing that it does not.
    pub(super) catch_ups: BTreeMap<(u64, Id, Id), u64>,
    /// A leader said two things of one index under one ballot, or left one out.
    pub(super) contradicts: bool,
}

impl Wire {
    /// A message was sent.
    pub(super) fn send(&mut self, epoch: u64, from: Id, to: Id, message: Message<Id, Word>) {
        match message {
            Message::Prepare { ballot, .. } => {
                self.prepares.entry((epoch, ballot, to)).or_insert(message);
            }
            Message::Promise { ballot, .. } => {
                let promises = self.promises.entry((epoch, ballot, from)).or_default();
                if let Err(place) = promises.binary_search(&message) {
                    promises.insert(place, message);
                }
            }
            Message::Sync {
                ballot,
                from: start,
                suffix,
                decided,
            } => self.tell((epoch, ballot, to), start, &suffix, decided, true),
            Message::Accept {
                ballot,
                from: start,
                entries,
                decided,
            } => self.tell((epoch, ballot, to), start, &entries, decided, false),
            Message::Accepted { ballot, len, .. } => {
                let (lowest, highest) = (len, len);
                let acked = self.acked.entry((epoch, ballot, from));
                let acked = acked.or_insert(Acked { lowest, highest });
                acked.lowest = acked.lowest.min(len);
                acked.highest = acked.highest.max(len);
            }
            Message::CatchUp { decided } => {
                let highest = self.catch_ups.entry((epoch, from, to)).or_default();
                *highest = decided.max(*highest);
            }
            // They have the leader repeat what is not forgotten here, or raise its ballot, for
            // which nobody has another turn. Nobody reads.
            Message::NeedPrepare
            | Message::Refuse { .. }
            | Message::Confirm { .. }
            | Message::Confirmed { .. } => {}
        }
    }

    fn tell(&mut self, link: Link, from: u64, entries: &[Word], decided: u64, is_sync: bool) {
        let told = self.told.entry(link).or_insert_with(|| Told {
            sync: None,
            from,
            entries: entries.to_vec(),
            decided,
        });
        told.decided = told.decided.max(decided);
        let end = from + entries.len() as u64;
        if is_sync {
            let (first, lowest) = told.sync.unwrap_or((from, end));
            told.sync = Some((first.min(from), lowest.min(end)));
        }
        let (first, last) = (told.from.min(from), told.end().max(end));
        let mut joined = Vec::new();
        for index in first..last {
            let old = at(told.from, &told.entries, index);
            let new = at(from, entries, index);
            self.contradicts |= old.is_some() && new.is_some() && old != new;
            let Some(word) = new.or(old) else {
                self.contradicts = true;
                return;
            };
            joined.push(word);
        }
        told.from = first;
        told.entries = joined;
    }
}

/// The entry after an index.
fn at(from: u64, entries: &[Word], index: u64) -> Option<Word> {
    let offset = usize::try_from(index.checked_sub(from)?).ok()?;
    entries.get(offset).copied()
}

impl Told {
    fn end(&self) -> u64 {
        self.from + self.entries.len() as u64
    }

    /// The receiver has decided so far. What comes before makes no difference to it, and that less
    /// is decided is no news.
    pub(super) fn raise(&mut self, decided: u64) {
        let is_beyond = self.sync.is_some_and(|(from, _)| from > decided);
        if self.end() < decided || self.from > decided || is_beyond {
            return;
        }
        self.entries
            .drain(..usize::try_from(decided - self.from).unwrap());
        self.from = decided;
        self.decided = self.decided.max(decided);
        if let Some((from, lowest)) = &mut self.sync {
            *from = decided;
            *lowest = decided.max(*lowest);
        }
    }

    /// What can be delivered of it. To a member in step, of the `Sync`s only the shortest and the
    /// longest, which shorten and extend the most; else of the `Accept`s only the whole, which
    /// must not be accepted.
    pub(super) fn messages(
        &self,
        ballot: Ballot<Id>,
        to: &Group<Id, Word>,
    ) -> Vec<Message<Id, Word>> {
        let in_step = to.accepted == Some(ballot);
        let until = |from: u64, end: u64| {
            let place = |index: u64| usize::try_from(index - self.from).unwrap();
            self.entries[place(from)..place(end)].to_vec()
        };
        // Less than the member knows, or more than the entries, is as good as these.
        let news = |end: u64| {
            let most = self.decided.min(end.max(to.decided));
            to.decided.min(most)..=most
        };
        let mut messages = Vec::new();
        if let Some((from, lowest)) = self.sync {
            for end in lowest..=self.end() {
                for decided in news(end) {
                    let is_extreme = end == lowest || end == self.end();
                    if !in_step || is_extreme && decided == *news(end).end() {
                        let suffix = until(from, end);
                        messages.push(Message::Sync {
                            ballot,
                            from,
                            suffix,
                            decided,
                        });
                    }
                }
            }
        }
        for end in self.from..=self.end() {
            for decided in news(end) {
                let is_news = end > to.len() || end == to.len() && decided > to.decided;
                let is_whole = end == self.end() && decided == *news(end).end();
                if is_whole || in_step && is_news {
                    let (from, entries) = (self.from, until(self.from, end));
                    messages.push(Message::Accept {
                        ballot,
                        from,
                        entries,
                        decided,
                    });
                }
            }
        }
        messages
    }

    /// All of it, in one message.
    pub(super) fn whole(&self, ballot: Ballot<Id>) -> Message<Id, Word> {
        let (from, decided) = (self.from, self.decided);
        let entries = self.entries.clone();
        if self.sync.is_some_and(|(first, _)| first == from) {
            return Message::Sync {
                ballot,
                from,
                suffix: entries,
                decided,
            };
        }
        Message::Accept {
            ballot,
            from,
            entries,
            decided,
        }
    }
}
