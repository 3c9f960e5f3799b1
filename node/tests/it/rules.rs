//! `cpe rules` without a node.

use std::fs;

use serde_json::json;

use std::io::Write;
use std::process::Stdio;

use super::harness::{Node, Ran, cpe, run};

const PROGRAM: &str = "(deftemplate reading (slot sensor) (slot celsius (type NUMBER)))
(defrule hot
  (reading (sensor ?s) (celsius ?c&:(> ?c 80)))
  =>
  (printout t ?s \" is hot\" crlf)
  (assert (alarm ?s)))
";

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_program_runs_on_facts_from_a_csv() {
    let (_program, program) = file("p.clp", PROGRAM);
    let (_facts, facts) = file("reading.csv", "sensor,celsius\nboiler,91\nroom,21\n");
    let ran = run(&["rules", "run", &program, "--facts", &facts]).code(0);
    assert_eq!(ran.out, "boiler is hot\n");
    let ran = run(&["rules", "run", &program, "--facts", &facts, "--json"]).json();
    assert_eq!(ran["fired"], json!(1));
    assert_eq!(ran["output"], "boiler is hot\n");
    assert!(
        ran["facts"]
            .as_array()
            .unwrap()
            .contains(&json!("(alarm boiler)")),
        "{ran}"
    );
}

#[test]
fn a_csv_whose_columns_are_no_slots_is_refused() {
    let (_program, program) = file("p.clp", PROGRAM);
    let (_facts, facts) = file("x.csv", "sensor,kelvin\nboiler,364\n");
    let given = format!("reading={facts}");
    run(&["rules", "run", &program, "--facts", &given])
        .code(1)
        .says("kelvin");
}

#[test]
fn a_program_that_does_not_parse_is_named_with_its_line() {
    let (_program, program) = file("p.clp", "(deffacts f (a))\n\n(defrule r (a) = (b))\n");
    for command in ["check", "run"] {
        run(&["rules", command, &program]).code(1).says("p.clp:3");
    }
    let checked = run(&["rules", "check", &program, "--json"]).code(1);
    let checked: serde_json::Value = serde_json::from_str(&checked.out).unwrap();
    assert_eq!(
        (&checked["ok"], &checked["found"][0]["line"]),
        (&json!(false), &json!(3))
    );
}

#[test]
fn a_program_that_never_ends_is_stopped() {
    let (_program, program) = file("p.clp", "(defrule r => (while TRUE do))\n");
    let args = ["rules", "run", &program, "--timeout", "300ms"];
    run(&args).code(1).says("deadline");
    let (_program, program) = file(
        "q.clp",
        "(deffacts f (n 0)) (defrule r ?f <- (n ?n) => (retract ?f) (assert (n (+ ?n 1))))",
    );
    run(&["rules", "run", &program, "--timeout", "300ms"])
        .code(1)
        .says("deadline");
}

#[test]
fn a_limit_ends_a_run_in_order() {
    let text = "(deffacts f (n 0)) (defrule r ?f <- (n ?n) => (retract ?f) (assert (n (+ ?n 1))))";
    let (_program, program) = file("p.clp", text);
    let ran = run(&["rules", "run", &program, "--limit", "5", "--json"]).json();
    assert_eq!((&ran["fired"], &ran["limited"]), (&json!(5), &json!(true)));
}

#[test]
fn a_program_cannot_reach_files_or_commands() {
    for text in [
        "(defrule r => (system \"ls\"))",
        "(defrule r => (open \"/etc/passwd\" f))",
    ] {
        let (_program, program) = file("p.clp", text);
        run(&["rules", "check", &program]).code(1);
    }
}

/// Runs a command with an input.
fn fed(args: &[&str], input: &str) -> Ran {
    let mut child = cpe()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).unwrap();
    drop(pipe);
    Ran::of(child.wait_with_output().unwrap())
}

#[test]
fn a_run_writes_which_rules_fired_on_what() {
    let (_program, program) = file("p.clp", PROGRAM);
    let (folder, facts) = file("reading.csv", "sensor,celsius\nboiler,91\n");
    for (name, part) in [
        ("t.dot", "digraph trace {"),
        ("t.txt", "1 MAIN::hot\n    on f-1"),
    ] {
        let trace = folder.path().join(name).display().to_string();
        let args = [
            "rules", "run", &program, "--facts", &facts, "--trace", &trace,
        ];
        run(&args).code(0).says("fired 1; 2 facts; ");
        assert!(
            fs::read_to_string(&trace).unwrap().starts_with(part),
            "{name}"
        );
    }
}

#[test]
fn the_console_takes_commands_over_several_lines_until_exit() {
    let (_program, program) = file("p.clp", PROGRAM);
    let input = "(deffunction f (?x)\n  (* ?x 2))\n(f 21)\n(nope)\n\
        (assert (reading (sensor a) (celsius 99)))\n(run)\n(exit)\n(f 1)\n";
    let ran = fed(&["rules", "console", "--load", &program], input).code(0);
    let out = ran.out;
    assert!(out.starts_with("42\n"), "{out}");
    assert!(
        out.contains("Missing function declaration for 'nope'"),
        "{out}"
    );
    assert!(out.ends_with("<Fact-1>\na is hot\n"), "{out}");
}

#[test]
fn ctrl_c_stops_what_runs_and_not_the_console() {
    let mut command = cpe();
    command
        .args(["rules", "console"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut console = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&console);
    let mut pipe = console.stdin.take().unwrap();
    pipe.write_all(b"(printout t begun crlf)\n(while TRUE do)\n")
        .unwrap();
    let mut out = std::io::BufReader::new(console.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "begun\n");
    // The loop gives no sign of life: stop until it has stopped.
    let mut errors = std::io::BufReader::new(console.stderr.take().unwrap());
    let (told, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        while std::io::BufRead::read_line(&mut errors, &mut line).is_ok_and(|read| read > 0) {
            let _ = told.send(std::mem::take(&mut line));
        }
    });
    let heard = (0..300).find_map(|_| {
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        hears
            .recv_timeout(std::time::Duration::from_millis(100))
            .ok()
    });
    let heard = heard.expect("it went on for half a minute");
    assert!(heard.contains("stopped by the halt"), "{heard}");
    pipe.write_all(b"(+ 40 2)\n(exit)\n").unwrap();
    drop(pipe);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert_eq!(rest, "FALSE\n42\n", "the loop's value, and the sum");
    assert!(console.wait().unwrap().success());
}

/// A program in a terminal of its own, by util-linux's `script`.
struct Terminal {
    child: std::process::Child,
    keys: std::process::ChildStdin,
    shown: std::sync::mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    /// `None` where there is no `script`.
    fn run(command: &str, state: &std::path::Path) -> Option<Self> {
        let mut script = std::process::Command::new("script");
        script.args(["-q", "-e", "-c", command, "/dev/null"]);
        script.env("TERM", "xterm").env("XDG_STATE_HOME", state);
        script.env("SHELL", "/bin/sh").env("NO_COLOR", "1");
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().ok()?;
        let keys = child.stdin.take().unwrap();
        let mut screen = child.stdout.take().unwrap();
        let (shows, shown) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = std::io::Read::read(&mut screen, &mut some) {
                let _ = shows.send(some[..count].to_vec());
            }
        });
        let text = String::new();
        Some(Self {
            child,
            keys,
            shown,
            text,
        })
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits so long until it shows this, after what it was waited for before.
    fn shows_within(&mut self, part: &str, within: std::time::Duration) -> bool {
        loop {
            if let Some(at) = self.text.find(part) {
                self.text.drain(..at + part.len());
                return true;
            }
            let Ok(more) = self.shown.recv_timeout(within) else {
                return false;
            };
            self.text.push_str(&String::from_utf8_lossy(&more));
        }
    }

    #[track_caller]
    fn shows(&mut self, part: &str) {
        let patience = std::time::Duration::from_secs(60);
        let shown = self.shows_within(part, patience);
        assert!(shown, "{part:?} is not in {:?}", self.text);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn in_a_terminal_the_console_completes_remembers_and_stops_what_runs() {
    const UP: &str = "\x1b[A";
    let state = tempfile::tempdir().unwrap();
    // The shell between would end by the signal that the console stands.
    let program = format!("exec {} rules console", env!("CARGO_BIN_EXE_cpe"));
    let Some(mut terminal) = Terminal::run(&program, state.path()) else {
        let why = "there is no `script` (util-linux)";
        return super::namespaces::skipped("rules::in_a_terminal", why);
    };
    terminal.shows("CLIPS> ");
    terminal.press("(deffunction twice (?x)\r");
    terminal.press("(* ?x 2))\r");
    terminal.shows("CLIPS> ");
    terminal.press("(twi\t 21)\r");
    terminal.shows("\n42\r\n");
    terminal.shows("CLIPS> ");
    terminal.press("(printout t begun crlf)\r");
    terminal.shows("\nbegun\r\n");
    // Between prompts Ctrl-C also throws away what was typed: the loop is typed at one.
    terminal.shows("CLIPS> ");
    terminal.press("(while TRUE do)\r");
    let stopped = (0..300).any(|_| {
        terminal.press("\x03");
        terminal.shows_within("stopped by the halt", std::time::Duration::from_millis(200))
    });
    assert!(stopped, "it went on for a minute: {:?}", terminal.text);
    terminal.shows("CLIPS> ");
    // Up: the loop, the printing, and then the sum.
    terminal.press(&format!("{UP}{UP}{UP}\r"));
    terminal.shows("\n42\r\n");
    terminal.press("(exit)\r");
    assert!(terminal.child.wait().unwrap().success());
    let history = fs::read_to_string(state.path().join("cpe/rules_history")).unwrap();
    assert!(
        history.contains("(deffunction twice (?x)\\n(* ?x 2))\n(twice 21)\n"),
        "{history}"
    );
}

#[test]
fn a_batch_prints_what_the_original_prints() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/rules/tests/batch/");
    let script = format!("{folder}objects.clp");
    let ran = run(&["rules", "batch", &script]).code(0);
    assert_eq!(
        ran.out,
        fs::read_to_string(format!("{folder}objects.out")).unwrap()
    );
    assert_eq!(
        ran.err,
        fs::read_to_string(format!("{folder}objects.err")).unwrap()
    );
    run(&["rules", "batch", "/nowhere.clp"])
        .code(1)
        .says("/nowhere.clp");
}

const COUNT: &str = "(deffacts start (total 0))
    (defrule add ?t <- (total ?n) ?m <- (message (kind add) (body ?k)) =>
      (retract ?t ?m) (assert (total (+ ?n ?k))) (reply (+ ?n ?k)))";

#[test]
fn an_agent_explains_why_and_lets_itself_be_looked_at() {
    let node = Node::alone();
    let (_program, program) = file("count.clp", COUNT);
    for (name, args) in [
        ("here", json!({"file": program})),
        ("apart", json!({"source": COUNT})),
    ] {
        let args = args.to_string();
        node.cpe(&["actor", "spawn", "rules", name, "--args", &args])
            .code(0);
        node.cpe(&["rules", "explain", name])
            .code(0)
            .says("no rule");
        assert_eq!(node.cpe(&["actor", "ask", name, "{\"add\":5}"]).out, "5\n");
        let told = node.cpe(&["rules", "explain", name]).code(0).out;
        assert!(
            told.starts_with("1 MAIN::add\n    on f-1 (total 0)\n"),
            "{told}"
        );
        assert!(told.contains("     + f-3 (total 5)\n"), "{told}");
        let picture = node.cpe(&["rules", "explain", name, "--dot"]).code(0).out;
        assert!(picture.starts_with("digraph"), "{picture}");
        let mut console = node.command(&["rules", "console", name]);
        console
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut console = console.spawn().unwrap();
        let mut pipe = console.stdin.take().unwrap();
        pipe.write_all(b"(facts)\n(reset)\n").unwrap();
        drop(pipe);
        let ran = Ran::of(console.wait_with_output().unwrap()).code(0);
        assert!(ran.out.contains("(total 5)"), "{ran:?}");
        assert!(ran.err.contains("only commands that look"), "{ran:?}");
    }
}

/// What is typed at the prompt of an agent.
fn typed(node: &Node, args: &[&str], input: &str) -> Ran {
    let mut console = node.command(args);
    let console = console.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut console = console.stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = console.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).unwrap();
    drop(pipe);
    Ran::of(console.wait_with_output().unwrap())
}

#[test]
fn a_console_changes_a_live_agent_only_if_it_is_asked_to() {
    let alarm = "(defrule alarm (total ?n&:(> ?n 100)) =>
        (printout t \"alarm at \" ?n crlf) (store alarms total ?n))";
    let source = format!("{COUNT} {alarm}");
    let node = Node::alone();
    let (_program, program) = file("count.clp", &source);
    let input = "(assert\n  (total 500))\n(defrule r => )\n(+ 40 2)\n(system \"id\")\n(facts)\n";
    for (name, args, durable) in [
        ("here", json!({"file": program}), false),
        ("apart", json!({"source": source}), false),
        ("lasting", json!({"file": program}), true),
    ] {
        let args = args.to_string();
        let mut spawn = vec!["actor", "spawn", "rules", name, "--args", &args];
        spawn.extend(durable.then_some("--durable"));
        node.cpe(&spawn).code(0);
        let looked = typed(&node, &["rules", "console", name], input).code(0);
        assert!(!looked.out.contains("500"), "{looked:?}");
        assert!(looked.err.contains("only commands that look"), "{looked:?}");

        let ran = typed(&node, &["rules", "console", name, "--write"], input).code(0);
        assert!(
            ran.out.starts_with("<Fact-2>\nalarm at 500\n42\n"),
            "{ran:?}"
        );
        assert!(ran.out.contains("(total 500)"), "{ran:?}");
        assert!(ran.out.contains("declaration for 'system'"), "{ran:?}");
        assert!(
            ran.err.contains("change that, and start the agent again"),
            "{ran:?}"
        );
        let alarm = node.cpe(&["space", "fetch", "alarms", "total"]).code(0);
        assert_eq!(alarm.out, "500\n");
    }
    run(&["rules", "console", "--write"]).code(2).says("AGENT");
}

#[test]
fn ctrl_c_at_a_live_agent_ends_the_wait_and_neither_console_nor_agent() {
    let node = Node::alone();
    let (_program, program) = file("count.clp", COUNT);
    let state = tempfile::tempdir().unwrap();
    for (name, args) in [
        ("here", json!({"file": program})),
        ("apart", json!({"source": COUNT})),
    ] {
        let args = args.to_string();
        node.cpe(&["actor", "spawn", "rules", name, "--args", &args])
            .code(0);
        let command = node.command(&["rules", "console", name, "--write"]);
        let Some(mut terminal) = Terminal::run(&line_of(&command), state.path()) else {
            let why = "there is no `script` (util-linux)";
            return super::namespaces::skipped("rules::ctrl_c_at_a_live_agent", why);
        };
        terminal.shows("CLIPS> ");
        let gave_up = format!("no longer waiting for {name}");
        // On a busy machine the agent's own limit of two seconds may come first.
        let stopped = (0..10).any(|_| {
            terminal.press("(while TRUE do)\r");
            (0..30).any(|_| {
                terminal.press("\x03");
                terminal.shows_within(&gave_up, std::time::Duration::from_millis(100))
            })
        });
        assert!(stopped, "{:?}", terminal.text);
        // What was pressed once too often must not count for what comes next, and the agent ends
        // the loop by its own limit.
        terminal.shows("CLIPS> ");
        terminal.press("(assert (total 7))\r");
        terminal.shows("<Fact-");
        terminal.press("(exit)\r");
        assert!(terminal.child.wait().unwrap().success());
        let facts = typed(&node, &["rules", "console", name], "(facts)\n").code(0);
        assert!(facts.out.contains("(total 7)"), "{facts:?}");
    }
}

/// A command as a shell takes it, in its own place: a shell between would end by the signal that
/// the command stands.
fn line_of(command: &std::process::Command) -> String {
    let quoted = |word: &std::ffi::OsStr| format!(" '{}'", word.to_str().unwrap());
    let variables: String = command
        .get_envs()
        .filter_map(|(name, value)| {
            let name = name.to_str().unwrap();
            value.map(|value| format!("{name}={} ", quoted(value).trim()))
        })
        .collect();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    format!("{variables}exec{}", words.map(quoted).collect::<String>())
}

#[test]
fn an_interrupt_at_the_prompt_of_a_live_agent_concerns_no_later_command() {
    let node = Node::alone();
    let args = json!({"source": COUNT}).to_string();
    node.cpe(&["actor", "spawn", "rules", "guest", "--args", &args])
        .code(0);
    let mut command = node.command(&["rules", "console", "guest", "--write"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut console = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = console.stdin.take().unwrap();
    let mut out = std::io::BufReader::new(console.stdout.take().unwrap());
    pipe.write_all(b"(+ 1 1)\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "2\n");
    let pid = rustix::process::Pid::from_child(&console);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    pipe.write_all(b"(+ 40 2)\n(exit)\n").unwrap();
    drop(pipe);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert_eq!(rest, "42\n");
    assert!(console.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn rules_of_strangers_run_apart_and_survive_their_process() {
    let node = Node::alone();
    let args = json!({"source": COUNT}).to_string();
    node.cpe(&["actor", "spawn", "rules", "guest", "--args", &args])
        .code(0);
    node.cpe(&["actor", "ask", "guest", "{\"add\":5}"]).code(0);
    let worker = worker_of(node.pid());
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    assert!(limits.contains("Max open files            0 "), "{limits}");
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let pid = rustix::process::Pid::from_raw(worker).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    node.cpe(&["actor", "ask", "guest", "{\"add\":1}"])
        .code(1)
        .says("crash of its process");
    assert_eq!(
        node.cpe(&["actor", "ask", "guest", "{\"add\":2}"]).out,
        "7\n"
    );
    node.cpe(&["actor", "stop", "guest"]).code(0);
}

/// The process whose parent is `node` and whose command is a worker's.
#[cfg(target_os = "linux")]
fn worker_of(node: u32) -> i32 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut workers = numbers.filter(|number| {
        let command = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        command.ends_with(b"\0rules-worker\0") && status.contains(&format!("PPid:\t{node}\n"))
    });
    workers.next().unwrap()
}
