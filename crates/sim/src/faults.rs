//! The fault model: everything that can go wrong in a simulation, and how much of it.

use serde::{Deserialize, Serialize};

use crate::scenario::{ScenarioError, bounds};

/// Fastest a clock may be wrong, as a share of the time that passes: what the rules of leases
/// assume (space.md, rule A1).
pub const DRIFT_MAX: f64 = 0.05;

/// What goes wrong, as probabilities and rates. All zero is a perfect world.
///
/// A *probability* applies to each message by itself. A *rate* is per minute; when and to whom
/// each fault happens is drawn before the run begins ([`Schedule`](crate::Schedule)), so that it
/// can be printed and shrunk. A *longest time* is the upper end of an even distribution.
///
/// Not in the model, because nothing here depends on it: steps of the wall clock (no peer reads
/// it). Not in it either: members that lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Network: probability that a message on a link is lost.
    pub loss: f64,
    /// Network: probability that a message arrives twice.
    pub duplicate: f64,
    /// Network: shortest time a message takes, in milliseconds.
    pub delay_min_ms: f64,
    /// Network: mean of the exponential part added to it, in milliseconds. Messages overtake each
    /// other.
    pub delay_mean_ms: f64,
    /// Network: probability that a message takes up to `straggle_ms` longer.
    pub straggle: f64,
    /// Network: how much longer such a message takes at most, in milliseconds.
    pub straggle_ms: f64,
    /// Network: probability that a gossip frame does not reach one of the others.
    pub gossip_loss: f64,
    /// Network: partitions per minute. Each puts every node on one of two sides that do not hear
    /// each other; their links go down. Partitions may overlap: then there are up to four sides.
    pub partitions: f64,
    /// Network: longest time a partition lasts, in milliseconds.
    pub partition_ms: f64,
    /// Network: one-way links per minute. For a while everything one node sends to another
    /// vanishes, gossip too, while the link stays up and the other direction works.
    pub one_ways: f64,
    /// Network: longest time a link is one-way, in milliseconds.
    pub one_way_ms: f64,
    /// Network: flapping links per minute. One link goes down and comes back, again and again.
    pub flaps: f64,
    /// Network: longest time a link flaps, in milliseconds.
    pub flap_ms: f64,
    /// Network: how long a flapping link is down, and then up, each time, in milliseconds.
    pub flap_period_ms: f64,
    /// Process: crashes per node and minute. A crashed node loses what its disk had not synced.
    pub crashes: f64,
    /// Process: drained, clean stops per node and minute.
    pub stops: f64,
    /// Process: crashes of many nodes at one moment, per minute: a power cut.
    pub mass_crashes: f64,
    /// Process: the share of the nodes such a crash takes down.
    pub mass_share: f64,
    /// Process: longest time a node is down, in milliseconds.
    pub down_ms: f64,
    /// Process: pauses per node and minute (`SIGSTOP`, a virtual machine that is moved). The node
    /// handles nothing for a while and then finds everything that arrived queued and its clock
    /// moved on. Its links stay up, and writes under way go on.
    pub pauses: f64,
    /// Process: longest pause, in milliseconds.
    pub pause_ms: f64,
    /// Process: probability that a node which takes an input leaves open what follows from it, to
    /// take in more first: a *turn*, as the driver of a real node makes them of what waits in its
    /// channels. What was taken in has no effect on others or the disk until the turn ends.
    pub turns: f64,
    /// Process: longest turn, in milliseconds.
    pub turn_ms: f64,
    /// Clock: how much faster or slower a node's clock runs at most: 0.05 is 5 %. Each node draws
    /// its own rate.
    pub drift: f64,
    /// Clock: how far ahead of the others a node's clock begins at most, in milliseconds.
    pub offset_ms: f64,
    /// Disk: longest time a write takes, in milliseconds. Batches that wait are written together.
    pub disk_ms: f64,
    /// Disk: slow disks per node and minute: for a while its writes take much longer.
    pub slow_disks: f64,
    /// Disk: longest time a disk is slow, in milliseconds.
    pub slow_for_ms: f64,
    /// Disk: longest time a write takes while the disk is slow, in milliseconds.
    pub slow_disk_ms: f64,
    /// Disk: write errors per node and minute. The next write fails: neither it nor any later one
    /// is kept, and of those before it that were not synced, some. The node stops instead of
    /// acknowledging, as a real one does, and returns later.
    pub write_errors: f64,
    /// Disk: lost disks per minute, over all nodes. Storage refuses to open altered records
    /// (flipped bits), so that is the same as an empty disk: the node crashes and returns with
    /// nothing, under the next incarnation (rule R10).
    ///
    /// Losing a majority of a group's disks is beyond what is promised (guarantee G2). So a loss
    /// spares its node unless every shard has a group of three or more, none of whose members
    /// lost its disk already, and which has decided something in its epoch: one loss at a time,
    /// and none until the groups have replaced the one before. With groups of one none happens.
    pub disk_losses: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            delay_min_ms: 1.0,
            delay_mean_ms: 2.0,
            straggle: 0.0,
            straggle_ms: 0.0,
            gossip_loss: 0.0,
            partitions: 0.0,
            partition_ms: 5_000.0,
            one_ways: 0.0,
            one_way_ms: 5_000.0,
            flaps: 0.0,
            flap_ms: 5_000.0,
            flap_period_ms: 300.0,
            crashes: 0.0,
            stops: 0.0,
            mass_crashes: 0.0,
            mass_share: 1.0,
            down_ms: 5_000.0,
            pauses: 0.0,
            pause_ms: 3_000.0,
            turns: 0.0,
            turn_ms: 5.0,
            drift: 0.0,
            offset_ms: 0.0,
            disk_ms: 4.0,
            slow_disks: 0.0,
            slow_for_ms: 5_000.0,
            slow_disk_ms: 500.0,
            write_errors: 0.0,
            disk_losses: 0.0,
        }
    }
}

impl Faults {
    /// The same network, disks and turns without anything that goes wrong.
    #[must_use]
    pub fn healed(&self) -> Self {
        Self {
            turns: self.turns,
            turn_ms: self.turn_ms,
            delay_min_ms: self.delay_min_ms,
            delay_mean_ms: self.delay_mean_ms,
            disk_ms: self.disk_ms,
            ..Self::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), ScenarioError> {
        let shares = [
            ("faults.loss", self.loss),
            ("faults.duplicate", self.duplicate),
            ("faults.straggle", self.straggle),
            ("faults.gossip_loss", self.gossip_loss),
            ("faults.mass_share", self.mass_share),
            ("faults.turns", self.turns),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return bounds(key, value, "a probability, 0 to 1");
            }
        }
        if !(0.0..=DRIFT_MAX).contains(&self.drift) {
            return bounds("faults.drift", self.drift, "0 to 0.05");
        }
        if self.flaps > 0.0 && self.flap_period_ms < 1.0 {
            return bounds(
                "faults.flap_period_ms",
                self.flap_period_ms,
                "1 or more while there are flaps",
            );
        }
        let amounts = [
            ("faults.delay_min_ms", self.delay_min_ms),
            ("faults.delay_mean_ms", self.delay_mean_ms),
            ("faults.straggle_ms", self.straggle_ms),
            ("faults.partitions", self.partitions),
            ("faults.partition_ms", self.partition_ms),
            ("faults.one_ways", self.one_ways),
            ("faults.one_way_ms", self.one_way_ms),
            ("faults.flaps", self.flaps),
            ("faults.flap_ms", self.flap_ms),
            ("faults.flap_period_ms", self.flap_period_ms),
            ("faults.crashes", self.crashes),
            ("faults.stops", self.stops),
            ("faults.mass_crashes", self.mass_crashes),
            ("faults.down_ms", self.down_ms),
            ("faults.pauses", self.pauses),
            ("faults.pause_ms", self.pause_ms),
            ("faults.turn_ms", self.turn_ms),
            ("faults.offset_ms", self.offset_ms),
            ("faults.disk_ms", self.disk_ms),
            ("faults.slow_disks", self.slow_disks),
            ("faults.slow_for_ms", self.slow_for_ms),
            ("faults.slow_disk_ms", self.slow_disk_ms),
            ("faults.write_errors", self.write_errors),
            ("faults.disk_losses", self.disk_losses),
        ];
        for (key, value) in amounts {
            if !(0.0..=1.0e6).contains(&value) {
                return bounds(key, value, "0 to 1,000,000");
            }
        }
        Ok(())
    }
}
