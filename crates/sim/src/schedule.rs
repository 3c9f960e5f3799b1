//! What goes wrong when: drawn before a run begins, so that it can be printed and shrunk.

use std::fmt;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::faults::Faults;
use crate::scenario::Scenario;

/// Faults of one run at most; more are not drawn.
pub const MAX_FAULTS: usize = 100_000;

/// Keeps the draws of the schedule apart from those of the network and the users.
const STREAM: u64 = 1;

/// No fault happens before the founder has begun.
const FIRST: Duration = Duration::from_secs(1);

/// One thing that goes wrong. Nodes are numbered from 0; they are shown as `n1`, `n2` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A node crashes.
    Crash {
        /// Which.
        node: usize,
        /// How long it is down.
        down: Duration,
    },
    /// A node drains, says good-bye and stops.
    Stop {
        /// Which.
        node: usize,
        /// How long it is down.
        down: Duration,
    },
    /// A node handles nothing for a while.
    Pause {
        /// Which.
        node: usize,
        /// How long.
        lasts: Duration,
    },
    /// The nodes fall into two sides.
    Partition {
        /// Those on one side.
        side: Vec<usize>,
        /// How long.
        lasts: Duration,
    },
    /// What one node sends to another vanishes.
    OneWay {
        /// The node that is not heard.
        from: usize,
        /// By whom.
        to: usize,
        /// How long.
        lasts: Duration,
    },
    /// A link goes down and comes back, again and again.
    Flap {
        /// One end.
        a: usize,
        /// The other.
        b: usize,
        /// How long.
        lasts: Duration,
        /// How long it is down and then up each time.
        period: Duration,
    },
    /// A node's clock runs at another rate, from the start.
    Clock {
        /// Which.
        node: usize,
        /// How much faster, in millionths.
        drift_ppm: i64,
        /// How far ahead it begins.
        offset: Duration,
    },
    /// A node's writes take long for a while.
    SlowDisk {
        /// Which.
        node: usize,
        /// How long.
        lasts: Duration,
        /// Longest time of a write.
        write: Duration,
    },
    /// A node's next write fails, and the node stops.
    WriteError {
        /// Which.
        node: usize,
        /// How long it is down.
        down: Duration,
    },
    /// A node crashes and its disk is lost.
    LoseDisk {
        /// Which.
        node: usize,
        /// How long it is down.
        down: Duration,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: &usize| format!("n{}", node + 1);
        match self {
            Self::Crash { node, down } => write!(f, "{} crashes, back in {down:.1?}", name(node)),
            Self::Stop { node, down } => {
                write!(
                    f,
                    "{} drains and stops, back in {down:.1?} after that",
                    name(node)
                )
            }
            Self::Pause { node, lasts } => write!(f, "{} stands still for {lasts:.1?}", name(node)),
            Self::Partition { side, lasts } => {
                let side: Vec<String> = side.iter().map(name).collect();
                write!(f, "{} cut off for {lasts:.1?}", side.join(" "))
            }
            Self::OneWay { from, to, lasts } => {
                let (from, to) = (name(from), name(to));
                write!(f, "{to} does not hear {from} for {lasts:.1?}")
            }
            Self::Flap {
                a,
                b,
                lasts,
                period,
            } => {
                let (a, b) = (name(a), name(b));
                write!(f, "link {a}-{b} flaps every {period:.1?} for {lasts:.1?}")
            }
            Self::Clock {
                node,
                drift_ppm,
                offset,
            } => {
                let percent = *drift_ppm as f64 / 10_000.0;
                let node = name(node);
                write!(f, "{node}'s clock: {percent:+.2} %, {offset:.1?} ahead")
            }
            Self::SlowDisk { node, lasts, write } => {
                let node = name(node);
                write!(f, "{node}'s writes take up to {write:.1?} for {lasts:.1?}")
            }
            Self::WriteError { node, down } => {
                let node = name(node);
                write!(
                    f,
                    "{node}'s next write fails and it stops, back in {down:.1?}"
                )
            }
            Self::LoseDisk { node, down } => {
                let node = name(node);
                write!(f, "{node} crashes and loses its disk, back in {down:.1?}")
            }
        }
    }
}

/// A fault with its time and its number in the schedule that was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its number: what [`Schedule::keep`] names.
    pub number: usize,
    /// When.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, at) = (self.number, self.at.as_secs_f64());
        write!(f, "{number:>4} {at:>9.3} s  {}", self.fault)
    }
}

/// Every fault of a run, in order of time. Shown as one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    planned: Vec<Planned>,
}

impl Schedule {
    /// Draws what a scenario says, at most [`MAX_FAULTS`].
    #[must_use]
    pub fn draw(scenario: &Scenario, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        let mut draw = Draw {
            faults: &scenario.faults,
            nodes: scenario.nodes,
            end: scenario.span(),
            rng,
            planned: Vec::new(),
        };
        draw.clocks();
        draw.processes();
        draw.disks();
        draw.network();
        let mut planned = draw.planned;
        planned.sort_by_key(|(at, _)| *at);
        planned.truncate(MAX_FAULTS);
        let planned = planned.into_iter().enumerate();
        Self {
            planned: planned
                .map(|(number, (at, fault))| Planned { number, at, fault })
                .collect(),
        }
    }

    /// The faults, in order of time.
    pub fn iter(&self) -> impl Iterator<Item = &Planned> {
        self.planned.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.planned.len()
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    /// Only the faults with these numbers.
    #[must_use]
    pub fn keep(&self, numbers: &[usize]) -> Self {
        let kept = self.planned.iter();
        Self {
            planned: kept
                .filter(|planned| numbers.contains(&planned.number))
                .cloned()
                .collect(),
        }
    }

    /// The numbers of its faults, as a replay is given them: `3,17`.
    #[must_use]
    pub fn numbers(&self) -> Vec<usize> {
        self.planned.iter().map(|planned| planned.number).collect()
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.planned
            .iter()
            .try_for_each(|planned| writeln!(f, "{planned}"))
    }
}

struct Draw<'a> {
    faults: &'a Faults,
    nodes: usize,
    end: Duration,
    rng: ChaCha8Rng,
    planned: Vec<(Duration, Fault)>,
}

impl Draw<'_> {
    fn clocks(&mut self) {
        let (drift, offset_ms) = (self.faults.drift, self.faults.offset_ms);
        if drift <= 0.0 && offset_ms <= 0.0 {
            return;
        }
        for node in 0..self.nodes {
            let drift_ppm = (self.rng.random_range(-drift..=drift) * 1.0e6) as i64;
            let offset = up_to(&mut self.rng, offset_ms);
            let fault = Fault::Clock {
                node,
                drift_ppm,
                offset,
            };
            self.planned.push((Duration::ZERO, fault));
        }
    }

    fn processes(&mut self) {
        let faults = self.faults;
        let (down_ms, pause_ms) = (faults.down_ms, faults.pause_ms);
        for node in 0..self.nodes {
            self.each(faults.crashes, |rng| Fault::Crash {
                node,
                down: down(rng, down_ms),
            });
            self.each(faults.stops, |rng| Fault::Stop {
                node,
                down: down(rng, down_ms),
            });
            self.each(faults.pauses, |rng| Fault::Pause {
                node,
                lasts: up_to(rng, pause_ms),
            });
        }
        for at in times(&mut self.rng, self.end, faults.mass_crashes) {
            for node in 0..self.nodes {
                if self.rng.random_bool(faults.mass_share) {
                    let down = down(&mut self.rng, down_ms);
                    self.planned.push((at, Fault::Crash { node, down }));
                }
            }
        }
    }

    fn disks(&mut self) {
        let (faults, nodes) = (self.faults, self.nodes);
        let write = Duration::from_secs_f64(faults.slow_disk_ms / 1_000.0);
        for node in 0..nodes {
            self.each(faults.slow_disks, |rng| Fault::SlowDisk {
                node,
                lasts: up_to(rng, faults.slow_for_ms),
                write,
            });
            self.each(faults.write_errors, |rng| Fault::WriteError {
                node,
                down: down(rng, faults.down_ms),
            });
        }
        self.each(faults.disk_losses, |rng| Fault::LoseDisk {
            node: rng.random_range(0..nodes),
            down: down(rng, faults.down_ms),
        });
    }

    fn network(&mut self) {
        let (faults, nodes) = (self.faults, self.nodes);
        if nodes < 2 {
            return;
        }
        self.each(faults.partitions, |rng| {
            let side = (0..nodes).filter(|_| rng.random_bool(0.5)).collect();
            let lasts = up_to(rng, faults.partition_ms);
            Fault::Partition { side, lasts }
        });
        self.each(faults.one_ways, |rng| {
            let (from, to) = pair(rng, nodes);
            let lasts = up_to(rng, faults.one_way_ms);
            Fault::OneWay { from, to, lasts }
        });
        let period = Duration::from_secs_f64(faults.flap_period_ms / 1_000.0);
        self.each(faults.flaps, |rng| {
            let (a, b) = pair(rng, nodes);
            let lasts = up_to(rng, faults.flap_ms);
            Fault::Flap {
                a,
                b,
                lasts,
                period,
            }
        });
    }

    /// Plans a fault at the times of a Poisson process.
    fn each(&mut self, per_minute: f64, mut fault: impl FnMut(&mut ChaCha8Rng) -> Fault) {
        for at in times(&mut self.rng, self.end, per_minute) {
            let fault = fault(&mut self.rng);
            self.planned.push((at, fault));
        }
    }
}

fn pair(rng: &mut ChaCha8Rng, nodes: usize) -> (usize, usize) {
    let a = rng.random_range(0..nodes);
    let b = rng.random_range(0..nodes - 1);
    (a, if b < a { b } else { b + 1 })
}

fn down(rng: &mut ChaCha8Rng, most_ms: f64) -> Duration {
    Duration::from_millis(100) + up_to(rng, most_ms)
}

fn times(rng: &mut ChaCha8Rng, end: Duration, per_minute: f64) -> Vec<Duration> {
    poisson(rng, FIRST, end, per_minute / 60.0)
}

/// Times of a Poisson process, at most [`MAX_FAULTS`].
pub(crate) fn poisson(
    rng: &mut ChaCha8Rng,
    from: Duration,
    end: Duration,
    per_second: f64,
) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut at = from;
    while per_second > 0.0 && times.len() < MAX_FAULTS {
        at += exponential(rng, 1.0 / per_second);
        if at >= end {
            break;
        }
        times.push(at);
    }
    times
}

/// A time with an exponential distribution, from its mean.
pub(crate) fn exponential(rng: &mut ChaCha8Rng, mean_seconds: f64) -> Duration {
    let u: f64 = rng.random_range(f64::EPSILON..1.0);
    Duration::from_secs_f64((-u.ln() * mean_seconds).min(1.0e6))
}

/// A time with an even distribution.
pub(crate) fn up_to(rng: &mut ChaCha8Rng, most_ms: f64) -> Duration {
    if most_ms <= 0.0 {
        return Duration::ZERO;
    }
    let ms = rng.random_range(0.0..=most_ms);
    Duration::from_secs_f64(ms / 1_000.0)
}
