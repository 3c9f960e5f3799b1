//! The stock actor kinds on a real node.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;

use super::harness::{Node, until};

#[test]
fn echo_answers_what_it_gets() {
    let node = Node::alone();
    node.cpe(&["actor", "spawn", "echo", "e"]).code(0);
    for message in ["17", "\"text\"", "{\"a\":[1,null]}", "{\"sym\":\"s\"}"] {
        let answer = node.cpe(&["actor", "ask", "e", message, "--json"]).json();
        assert_eq!(
            answer,
            serde_json::from_str::<serde_json::Value>(message).unwrap()
        );
    }
}

#[test]
fn the_tree_and_the_dead_letters_are_shown() {
    let node = Node::alone();
    node.cpe(&["actor", "spawn", "counter", "visits"]).code(0);
    node.cpe(&["actor", "ask", "visits", "{\"add\":2}"]).code(0);
    // A told message that is refused has nobody else to go to.
    node.cpe(&["actor", "ask", "visits", "{\"add\":9223372036854775807}"])
        .code(1);
    node.cpe(&["actor", "tell", "visits", "{\"add\":9223372036854775807}"])
        .code(0);
    until("the letter is dead", || {
        let answer = node.cpe(&["actor", "dead-letters", "--json"]).json();
        answer[0]["total"] == 1
    });
    let answer = node.cpe(&["actor", "dead-letters", "--json"]).json();
    let letter = &answer[0]["letters"][0];
    assert_eq!(letter["actor"], "visits");
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains("beyond 64 bits"), "{reason}");
    let shown = node.cpe(&["actor", "dead-letters"]);
    assert!(
        shown.out.contains("visits") && shown.out.contains("64"),
        "{}",
        shown.out
    );

    let answer = node.cpe(&["actor", "tree", "--json"]).json();
    let actor = &answer[0]["actors"][0];
    assert_eq!(answer[0]["total"], 1);
    assert_eq!(
        (&actor["name"], &actor["kind"]),
        (&json!("visits"), &json!("counter"))
    );
    assert_eq!(
        (&actor["handled"], &actor["state"]),
        (&json!(1), &json!("running"))
    );
    assert_eq!(actor["children"], json!([]));
    let shown = node.cpe(&["actor", "tree"]).out;
    assert!(
        shown.contains("  visits (counter) running, 1 handled"),
        "{shown}"
    );
    node.cpe(&["actor", "tree", "--node", "nowhere"])
        .code(1)
        .says("nowhere");
}

#[test]
fn errors_of_actors_are_told() {
    let node = Node::alone();
    node.cpe(&["actor", "spawn", "nonsense", "x"])
        .code(1)
        .says("nonsense");
    node.cpe(&["actor", "ask", "nobody", "hello", "--timeout", "5s"])
        .code(1)
        .says("nobody");
    node.cpe(&["actor", "where", "nobody"])
        .code(1)
        .says("nobody");
    node.cpe(&["actor", "spawn", "counter", "c"]).code(0);
    node.cpe(&["actor", "spawn", "counter", "c"])
        .code(1)
        .says("taken");
    node.cpe(&["actor", "ask", "c", "{\"multiply\":2}"]).code(1);
    assert_eq!(node.cpe(&["actor", "ask", "c", "{\"add\":2}"]).out, "2\n");
}

#[test]
fn rules_answer_and_act_on_the_space() {
    let node = Node::alone();
    let program = node.folder().join("p.clp");
    let text = "(defrule hi (message (kind hello) (body ?name))
                  => (reply (str-cat \"hello \" ?name)) (store w greeted ?name))
                (defrule look (message (kind look) (ask ?a))
                  => (assert (looking ?a (find-try w greeted))))
                (defrule seen ?l <- (looking ?a ?r) (answer (request ?r) (value $?v))
                  => (retract ?l) (reply-to ?a (length$ ?v)))";
    fs::write(&program, text).unwrap();
    let args = json!({"file": program}).to_string();
    node.cpe(&["actor", "spawn", "rules", "r", "--args", &args])
        .code(0);
    assert_eq!(
        node.cpe(&["actor", "ask", "r", "{\"hello\":\"Ada\"}"]).out,
        "hello Ada\n"
    );
    assert_eq!(node.cpe(&["space", "find", "w", "greeted"]).out, "Ada\n");
    // The reply to this one comes after the answer to a request of the rules' own.
    assert_eq!(node.cpe(&["actor", "ask", "r", "look"]).out, "2\n");
}

#[test]
fn rules_follow_a_subscription_and_other_actors() {
    let node = Node::alone();
    let source = "(defrule begin => (subscribe jobs \"job\" :int))
                  (defrule work (tuple (fields ? ?n)) => (tell tally add ?n))
                  (defrule total (message (kind total) (ask ?a))
                    => (assert (asking ?a (ask tally get))))
                  (defrule told ?f <- (asking ?a ?r) (answer (request ?r) (value ?n))
                    => (retract ?f) (reply-to ?a ?n))";
    node.cpe(&["actor", "spawn", "counter", "tally"]).code(0);
    let args = json!({"source": source}).to_string();
    node.cpe(&["actor", "spawn", "rules", "boss", "--args", &args])
        .code(0);
    for n in ["1", "20", "300"] {
        node.cpe(&["space", "store", "jobs", "job", n]).code(0);
    }
    until("all jobs are counted", || {
        node.cpe(&["actor", "ask", "boss", "total"]).out == "321\n"
    });
}

#[test]
fn rules_that_do_not_parse_or_never_end_leave_the_node_alone() {
    let node = Node::alone();
    let args = json!({"source": "(defrule r\n (a) = (b))"}).to_string();
    node.cpe(&["actor", "spawn", "rules", "x", "--args", &args])
        .code(1)
        .says(":2");
    node.cpe(&["actor", "spawn", "rules", "x"])
        .code(1)
        .says("source");

    let source = "(defrule r (message (kind loop)) => (while TRUE do))
                  (defrule s (message (kind hello)) => (reply hi))";
    let args = json!({"source": source}).to_string();
    node.cpe(&["actor", "spawn", "rules", "y", "--args", &args])
        .code(0);
    node.cpe(&["actor", "ask", "y", "loop"])
        .code(1)
        .says("deadline");
    assert_eq!(
        node.cpe(&["actor", "ask", "y", "hello", "--json"]).json(),
        json!({"sym": "hi"})
    );
}

#[test]
fn a_crowd_starts_together_and_triage_decides() {
    let node = Node::alone();
    let crowd = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/crowd.toml");
    let started = node.cpe(&["actor", "crowd", crowd, "--json"]).json();
    assert_eq!(started.as_array().unwrap().len(), 3);
    let case = "{\"case\":{\"id\":7,\"probability\":0.97}}";
    let decided = node.cpe(&["actor", "ask", "triage", case, "--json"]).json();
    assert_eq!(decided["decision"], json!({"sym": "malignant"}));
    node.cpe(&["actor", "ask", "oracle", "model"])
        .code(1)
        .says("no model is called `demo`");
}

#[test]
fn a_killed_node_leaves_no_program_of_an_actor_or_a_map_running() {
    let node = Node::start(&["--name", "a", "--allow-command", "sh"]);
    let files = ["actor", "map"].map(|name| node.folder().join(name));
    let [of_actor, of_map] = files.each_ref().map(|file| {
        format!(
            "sleep 1000 & echo $$ $! > {0}.part; mv {0}.part {0}; wait",
            file.display()
        )
    });
    let args = json!({"program": "sh", "args": ["-c", of_actor]}).to_string();
    let spawn = ["actor", "spawn", "command", "long", "--args", &args];
    node.cpe(&spawn).code(0);
    node.cpe(&["actor", "tell", "long", "now"]).code(0);
    let line = node.folder().join("line");
    fs::write(&line, "1\n").unwrap();
    let mut map = node.command(&["map", "--", "sh", "-c", &of_map, "sh"]);
    let mut map = map.stdin(fs::File::open(line).unwrap()).spawn().unwrap();
    until("the programs run", || {
        files.iter().all(|file| file.exists())
    });
    let said = files.map(|file| fs::read_to_string(file).unwrap()).concat();
    let of = |pid: &str| PathBuf::from("/proc").join(pid);
    let pids: Vec<PathBuf> = said.split_whitespace().map(of).collect();
    assert_eq!(pids.iter().filter(|pid| pid.exists()).count(), 4);
    let folder = node.keep_folder();
    node.end_by(Signal::KILL);
    // Whoever waits for orphans may take its time: a process that has ended has no memory map.
    let runs = |pid: &PathBuf| fs::read(pid.join("maps")).is_ok_and(|maps| !maps.is_empty());
    map.kill().unwrap();
    map.wait().unwrap();
    until("the programs and what they started have ended", || {
        !pids.iter().any(runs)
    });
    drop(folder);
}

#[test]
fn a_command_actor_runs_only_what_its_node_allows() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b", "--allow-command", "cat"]);
    for node in [&a, &b] {
        node.sees(2);
    }
    let spawn = |name: &str, args: &str, more: &[&str]| {
        let all = ["actor", "spawn", "command", name, "--args", args];
        a.cpe(&[&all[..], more].concat())
    };
    // Only b has the kind, so it need not be required; it can be.
    let cat = "{\"program\":\"cat\"}";
    let can = ["--require", "command:cat=yes"];
    for (name, more) in [("one", &[][..]), ("two", &can[..])] {
        spawn(name, cat, more).code(0);
        let answer = a.cpe(&["actor", "ask", name, "{\"x\":[1]}", "--json"]);
        assert_eq!(answer.json(), json!({"x": [1]}));
    }
    spawn("three", "{\"program\":\"/bin/cat\"}", &[])
        .code(1)
        .says("does not allow the program `/bin/cat`; it allows cat");
    spawn("four", cat, &["--node", "a"])
        .code(1)
        .says("no actor kind `command`");
}
