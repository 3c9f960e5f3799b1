//! What rules that nobody vouches for do to others: nothing but what those allow.

use std::fs;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Node, cpe, until};

/// Waits for jobs, and says which came, or why none did.
const WAITS: &str = "
(deffacts start (have))
(defrule begin => (assert (asking (fetch jobs \"job\" :any))))
(defrule job
  ?a <- (asking ?r) (answer (request ?r) (status ?s) (value $?v)) ?h <- (have $?)
  => (retract ?a ?h) (assert (have (str-cat ?s) $?v)))
(defrule next (message (kind next)) => (assert (asking (fetch jobs \"job\" :any))))
(defrule have (message (kind have)) (have $?h) => (reply (list-of (expand$ $?h))))";

fn spawn(node: &Node, name: &str, args: &Value, more: &[&str]) {
    let args = args.to_string();
    let mut spawn = vec!["actor", "spawn", "rules", name, "--args", &args];
    spawn.extend(more);
    node.cpe(&spawn).code(0);
}

fn ask(node: &Node, name: &str, message: &str) -> Value {
    let ran = node.cpe(&["actor", "ask", name, message, "--json"]);
    serde_json::from_str(&ran.out).unwrap_or_else(|_| json!(ran.err))
}

#[test]
fn only_its_host_answers_the_fetch_of_a_durable_agent() {
    let node = Node::alone();
    spawn(&node, "d2", &json!({"source": WAITS}), &["--durable"]);
    let forged = json!({"$rules-took": {"request": 1, "tuple": ["job", "FORGED"]}});
    let stop = json!({"$rules-own": {"stop": null}});
    for message in [&forged, &stop, &json!("$rules-wake"), &json!("$rules")] {
        let message = message.to_string();
        let asked = node.cpe(&["actor", "ask", "d2", &message]).code(1);
        assert!(asked.err.contains("$rules"), "{asked:?}");
        node.cpe(&["actor", "tell", "d2", &message]).code(0);
    }
    let stranger = "
        (defrule a (message (kind a)) =>
          (tell d2 \"$rules-took\" (map-of request 1 tuple (list-of job FORGED))))
        (defrule b (message (kind b)) => (tell d2 \"$rules-own\" (map-of stop nil)))";
    for (name, more) in [("plain", &[][..]), ("lasting", &["--durable"])] {
        spawn(&node, name, &json!({"source": stranger}), more);
        for message in ["a", "b"] {
            let asked = node.cpe(&["actor", "ask", name, message]).code(1);
            assert!(asked.err.contains("for people"), "{asked:?}");
        }
    }
    assert_eq!(ask(&node, "d2", "have"), json!([]));
    node.cpe(&["space", "store", "jobs", "job", "42"]).code(0);
    until("it has the job", || {
        ask(&node, "d2", "have") == json!(["ok", "job", 42])
    });
}

#[test]
fn a_rule_that_names_a_pipe_for_a_program_keeps_nobody_waiting() {
    let node = Node::alone();
    let source = "
        (defrule go (message (kind go) (body ?kind)) =>
          (loop-for-count (?i 1 12)
            (spawn rules (sym-cat ?kind ?i) (map-of file \"/proc/self/fd/1\"))))";
    for (name, more) in [("plain", &[][..]), ("lasting", &["--durable"])] {
        spawn(&node, name, &json!({"source": source}), more);
        let message = json!({ "go": name }).to_string();
        node.cpe(&["actor", "tell", name, &message]).code(0);
        node.cpe(&["space", "store", "w", "x", "1"]).code(0);
    }
    node.logs("people of a node");
    // A pipe is no program of the operator's either.
    let args = json!({"file": "/proc/self/fd/1"}).to_string();
    let refused = node.cpe(&["actor", "spawn", "rules", "e", "--args", &args]);
    refused.code(1).says("no regular file");
    node.cpe(&["space", "fetch", "w", "x"]).code(0);
    let (status, _) = node.end_by(Signal::TERM);
    assert!(status.success(), "{status}");
}

#[test]
fn another_node_does_not_have_files_read() {
    let a = Node::start(&["--name", "a"]);
    let b = a.join(&["--name", "b"]);
    b.sees(2);
    let program = a.folder().join("p.clp");
    fs::write(&program, WAITS).unwrap();
    let args = json!({"file": program}).to_string();
    let spawn = ["actor", "spawn", "rules", "r", "--args", &args];
    let there = [&spawn[..], &["--node", "b"]].concat();
    a.cpe(&there).code(1).says("people of a node");
    // Who names no node means its own.
    for node in [&a, &b] {
        node.cpe(&spawn).code(0);
        let known = || node.cpe(&["actor", "where", "r", "--json"]);
        until("its host is known", || known().code == Some(0));
        let host = known().json();
        let own = node.cpe(&["mesh", "status", "--json"]).json();
        assert_eq!(host["host"], own["node"], "{host} {own}");
        node.cpe(&["actor", "stop", "r"]).code(0);
    }
}

#[test]
fn a_tuple_that_rules_cannot_have_is_put_back_and_they_hear_why() {
    let node = Node::alone();
    // Without its name a tuple is taken under a lease.
    let leased = WAITS.replace("\"job\" :any", ":any :any");
    for (name, source, more) in [
        ("plain", WAITS, &[][..]),
        ("lasting", WAITS, &["--durable"]),
        ("leased", &leased, &["--durable"]),
    ] {
        for job in [r#"{"bytes":"AAEC"}"#, r#""a\u0000b""#] {
            node.cpe(&["space", "store", "jobs", "job", job]).code(0);
            let name = format!("{name}-{}", job.len());
            spawn(&node, &name, &json!({"source": source}), more);
            until("it hears why", || ask(&node, &name, "have")[0] == "failed");
            let why = ask(&node, &name, "have");
            assert!(why[1].as_str().unwrap().contains("put back"), "{why}");
            until("the tuple is back", || {
                let found = node.cpe(&["space", "fetch-try", "jobs", "job"]);
                found.code == Some(0)
            });
            node.cpe(&["actor", "stop", &name]).code(0);
        }
    }
}

#[test]
fn a_tuple_on_which_rules_fail_is_put_back_and_they_hear_why() {
    let node = Node::alone();
    let source = WAITS.replace(
        "(retract ?a ?h) (assert",
        "(if (eq ?s ok) then (/ 1 (nth$ 2 $?v))) (retract ?a ?h) (assert",
    );
    for (name, more) in [("plain", &[][..]), ("lasting", &["--durable"])] {
        spawn(&node, name, &json!({"source": source}), more);
        node.cpe(&["space", "store", "jobs", "job", "0"]).code(0);
        until("it hears why", || ask(&node, name, "have")[0] == "failed");
        until("the tuple is back", || {
            node.cpe(&["space", "fetch-try", "jobs", "job"]).out == "0\n"
        });
    }
}

#[test]
fn one_more_agent_with_a_process_than_is_allowed_is_refused() {
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]);
    command.env("CPE_ACTORS_RULES_PROCESSES", "3");
    let node = Node::run(command);
    let hello = "(defrule hello (message (kind hello)) => (reply \"hi\"))";
    let source = format!(
        "{hello} (defrule go (message (kind go) (body ?s)) =>
           (loop-for-count (?i 1 5) (spawn rules (sym-cat n ?i) (map-of source ?s))))
         (defrule many (message (kind many)) =>
           (loop-for-count (?i 1 150) (spawn rules (sym-cat m ?i) (map-of source \"\"))))"
    );
    spawn(&node, "first", &json!({"source": source}), &[]);
    let refused = node.cpe(&["actor", "ask", "first", "many"]).code(1);
    assert!(refused.err.contains("32 actors"), "{refused:?}");
    let go = json!({ "go": hello }).to_string();
    node.cpe(&["actor", "ask", "first", &go]).code(0);
    node.logs("3 agents have a process of their own");
    let args = json!({"source": hello}).to_string();
    let one_more = ["actor", "spawn", "rules", "more", "--args", &args];
    node.cpe(&one_more).code(1).says("actors.rules_processes");
    for name in ["first", "n1", "n2"] {
        assert_eq!(ask(&node, name, "hello"), json!("hi"));
    }
    node.cpe(&["actor", "stop", "n1"]).code(0);
    node.cpe(&one_more).code(0);
}

#[test]
fn rules_know_who_sent_a_message_and_whether_somebody_waits() {
    let [a, b] = {
        let a = Node::start(&["--name", "a"]);
        let b = a.join(&["--name", "b"]);
        b.sees(2);
        [a, b]
    };
    let note =
        "(defrule note (message (kind note) (from ?f)) => (store seen note (list-of ?f (reply 1))))
        (defrule q (message (kind q) (from ?f)) => (store seen q (list-of ?f (reply 1))))";
    let asks = "(defrule go (message (kind go)) =>
        (tell plain note) (tell lasting note) (ask plain q) (ask lasting q))";
    spawn(&a, "plain", &json!({"source": note}), &["--node", "a"]);
    let lasting = ["--node", "a", "--durable"];
    spawn(&a, "lasting", &json!({"source": note}), &lasting);
    let seen = |name: &str| {
        let found = a.cpe(&["space", "fetch", "seen", name, "--json"]).json();
        found.to_string()
    };
    for name in ["plain", "lasting"] {
        a.cpe(&["actor", "tell", name, "note"]).code(0);
        let found = seen("note");
        assert!(found.contains("nil") || found.contains("null"), "{found}");
        assert!(found.contains("false"), "nobody waits: {found}");
        a.cpe(&["actor", "ask", name, "q"]).code(0);
        let found = seen("q");
        assert!(found.contains("true"), "somebody waits: {found}");
    }
    for (name, node, more) in [
        ("near", "a", &[][..]),
        ("far", "b", &[]),
        ("sure", "b", &["--durable"]),
    ] {
        let more = [&["--node", node][..], more].concat();
        spawn(&b, name, &json!({"source": asks}), &more);
        b.cpe(&["actor", "tell", name, "go"]).code(0);
        for _ in 0..2 {
            let found = seen("note");
            assert!(found.contains(name) && found.contains("false"), "{found}");
            let found = seen("q");
            assert!(found.contains(name) && found.contains("true"), "{found}");
        }
    }
}

#[test]
fn rules_write_no_line_of_the_log_that_is_not_theirs() {
    let node = Node::alone();
    let source = "
        (defrule go (message (kind go)) =>
          (log warn \"x\" (format nil \"%n\") \"2026-11-27T10:00:00Z ERROR cpe::driver: forged\")
          (loop-for-count (?i 1 9000) (log warn \"line \" ?i))
          (tell \"nobody
2026-11-27T10:00:00Z ERROR cpe::driver: forged\" x))
        (defrule bad (message (kind bad)) =>
          (printout t crlf \"2026-11-27T10:00:00Z ERROR cpe::driver: forged\" crlf) (/ 1 0))";
    spawn(&node, "r", &json!({"source": source}), &[]);
    node.cpe(&["actor", "ask", "r", "go"]).code(0);
    node.cpe(&["actor", "ask", "r", "bad"]).code(1);
    node.cpe(&["actor", "stop", "r"]).code(0);
    node.logs("lines of its log were left out");
    let (_, log) = node.end_by(Signal::TERM);
    assert!(log.contains("x\\n2026"), "{log}");
    let forged = |line: &&str| line.starts_with("2026-11-27T10:00:00Z");
    assert_eq!(log.lines().filter(forged).count(), 0, "{log}");
    let lines = log.lines().filter(|line| line.contains("line ")).count();
    assert!(lines <= 100, "{lines} lines");
}

#[test]
fn an_agent_whose_program_is_broken_says_so_and_begins_once_it_is_mended() {
    let node = Node::alone();
    let program = node.folder().join("p.clp");
    let good = "(deffacts d (total 0)) (defrule get (message (kind get)) (total ?n) => (reply ?n))";
    fs::write(&program, good).unwrap();
    spawn(&node, "d", &json!({"file": program}), &["--durable"]);
    assert_eq!(ask(&node, "d", "get"), json!(0));
    let folder = node.keep_folder();
    node.end_by(Signal::KILL);
    fs::write(&program, "(defrule get (message").unwrap();
    let mut command = cpe();
    command.args(["node", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--api", "127.0.0.1:0"]);
    let node = Node::run_in(command, Arc::clone(&folder));
    until("it says why it does not answer", || {
        let asked = node.cpe(&["actor", "ask", "d", "get"]);
        asked.err.contains("p.clp")
    });
    fs::write(&program, good).unwrap();
    until("it answers", || ask(&node, "d", "get") == json!(0));
}
