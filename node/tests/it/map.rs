//! `cpe map`: commands over lines, on real nodes.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::harness::{Node, Ran, cpe, until};

mod ends;

/// Begins `cpe map` with these lines for standard input.
fn begin(node: &Node, args: &[&str], input: &str) -> Child {
    let mut child = node
        .command(&[&["map"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It need not read all of it.
    std::thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    child
}

fn map(node: &Node, args: &[&str], input: &str) -> Ran {
    Ran::of(begin(node, args, input).wait_with_output().unwrap())
}

/// A node with settings from the environment; the first of a mesh, or another of one.
fn node_with(mesh: Option<&Node>, args: &[&str], settings: &[(&str, &str)]) -> Node {
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]).args(args);
    if let Some(first) = mesh {
        command.arg("--mesh-key").arg(first.data().join("mesh.key"));
        command.args(["--bootstrap", first.address()]);
    }
    command.envs(settings.iter().copied());
    Node::run(command)
}

/// How many tuples of jobs there are in variables of this beginning.
fn tuples(node: &Node, beginning: &str) -> u64 {
    let variables = node.cpe(&["space", "list", "tmp:#map", "--json"]).json();
    let variables = variables.as_array().unwrap().iter();
    let of_it = |variable: &&Value| {
        let name = variable["name"].as_str();
        name.is_some_and(|name| name.starts_with(beginning))
    };
    let tuples = variables.filter(of_it).map(|variable| &variable["tuples"]);
    tuples.map(|tuples| tuples.as_u64().unwrap_or(0)).sum()
}

/// Lines of a file, counted no faster than a node answers.
fn lines_of(node: &Node, file: &std::path::Path) -> usize {
    node.cpe(&["space", "list"]).code(0);
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

fn numbers(count: u32) -> String {
    (1..=count).map(|n| format!("{n}\n")).collect()
}

fn records(ran: &Ran) -> Vec<Value> {
    let lines = ran.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Three nodes, of which the second and third run `sh`.
fn three() -> [Node; 3] {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&[
        "--name",
        "b",
        "--allow-command",
        "sh",
        "--capability",
        "disk=fast",
    ]);
    let c = a.join(&["--name", "c", "--allow-command", "sh"]);
    for node in [&a, &b, &c] {
        node.sees(3);
    }
    a.has_homes();
    [a, b, c]
}

#[test]
fn lines_are_run_by_the_nodes_that_allow_it_and_their_output_is_in_order() {
    let [a, _b, _c] = three();
    let script = "sleep 0.0$((9 - $1 % 10)); echo \"line $1 of $2\"";
    let args = ["--", "sh", "-c", script, "sh", "{}", "{#}"];
    let ran = map(&a, &args, &numbers(60)).code(0);
    let wanted: String = (1..=60).map(|n| format!("line {n} of {n}\n")).collect();
    assert_eq!(ran.out, wanted);
    assert_eq!(ran.err, "");

    let ran = map(
        &a,
        &[&["--json", "--as-completed"][..], &args].concat(),
        &numbers(60),
    )
    .code(0);
    let records = records(&ran);
    let mut lines: Vec<_> = records
        .iter()
        .map(|record| record["line"].as_u64().unwrap())
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, (1..=60).collect::<Vec<_>>());
    for node in ["b", "c"] {
        assert!(
            records.iter().any(|record| record["node"] == node),
            "{node} did nothing"
        );
    }
    assert!(records.iter().all(|record| record["exit"] == 0));

    // A capability that one of them has.
    let args = [&["--json", "--require", "disk=fast"][..], &args].concat();
    let ran = map(&a, &args, &numbers(10)).code(0);
    assert!(
        self::records(&ran)
            .iter()
            .all(|record| record["node"] == "b")
    );
    // Nothing is left of the jobs.
    assert_eq!(tuples(&a, ""), 0);
}

#[test]
fn a_line_is_an_argument_as_it_is_and_streams_and_exit_statuses_are_carried() {
    let a = Node::start(&["--allow-command", "sh", "--allow-command", "printf"]);
    let hostile = "$(touch /tmp/pwned) 'quoted' \"twice\" `x`; rm *  \\n {} {#}";
    let ran = map(
        &a,
        &["--", "printf", "%s|"],
        &format!("{hostile}\nplain\n\nno end"),
    )
    .code(0);
    assert_eq!(ran.out, format!("{hostile}|plain||no end|"));
    let ran = map(&a, &["-0", "--", "printf", "[%s]", "a{}b"], "x\ny\0z\0").code(0);
    assert_eq!(ran.out, "[ax\nyb][azb]");

    let script = "read line; echo \"got $line\"; echo \"err $line\" >&2; exit $line";
    let ran = map(&a, &["--stdin", "--", "sh", "-c", script], "0\n3\n0\n").code(1);
    assert_eq!(ran.out, "got 0\ngot 3\ngot 0\n");
    let ran = ran.says("err 0").says("err 3").says("line 2 failed");
    ran.says("exit status 3").says("1 of 3 lines failed");

    let args = [
        "--stdin",
        "--json",
        "--retries",
        "2",
        "--",
        "sh",
        "-c",
        script,
    ];
    let records = records(&map(&a, &args, "0\n3\n").code(1));
    assert_eq!(
        (&records[0]["exit"], &records[0]["tries"]),
        (&0.into(), &1.into())
    );
    assert_eq!(
        (&records[1]["exit"], &records[1]["tries"]),
        (&3.into(), &3.into())
    );
    assert_eq!(records[1]["err"], "err 3\n");
    // Last what came of all.
    assert_eq!(
        (&records[2]["ran"], &records[2]["failed"]),
        (&2.into(), &1.into())
    );
}

#[test]
fn no_node_runs_what_it_does_not_allow() {
    let a = Node::start(&["--allow-command", "sh"]);
    let ran = map(&a, &["--", "rm", "{}"], "x\n").code(4);
    ran.says("no node may run `rm`: of 1 nodes, 1 lack command:rm")
        .says("--allow-command rm");
    let ran = map(&a, &["--require", "gpu=yes", "--", "sh", "{}"], "x\n").code(4);
    ran.says("1 lack gpu=yes");
    map(&a, &[], "x\n").code(2);
    map(&a, &["--name", "a/b", "--", "sh"], "x\n")
        .code(2)
        .says("no name of a job");
    map(&a, &["--send", "/no/such", "--", "sh"], "x\n")
        .code(1)
        .says("/no/such");
}

#[test]
fn files_go_along_and_each_job_has_a_folder_of_its_own() {
    let [a, _b, _c] = three();
    let script = a.folder().join("score.sh");
    fs::write(
        &script,
        "cat table.txt; echo \"$1 in $(basename \"$PWD\")\"\n",
    )
    .unwrap();
    let table = a.folder().join("table.txt");
    // Large enough to lie apart from its tuple.
    let long = format!("{}\n", "x".repeat(200_000));
    fs::write(&table, &long).unwrap();
    let (script, table) = (script.to_str().unwrap(), table.to_str().unwrap());
    let args = ["--name", "scores", "--send", script, "--send", table];
    let ran = map(
        &a,
        &[&args[..], &["--", "sh", "score.sh", "{}"]].concat(),
        &numbers(4),
    )
    .code(0);
    let wanted: String = (1..=4).map(|n| format!("{long}{n} in scores\n")).collect();
    assert!(ran.out == wanted, "{} bytes", ran.out.len());
}

#[test]
fn a_kept_file_that_was_changed_is_fetched_again() {
    let a = Node::start(&["--allow-command", "sh"]);
    let file = a.folder().join("f.txt");
    fs::write(&file, "good\n").unwrap();
    let send = ["--send", file.to_str().unwrap()];
    let sending = [&send[..], &["--", "sh", "-c", "cat f.txt", "sh"]].concat();
    assert_eq!(map(&a, &sending, "1\n").code(0).out, "good\n");
    let spoil = "for kept in ../../../files/*; do echo evil > $kept; echo spoilt; done";
    let spoiling = ["--", "sh", "-c", spoil, "sh"];
    assert_eq!(map(&a, &spoiling, "1\n").code(0).out, "spoilt\n");
    assert_eq!(map(&a, &sending, "1\n").code(0).out, "good\n");
    // Nor is it taken for what it is if it is no file at all.
    let spoil = "for kept in ../../../files/*; do rm $kept; mkfifo $kept; echo spoilt; done";
    let spoiling = ["--", "sh", "-c", spoil, "sh"];
    assert_eq!(map(&a, &spoiling, "1\n").code(0).out, "spoilt\n");
    assert_eq!(map(&a, &sending, "1\n").code(0).out, "good\n");
}

#[test]
fn a_killed_node_costs_no_line() {
    let [a, b, c] = three();
    let log = a.folder().join("log");
    let script = format!("echo $1 >> {}; sleep 0.2; echo $1", log.display());
    let args = ["--", "sh", "-c", &script, "sh", "{}"];
    let child = begin(&a, &args, &numbers(80));
    until("lines are run", || lines_of(&a, &log) > 5);
    c.end_by(Signal::KILL);
    let ran = Ran::of(child.wait_with_output().unwrap()).code(0);
    assert_eq!(ran.out, numbers(80));
    drop(b);
}

#[test]
fn a_master_that_was_killed_finds_what_was_done() {
    let a = Node::start(&["--allow-command", "sh"]);
    let log = a.folder().join("log");
    let script = format!("echo $1 >> {}; sleep 0.3; echo $1", log.display());
    let args = [
        "--name", "again", "--jobs", "20", "--", "sh", "-c", &script, "sh", "{}",
    ];
    let count = || fs::read_to_string(&log).map_or(0, |log| log.lines().count());
    let waiting = || tuples(&a, "task:again.");
    let mut child = begin(&a, &args, &numbers(40));
    until("lines are run and written, and others wait", || {
        count() >= 8 && waiting() >= 10 && tuples(&a, "kept:again.") >= 4
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let before = count();
    // What is in the space is run though nobody waits for it.
    until("nothing waits any more", || waiting() == 0);
    assert!(count() >= before + 8);
    assert!(tuples(&a, "kept:again.") >= 4);
    let ran = map(&a, &args, &numbers(40)).code(0);
    assert_eq!(ran.out, numbers(40));
    assert_eq!(tuples(&a, "kept:again."), 0);
    // Run twice is at most the one whose result the first life held in its hand.
    assert!(count() <= 41, "{before} runs before, {} in all", count());
}

#[test]
fn a_command_without_end_and_one_with_endless_output_are_ended() {
    let a = Node::start(&["--allow-command", "sh"]);
    let script = "case $1 in 1) echo begun; sleep 1000;; 2) yes;; *) echo good;; esac";
    let args = [
        "--json",
        "--task-timeout",
        "2s",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        "{}",
    ];
    let records = records(&map(&a, &args, &numbers(3)).code(1));
    assert_eq!(records[0]["error"], "it did not end within 2s");
    // What it had written is there.
    assert_eq!(records[0]["out"], "begun\n");
    let said = records[1]["error"].as_str().unwrap();
    assert!(
        said.starts_with("it wrote more than 1048576 bytes to standard output"),
        "{said}"
    );
    assert_eq!(
        (&records[2]["out"], &records[2]["exit"]),
        (&"good\n".into(), &0.into())
    );
}

#[test]
fn ctrl_c_begins_no_more_and_says_what_ran() {
    let a = Node::start(&["--allow-command", "sh"]);
    let log = a.folder().join("log");
    let script = format!("echo $1 >> {}; sleep 1; echo done $1", log.display());
    let child = begin(
        &a,
        &["--jobs", "2", "--", "sh", "-c", &script, "sh", "{}"],
        &numbers(500),
    );
    let count = || lines_of(&a, &log);
    until("lines are run", || count() >= 2);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap()).code(1);
    let done = ran.out.lines().count();
    // What ran came to its end.
    assert_eq!(done, count(), "{ran:?}");
    assert!(done < 20);
    ran.says("stopping")
        .says(&format!("{done} lines ran, 0 of them failed"));
}

#[test]
fn the_first_failure_can_end_it() {
    let a = Node::start(&["--allow-command", "sh"]);
    let script = "sleep 0.05; exit $(($1 == 3))";
    let args = [
        "--fail-fast",
        "--jobs",
        "1",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        "{}",
    ];
    let ran = map(&a, &args, &numbers(300)).code(1);
    let ran = ran.says("line 3 failed");
    assert!(ran.err.contains("were not begun"), "{ran:?}");
}

#[test]
fn when_the_node_that_was_asked_dies_another_can_be_asked() {
    let [a, b, c] = three();
    let log = b.folder().join("log");
    let script = format!("echo $1 >> {}; sleep 0.2; echo $1", log.display());
    let args = [
        "--name",
        "moved",
        "--timeout",
        "5s",
        "--",
        "sh",
        "-c",
        &script,
        "sh",
        "{}",
    ];
    let child = begin(&a, &args, &numbers(60));
    // Before that it has not yet begun, and says what it could not do.
    until("lines are run", || lines_of(&b, &log) >= 1);
    // Until then the first node alone is home of all.
    a.has_homes();
    a.end_by(Signal::KILL);
    let ran = Ran::of(child.wait_with_output().unwrap()).code(4);
    ran.says("no worker was heard of for 5s");
    let patient = args.map(|arg| if arg == "5s" { "60s" } else { arg });
    let ran = map(&c, &patient, &numbers(60)).code(0);
    assert_eq!(ran.out, numbers(60));
    drop(b);
}

const RULES: &str = "
    (deffunction area (?w ?h) (* ?w ?h))
    (deffunction describe (?name $?rest)
      (map-of name ?name count (length$ $?rest)))
    (deffunction shout (?text) (println \"shouting\") (upcase ?text))
    (deffunction spin (?n) (if (= ?n 2) then (while TRUE do)) ?n)
    (deffunction leak (?n) (out \"ws\" ?n) ?n)";

#[test]
fn a_clips_function_is_called_for_each_line_by_all_nodes() {
    let [a, b, c] = Node::three();
    let file = a.folder().join("f.clp");
    fs::write(&file, RULES).unwrap();
    let file = file.to_str().unwrap();
    let of = |name: &'static str| ["--rules", file, "--function", name];
    let lines: String = (1..=60).map(|n| format!("[{n}, {n}]\n")).collect();
    // A node that is quick may do all of a short map before others have heard of it.
    let mut by = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let ran = map(&a, &[&of("area")[..], &["--json"]].concat(), &lines).code(0);
        let records = records(&ran);
        for (record, n) in records.iter().zip(1..) {
            assert_eq!(
                (&record["value"], &record["exit"]),
                (&(n * n).into(), &0.into())
            );
            by.insert(record["node"].as_str().unwrap().to_owned());
        }
        assert_eq!(records.len(), 60);
        if by.len() > 1 {
            break;
        }
    }
    assert!(by.len() > 1, "{by:?}");

    // Texts and maps come out as such; what a function prints is no result.
    let ran = map(&b, &[&of("shout")[..], &["--text"]].concat(), "a b\n[1]\n").code(0);
    assert_eq!(
        (ran.out.as_str(), ran.err.as_str()),
        ("A B\n[1]\n", "shouting\nshouting\n")
    );
    let ran = map(&c, &of("describe"), "[\"x\", 1, 2]\n\"y\"\n").code(0);
    assert_eq!(
        ran.out,
        "{\"count\":2,\"name\":\"x\"}\n{\"count\":0,\"name\":\"y\"}\n"
    );

    // One that does not end is ended, and costs its neighbours nothing.
    let ran = map(
        &a,
        &[&of("spin")[..], &["--task-timeout", "1s"]].concat(),
        &numbers(4),
    );
    let ran = ran.code(1);
    assert_eq!(ran.out, "1\n3\n4\n");
    ran.says("line 2 failed").says("stopped by the deadline");
    // It answers and does nothing else.
    let ran = map(&a, &of("leak"), "1\n").code(1);
    ran.says("asked for 1 effects");
    map(&a, &of("area"), "a b\n")
        .code(1)
        .says("the line is no JSON");
    map(&a, &of("area"), "1\n")
        .code(1)
        .says("another number of arguments");
    map(&a, &of("nobody"), "1\n")
        .code(1)
        .says("it defines no function `nobody`");
    map(&a, &["--function", "area"], "1\n")
        .code(2)
        .says("--rules");
}

#[test]
fn a_node_may_refuse_to_call_functions() {
    let a = node_with(None, &[], &[("CPE_COMMANDS_FUNCTIONS", "false")]);
    let file = a.folder().join("f.clp");
    fs::write(&file, RULES).unwrap();
    let args = ["--rules", file.to_str().unwrap(), "--function", "area"];
    let ran = map(&a, &args, "[1, 2]\n").code(4);
    ran.says("no node may call `area`: of 1 nodes, 1 lack function:clips");
}

#[test]
fn a_job_that_nobody_comes_back_for_is_dropped_and_can_be_had_again() {
    let orphaned = [("CPE_COMMANDS_ORPHANED", "4s")];
    let a = node_with(None, &["--allow-command", "sh"], &orphaned);
    let log = a.folder().join("log");
    let sent = a.folder().join("sent");
    fs::write(&sent, "sent along\n").unwrap();
    let script = format!("echo $1 >> {}; echo $1", log.display());
    let args = ["--name", "orphan", "--send", sent.to_str().unwrap()];
    let args = [&args[..], &["--", "sh", "-c", &script, "sh", "{}"]].concat();
    let mut child = begin(&a, &args, &numbers(500));
    until("lines are run", || lines_of(&a, &log) >= 5);
    child.kill().unwrap();
    child.wait().unwrap();
    // What was put there is done; then nobody asks for anything, and nothing of it stays.
    until("nothing of the job is left", || tuples(&a, "") == 0);
    until("its folder is gone", || {
        let jobs = fs::read_dir(a.data().join("commands/jobs"));
        jobs.is_ok_and(|mut jobs| jobs.next().is_none())
    });
    let ran = map(&a, &args, &numbers(500)).code(0);
    assert_eq!(ran.out, numbers(500));
}

/// The second node has nothing to do for longer than a job may be left alone.
#[test]
fn a_node_without_work_leaves_a_job_alone_that_others_are_at() {
    let settings = [("CPE_COMMANDS_ORPHANED", "8s"), ("CPE_COMMANDS_SLOTS", "1")];
    let a = node_with(None, &["--allow-command", "sh"], &settings);
    let b = node_with(Some(&a), &["--allow-command", "sh"], &settings);
    a.sees(2);
    let log = a.folder().join("log");
    let file = log.display();
    let script = format!("echo begun >> {file}; sleep 15; echo ended >> {file}; echo done $1");
    let args = ["--name", "long", "--", "sh", "-c", &script, "sh", "{}"];
    let ran = map(&a, &args, "1\n").code(0);
    assert_eq!(ran.out, "done 1\n");
    assert_eq!(lines_of(&a, &log), 2);

    // Nobody asks any more, and a node is at it: what came of it can be had.
    let mut child = begin(&a, &args, "2\n");
    until("the second is begun", || lines_of(&a, &log) == 3);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the second has ended", || lines_of(&a, &log) == 4);
    let ran = map(&b, &args, "2\n").code(0);
    assert_eq!(ran.out, "done 2\n");
    assert_eq!(lines_of(&a, &log), 4, "it was begun again");
}

#[test]
fn a_name_is_of_one_command_and_of_one_who_asks_at_a_time() {
    let a = Node::start(&["--allow-command", "sh"]);
    let log = a.folder().join("log");
    let script = format!("echo $1 >> {}; echo OLD $1", log.display());
    let old = ["--name", "x", "--", "sh", "-c", &script, "sh", "{}"];
    let new = ["--name", "x", "--", "sh", "-c", "echo NEW $1", "sh", "{}"];
    // It reads on: its input has no end.
    let mut first = a
        .command(&[&["map"], &old[..]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = first.stdin.take().unwrap();
    stdin.write_all(numbers(10).as_bytes()).unwrap();
    until("lines are run", || lines_of(&a, &log) == 10);
    map(&a, &new, &numbers(3))
        .code(2)
        .says("a job `x` runs another command")
        .says("echo OLD $1");
    map(&a, &old, &numbers(3))
        .code(2)
        .says("another `cpe map` has the job `x` under way");
    first.kill().unwrap();
    first.wait().unwrap();
    // Its name is that of its command all the same, until it is ended.
    map(&a, &new, &numbers(3)).code(2).says("cpe map cancel x");
    let jobs = a.cpe(&["map", "jobs", "--json"]).json();
    assert_eq!(jobs[0]["name"], "x");
    assert!(jobs[0]["command"].as_str().unwrap().contains("echo OLD"));
    a.cpe(&["map", "cancel", "x"]).code(0);
    a.cpe(&["map", "cancel", "x"]).code(1).says("no job `x`");
    let ran = map(&a, &new, &numbers(3)).code(0);
    assert_eq!(ran.out, "NEW 1\nNEW 2\nNEW 3\n");
    assert_eq!(tuples(&a, ""), 0);
}

#[test]
fn a_job_can_be_ended_by_anybody_and_whoever_asked_is_told() {
    let a = Node::start(&["--allow-command", "sh"]);
    let log = a.folder().join("log");
    let script = format!("echo $1 >> {}; sleep 1000", log.display());
    let args = ["--name", "endless", "--", "sh", "-c", &script, "sh", "{}"];
    let child = begin(&a, &args, &numbers(4));
    until("a line is run", || lines_of(&a, &log) >= 1);
    a.cpe(&["map", "cancel", "endless"]).code(0);
    let ran = Ran::of(child.wait_with_output().unwrap()).code(1);
    ran.says("the job was ended by `cpe map cancel`");
    until("nothing of the job is left", || tuples(&a, "") == 0);
    let ran = a.cpe(&["map", "jobs"]).code(0);
    assert_eq!(ran.out, "no jobs\n");
}

#[test]
fn a_line_that_is_left_out_has_failed_and_the_others_keep_their_numbers() {
    let a = Node::start(&["--allow-command", "wc"]);
    let long = "x".repeat((1 << 20) + 1);
    let input = format!("a\n{long}\nabc\n{long}\n");
    let args = ["--json", "--stdin", "--", "wc", "-c"];
    let records = records(&map(&a, &args, &input).code(1));
    let lines: Vec<_> = records[..4].iter().map(|record| &record["line"]).collect();
    assert_eq!(lines, [1, 2, 3, 4]);
    let outs: Vec<_> = records[..4].iter().map(|record| &record["out"]).collect();
    assert_eq!(outs, ["1\n", "", "3\n", ""]);
    let why = "it has more than 1048576 bytes";
    assert_eq!(
        (&records[1]["error"], &records[1]["exit"]),
        (&why.into(), &Value::Null)
    );
    assert_eq!(
        (&records[4]["ran"], &records[4]["failed"]),
        (&4.into(), &2.into())
    );
    let ran = map(&a, &args[1..], &input).code(1);
    let ran = ran.says(&format!("line 2 failed: {why}"));
    ran.says("2 of 4 lines failed");
}

#[test]
fn input_that_cannot_be_read_is_a_failure() {
    let a = Node::start(&["--allow-command", "echo"]);
    let mut command = a.command(&["map", "--", "echo"]);
    command.stdin(fs::File::open("/").unwrap());
    let ran = Ran::of(command.output().unwrap()).code(1);
    ran.says("standard input cannot be read further");
}

#[test]
fn a_node_that_cannot_work_for_a_job_says_why_and_comes_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("commands");
    fs::write(&blocked, "a file where a folder should be").unwrap();
    let setting = [("CPE_COMMANDS_FOLDER", blocked.to_str().unwrap())];
    let a = node_with(None, &["--name", "a", "--allow-command", "echo"], &setting);
    let child = begin(&a, &["--timeout", "120s", "--", "echo"], "1\n");
    a.logs("cannot be worked for");
    fs::remove_file(&blocked).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap()).code(0);
    assert_eq!(ran.out, "1\n");
    ran.says("node a does not work for this: its folder cannot be made");
}

#[test]
fn what_a_killed_node_left_of_jobs_is_gone_when_it_starts_again() {
    let a = Node::start(&["--allow-command", "sh"]);
    let log = a.folder().join("log");
    let script = format!("pwd >> {}; sleep 1000", log.display());
    let mut child = begin(
        &a,
        &["--name", "lost", "--", "sh", "-c", &script, "sh", "{}"],
        "1\n",
    );
    until("a line is run", || lines_of(&a, &log) == 1);
    let folder = fs::read_to_string(&log).unwrap();
    let folder = std::path::Path::new(folder.trim());
    let (kept, data) = (a.keep_folder(), a.data());
    a.end_by(Signal::KILL);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(folder.starts_with(&data) && folder.ends_with("lost") && folder.exists());
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0", "--allow-command", "sh"]);
    let _a = Node::run_in(command, kept);
    until("its folder is gone", || !folder.exists());
}
