//! The rules whose absence the simulation must notice.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// One guard of a peer. With the feature `mutants`, tests take one out and look whether the
/// simulation finds what it was there for.
#[cfg_attr(
    not(feature = "mutants"),
    expect(unreachable_pub, reason = "only tests name them")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// R1: a member counts as heard only in the round it answered.
    ThisRound,
    /// R8: what is promised or accepted is said once it is on disk.
    DiskBeforeWord,
    /// R10: a member of a group comes back with its vote.
    KeepVote,
    /// R11: the next group is told that it may begin, until it has.
    TellNext,
    /// R13: nothing is learned from a home group older than the one known.
    NewestHome,
    /// R15: operations carry the number of the node's start, once it is on disk.
    LifeFirst,
    /// R15: what is not answered is asked again.
    AskAgain,
    /// R15: only a leading home answers, and only what is decided.
    DecidedFirst,
    /// R16: a store is in the outbox on disk before anybody hears of it.
    OutboxFirst,
    /// R16: the outbox is sent until the store is admitted.
    SendAgain,
    /// R16: a home admits a store only as the next of its origin. Both lines of defence are out
    /// then: the leading home's and the state machine's, each of which suffices.
    NextOfOrigin,
    /// R17: a waiting take that found nothing is parked again.
    ParkAgain,
    /// R17: who waits at a node that is out of sight is passed over until it asks again.
    StepAside,
    /// R18: a cancellation is logged even when the operation never came.
    LogCancel,
    /// R18: whoever cancels lets no late outcome count.
    LateOutcome,
    /// R18: a tuple that nobody received goes back.
    GiveBack,
    /// R19: "empty" is decided.
    DecideEmpty,
    /// R19: a fresh read asks a majority whether the leader still leads.
    ConfirmLead,
    /// 2.7: a deletion whose time is up while it goes on is answered as unknown.
    DeletionUnknown,
    /// 2.10: a deletion reaches what was taken and may still go back.
    DeleteAway,
    /// A1: a lease is renewed only once a majority said, after the renewal came, that this node
    /// leads.
    ConfirmRenewal,
    /// A1: a lease is renewed only once a majority has the leader's log under its ballot.
    LogAdopted,
    /// A1: the holder counts from when it sent the renewal, and stops early.
    StopEarly,
    /// A1: a new leader waits a whole lease before it ends a life.
    WholeLease,
    /// A2: a life that is over, or whose end is proposed, is not renewed. Both lines of defence are
    /// out then: the leader's and the state machine's.
    VoidForEver,
    /// A3: a name that a life hosts is claimed once that life is over. Both lines of defence are
    /// out then: the leader's and the state machine's.
    ClaimVoid,
    /// A8: a node runs what was handed to it in its present life, not in one that is over.
    MovedToThisLife,
    /// Of watches: a name that is used anew is another actor.
    WatchBorn,
    /// Of watches: a durable actor has ended once its name is given up.
    WatchStands,
    /// Of watches: an answer counts for the question that is under way.
    WatchQuestion,
    /// A5: an effect is sent on once those before it at the same place are done.
    EffectsInTurn,
    /// A5: effects are forgotten once they are done.
    EffectsUntilDone,
    /// A5: whoever takes an actor over sends on what is left of its effects.
    EffectsOfOthers,
    /// A6: what an actor took is remembered until the actor has handled it.
    TakeUntilHandled,
    /// A8: the next host gives the actor nothing else while its former host has messages for it.
    HoldForFormer,
    /// A8: the former host keeps what it sends on until it is handled.
    ForwardUntilHandled,
    /// A8: what is not handled is sent to whoever has the actor by then.
    ForwardFollows,
    /// A8: what a former host sends on too late is not handled after later messages.
    PassedOver,
    /// A8: the same, if the later ones wait where it comes to.
    PassedByWaiting,
    /// A8: what is sent on comes in its place, also if it came by another way before.
    ComesInPlace,
    /// A8: only who is waited for says that it has sent all.
    EndOfFormer,
    /// A8: a former host that answers is waited for, however long it takes.
    AwaitWhoAnswers,
    /// A3: a plain actor is ended once its name is another's.
    EndReplaced,
}

#[cfg(feature = "mutants")]
impl Guard {
    /// All of them, in the order of the rules.
    pub const ALL: [Self; 43] = [
        Self::ThisRound,
        Self::DiskBeforeWord,
        Self::KeepVote,
        Self::TellNext,
        Self::NewestHome,
        Self::LifeFirst,
        Self::AskAgain,
        Self::DecidedFirst,
        Self::OutboxFirst,
        Self::SendAgain,
        Self::NextOfOrigin,
        Self::ParkAgain,
        Self::StepAside,
        Self::LogCancel,
        Self::LateOutcome,
        Self::GiveBack,
        Self::DecideEmpty,
        Self::ConfirmLead,
        Self::DeletionUnknown,
        Self::DeleteAway,
        Self::ConfirmRenewal,
        Self::LogAdopted,
        Self::StopEarly,
        Self::WholeLease,
        Self::VoidForEver,
        Self::ClaimVoid,
        Self::MovedToThisLife,
        Self::WatchBorn,
        Self::WatchStands,
        Self::WatchQuestion,
        Self::EffectsInTurn,
        Self::EffectsUntilDone,
        Self::EffectsOfOthers,
        Self::TakeUntilHandled,
        Self::HoldForFormer,
        Self::ForwardUntilHandled,
        Self::ForwardFollows,
        Self::PassedOver,
        Self::PassedByWaiting,
        Self::ComesInPlace,
        Self::EndOfFormer,
        Self::AwaitWhoAnswers,
        Self::EndReplaced,
    ];
}

/// What is taken out of a peer: a guard of its own, or of what it is made of.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Of the home groups.
    Consensus(cpe_consensus::Guard),
    /// Of the shards' state machine.
    Space(cpe_space::Guard),
    /// Of the peer itself.
    Mesh(Guard),
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// The guard of a peer or of its state with this name: what tests are told to leave out.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut mesh = Guard::ALL.into_iter().map(Self::Mesh);
        let mut space = cpe_space::Guard::ALL.into_iter().map(Self::Space);
        mesh.find(|guard| guard.name() == name)
            .or_else(|| space.find(|guard| guard.name() == name))
    }

    fn name(self) -> String {
        match self {
            Self::Consensus(guard) => format!("{guard:?}"),
            Self::Space(guard) => format!("{guard:?}"),
            Self::Mesh(guard) => format!("{guard:?}"),
        }
    }
}

#[cfg(feature = "mutants")]
thread_local! {
    static OFF: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Takes a guard out of every peer of this thread that is made from now on; `None` puts it back.
#[cfg(feature = "mutants")]
pub fn without(mutant: Option<Mutant>) {
    OFF.set(mutant);
    cpe_space::without(match mutant {
        Some(Mutant::Space(guard)) => Some(guard),
        Some(Mutant::Mesh(Guard::NextOfOrigin)) => Some(cpe_space::Guard::NextOfOrigin),
        Some(Mutant::Mesh(Guard::VoidForEver)) => Some(cpe_space::Guard::VoidForEver),
        Some(Mutant::Mesh(Guard::ClaimVoid)) => Some(cpe_space::Guard::ClaimVoid),
        _ => None,
    });
}

/// True when the guard is in place.
#[cfg(feature = "mutants")]
pub(crate) fn holds(guard: Guard) -> bool {
    OFF.get() != Some(Mutant::Mesh(guard))
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn holds(_: Guard) -> bool {
    true
}

/// A place in a group, without the guard of consensus that is taken out.
#[cfg(feature = "mutants")]
pub(crate) fn seat<N: Copy + Ord, E: cpe_consensus::Entry>(
    seat: cpe_consensus::Seat<N, E>,
) -> cpe_consensus::Seat<N, E> {
    match OFF.get() {
        Some(Mutant::Consensus(guard)) => seat.without(guard),
        _ => seat,
    }
}
