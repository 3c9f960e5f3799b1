//! What those who are gone leave behind is bounded.
//!
//! *Lives that are over* leave a number per node (space.md, 1.3 c).
//! Each shard remembers how many stores of each life it has admitted, so that none is admitted
//! twice. A node has a new life whenever it lost its disk, and in volatile shards whenever it
//! starts, so these counts grow with all that ever happened. Once a later life of the node is known
//! for a while, and whoever had stores of the earlier one to pass on has done so, the leader logs
//! that the earlier one is retired: from then on none of its stores is admitted, whatever their
//! number, and the counts are not needed.
//!
//! *Outcomes that nobody acknowledges* are kept as long as there is room, since a node that is cut
//! off may come back and ask. When a shard keeps half of what it may
//! ([`MAX_UNACKNOWLEDGED_BYTES`]), its leader gives up those of sessions that have been silent for
//! ten minutes, or for four hours when their node is here.

use std::time::Duration;

use cpe_membership::Member;
use cpe_space::{Command, MAX_UNACKNOWLEDGED_BYTES, ShardId};

use crate::peer::{Peer, Timer};

/// How often leaders look for lives to retire. A minute: nothing waits for it.
const LOOK: Duration = Duration::from_secs(60);

/// How many times longer outcomes are kept for a node that is here: a slow reader may still give
/// back what it has not received. An earlier start of the node has left them for good.
const HERE: u32 = 24;

/// Lives retired by one entry.
const MAX_LIVES: usize = 1_024;

impl Peer {
    /// Retires the lives that are over, in the shards that this node leads.
    pub(crate) fn retire(&mut self) {
        let pause = LOOK.min(self.config.retire_after);
        self.timers.set(Timer::Retire, self.now + pause);
        let led = self.slots.iter().filter(|slot| slot.home.is_some());
        let led: Vec<ShardId> = led.map(|slot| slot.shard.id()).collect();
        for shard in led {
            let lives = self.lives_over(shard);
            if !lives.is_empty() {
                self.count("lives_retired", lives.len() as u64);
                self.with_home(shard, |_, _, log| log.propose(Command::Retire { lives }));
            }
            self.give_up_outcomes(shard);
        }
    }

    /// Gives up outcomes of sessions that have been silent for long, when many are kept.
    fn give_up_outcomes(&mut self, shard: ShardId) {
        let kept = self.slot_ref(shard).map(|slot| slot.shard.sm());
        if kept.is_none_or(|sm| sm.unacknowledged_bytes() < MAX_UNACKNOWLEDGED_BYTES / 2) {
            return;
        }
        let (now, patience) = (self.now, self.config.retire_after);
        let silent = self.with_home(shard, |home, sm, _| home.silent(sm, now));
        for (session, latest, silent) in silent.unwrap_or_default() {
            let times = if self.survey.is_here(session.member) {
                HERE
            } else {
                1
            };
            let give_up = Command::GiveUp { session, latest };
            if silent >= patience * times
                && self.with_home(shard, |_, _, log| log.propose(give_up)) == Some(true)
            {
                self.count("outcomes_given_up", 1);
            }
        }
    }

    /// Lives of which a shard has counts, and of whose nodes a later one is known long enough.
    fn lives_over(&self, shard: ShardId) -> Vec<Member> {
        let Some(slot) = self.slot_ref(shard) else {
            return Vec::new();
        };
        let survey = self.survey_of(shard);
        let known = self.now.saturating_sub(self.config.retire_after);
        let origins = slot.shard.sm().origins();
        let over = origins.filter(|life| survey.is_followed(*life, known));
        over.take(MAX_LIVES).collect()
    }
}
