//! What a scenario asks for and real processes on one machine cannot have.

use std::collections::BTreeMap;

use cpe_sim::{Fault, Faults, Scenario, Schedule, Workload};

use super::VARIABLES_MAX;

/// What of a scenario is left out, each with why; never silently.
pub(crate) fn left_out(scenario: &Scenario, schedule: &Schedule) -> Vec<String> {
    let mut out = Vec::new();
    let network = "messages between real processes are not touched";
    let faults = &scenario.faults;
    for (key, value, why) in [
        ("faults.loss", faults.loss, network),
        ("faults.duplicate", faults.duplicate, network),
        ("faults.straggle", faults.straggle, network),
        ("faults.gossip_loss", faults.gossip_loss, network),
        (
            "faults.turns",
            faults.turns,
            "real nodes work in turns as it comes",
        ),
        (
            "workload.abandon",
            scenario.workload.abandon,
            "clients wait for their answers",
        ),
        (
            "workload.scans",
            scenario.workload.scans,
            "clients read instead",
        ),
        (
            "workload.leases",
            scenario.workload.leases,
            "clients read instead",
        ),
    ] {
        if value > 0.0 {
            out.push(format!("{key}: {why}"));
        }
    }
    let plain = Faults::default();
    let own = "a real machine has its own";
    for (key, value, usual) in [
        (
            "faults.delay_min_ms",
            faults.delay_min_ms,
            plain.delay_min_ms,
        ),
        (
            "faults.delay_mean_ms",
            faults.delay_mean_ms,
            plain.delay_mean_ms,
        ),
        ("faults.disk_ms", faults.disk_ms, plain.disk_ms),
    ] {
        if value.to_bits() != usual.to_bits() {
            out.push(format!("{key}: {own}"));
        }
    }
    if scenario.workload.variables > VARIABLES_MAX {
        out.push(format!(
            "workload.variables: the first {VARIABLES_MAX} are used"
        ));
    }
    if scenario.homes != 3 {
        out.push("homes: nodes have groups of three".to_owned());
    }
    for (key, value, usual) in [
        ("eligible_ms", scenario.eligible_ms, 3_000.0_f64),
        ("replace_ms", scenario.replace_ms, 30_000.0),
    ] {
        if value.to_bits() != usual.to_bits() {
            out.push(format!("{key}: nodes wait {} s", usual / 1_000.0));
        }
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for planned in schedule.iter() {
        let kind = match planned.fault {
            Fault::Crash { .. }
            | Fault::Stop { .. }
            | Fault::Pause { .. }
            | Fault::Partition { .. }
            | Fault::Flap { .. } => continue,
            Fault::OneWay { .. } => "one-way links: a connection works both ways or not at all",
            Fault::Clock { .. } => "clocks that run wrong: one machine has one clock",
            Fault::SlowDisk { .. } => "slow disks: a real machine has its own",
            Fault::WriteError { .. } => "failed writes: a real machine has its own",
            Fault::LoseDisk { .. } => "lost disks: what may be lost is known to no process",
            _ => "faults of a kind unknown here",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    out.extend(kinds.iter().map(|(kind, count)| format!("{count} {kind}")));
    out
}

/// The share of each kind of request: what is left out becomes reads.
pub(crate) fn shares(work: &Workload) -> [f64; 3] {
    [work.stores, work.takes, work.try_takes]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_processes_cannot_do_is_named_and_what_they_can_is_not() {
        let text = "name = 'x'\nnodes = 3\nseconds = 30.0\nhomes = 5\n[faults]\nloss = 0.1\n\
                    crashes = 20.0\npauses = 20.0\nstops = 20.0\npartitions = 30.0\n\
                    one_ways = 30.0\nflaps = 30.0\ndrift = 0.01\n\
                    [workload]\nabandon = 0.0\nscans = 0.0\nleases = 0.0";
        let scenario = Scenario::parse(text).unwrap();
        let schedule = Schedule::draw(&scenario, 1);
        let named = left_out(&scenario, &schedule).join("\n");
        for part in ["faults.loss", "homes", "one-way links", "3 clocks"] {
            assert!(named.contains(part), "{part} is not in {named}");
        }
        for part in [
            "crash",
            "pause",
            "stop",
            "abandon",
            "disk",
            "partitions",
            "flapping",
        ] {
            assert!(!named.contains(part), "{part} is in {named}");
        }
        let plain = Scenario::parse(
            "name = 'x'\nnodes = 3\nseconds = 3.0\n[workload]\nabandon = 0.0\nscans = 0.0\n\
             leases = 0.0",
        );
        let plain = plain.unwrap();
        let none = left_out(&plain, &Schedule::draw(&plain, 1));
        assert_eq!(none, Vec::<String>::new());
    }
}
