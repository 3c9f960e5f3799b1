//! How well this node itself is, in its own judgement.
//!
//! A node that cannot hear believes everybody else dead. "Lifeguard: Local Health Awareness for
//! More Accurate Failure Detection" (Dadgar, Phillips and Currey, DSN-W 2018) lets a node that has
//! reason to doubt itself give suspects more time. foca has no such score and forbids changing
//! its timers while it runs; what can be delayed from outside is the step from suspect to dead,
//! and that is the one that does harm.

/// Highest score. A suspect then has five times as long to object.
pub(crate) const SCORE_MAX: u32 = 4;

/// With fewer others, silence says nothing about whose fault it is.
const OTHERS_MIN: usize = 2;

/// Grows with each sign that this node is the slow one, shrinks with each probe that is answered.
#[derive(Debug, Default)]
pub(crate) struct LocalHealth {
    score: u32,
    /// Anything at all was heard since the present probe began.
    heard: bool,
    /// The present probe was not answered directly.
    missed: bool,
}

impl LocalHealth {
    /// 0 when there is no reason for doubt, up to [`SCORE_MAX`].
    pub(crate) fn score(&self) -> u32 {
        self.score
    }

    /// Bytes came from a member.
    pub(crate) fn heard(&mut self) {
        self.heard = true;
    }

    /// A member did not answer a probe in time.
    pub(crate) fn missed(&mut self) {
        self.missed = true;
    }

    /// Somebody suspects this node: its answers come late.
    pub(crate) fn accused(&mut self) {
        self.doubt();
    }

    /// The caller's loop came late to its own timers.
    pub(crate) fn stalled(&mut self) {
        self.doubt();
    }

    /// A probe is over and the next begins, with so many other members about.
    pub(crate) fn probe_ends(&mut self, others: usize) {
        if !self.missed {
            self.score = self.score.saturating_sub(1);
        } else if !self.heard && others >= OTHERS_MIN {
            // One silent member is its own fault. All of them at once are more likely ours.
            self.doubt();
        }
        self.missed = false;
        self.heard = false;
    }

    fn doubt(&mut self) {
        self.score = (self.score + 1).min(SCORE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(health: &mut LocalHealth, count: u32, missed: bool, heard: bool) {
        for _ in 0..count {
            if missed {
                health.missed();
            }
            if heard {
                health.heard();
            }
            health.probe_ends(4);
        }
    }

    #[test]
    fn silence_of_everybody_is_held_against_oneself_and_an_answer_for() {
        let mut health = LocalHealth::default();
        probes(&mut health, 9, true, false);
        assert_eq!(health.score(), SCORE_MAX);
        probes(&mut health, 1, false, true);
        assert_eq!(health.score(), SCORE_MAX - 1);
        probes(&mut health, 9, false, true);
        assert_eq!(health.score(), 0);
    }

    #[test]
    fn one_dead_member_among_others_raises_no_doubt() {
        let mut health = LocalHealth::default();
        probes(&mut health, 9, true, true);
        assert_eq!(health.score(), 0);
    }

    #[test]
    fn with_one_other_member_silence_raises_no_doubt() {
        let mut health = LocalHealth::default();
        health.missed();
        health.probe_ends(1);
        assert_eq!(health.score(), 0);
    }
}
