//! The rules whose absence the simulation must notice.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// One guard of the state machine. With the feature `mutants`, tests take one out and look whether
/// the simulation finds what it was there for.
#[cfg_attr(
    not(feature = "mutants"),
    expect(unreachable_pub, reason = "only tests name them")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// R15: an operation that has an outcome is not executed again.
    OneOutcome,
    /// R16: a store is admitted only as the next of its origin.
    NextOfOrigin,
    /// 1.3 (c): a store of a life that is retired is not admitted, although its count is forgotten.
    RetiredForGood,
    /// R18: an operation that was cancelled before it came is not executed when it comes.
    CancelledFirst,
    /// R18: a tuple that goes back takes its old place.
    OldPlace,
    /// A2: a life that is over stays over.
    VoidForEver,
    /// A3: a name that a life hosts is claimed only when the claim names that life as over.
    ClaimVoid,
    /// A3: a name that a life hosts is released by its host, or once that life is over.
    ReleaseVoid,
    /// A4: only what is committed with the current token counts.
    CommitToken,
    /// A4: commits count in turn.
    CommitNext,
    /// A9: a commit says which messages it has handled, for whoever takes over.
    CommitMarks,
    /// A9: that a message is handled says nothing about earlier ones of its sender.
    MarkEach,
    /// A8: only whoever has the current token hands an actor on.
    MigrateToken,
    /// A8: whoever hands an actor on knows its last commit.
    MigrateLast,
    /// A8: a commit says whether a former host's messages are still to come before others.
    RestOver,
    /// A5: an effect that a shard has is not done again there.
    EmitOnce,
    /// A5: effects are done as far as was said of an actor of that birth, and of no other.
    SentBorn,
    /// A5: a name is given up once all effects of its actor are done.
    ReleaseSent,
    /// A6: a take of an actor that has an outcome, or is over, is not executed again.
    TakeOnce,
    /// A6: only the incarnation that ended, and none before the one that asked last, gives a take
    /// up.
    TakeEndToken,
}

#[cfg(feature = "mutants")]
impl Guard {
    /// All of them, in the order of the rules.
    pub const ALL: [Self; 20] = [
        Self::OneOutcome,
        Self::NextOfOrigin,
        Self::RetiredForGood,
        Self::CancelledFirst,
        Self::OldPlace,
        Self::VoidForEver,
        Self::ClaimVoid,
        Self::ReleaseVoid,
        Self::CommitToken,
        Self::CommitNext,
        Self::CommitMarks,
        Self::MarkEach,
        Self::MigrateToken,
        Self::MigrateLast,
        Self::RestOver,
        Self::EmitOnce,
        Self::SentBorn,
        Self::ReleaseSent,
        Self::TakeOnce,
        Self::TakeEndToken,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static OFF: Cell<Option<Guard>> = const { Cell::new(None) };
}

/// Takes a guard out of every state machine of this thread; `None` puts it back.
#[cfg(feature = "mutants")]
pub fn without(guard: Option<Guard>) {
    OFF.set(guard);
}

/// True when the guard is in place.
#[cfg(feature = "mutants")]
pub(crate) fn holds(guard: Guard) -> bool {
    OFF.get() != Some(guard)
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn holds(_: Guard) -> bool {
    true
}
