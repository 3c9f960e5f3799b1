//! How fast failures are noticed, and at what price.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::SWIM_BYTES_MAX;

/// Settings of [`Membership`](crate::Membership); every node of a mesh should use the same.
///
/// A dead node is noticed after at most `2 * probe_period + suspicion` and a few gossip rounds, by
/// nodes that are well themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MembershipConfig {
    /// How often one member is probed; also how long it has to answer, directly or through
    /// others. 50 ms to 60 s, at least twice `probe_rtt`.
    pub probe_period: Duration,
    /// How long to wait for the direct answer before others are asked to try: twice the 99th
    /// percentile of the round trip, dialling included. 10 ms to 30 s.
    pub probe_rtt: Duration,
    /// How many others are asked. 1 to 10.
    pub indirect_probes: usize,
    /// How long a suspect may take to object. Shorter means faster detection and more false
    /// alarms. A node that has reason to doubt itself gives up to five times as long.
    /// `probe_period` to 5 minutes.
    pub suspicion: Duration,
    /// How often news is passed on. 20 ms to 10 s.
    pub gossip_interval: Duration,
    /// To how many members at a time. 1 to 10.
    pub gossip_fanout: usize,
    /// How often each piece of news is passed on: about four times the decimal logarithm of the
    /// mesh's size. 1 to 50.
    pub transmissions: u8,
    /// How often one random member is asked for all it knows. 1 s to 10 min.
    pub announce_interval: Duration,
    /// How often a dead member is greeted, so that the halves of a healed partition find each
    /// other. 1 s to 10 min.
    pub heal_interval: Duration,
    /// How long a dead member is remembered. 1 minute to 7 days.
    pub forget_dead_after: Duration,
    /// A loop that comes this late to its own timers was stalled (a pause, an overloaded
    /// machine): its deadlines are moved by the delay, so that answers which wait in its inbox
    /// are read before anybody is suspected. 50 ms to 60 s.
    pub stall_tolerance: Duration,
}

impl Default for MembershipConfig {
    fn default() -> Self {
        Self::lan()
    }
}

impl MembershipConfig {
    /// One building, up to a few hundred nodes: failures are noticed in about 3 s.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            probe_period: Duration::from_millis(600),
            probe_rtt: Duration::from_millis(200),
            indirect_probes: 3,
            suspicion: Duration::from_millis(1_500),
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            transmissions: 10,
            announce_interval: Duration::from_secs(5),
            heal_interval: Duration::from_secs(5),
            forget_dead_after: Duration::from_secs(24 * 3_600),
            stall_tolerance: Duration::from_millis(500),
        }
    }

    /// Several sites, relays and dialling included: failures are noticed in about 20 s.
    #[must_use]
    pub fn wan() -> Self {
        Self {
            probe_period: Duration::from_secs(5),
            probe_rtt: Duration::from_secs(2),
            indirect_probes: 3,
            suspicion: Duration::from_secs(10),
            gossip_interval: Duration::from_millis(500),
            gossip_fanout: 4,
            transmissions: 12,
            announce_interval: Duration::from_secs(30),
            heal_interval: Duration::from_secs(30),
            forget_dead_after: Duration::from_secs(24 * 3_600),
            stall_tolerance: Duration::from_secs(2),
        }
    }

    /// Checks every bound named at the fields.
    ///
    /// # Errors
    /// The first setting out of bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        let ms = Duration::from_millis;
        let s = Duration::from_secs;
        let times = [
            ("probe_period", self.probe_period, ms(50), s(60)),
            ("probe_rtt", self.probe_rtt, ms(10), s(30)),
            ("suspicion", self.suspicion, self.probe_period, s(300)),
            ("gossip_interval", self.gossip_interval, ms(20), s(10)),
            ("announce_interval", self.announce_interval, s(1), s(600)),
            ("heal_interval", self.heal_interval, s(1), s(600)),
            (
                "forget_dead_after",
                self.forget_dead_after,
                s(60),
                s(7 * 24 * 3_600),
            ),
            ("stall_tolerance", self.stall_tolerance, ms(50), s(60)),
        ];
        for (setting, value, low, high) in times {
            if value < low || value > high {
                return Err(ConfigError::Time {
                    setting,
                    value,
                    low,
                    high,
                });
            }
        }
        let counts = [
            ("indirect_probes", self.indirect_probes, 10),
            ("gossip_fanout", self.gossip_fanout, 10),
            ("transmissions", usize::from(self.transmissions), 50),
        ];
        for (setting, value, high) in counts {
            if value < 1 || value > high {
                return Err(ConfigError::Count {
                    setting,
                    value,
                    high,
                });
            }
        }
        if self.probe_rtt * 2 > self.probe_period {
            return Err(ConfigError::RoundTrip {
                rtt: self.probe_rtt,
                period: self.probe_period,
            });
        }
        Ok(())
    }

    pub(crate) fn to_foca(&self) -> foca::Config {
        let count = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        foca::Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: count(self.indirect_probes),
            max_transmissions: NonZeroU8::new(self.transmissions).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self.suspicion,
            remove_down_after: Some(self.forget_dead_after),
            max_packet_size: count(SWIM_BYTES_MAX),
            notify_down_members: true,
            periodic_announce: Some(foca::PeriodicParams {
                frequency: self.announce_interval,
                num_members: NonZeroUsize::MIN,
            }),
            // foca greets the dead only while it knows a live member, which the smaller side of
            // a partition may not: `Membership` does it itself.
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(foca::PeriodicParams {
                frequency: self.gossip_interval,
                num_members: count(self.gossip_fanout),
            }),
        }
    }
}

/// A setting is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A time is too short or too long.
    #[error("membership setting {setting} is {value:?}; choose from {low:?} to {high:?}")]
    Time {
        /// Which.
        setting: &'static str,
        /// Its value.
        value: Duration,
        /// Least value allowed.
        low: Duration,
        /// Greatest value allowed.
        high: Duration,
    },
    /// A number is zero or too large.
    #[error("membership setting {setting} is {value}; choose from 1 to {high}")]
    Count {
        /// Which.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// Greatest value allowed.
        high: usize,
    },
    /// There is no time left for indirect probes.
    #[error("membership setting probe_rtt is {rtt:?}, more than half of probe_period ({period:?})")]
    RoundTrip {
        /// `probe_rtt`.
        rtt: Duration,
        /// `probe_period`.
        period: Duration,
    },
}
