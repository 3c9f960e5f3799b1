//! Five thousand seeds of stores and takes with every fault on.
//!
//! A failure is shrunk and prints the few faults that suffice, with the seed; to see what happened:
//! `CPE_SIM_SEED=<seed> CPE_SIM_KEEP=<fault>,... cargo nextest run -p cpe-sim one_seed
//! --no-capture`, with `CPE_SIM_PROFILE=<profile>` for seeds of a profile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bodies;

use cpe_sim::{
    Faults, Profile, Report, Scenario, Schedule, Violation, Workload, World, shrink, shrink_by,
    swarm,
};

fn run(seed: u64) -> Report {
    run_of(Profile::Mixed, seed)
}

fn run_of(profile: Profile, seed: u64) -> Report {
    let scenario = profile.scenario(seed);
    let schedule = Schedule::draw(&scenario, seed);
    match World::with_schedule(scenario.clone(), seed, &schedule).run() {
        Ok(report) => report,
        Err((violation, _)) => {
            let shrunk = shrink(&scenario, seed, &schedule, SHRINK_RUNS_MAX);
            let numbers = shrunk
                .as_ref()
                .map_or_else(|| schedule.numbers(), |shrunk| shrunk.schedule.numbers());
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let shrunk = shrunk.map(|shrunk| shrunk.to_string()).unwrap_or_default();
            panic!(
                "{profile} seed {seed}: {violation}\n{shrunk}\nreplay: CPE_SIM_PROFILE={profile} \
                 CPE_SIM_SEED={seed} CPE_SIM_KEEP={} cargo nextest run -p cpe-sim one_seed \
                 --no-capture",
                numbers.join(",")
            )
        }
    }
}

/// Seeds of one run of the tests.
const SEEDS: u64 = 5_000;

/// As many tests as share them, so that they run side by side.
const SLICES: u64 = 16;

/// Runs that shrinking a failure may take.
const SHRINK_RUNS_MAX: usize = 100;

fn slice(slice: u64) {
    let (mut taken, mut checked, mut progressed) = (0, 0, 0);
    let (mut sketches, mut snapshots) = (0, 0);
    let (mut committed, mut lost, mut turns) = (0, 0, 0);
    let mut generations = 0;
    let mut faults = [0_u64; 7];
    for seed in (slice..SEEDS).step_by(SLICES as usize) {
        let report = run(seed);
        sketches += report.sketches;
        snapshots += report.snapshots;
        assert_eq!(report.states_failed, 0, "seed {seed} built a wrong state");
        let seen = [
            report.crashes,
            report.stops,
            report.pauses,
            report.partitions,
            report.bad_links,
            report.bad_disks,
            report.lost_disks,
        ];
        for (all, seen) in faults.iter_mut().zip(seen) {
            *all += seen;
        }
        taken += report.taken;
        checked += report.checked;
        progressed += report.progressed;
        committed += report.committed;
        generations += report.generations;
        lost += report.leases_lost;
        turns += report.turns;
    }
    let least = faults.iter().min().unwrap();
    assert!(*least > 3, "a kind of fault is rare: {faults:?}");
    assert!(taken > 2_000, "only {taken} takes: the seeds try nothing");
    assert!(checked > 3 * taken, "only {checked} operations checked");
    assert!(sketches > 0, "no replica caught up by a sketch");
    assert!(snapshots > 0, "no replica took a snapshot");
    assert!(
        progressed > 2_000,
        "only {progressed} stores and takes demanded"
    );
    assert!(committed > 300, "only {committed} leases committed");
    assert!(
        generations > 5,
        "only {generations} volatile shards began anew"
    );
    assert!(lost > 20, "only {lost} acts that came too late");
    // Only every fourth seed has any, hence only every fourth slice.
    assert!(turns > 10_000 || slice % 4 != 2, "only {turns} turns");
}

/// Seeds of each profile besides the mixed one.
const BIASED_SEEDS: u64 = 60;

#[test]
fn every_promise_holds_while_leaders_change_all_the_time() {
    for seed in 0..BIASED_SEEDS {
        run_of(Profile::Elections, seed);
    }
}

#[test]
fn every_promise_holds_while_homes_move_all_the_time() {
    for seed in 0..BIASED_SEEDS {
        run_of(Profile::Handovers, seed);
    }
}

#[test]
fn every_promise_holds_while_nodes_start_again_and_again() {
    for seed in 0..BIASED_SEEDS {
        run_of(Profile::Restarts, seed);
    }
}

#[test]
fn every_promise_holds_while_hosts_are_cut_off_and_clocks_are_wrong() {
    // An incarnation that commits after it was taken over is rare: its lease has ended before.
    const SEEDS: u64 = 300;
    let mut seen = Report::default();
    for seed in 0..SEEDS {
        let report = run_of(Profile::Actors, seed);
        seen.voided += report.voided;
        seen.taken_over += report.taken_over;
        seen.commits += report.commits;
        seen.fenced += report.fenced;
        seen.moved += report.moved;
        seen.told += report.told;
        seen.took += report.took;
        seen.emitted += report.emitted;
        seen.released += report.released;
        seen.watchers_told += report.watchers_told;
        seen.told_why += report.told_why;
        seen.posted += report.posted;
        seen.sent_on += report.sent_on;
        seen.given_up += report.given_up;
        seen.plain_ended += report.plain_ended;
    }
    assert!(seen.posted > 5_000, "only {} posted", seen.posted);
    assert!(seen.sent_on > 500, "only {} sent on", seen.sent_on);
    assert!(seen.given_up > 10, "only {} given up", seen.given_up);
    assert!(seen.plain_ended > 20, "only {} ended", seen.plain_ended);
    assert!(seen.voided > 20, "only {} lives ended early", seen.voided);
    assert!(seen.taken_over > 60, "only {} taken over", seen.taken_over);
    assert!(seen.commits > 3_000, "only {} commits", seen.commits);
    assert!(seen.fenced > 0, "no incarnation was fenced");
    assert!(seen.moved > 300, "only {} handed on", seen.moved);
    assert!(seen.told > 1_000, "only {} told", seen.told);
    assert!(seen.took > 1_000, "only {} taken", seen.took);
    assert!(seen.emitted > 1_000, "only {} tuples", seen.emitted);
    assert!(seen.released > 100, "only {} given up", seen.released);
    assert!(
        seen.watchers_told > 20,
        "only {} watchers told",
        seen.watchers_told
    );
    assert!(seen.told_why > 0, "only {} told why", seen.told_why);
}

#[test]
fn what_was_deleted_never_comes_back_and_nothing_else_is_gone() {
    let reports = (0..2 * BIASED_SEEDS).map(|seed| run_of(Profile::Deletions, seed));
    let deletions: u64 = reports.map(|report| report.deletions).sum();
    assert!(deletions > 500, "only {deletions} deletions");
}

macro_rules! slices {
    ($($name:ident: $n:literal,)*) => {
        $(#[test] fn $name() { slice($n); })*
    };
}

slices! {
    a_tuple_is_taken_once_whatever_fails_0: 0,
    a_tuple_is_taken_once_whatever_fails_1: 1,
    a_tuple_is_taken_once_whatever_fails_2: 2,
    a_tuple_is_taken_once_whatever_fails_3: 3,
    a_tuple_is_taken_once_whatever_fails_4: 4,
    a_tuple_is_taken_once_whatever_fails_5: 5,
    a_tuple_is_taken_once_whatever_fails_6: 6,
    a_tuple_is_taken_once_whatever_fails_7: 7,
    a_tuple_is_taken_once_whatever_fails_8: 8,
    a_tuple_is_taken_once_whatever_fails_9: 9,
    a_tuple_is_taken_once_whatever_fails_10: 10,
    a_tuple_is_taken_once_whatever_fails_11: 11,
    a_tuple_is_taken_once_whatever_fails_12: 12,
    a_tuple_is_taken_once_whatever_fails_13: 13,
    a_tuple_is_taken_once_whatever_fails_14: 14,
    a_tuple_is_taken_once_whatever_fails_15: 15,
}

/// A node that had not joined yet, because the greeting that names the mesh was lost, called a
/// query malformed.
#[test]
fn r0039_a_query_may_come_before_the_mesh_is_known() {
    run(39);
}

/// A group that shrank because a member drained kept one that had just died, alone: with that
/// one's disk lost too, the shard was lost for ever though one disk of five was.
#[test]
fn r0589_a_group_that_shrinks_keeps_members_that_are_there() {
    run(589);
}

/// A node whose only link lost the offers of cards never had another's address.
#[test]
fn r1321_a_card_that_did_not_come_is_asked_for() {
    run(1321);
}

/// A leader counted on the heartbeat of a member that had left the group, and heard no feed.
#[test]
fn r1572_a_leader_that_missed_the_end_of_its_epoch_learns_of_it() {
    run(1572);
}

/// Two of three members drained, the third had just died and lost its disk, and the group of one
/// that was left for the two other nodes was the dead one.
#[test]
fn r9965_a_group_does_not_shrink_onto_a_silent_member() {
    run(9965);
}

/// The new members of a volatile shard's growing group crashed before it served. Whoever had
/// decided them was there, with all that the shard held, and waited for them for ever.
#[test]
fn r0638_a_successor_that_never_serves_is_passed_over() {
    for seed in [448, 497, 638] {
        run(seed);
    }
}

/// Who led a new group of a volatile shard asked a former leader of the register to register it,
/// and was not told: the group was passed over, and its successor, and so on for ever.
#[test]
fn r15753_a_group_is_registered_whoever_leads_the_register() {
    run(15_753);
}

/// A draining leader, cut off with one node that was no member, named that one alone; when the cut
/// was over this was decided, and that node's disk was gone.
#[test]
fn r40299_a_leader_without_its_majority_names_no_successor() {
    run(40_299);
}

/// The only next member had crashed and lost its disk before the group ended in its favour, but
/// membership had not told of it yet.
#[test]
fn r53384_a_group_ends_in_favour_of_members_that_said_they_are_there() {
    for seed in [47_681, 53_384] {
        run(seed);
    }
}

/// Its answer had lain there for three seconds, while the node that had asked stood still.
#[test]
fn r58995_an_old_answer_does_not_tell_who_is_there() {
    run(58_995);
}

/// The check is impossible on purpose: no run may see a pause and a partition.
#[test]
fn a_failure_shrinks_to_the_faults_that_suffice() {
    let scenario = Scenario {
        faults: Faults {
            crashes: 6.0,
            pauses: 6.0,
            one_ways: 20.0,
            partitions: 20.0,
            drift: 0.05,
            ..Faults::default()
        },
        seconds: 6.0,
        ..swarm(1)
    };
    let schedule = Schedule::draw(&scenario, 1);
    assert!(schedule.len() > 8, "{schedule}");
    let shrunk = shrink_by(1, &schedule, 100, |schedule| {
        let world = World::with_schedule(scenario.clone(), 1, schedule);
        let report = world
            .run()
            .unwrap_or_else(|(violation, _)| panic!("{violation}"));
        (report.pauses > 0 && report.partitions > 0).then_some(Violation::Unanswered(1))
    })
    .unwrap();
    assert_eq!(shrunk.schedule.len(), 2, "{shrunk}");
    assert_eq!(shrunk.of, schedule.len());
    let kept = schedule.keep(&shrunk.schedule.numbers());
    assert_eq!(kept, shrunk.schedule);
}

/// What is drawn for the users does not change with the faults left out.
#[test]
fn a_schedule_with_all_its_faults_is_the_same_run() {
    let (scenario, seed) = (swarm(5), 5);
    let schedule = Schedule::draw(&scenario, seed);
    let all = schedule.keep(&schedule.numbers());
    let again = World::with_schedule(scenario, seed, &all).run().unwrap();
    assert_eq!(run(seed), again);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 77] {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(3).trace, run(4).trace);
}

#[test]
fn one_seed() {
    let Some(seed) = std::env::var("CPE_SIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
    else {
        run(0);
        return;
    };
    let profile = std::env::var("CPE_SIM_PROFILE").unwrap_or_default();
    let named = |one: &Profile| one.to_string() == profile;
    let profile = Profile::ALL.into_iter().find(named).unwrap_or_default();
    let scenario = profile.scenario(seed);
    println!("{scenario:#?}");
    let mut schedule = Schedule::draw(&scenario, seed);
    if let Ok(keep) = std::env::var("CPE_SIM_KEEP") {
        let numbers: Vec<usize> = keep.split(',').filter_map(|n| n.parse().ok()).collect();
        schedule = schedule.keep(&numbers);
    }
    println!("{schedule}");
    let mut world = World::with_schedule(scenario, seed, &schedule);
    world.keep_trace();
    match world.run() {
        Ok(report) => println!("{report:#?}"),
        Err((violation, trace)) => {
            for line in trace {
                println!("{line}");
            }
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn a_perfect_world_loses_nothing_and_has_no_excuses() {
    let scenario = Scenario {
        faults: Faults::default(),
        workload: Workload {
            abandon: 0.0,
            rate: 100.0,
            ..Workload::default()
        },
        ..swarm(1)
    };
    let report = World::new(scenario, 1).run().unwrap();
    assert_eq!(report.lost_with_taker, 0);
    assert_eq!(report.unknown, 0);
    assert!(report.acknowledged > 0);
    assert_eq!(report.taken + report.left, report.stores);
}

/// Under every fault, operations that are bound to an instance keep the same promises, reads are
/// part of the one order, and a put that was refused never happens; in volatile workspaces as well.
#[test]
fn bound_operations_keep_the_promises_under_every_fault() {
    let mut acknowledged = 0;
    for seed in 0..300 {
        let mut scenario = swarm(seed);
        scenario.workload.bound = true;
        match World::new(scenario, seed).run() {
            Ok(report) => acknowledged += report.acknowledged,
            Err((violation, _)) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(acknowledged > 10_000, "{acknowledged}");
}

#[test]
fn a_scenario_with_an_unknown_key_is_refused_by_name() {
    let error = Scenario::parse("name='x'\nnodes=3\nseconds=1.0\n[faults]\nlos=0.1").unwrap_err();
    assert!(error.to_string().contains("los"), "{error}");
    let error = Scenario::parse("name='x'\nnodes=3\nseconds=1.0\n[faults]\nloss=1.5").unwrap_err();
    assert!(error.to_string().contains("faults.loss"), "{error}");
}

#[test]
fn every_scenario_that_ships_passes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../simulations");
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut scenario = Scenario::parse(&text).unwrap();
        scenario.seconds = scenario.seconds.min(15.0);
        if scenario.nodes > 100 {
            scenario.nodes = 60;
        }
        let result = World::new(scenario, 1).run();
        if let Err((violation, _)) = result {
            panic!("{}: {violation}", path.display());
        }
        names.push(path);
    }
    assert!(names.len() >= 11, "{names:?}");
}

/// A mesh that fell in two for so long that both halves declared each other dead used to stay so:
/// peers asked their network to stop dialling whom membership had given up.
#[test]
fn halves_that_declared_each_other_dead_find_together_again() {
    let mut partitions = 0;
    for seed in 0..20 {
        let faults = Faults {
            partitions: 6.0,
            partition_ms: 20_000.0,
            ..Faults::default()
        };
        let scenario = Scenario {
            seconds: 60.0,
            faults,
            nodes: 5,
            ..swarm(2)
        };
        let report = World::new(scenario, seed)
            .run()
            .unwrap_or_else(|(violation, _)| {
                panic!("seed {seed}: {violation}");
            });
        partitions += report.partitions;
    }
    assert!(partitions > 20, "only {partitions} partitions");
}
