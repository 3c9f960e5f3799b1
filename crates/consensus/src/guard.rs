//! The rules whose absence the simulation must notice.

/// One guard of the protocol. With the feature `mutants`, tests take one out and look whether the
/// simulation finds what it was there for.
#[cfg_attr(
    not(feature = "mutants"),
    expect(unreachable_pub, reason = "only tests name them")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// R2: replication carries the ballot that was prepared, and ends when another leader is
    /// adopted.
    Lead,
    /// R3: a candidate's own promise is on disk before it asks others for theirs.
    PromiseFirst,
    /// R4: a `Sync` is never cut at the leader's base.
    NoClamp,
    /// R4: a candidate that learns decided entries starts over with a fresh ballot.
    FreshBallot,
    /// R4: a leader tells followers only what a majority accepted under its own ballot.
    OwnCount,
    /// R5: of the promised logs, the highest ballot wins, then the longest.
    HighestBallot,
    /// R5: a promised suffix is spliced by index, wherever it begins.
    Splice,
    /// R6: under one ballot a log never gets shorter.
    NoShorten,
    /// R7: entries are accepted only under the ballot of the log they extend.
    SameBallot,
    /// R8: only acceptances under the leader's ballot count.
    CountBallot,
    /// R8: what is acknowledged is on disk.
    Durable,
    /// R8: the leader's own log counts once it is on disk.
    OwnDisk,
    /// R9: who leads with less than is decided steps down.
    StepDown,
    /// R10: promise and accepted ballot survive a restart.
    #[cfg(feature = "mutants")]
    Remember,
    /// R11: nothing is proposed after a seal.
    Seal,
    /// R12: only who holds the state at the seal opens the next epoch.
    HoldState,
    /// R12: opening an epoch forgets the undecided tail of the one before.
    ForgetTail,
    /// R13: no epoch is opened twice.
    Joined,
    /// R13: epochs below the highest one heard of are not opened.
    Heard,
    /// R13: a member votes until its own replica is past the seal.
    VoteOn,
}

#[cfg(feature = "mutants")]
impl Guard {
    /// All of them, in the order of the rules.
    pub const ALL: [Self; 20] = [
        Self::Lead,
        Self::PromiseFirst,
        Self::NoClamp,
        Self::FreshBallot,
        Self::OwnCount,
        Self::HighestBallot,
        Self::Splice,
        Self::NoShorten,
        Self::SameBallot,
        Self::CountBallot,
        Self::Durable,
        Self::OwnDisk,
        Self::StepDown,
        Self::Remember,
        Self::Seal,
        Self::HoldState,
        Self::ForgetTail,
        Self::Joined,
        Self::Heard,
        Self::VoteOn,
    ];
}

/// Which guard is out, if any; nothing at all without the feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(all(test, feature = "mutants")), derive(Default))]
pub(crate) struct Guards {
    #[cfg(feature = "mutants")]
    pub(crate) off: Option<Guard>,
}

/// The tests of this crate run without the guard they are told to leave out.
#[cfg(all(test, feature = "mutants"))]
impl Default for Guards {
    fn default() -> Self {
        let off = crate::tests::left_out();
        Self { off }
    }
}

impl Guards {
    /// True when the guard is in place.
    #[cfg(feature = "mutants")]
    pub(crate) fn hold(self, guard: Guard) -> bool {
        self.off != Some(guard)
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(
        clippy::unused_self,
        reason = "the same call with and without the feature"
    )]
    pub(crate) const fn hold(self, _: Guard) -> bool {
        true
    }
}
