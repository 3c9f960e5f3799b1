//! Whom to dial and when: a table with jittered, doubling pauses. No I/O, no clock of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::config::ADDRESSES_MAX;

/// Peers wanted at once, at most.
pub(crate) const WANTED_MAX: usize = 4096;
/// A link that ends younger than this counts as a failed dial, so that a peer which admits and
/// drops us in turn is not dialled in a tight loop.
const STEADY_AFTER: Duration = Duration::from_secs(3);
/// Failures that a refusal counts for: who refused once will most likely refuse again.
const REFUSAL_FAILURES: u32 = 5;
/// How much longer than others the refused wait, at most.
const REFUSED_PAUSE_FACTOR: u32 = 4;
/// After this many failures in a row, and at each multiple, other members are asked for addresses.
const ASK_EVERY: u32 = 3;

/// What the driver is to dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// An address from the configuration.
    Bootstrap(Multiaddr),
    /// A member the program wants a link to.
    Member(PeerId),
}

/// A dial to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) target: Target,
    /// The peer that must answer, when it is known.
    pub(crate) peer: Option<PeerId>,
    pub(crate) addresses: Vec<Multiaddr>,
    /// Whether to ask other members where the peer is.
    pub(crate) ask: bool,
}

#[derive(Debug)]
struct Entry {
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    failures: u32,
    refused: bool,
    /// When the next dial is due. While one is under way: never.
    due: Option<Duration>,
    /// Since when there is a link.
    up: Option<Duration>,
}

impl Entry {
    fn new(peer: Option<PeerId>, addresses: Vec<Multiaddr>, now: Duration) -> Self {
        Self {
            peer,
            addresses,
            failures: 0,
            refused: false,
            due: Some(now),
            up: None,
        }
    }
}

/// The table of wanted peers.
#[derive(Debug)]
pub(crate) struct Dialer {
    pause_min: Duration,
    pause_max: Duration,
    wanted: BTreeMap<Target, Entry>,
}

impl Dialer {
    pub(crate) fn new(pause_min: Duration, pause_max: Duration) -> Self {
        Self {
            pause_min,
            pause_max: pause_max.max(pause_min),
            wanted: BTreeMap::new(),
        }
    }

    /// Wants whoever answers at `address`, for ever.
    pub(crate) fn bootstrap(&mut self, address: Multiaddr, now: Duration) {
        let peer = peer_of(&address);
        let entry = Entry::new(peer, vec![address.clone()], now);
        self.wanted
            .entry(Target::Bootstrap(address))
            .or_insert(entry);
    }

    /// Wants a member. New addresses are dialled at once.
    pub(crate) fn want(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        up: bool,
        now: Duration,
    ) {
        let full = self.wanted.len() >= WANTED_MAX;
        let Some(entry) = self.wanted.get_mut(&Target::Member(peer)) else {
            if full {
                tracing::warn!(%peer, "not dialled: {WANTED_MAX} peers are wanted already");
                return;
            }
            let mut entry = Entry::new(Some(peer), Vec::new(), now);
            add_addresses(&mut entry.addresses, addresses);
            entry.up = up.then_some(now);
            self.wanted.insert(Target::Member(peer), entry);
            return;
        };
        if add_addresses(&mut entry.addresses, addresses) && entry.due.is_some() && !entry.refused {
            entry.failures = 0;
            entry.due = Some(now);
        }
    }

    /// Other members said where a peer is. Nothing happens unless it is wanted.
    pub(crate) fn learn(&mut self, peer: &PeerId, addresses: Vec<Multiaddr>, now: Duration) {
        if self.wanted.contains_key(&Target::Member(*peer)) {
            self.want(*peer, addresses, false, now);
        }
    }

    /// Wants a peer no longer, until it is asked for again.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.wanted
            .retain(|_, entry| entry.peer.as_ref() != Some(peer));
    }

    /// The dials that are due. Each is under way until `failed` or `up` is told.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Dial> {
        let mut dials = Vec::new();
        for (target, entry) in &mut self.wanted {
            if entry.up.is_some() || entry.due.is_none_or(|due| due > now) {
                continue;
            }
            entry.due = None;
            let lost = entry.failures > 0 && entry.failures % ASK_EVERY == 0;
            dials.push(Dial {
                target: target.clone(),
                peer: entry.peer,
                addresses: entry.addresses.clone(),
                ask: entry.peer.is_some() && (lost || entry.addresses.is_empty()),
            });
        }
        dials
    }

    /// When the next dial is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.wanted
            .values()
            .filter(|entry| entry.up.is_none())
            .filter_map(|entry| entry.due)
            .min()
    }

    /// A dial came to nothing. `jitter` is any random number. Gives how many have in a row.
    pub(crate) fn failed(
        &mut self,
        target: &Target,
        refused: bool,
        now: Duration,
        jitter: u32,
    ) -> u32 {
        let (min, max) = (self.pause_min, self.pause_max);
        let Some(entry) = self.wanted.get_mut(target) else {
            return 0;
        };
        entry.failures = entry.failures.saturating_add(1);
        entry.refused = refused;
        if refused {
            entry.failures = entry.failures.max(REFUSAL_FAILURES);
        }
        let max = if refused {
            max * REFUSED_PAUSE_FACTOR
        } else {
            max
        };
        entry.due = Some(now + pause(min, max, entry.failures, jitter));
        entry.failures
    }

    /// The address leads to this node itself: never dial it again.
    pub(crate) fn is_self(&mut self, target: &Target) {
        self.wanted.remove(target);
    }

    /// A bootstrap address led to this peer, so its entry is about this peer from now on.
    pub(crate) fn led_to(&mut self, target: &Target, peer: PeerId) {
        if let Some(entry) = self.wanted.get_mut(target) {
            entry.peer = Some(peer);
        }
    }

    /// There is a link to this peer.
    pub(crate) fn up(&mut self, peer: &PeerId, now: Duration) {
        for entry in self
            .wanted
            .values_mut()
            .filter(|entry| entry.peer.as_ref() == Some(peer))
        {
            entry.up = Some(now);
            entry.refused = false;
            entry.due = Some(now);
        }
    }

    /// The link to this peer is gone, or a connection ended before it became a link.
    pub(crate) fn down(&mut self, peer: &PeerId, now: Duration, jitter: u32) {
        let (min, max) = (self.pause_min, self.pause_max);
        for entry in self
            .wanted
            .values_mut()
            .filter(|entry| entry.peer.as_ref() == Some(peer))
        {
            let steady = entry
                .up
                .take()
                .is_some_and(|up| now.saturating_sub(up) >= STEADY_AFTER);
            entry.failures = if steady {
                0
            } else {
                entry.failures.saturating_add(1)
            };
            entry.due = Some(now + pause(min, max, entry.failures, jitter));
        }
    }
}

/// The peer that an address names at its end.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// Adds what is new, forgetting the oldest beyond the limit. Tells whether anything was new.
fn add_addresses(known: &mut Vec<Multiaddr>, more: Vec<Multiaddr>) -> bool {
    let before = known.len();
    let mut added = false;
    for address in more.into_iter().take(ADDRESSES_MAX) {
        if !known.contains(&address) {
            known.push(address);
            added = true;
        }
    }
    let surplus = known.len().saturating_sub(ADDRESSES_MAX).min(before);
    known.drain(..surplus);
    added
}

/// The pause after so many failures in a row: doubling, between half and one and a half of its
/// nominal length, so that nodes which lost the same peer do not come back together.
fn pause(min: Duration, max: Duration, failures: u32, jitter: u32) -> Duration {
    let nominal = min
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(max);
    nominal / 2 + nominal.mul_f64(f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    fn dialer() -> (Dialer, PeerId, Target) {
        let peer = PeerId::random();
        let mut dialer = Dialer::new(MIN, MAX);
        dialer.want(
            peer,
            vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()],
            false,
            Duration::ZERO,
        );
        (dialer, peer, Target::Member(peer))
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut dialer, _, target) = dialer();
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(dialer.due(now).len(), 1);
            assert_eq!(dialer.due(now), [], "a dial is under way");
            dialer.failed(&target, false, now, u32::MAX / 2);
            let due = dialer.next_due().unwrap();
            pauses.push((due - now).as_millis());
            now = due;
        }
        let nominal = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
        for (pause, nominal) in pauses.iter().zip(nominal) {
            assert!(pause.abs_diff(nominal) <= 1, "{pauses:?}");
        }
    }

    #[test]
    fn the_jitter_spreads_pauses_from_half_to_one_and_a_half() {
        assert_eq!(pause(MIN, MAX, 1, 0), MIN / 2);
        assert_eq!(pause(MIN, MAX, 1, u32::MAX), MIN * 3 / 2);
        assert_eq!(pause(MIN, MAX, u32::MAX, 0), MAX / 2);
    }

    #[test]
    fn a_steady_link_that_ends_is_dialled_soon_and_a_flapping_one_later() {
        let (mut dialer, peer, _) = dialer();
        dialer.due(Duration::ZERO);
        dialer.up(&peer, Duration::ZERO);
        assert_eq!(dialer.next_due(), None);
        let mut now = Duration::from_secs(60);
        dialer.down(&peer, now, 0);
        assert_eq!(dialer.next_due(), Some(now + MIN / 2));
        for _ in 0..8 {
            now = dialer.next_due().unwrap();
            dialer.due(now);
            dialer.up(&peer, now);
            dialer.down(&peer, now, 0);
        }
        assert!(dialer.next_due().unwrap() - now > Duration::from_secs(4));
    }

    #[test]
    fn the_refused_wait_longer_than_the_unreachable() {
        let (mut dialer, _, target) = dialer();
        dialer.due(Duration::ZERO);
        dialer.failed(&target, true, Duration::ZERO, 0);
        assert!(dialer.next_due().unwrap() >= MIN * 8);
    }

    #[test]
    fn a_new_address_is_dialled_at_once_and_the_oldest_forgotten() {
        let (mut dialer, peer, target) = dialer();
        dialer.due(Duration::ZERO);
        dialer.failed(&target, false, Duration::ZERO, 0);
        let many = (1..=20)
            .map(|p| format!("/ip4/10.0.0.2/tcp/{p}").parse().unwrap())
            .collect();
        dialer.want(peer, many, false, Duration::ZERO);
        let dials = dialer.due(Duration::ZERO);
        assert_eq!(dials[0].addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_forgotten_peer_is_dialled_no_more() {
        let (mut dialer, peer, _) = dialer();
        dialer.forget(&peer);
        assert_eq!(dialer.due(MAX), []);
        assert_eq!(dialer.next_due(), None);
    }

    #[test]
    fn a_bootstrap_address_is_kept_for_ever() {
        let mut dialer = Dialer::new(MIN, MAX);
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        dialer.bootstrap(address.clone(), Duration::ZERO);
        let target = Target::Bootstrap(address);
        let mut now = Duration::ZERO;
        for _ in 0..1000 {
            now = dialer.next_due().unwrap();
            assert_eq!(dialer.due(now).len(), 1);
            dialer.failed(&target, false, now, 0);
        }
        let peer = PeerId::random();
        dialer.led_to(&target, peer);
        dialer.up(&peer, now);
        assert_eq!(dialer.next_due(), None);
    }
}
