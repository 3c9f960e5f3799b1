//! The lines kept of a run: one per event, in time; messages are counted by the second.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_mesh::GroupView;

/// Why a message does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The network lost it.
    Lost,
    /// The link is one-way, the other way.
    Deaf,
    /// There is no link.
    Unlinked,
}

/// Messages of one second.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traffic {
    second: u64,
    sent: u64,
    lost: u64,
    deaf: u64,
    unlinked: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Vec<String>,
    traffic: Traffic,
    /// By node and shard: the epoch and the ballot promised last, and whether the node leads by it.
    groups: BTreeMap<(usize, u16), String>,
}

/// A pair of nodes, in words.
pub(crate) fn between(a: usize, b: usize) -> String {
    format!("n{} - n{}", a + 1, b + 1)
}

impl Trace {
    pub(crate) fn line(&mut self, now: Duration, who: &str, what: &str) {
        self.roll(now.as_secs());
        self.push(now.as_secs_f64(), who, what);
    }

    fn push(&mut self, at: f64, who: &str, what: &str) {
        self.lines.push(format!("{at:>10.6} {who} {what}"));
    }

    /// A message was sent, to one receiver.
    pub(crate) fn sent(&mut self, now: Duration, gone: Option<Gone>) {
        self.roll(now.as_secs());
        self.traffic.sent += 1;
        match gone {
            None => {}
            Some(Gone::Lost) => self.traffic.lost += 1,
            Some(Gone::Deaf) => self.traffic.deaf += 1,
            Some(Gone::Unlinked) => self.traffic.unlinked += 1,
        }
    }

    /// Ends the second that is counted, once it is over.
    fn roll(&mut self, second: u64) {
        if second == self.traffic.second {
            return;
        }
        let over = std::mem::take(&mut self.traffic);
        self.traffic.second = second;
        if over.sent > 0 {
            let what = format!(
                "in this second {} messages sent, {} lost, {} on links that are deaf, {} without a \
                 link",
                over.sent, over.lost, over.deaf, over.unlinked
            );
            self.push(over.second as f64 + 1.0, "--", &what);
        }
    }

    /// How a node stands in a shard's home group.
    pub(crate) fn group(&mut self, now: Duration, n: usize, shard: u16, view: Option<GroupView>) {
        let words = match view {
            None => "in no group".to_owned(),
            Some((hard, heartbeat, ..)) => {
                let ballot = hard.promised.map_or_else(
                    || "no ballot".to_owned(),
                    |ballot| format!("ballot {} of {}", ballot.round, ballot.node),
                );
                let own = heartbeat.ballot.node;
                let led = hard.promised == hard.accepted
                    && hard.promised.is_some_and(|ballot| ballot.node == own);
                let leads = if led { ", and leads" } else { "" };
                format!("epoch {}: {ballot}{leads}", hard.epoch)
            }
        };
        let before = self.groups.get(&(n, shard));
        if before != Some(&words) && (before.is_some() || view.is_some()) {
            self.line(
                now,
                &format!("n{}", n + 1),
                &format!("in shard {shard}, {words}"),
            );
            self.groups.insert((n, shard), words);
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All lines, the second that is counted too.
    pub(crate) fn end(mut self) -> Vec<String> {
        self.roll(u64::MAX);
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Faults, Scenario, World};

    #[test]
    fn a_trace_names_every_kind_of_fault_and_what_it_leads_to() {
        let faults = Faults {
            loss: 0.1,
            partitions: 20.0,
            partition_ms: 2_000.0,
            one_ways: 20.0,
            one_way_ms: 1_000.0,
            flaps: 20.0,
            flap_ms: 1_000.0,
            slow_disks: 20.0,
            write_errors: 10.0,
            crashes: 10.0,
            down_ms: 1_000.0,
            ..Faults::default()
        };
        let text = "name='trace'\nnodes=5\nseconds=20.0\neligible_ms=50.0";
        let scenario = Scenario {
            faults,
            ..Scenario::parse(text).unwrap()
        };
        let mut world = World::new(scenario, 1);
        world.keep_trace();
        world.run_until(Duration::from_secs(20)).unwrap();
        for part in [
            "-- partition 1 ",
            "-- partition 1 heals",
            " hears nothing of ",
            " again",
            " flaps for ",
            " is cut",
            " is no longer cut",
            " are linked",
            " are linked no more",
            "its disk is slow",
            "the next write fails",
            ": ballot 1 of ",
            ", and leads",
            " moved: ",
            " lost, ",
        ] {
            let has = |line: &String| line.contains(part);
            assert!(world.trace().iter().any(has), "no line has {part:?}");
        }
    }

    #[test]
    fn messages_are_counted_by_the_second() {
        let mut trace = Trace::default();
        let at = Duration::from_millis;
        trace.sent(at(100), None);
        trace.sent(at(900), Some(Gone::Lost));
        trace.sent(at(2_100), Some(Gone::Deaf));
        let lines = trace.end();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  1.000000 -- in this second 2 messages sent, 1 lost, 0"));
        assert!(lines[1].contains("1 messages sent, 0 lost, 1 on links that are deaf, 0 without"));
    }
}
