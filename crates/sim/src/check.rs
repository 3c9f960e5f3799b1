//! The books of a run: what was stored, what was handed out, what must add up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::Member;

use crate::history::Conflict;
use crate::leases::LeaseBooks;

/// What a run did, in numbers.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Seed of the run.
    pub seed: u64,
    /// Virtual seconds it took, settling included.
    pub seconds: f64,
    /// Messages delivered, gossip included.
    pub messages: u64,
    /// Bytes of the messages sent.
    pub bytes: u64,
    /// Stores begun.
    pub stores: u64,
    /// Of those, with a body that lies apart.
    pub large_stores: u64,
    /// Bodies fetched by readers and takers, and found to be what was stored.
    pub bodies_read: u64,
    /// Stores acknowledged by their homes.
    pub acknowledged: u64,
    /// Tuples handed to takers.
    pub taken: u64,
    /// Tuples handed out under a lease.
    pub leased: u64,
    /// Leases committed.
    pub committed: u64,
    /// Acts on leases that had ended.
    pub leases_lost: u64,
    /// Takes that ended with a decided "nothing there".
    pub empty: u64,
    /// Requests that ran out of time.
    pub timed_out: u64,
    /// Requests whose home could not be reached.
    pub unavailable: u64,
    /// Requests that may have been executed.
    pub unknown: u64,
    /// Tuples whose taker crashed before it had them.
    pub lost_with_taker: u64,
    /// Tuples left at the end.
    pub left: u64,
    /// Crashes.
    pub crashes: u64,
    /// Clean stops.
    pub stops: u64,
    /// Partitions.
    pub partitions: u64,
    /// One-way and flapping links.
    pub bad_links: u64,
    /// Pauses.
    pub pauses: u64,
    /// Turns in which a node took in more than one input before it finished any.
    pub turns: u64,
    /// Slow disks and failed writes.
    pub bad_disks: u64,
    /// Disks lost.
    pub lost_disks: u64,
    /// Leases of hosts granted or renewed.
    pub may_act: u64,
    /// Lives of hosts that ended while the node was there.
    pub voided: u64,
    /// Times that a node was given a named actor to run.
    pub actors_run: u64,
    /// Of those, after another host's life was over.
    pub taken_over: u64,
    /// Times that a host handed an actor on.
    pub moved: u64,
    /// Names of actors given up.
    pub released: u64,
    /// Watchers that were told of the end of their actor.
    pub watchers_told: u64,
    /// Of these, those that were told the reason.
    pub told_why: u64,
    /// States that actors committed.
    pub commits: u64,
    /// Messages that actors told others, and that were handled.
    pub told: u64,
    /// Answers to takes that actors were given, and handled.
    pub took: u64,
    /// Tuples that actors asked for.
    pub emitted: u64,
    /// Commits of incarnations that had been replaced.
    pub fenced: u64,
    /// Messages to actors that were told or asked through their mailboxes, and acknowledged.
    pub posted: u64,
    /// Of those told, the ones that a former host sent on and that were handled.
    pub sent_on: u64,
    /// Those that nobody handled, as their hosts said.
    pub buried: u64,
    /// Plain actors that were started.
    pub plain_run: u64,
    /// Of those, the ones whose nodes ended them because their names were others' by then.
    pub plain_ended: u64,
    /// Former hosts for which a next one did not wait any longer.
    pub given_up: u64,
    /// Homes that moved.
    pub moves: u64,
    /// Volatile shards that began anew, because they had lost their majority.
    pub generations: u64,
    /// Acknowledged tuples that were in one.
    pub lost_in_memory: u64,
    /// Replicas that caught up by the difference to another's state.
    pub sketches: u64,
    /// Replicas that took a whole state.
    pub snapshots: u64,
    /// States put together that were not the ones offered: none without a defect.
    pub states_failed: u64,
    /// Deletions that were done.
    pub deletions: u64,
    /// Stores and takes that had to succeed once the faults had ended, and did.
    pub progressed: u64,
    /// Virtual seconds from the end of the faults until all of them had.
    pub progress_seconds: f64,
    /// Operations of users whose order was checked: linearizable, per variable.
    pub checked: u64,
    /// Answers of nodes from their replicas, at which these were looked at: each shows a prefix of
    /// the one history, and none less than before.
    pub looks: u64,
    /// Hash over everything that was sent: equal for equal runs.
    pub trace: u64,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The hard promise: a tuple is taken once.
    #[error("tuple {0} was handed out twice")]
    TakenTwice(i64),
    /// A tuple was handed out that nobody stored.
    #[error("tuple {0} was handed out but never stored")]
    FromNowhere(i64),
    /// A tuple was handed out and is still there.
    #[error("tuple {0} was handed out and is still there")]
    TakenAndThere(i64),
    /// A tuple was seen after it was taken, or after its workspace or variable was deleted.
    #[error("tuple {0} came back after it was taken or deleted")]
    CameBack(i64),
    /// A tuple is gone that nobody took and no deletion covered.
    #[error("tuple {0} is gone, though nobody took or deleted it")]
    Vanished(i64),
    /// A lease of a tuple has no higher token than one received before it was asked for.
    #[error("tuple {0} was leased again under a token that is not higher")]
    TokenFell(i64),
    /// A committed tuple was handed out.
    #[error("tuple {0} was committed and handed out afterwards")]
    SeenAfterCommit(i64),
    /// A lease was committed after it had ended.
    #[error("tuple {0} was committed under a lease that had ended")]
    CommittedLate(i64),
    /// Leases did not end.
    #[error("{0} leases did not end after all was healed")]
    NotExpired(usize),
    /// Acknowledged stores are gone without a taker.
    #[error("{lost} acknowledged tuples are gone, of which {excused} may be with crashed takers")]
    Lost {
        /// How many are gone that were stored at some moment or later.
        lost: u64,
        /// How many takes were open at nodes that crashed later than that.
        excused: u64,
    },
    /// A store was never admitted though its node and its home live.
    #[error("{0} stores were not admitted after all was healed")]
    NotAdmitted(usize),
    /// Replicas differ after everything was quiet.
    #[error("shard {shard}: replicas differ after {seconds} quiet seconds")]
    NotConverged {
        /// The shard.
        shard: u16,
        /// How long it was quiet.
        seconds: u64,
    },
    /// Replicas that applied the same entries are not the same.
    #[error("shard {shard}: replicas that applied the same {index} entries differ")]
    StatesDiffer {
        /// The shard.
        shard: u16,
        /// Where they stand.
        index: u64,
    },
    /// A node showed less of a shard's history than before.
    #[error("node n{node} went back in the history of shard {shard}")]
    WentBack {
        /// The node, counted from 1.
        node: usize,
        /// The shard.
        shard: u16,
    },
    /// A local read showed what its replica did not hold, or nothing where it held something.
    #[error("node {node}: a local read of shard {shard} showed no state of its history")]
    NoPrefix {
        /// The node.
        node: usize,
        /// The shard.
        shard: u16,
    },
    /// Homes remember outcomes that their askers have received.
    #[error("{0} outcomes were not forgotten although their askers have them")]
    NotForgotten(usize),
    /// The answers of a variable cannot be put in an order that respects time and its mode.
    #[error("{0}")]
    Order(Box<Conflict>),
    /// A majority was there without faults, and a store and a take did not succeed.
    #[error(
        "node n{node} could not store and take in shard {shard} within {seconds} s of the faults' \
         end: {last}"
    )]
    NoProgress {
        /// The node that was asked, counted from 1.
        node: usize,
        /// The shard.
        shard: u16,
        /// The bound.
        seconds: u64,
        /// What it answered last.
        last: String,
    },
    /// A volatile shard began anew though the majority of its home group was there.
    #[error(
        "volatile shard {shard} gave up generation {generation} though {there} of the {of} members \
         of its home group were there"
    )]
    GivenUpEarly {
        /// The shard.
        shard: u16,
        /// What was given up.
        generation: u64,
        /// How many members had not ended.
        there: usize,
        /// Of how many.
        of: usize,
    },
    /// A majority of a home group lacks the body of a tuple, or a node has one that is another.
    #[error("body {0} is not on the disks of a majority of its home group")]
    BodyLost(String),
    /// Bodies that nothing refers to were not deleted.
    #[error("{0} bodies that nothing refers to were not deleted after all was healed")]
    BodiesLeft(usize),
    /// A life of a node was over while the node might still let actors act.
    #[error("host {life} might act for {more:?} more when its life was over")]
    ActsAfterEnd {
        /// The node in that life.
        life: Member,
        /// How long it believed that it might.
        more: Duration,
    },
    /// Nodes that host actors did not hold their leases.
    #[error(
        "node n{node} did not hold its lease as a host for {seconds} s on end after all was healed"
    )]
    Unsteady {
        /// The node, counted from 1.
        node: usize,
        /// How long it should have.
        seconds: u64,
    },
    /// Two nodes ran the same actor and might.
    #[error("two nodes ran actor a{0} at one instant")]
    TwoRun(usize),
    /// The commits of an actor are not one chain.
    #[error(
        "commit {seq} of actor a{actor}, with token {token}, is not in one chain with the others"
    )]
    NoChain {
        /// Its number.
        actor: usize,
        /// The token.
        token: u64,
        /// The number of the commit.
        seq: u64,
    },
    /// An actor was handed on, and began from something else than its former host had.
    #[error("actor a{actor}, handed on under token {token}, began from another state than it had")]
    HandedOther {
        /// Its number.
        actor: usize,
        /// The token.
        token: u64,
    },
    /// A message to an actor had its effect more than once.
    #[error("message {0} to an actor was handled twice")]
    HandledTwice(i64),
    /// A message to an actor was answered, and its effect is gone.
    #[error("the effect of message {0} to an actor is gone, though it was answered")]
    EffectLost(i64),
    /// A message was acknowledged, and is gone though nobody who had it was killed or gave it up.
    #[error("message {0} was acknowledged by a host of its actor, and is gone")]
    PostLost(i64),
    /// A message was handled after a later one of its sender.
    #[error("actor a{actor} handled message {message} after a later one of its sender")]
    PostOrder {
        /// The number of the actor.
        actor: usize,
        /// The message.
        message: i64,
    },
    /// A former host gave a message up as too late, though the next one had waited for it.
    #[error("message {0} was passed over, though the next host waited for it")]
    PostPassed(i64),
    /// A plain actor went on at a node that showed its name to be another's.
    #[error("a second incarnation of plain actor p{0} went on")]
    PlainGoesOn(usize),
    /// Messages waited on after all was healed.
    #[error(
        "{waits} messages waited in mailboxes, {orders} former hosts had some and {held} were \
         waited for, {seconds} s after all was healed"
    )]
    PostWaits {
        /// Messages in mailboxes.
        waits: usize,
        /// Former hosts that had some to send on.
        orders: usize,
        /// Mailboxes that waited for a former host.
        held: usize,
        /// The bound.
        seconds: u64,
    },
    /// What an actor asked for was not done, or not as it was asked.
    #[error("in {place}, the effect of message {message} {what}")]
    Effect {
        /// The message that led to it.
        message: i64,
        /// Where: a variable, or who was told by whom.
        place: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Actors did not go on once they could.
    #[error(
        "an actor was run by nobody, or a client of it not answered, for {0} s after all was healed"
    )]
    ActorsStopped(u64),
    /// A watcher was told twice of one end.
    #[error("a watcher of actor a{0} was told twice of its end")]
    ToldTwice(usize),
    /// A watcher was told of an end that was none, or with a reason that nobody gave.
    #[error("a watcher of actor a{actor}, born with token {born}, was told of its end wrongly")]
    ToldWrong {
        /// Its number.
        actor: usize,
        /// The token with which it began.
        born: u64,
    },
    /// A watcher was not told of an end in time.
    #[error("a watcher of actor a{0} was not told of its end after all was healed")]
    NotTold(usize),
    /// A request was never answered.
    #[error("{0} requests were never answered")]
    Unanswered(usize),
    /// Takes that were given up hold what they may have taken.
    #[error("{0} takes that were given up were not settled after all was healed")]
    Unsettled(usize),
    /// Real nodes did not come to rest.
    #[error("the mesh was not at rest {seconds} s after the faults' end: {last}")]
    NotAtRest {
        /// The bound.
        seconds: u64,
        /// What kept it.
        last: String,
    },
    /// A real node said what none may say.
    #[error("{0}")]
    Strange(String),
    /// A peer reported that histories differ.
    #[error("two histories of shard {0} differ")]
    Diverged(u16),
    /// A peer refused bytes of another peer.
    #[error("a peer refused another's bytes: {0}")]
    Malformed(String),
    /// A peer could not come back from its disk.
    #[error("a peer did not come back from its disk: {0}")]
    Boot(String),
}

impl Violation {
    /// True when both broke the same promise, whatever the tuple or the shard.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Who has what, by the value that makes each tuple unique.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// And when the user asked for it.
    pub(crate) stored: BTreeMap<i64, Duration>,
    pub(crate) acknowledged: BTreeSet<i64>,
    /// Values of single variables: the next store may replace each.
    pub(crate) replaceable: BTreeSet<i64>,
    /// Tuples and the node that received each.
    pub(crate) taken: BTreeMap<i64, usize>,
    /// Acknowledged values of volatile shards: the shard and its generation then.
    pub(crate) in_memory: BTreeMap<i64, (u16, u64)>,
    /// Of those, the ones whose generation is over.
    pub(crate) forgotten: BTreeSet<i64>,
    /// Takes open at nodes that crashed.
    pub(crate) excused: Vec<Excuse>,
    pub(crate) leases: LeaseBooks,
}

/// Takes that were open at a node when it crashed: each may have cost a tuple (guarantee G7), but
/// none that was stored when the other nodes knew.
#[derive(Clone, Debug)]
pub(crate) struct Excuse {
    pub(crate) node: usize,
    /// Which of the starts of the node it was that ended.
    pub(crate) boot: u32,
    /// Later stores are not excused.
    pub(crate) until: Duration,
    pub(crate) takes: u64,
}

/// For how long a home keeps a take that came late from a start of a node that has ended: its
/// [`park_lease`](cpe_mesh::PeerConfig::park_lease), and the time until it looks.
const GHOST: Duration = Duration::from_secs(15);

impl Books {
    /// A message arrived that this start of a node had sent. It may be a take; if the start is
    /// over and the node linked again, the home cannot tell.
    pub(crate) fn heard_late(&mut self, node: usize, boot: u32, now: Duration) {
        for excuse in &mut self.excused {
            if (excuse.node, excuse.boot) == (node, boot) {
                excuse.until = excuse.until.max(now + GHOST);
            }
        }
    }

    pub(crate) fn take(&mut self, value: i64, node: usize) -> Result<(), Violation> {
        if !self.stored.contains_key(&value) {
            return Err(Violation::FromNowhere(value));
        }
        match self.taken.insert(value, node) {
            Some(_) => Err(Violation::TakenTwice(value)),
            None => Ok(()),
        }
    }

    /// Closes the books: `there` is what is left at the homes.
    pub(crate) fn close(&self, there: &BTreeSet<i64>) -> Result<u64, Violation> {
        if let Some(both) = there.iter().find(|value| self.taken.contains_key(value)) {
            return Err(Violation::TakenAndThere(*both));
        }
        let gone = |value: &&i64| {
            let seen = there.contains(value) || self.taken.contains_key(value);
            let excused = self.replaceable.contains(value)
                || self.forgotten.contains(value)
                || self.leases.may_be_gone(**value);
            !seen && !excused
        };
        let stored = |value: &i64| self.stored.get(value).copied().unwrap_or_default();
        let mut lost: Vec<Duration> = self.acknowledged.iter().filter(gone).map(stored).collect();
        // The latest first: what excuses it excuses all before it as well.
        lost.sort_unstable_by(|a, b| b.cmp(a));
        for (at, lost) in lost.iter().zip(1..) {
            let excuses = self.excused.iter().filter(|excuse| *at <= excuse.until);
            let excused: u64 = excuses.map(|excuse| excuse.takes).sum();
            if lost > excused {
                return Err(Violation::Lost { lost, excused });
            }
        }
        Ok(lost.len() as u64)
    }
}
