//! A small network of memberships: latency, loss and cuts, one clock, no threads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::{
    Incarnation, Member, MemberState, Membership, MembershipConfig, NodeCard, NodeId, Output,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// One way. Longer than a LAN's, so that order and loss matter.
const LATENCY: Duration = Duration::from_millis(2);

/// The first byte of a frame that offers cards.
const OFFER: u8 = 2;

type Packet = (NodeId, NodeId, Vec<u8>);

#[derive(Default)]
pub(crate) struct Net {
    pub(crate) now: Duration,
    pub(crate) nodes: BTreeMap<NodeId, Membership>,
    /// Every output but packets, with its time.
    pub(crate) events: BTreeMap<NodeId, Vec<(Duration, Output)>>,
    /// Pairs, in one direction, whose packets are lost.
    pub(crate) cuts: BTreeSet<(NodeId, NodeId)>,
    /// Nodes whose loop stands still; their packets wait.
    pub(crate) paused: BTreeSet<NodeId>,
    /// Settings of nodes started from now on; LAN settings by default.
    pub(crate) config: MembershipConfig,
    /// Every n-th packet is lost; 0 loses none.
    pub(crate) lose_every: u64,
    /// Offers of cards are lost, all of them.
    pub(crate) lose_offers: bool,
    /// All packets sent so far, when kept.
    pub(crate) trace: Option<Vec<(Duration, Packet)>>,
    pub(crate) flight: BTreeMap<(Duration, u64), Packet>,
    pub(crate) seq: u64,
}

pub(crate) fn id(n: u64) -> NodeId {
    NodeId(n)
}

pub(crate) fn life(n: u64, inc: u32) -> Member {
    Member {
        node: id(n),
        inc: Incarnation(inc),
    }
}

pub(crate) fn card(n: u64, inc: u32) -> NodeCard {
    let mut card = NodeCard::new(life(n, inc), format!("node-{n}"));
    card.addresses.push(format!("/ip4/10.0.0.{n}/tcp/4001"));
    card
}

impl Net {
    /// `n` nodes that joined through node 1 and know each other.
    pub(crate) fn joined(n: u64) -> Self {
        let mut net = Self::default();
        for i in 1..=n {
            net.start(i, 1, i);
            if i > 1 {
                net.announce(i, 1);
            }
        }
        net.run(10 * SECOND);
        for i in 1..=n {
            assert_eq!(
                net.active(i),
                (1..=n).collect::<Vec<_>>(),
                "as node {i} sees it"
            );
        }
        net
    }

    pub(crate) fn start(&mut self, n: u64, inc: u32, seed: u64) {
        let config = self.config.clone();
        let membership = Membership::new(card(n, inc), config, seed, self.now).unwrap();
        self.nodes.insert(id(n), membership);
        self.events.insert(id(n), Vec::new());
    }

    pub(crate) fn announce(&mut self, n: u64, to: u64) {
        self.with(n, |node, now| node.announce(now, id(to)));
    }

    /// The process is gone, as by a power cut.
    pub(crate) fn kill(&mut self, n: u64) {
        self.nodes.remove(&id(n));
    }

    pub(crate) fn with<T>(
        &mut self,
        n: u64,
        call: impl FnOnce(&mut Membership, Duration) -> T,
    ) -> T {
        let now = self.now;
        let result = call(self.nodes.get_mut(&id(n)).unwrap(), now);
        self.drain(id(n));
        result
    }

    /// Cuts every path between the two sets, both ways.
    pub(crate) fn split(&mut self, left: &[u64], right: &[u64]) {
        for a in left {
            for b in right {
                self.cuts.insert((id(*a), id(*b)));
                self.cuts.insert((id(*b), id(*a)));
            }
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    fn next(&self) -> Option<Duration> {
        let wakes = self.awake().filter_map(|(_, node)| node.next_wake());
        let flight = self
            .flight
            .iter()
            .filter(|(_, packet)| !self.paused.contains(&packet.1));
        wakes.chain(flight.map(|((at, _), _)| *at)).min()
    }

    fn awake(&self) -> impl Iterator<Item = (&NodeId, &Membership)> {
        self.nodes
            .iter()
            .filter(|(node, _)| !self.paused.contains(node))
    }

    fn step(&mut self) {
        let now = self.now;
        let due: Vec<(Duration, u64)> = self
            .flight
            .range(..=(now, u64::MAX))
            .filter(|(_, packet)| !self.paused.contains(&packet.1))
            .map(|(place, _)| *place)
            .collect();
        // Timers first: a loop that wakes late meets its timers before its inbox, the worse order.
        let late: Vec<NodeId> = self
            .awake()
            .filter(|(_, node)| node.next_wake().is_some_and(|at| at <= now))
            .map(|(node, _)| *node)
            .collect();
        for node in late {
            self.nodes.get_mut(&node).unwrap().tick(now);
            self.drain(node);
        }
        for place in due {
            let (from, to, bytes) = self.flight.remove(&place).unwrap();
            if let Some(node) = self.nodes.get_mut(&to) {
                node.handle_packet(now, from, &bytes);
                self.drain(to);
            }
        }
    }

    fn drain(&mut self, from: NodeId) {
        while let Some(output) = self.nodes.get_mut(&from).unwrap().poll_output() {
            match output {
                Output::Send { to, bytes } => self.post(from, to, bytes),
                event => self.events.get_mut(&from).unwrap().push((self.now, event)),
            }
        }
    }

    fn post(&mut self, from: NodeId, to: NodeId, bytes: Vec<u8>) {
        assert!(bytes.len() <= cpe_membership::FRAME_BYTES_MAX);
        self.seq += 1;
        if let Some(trace) = &mut self.trace {
            trace.push((self.now, (from, to, bytes.clone())));
        }
        let lost = self.lose_every > 0 && self.seq.is_multiple_of(self.lose_every);
        let lost = lost || (self.lose_offers && bytes.first() == Some(&OFFER));
        if !lost && !self.cuts.contains(&(from, to)) {
            self.flight
                .insert((self.now + LATENCY, self.seq), (from, to, bytes));
        }
    }

    /// Whom node `n` counts as alive.
    pub(crate) fn active(&self, n: u64) -> Vec<u64> {
        let members = self.nodes[&id(n)].members();
        members
            .filter(|view| view.state.is_active())
            .map(|view| view.member.node.0)
            .collect()
    }

    pub(crate) fn state(&self, n: u64, of: u64) -> Option<MemberState> {
        self.nodes[&id(n)].state(id(of))
    }

    /// Ups, downs and leaves that node `n` reported since the last call.
    pub(crate) fn take_events(&mut self, n: u64) -> Vec<Output> {
        let events = std::mem::take(self.events.get_mut(&id(n)).unwrap());
        events
            .into_iter()
            .map(|(_, event)| event)
            .filter(|event| !matches!(event, Output::Card(_)))
            .collect()
    }

    pub(crate) fn forget_events(&mut self) {
        self.events.values_mut().for_each(Vec::clear);
    }
}
