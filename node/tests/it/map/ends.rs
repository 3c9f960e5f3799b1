//! How a `cpe map` ends before its lines do, and what is left then.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{begin, lines_of, map, node_with, numbers, tuples};
use crate::harness::{Node, Ran, until};

/// One node that runs two at once.
fn two_slots() -> Node {
    let slots = [("CPE_COMMANDS_SLOTS", "2")];
    node_with(None, &["--allow-command", "sh"], &slots)
}

/// Waits until no process runs any more whose number is a line of this file.
fn none_runs(log: &Path) {
    let all = fs::read_to_string(log).unwrap();
    let runs = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        // Killed, and perhaps not yet waited for.
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    until("nothing runs", || !all.lines().any(runs));
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn tries_that_are_left_are_had_by_a_master_that_comes_back() {
    let a = two_slots();
    let marks = a.folder().join("marks");
    fs::create_dir(&marks).unwrap();
    // Fails the first time.
    let script = format!(
        "mkdir {}/$1 2>/dev/null && sleep 0.2 && exit 1; echo $1",
        marks.display()
    );
    let args = ["--name", "tries", "--retries", "3", "--jobs", "30"];
    let args = [&args[..], &["--", "sh", "-c", &script, "sh", "{}"]].concat();
    let mut child = begin(&a, &args, &numbers(60));
    let waiting = || tuples(&a, "task:tries.");
    until("lines are run and others wait", || {
        fs::read_dir(&marks).unwrap().count() >= 1 && waiting() >= 10
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until("nothing waits any more", || waiting() == 0);
    assert!(tuples(&a, "result:tries.") > 0);
    let ran = map(&a, &args, &numbers(60)).code(0);
    assert_eq!(ran.out, numbers(60));
}

#[test]
fn a_reader_that_has_gone_ends_the_job_and_what_runs_for_it() {
    let a = two_slots();
    let (log, gate) = (a.folder().join("log"), a.folder().join("gate"));
    let script = format!(
        "echo $$ >> {}; [ $1 -gt 1 ] && exec sleep 1000
         until [ -e {} ]; do sleep 0.05; done; echo",
        log.display(),
        gate.display()
    );
    let args = ["--name", "unread", "--", "sh", "-c", &script, "sh", "{}"];
    let mut child = begin(&a, &args, &numbers(400));
    drop(child.stdout.take());
    until("two lines are run", || lines_of(&a, &log) == 2);
    fs::write(&gate, "").unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap()).code(0);
    assert_eq!(ran.err, "");
    assert_eq!(tuples(&a, ""), 0);
    none_runs(&log);
}

#[test]
fn a_sigterm_ends_the_job_and_what_runs_for_it() {
    let a = two_slots();
    let log = a.folder().join("log");
    let script = format!("echo $$ >> {}; exec sleep 1000", log.display());
    let child = begin(&a, &["--", "sh", "-c", &script, "sh", "{}"], &numbers(400));
    until("two lines are run", || lines_of(&a, &log) == 2);
    signal(&child, Signal::TERM);
    let ran = Ran::of(child.wait_with_output().unwrap()).code(143);
    ran.says("0 lines ran, 0 of them failed; 398 that were read were not begun")
        .says("2 were ended while they ran");
    assert_eq!(tuples(&a, ""), 0);
    none_runs(&log);
}

#[test]
fn a_second_ctrl_c_ends_what_runs_and_counts_that_only() {
    let a = two_slots();
    let log = a.folder().join("log");
    // The second line ends, and waits for its turn behind the first.
    let script = format!(
        "[ $1 = 2 ] || {{ echo $$ >> {}; exec sleep 1000; }}; echo two",
        log.display()
    );
    let args = ["--json", "--", "sh", "-c", &script, "sh", "{}"];
    let mut child = begin(&a, &args, &numbers(500));
    until("lines are run", || lines_of(&a, &log) == 2);
    signal(&child, Signal::INT);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    err.read_line(&mut said).unwrap();
    assert!(said.starts_with("stopping"), "{said}");
    signal(&child, Signal::INT);
    let ran = Ran::of(child.wait_with_output().unwrap()).code(1);
    let records: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [second, last] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(second["out"], "two\n");
    assert_eq!((&last["ran"], &last["ended"]), (&1.into(), &2.into()));
    assert_eq!(last["not_begun"], 497);
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("497 that were read were not begun, 2 were ended"),
        "{rest}"
    );
    none_runs(&log);
}

/// Quick lines go to a worker many at a time; it gives back what it has not begun.
#[test]
fn ctrl_c_among_many_quick_lines_waits_for_what_runs() {
    let a = two_slots();
    let log = a.folder().join("log");
    let script = format!("echo $1 >> {}; echo $1", log.display());
    let args = ["--as-completed", "--", "sh", "-c", &script, "sh", "{}"];
    let child = begin(&a, &args, &numbers(200_000));
    until("lines are run", || lines_of(&a, &log) >= 300);
    signal(&child, Signal::INT);
    let ran = Ran::of(child.wait_with_output().unwrap()).code(1);
    let done = ran.out.lines().count();
    assert_eq!(done, lines_of(&a, &log), "{}", ran.err);
    let ran = ran.says(&format!("{done} lines ran, 0 of them failed"));
    assert!(!ran.err.contains("were ended"), "{}", ran.err);
    assert_eq!(tuples(&a, ""), 0);
}

#[test]
fn a_job_whose_files_were_not_all_sent_is_seen_and_dropped() {
    let orphaned = [("CPE_COMMANDS_ORPHANED", "10s")];
    let a = node_with(None, &["--allow-command", "sh"], &orphaned);
    let (small, large) = (a.folder().join("small"), a.folder().join("large"));
    fs::write(&small, "small").unwrap();
    // Takes a while to send.
    fs::File::create(&large).unwrap().set_len(96 << 20).unwrap();
    let (small, large) = (small.to_str().unwrap(), large.to_str().unwrap());
    let args = ["map", "--name", "sending", "--send", small, "--send", large];
    let mut command = a.command(&[&args[..], &["--", "sh", "-c", "true"]].concat());
    // If it should be sent nevertheless, its input has no end.
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    until("the first is sent", || tuples(&a, "file sending ") >= 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let jobs = a.cpe(&["map", "jobs", "--json"]).json();
    assert_eq!(jobs[0]["name"], "sending");
    until("nothing of the job is left", || tuples(&a, "") == 0);
    let kept = a.data().join("commands/files");
    until("nothing half sent is left", || {
        let files = fs::read_dir(&kept).unwrap().map(|file| file.unwrap());
        files
            .map(|file| file.file_name())
            .all(|name| !name.to_string_lossy().contains('.'))
    });
}

#[test]
fn a_job_of_which_there_is_but_a_sign_is_seen_and_can_be_ended() {
    let a = Node::start(&["--allow-command", "sh"]);
    a.cpe(&["space", "declare", "tmp:#map", "alive lone", "single"])
        .code(0);
    for tuple in [r#"["alive lone","me",true,1]"#, r#"["file lone ab12","x"]"#] {
        a.cpe(&["space", "out", "tmp:#map", tuple]).code(0);
    }
    let jobs = a.cpe(&["map", "jobs", "--json"]).json();
    assert_eq!(
        (&jobs[0]["name"], &jobs[0]["command"]),
        (&"lone".into(), &Value::Null)
    );
    a.cpe(&["map", "cancel", "lone"]).code(0);
    assert_eq!(tuples(&a, ""), 0);
    assert_eq!(a.cpe(&["map", "jobs"]).code(0).out, "no jobs\n");
    a.cpe(&["map", "cancel", "lone"])
        .code(1)
        .says("no job `lone`");
}
