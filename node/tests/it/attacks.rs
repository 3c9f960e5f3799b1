//! Rules that run away inside a node: each ends in a named trip, and meanwhile the node answers
//! everybody else within a tenth of a second, every time.
//!
//! A busy machine keeps any program from its processor, so what it kept from this one is measured
//! and allowed for. The system says for how long each thread was ready to run and did not: that of
//! the node's threads, but not of those that the rules run on, and that of the thread that asks
//! must not count. And what no counter shows, as when a virtual machine stands still, is seen by a
//! control: a thread that does nothing but wake each millisecond, and says how late it was.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::Node;

/// What everybody is answered within.
const WITHIN: Duration = Duration::from_millis(100);

/// Attacks at once: more than a small machine has cores.
const AT_ONCE: usize = 4;

/// What every attacker has.
const COMMON: &str = "
    (defclass THING (is-a USER))
    (defclass NEST (is-a USER))
    (defmessage-handler NEST init after () (make-instance of NEST))
    (defmessage-handler THING again () (send ?self again))
    (definstances d (guest of THING))
    (deftemplate n (slot v))
    (deffunction fill () (loop-for-count (?i 1 300) (assert (n (v ?i)))))
    (deffunction again (?x) (again (+ ?x 1)))
    (deffunction other (?x) ?x)
    (deffunction called (?x) (funcall other ?x))
    (deffunction other (?x) (funcall called ?x))
    (defmethod method ((?x INTEGER)) (method (+ ?x 1)))
    (deffunction endless (?a ?b) (while TRUE do))
    (deffunction long (?n) (bind ?s (create$ 1)) (loop-for-count ?n
      (bind ?s (create$ ?s (+ 1 (length$ ?s)) ?s))) ?s)
    (defrule hello (message (kind hello)) => (reply \"hi\"))";

/// What an attack is: an action of a rule that a message fires, or a text that is loaded.
enum Attack {
    Action(&'static str),
    Text(String),
}

/// Which of these words the error that ends an attack may have. A machine that is busy may have the
/// deadline come before any other limit.
type Ends = &'static [&'static str];

const DEADLINE: Ends = &["deadline"];
const STACK: Ends = &["stack limit", "deadline"];
const MEMORY: Ends = &["memory limit", "deadline"];
const FACTS: Ends = &["fact limit", "memory limit", "deadline"];
const OUTPUT: Ends = &["output limit", "deadline"];
const EFFECTS: Ends = &["effect limit", "deadline"];

/// What the limits inside of an engine end.
fn inside() -> Vec<(&'static str, Attack, Ends)> {
    use Attack::{Action, Text};
    let text = |text: &str| Text(text.to_owned());
    vec![
        ("a loop", Action("(while TRUE do)"), DEADLINE),
        (
            "a counted loop",
            Action("(loop-for-count 1000000000000000 do)"),
            DEADLINE,
        ),
        ("a loop in a function", Action("(endless 1 2)"), DEADLINE),
        (
            "a loop in a test",
            text("(defrule a (message (kind attack)) (test (while TRUE do)) => )"),
            DEADLINE,
        ),
        (
            "a loop in a pattern",
            text("(defrule a (message (kind ?k&:(eq ?k attack)&:(while TRUE do))) => )"),
            DEADLINE,
        ),
        (
            "a loop in a salience",
            text("(defrule a (declare (salience (while TRUE do))) (message (kind attack)) => )"),
            DEADLINE,
        ),
        (
            "a loop in a global",
            text("(defglobal ?*g* = (while TRUE do))"),
            DEADLINE,
        ),
        (
            "a loop in facts",
            text("(deffacts f (a (while TRUE do)))"),
            DEADLINE,
        ),
        (
            "rules without an end",
            text(
                "(defrule a (message (kind attack)) => (assert (round 0)))
                 (defrule b ?r <- (round ?n) => (retract ?r) (assert (round (+ ?n 1))))
                 (defrule c (declare (salience 1)) (message (kind hello)) ?r <- (round ?) =>
                   (retract ?r))",
            ),
            DEADLINE,
        ),
        (
            "four nested queries",
            Action("(fill) (do-for-all-facts ((?a n) (?b n) (?c n) (?d n)) TRUE)"),
            DEADLINE,
        ),
        (
            "four nested queries that find nothing",
            Action("(fill) (find-all-facts ((?a n) (?b n) (?c n) (?d n)) FALSE)"),
            DEADLINE,
        ),
        (
            "a sort that calls back",
            Action("(sort endless 3 2 1)"),
            DEADLINE,
        ),
        ("a function that calls itself", Action("(again 1)"), STACK),
        (
            "functions that call each other by name",
            Action("(other 1)"),
            STACK,
        ),
        ("a method that calls itself", Action("(method 1)"), STACK),
        (
            "a handler that sends to itself",
            Action("(send [guest] again)"),
            STACK,
        ),
        (
            "an instance that makes one",
            Action("(make-instance of NEST)"),
            STACK,
        ),
        (
            "a string that doubles",
            Action("(bind ?s xxxxxxxx) (while TRUE do (bind ?s (str-cat ?s ?s)))"),
            MEMORY,
        ),
        (
            "a list that doubles",
            Action("(bind ?s (create$ 1)) (while TRUE do (bind ?s (create$ ?s ?s)))"),
            MEMORY,
        ),
        (
            "facts",
            Action("(while TRUE do (assert (flood (gensym*))))"),
            FACTS,
        ),
        (
            "instances",
            Action("(while TRUE do (make-instance (gensym*) of THING))"),
            MEMORY,
        ),
        (
            "symbols",
            Action("(bind ?l (create$)) (while TRUE do (bind ?l ?l (gensym*)))"),
            MEMORY,
        ),
        (
            "output",
            Action("(while TRUE do (printout t xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx crlf))"),
            OUTPUT,
        ),
        (
            "formatted output",
            Action("(while TRUE do (format t \"%1000d\" 1))"),
            OUTPUT,
        ),
        ("effects", Action("(while TRUE do (out flood 1))"), EFFECTS),
        (
            "requests",
            Action("(while TRUE do (find flood x))"),
            &["requests are open", "deadline"],
        ),
        (
            "log lines",
            Action("(while TRUE do (log info xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx))"),
            EFFECTS,
        ),
        (
            "parentheses",
            Text(format!(
                "(deffunction f () {}1{})",
                "(+ 1 ".repeat(50_000),
                ")".repeat(50_000)
            )),
            &["nested deeper than 128"],
        ),
        (
            "a wide rule",
            Text(format!("(defrule a {} => )", "(p ?x) ".repeat(20_000))),
            &["more than 64 elements"],
        ),
        (
            "a rule that is many",
            Text(format!("(defrule a {} => )", "(or (a) (b)) ".repeat(20))),
            &["more than 256 rules"],
        ),
        (
            "a slot name past the buffer",
            Text(format!(
                "(deftemplate t (slot {0})) (deffacts d (t)) \
                 (defrule a (t ({0} ?x&:(/ 1 ?x))) => )",
                "s".repeat(80)
            )),
            &["slot name longer than 31 bytes"],
        ),
        ("a command", Action("(system \"sleep 10\")"), &["system"]),
    ]
}

/// What only the end of a process ends, or what ends it: for rules of strangers.
fn apart() -> Vec<(&'static str, Attack, Ends)> {
    use Attack::{Action, Text};
    let text = |text: &str| Text(text.to_owned());
    vec![
        (
            "a join that explodes",
            text(
                "(defrule a (message (kind attack)) =>
                   (loop-for-count (?i 1 400) (assert (b ?i) (c ?i) (d ?i))) (assert (go)))
                 (defrule join (go) (b ?) (c ?) (d ?) => )",
            ),
            MEMORY,
        ),
        (
            "a list compared with itself",
            Action("(bind ?l (long 16)) (while TRUE do (subsetp ?l ?l))"),
            DEADLINE,
        ),
        (
            "a method redefined while it was called",
            text(
                "(defmethod foo ()) (defglobal ?*a* = (foo)) (defmethod foo () (bind ?a 1))
                 (defglobal ?*b* = (foo))",
            ),
            &["crash"],
        ),
    ]
}

#[test]
fn others_are_answered_in_time_while_rules_of_strangers_run_away() {
    let mut attacks = inside();
    attacks.extend(apart());
    let as_source = |source: String, _: &Node, _: usize| json!({ "source": source });
    withstands(&attacks, as_source);
}

#[test]
fn others_are_answered_in_time_while_rules_of_the_operator_run_away() {
    withstands(&inside(), |source, node, number| {
        let file = node.folder().join(format!("{number}.clp"));
        std::fs::write(&file, source).unwrap();
        json!({ "file": file })
    });
}

/// Makes all attacks, some at a time, while somebody asks other things of the same node.
fn withstands(
    attacks: &[(&str, Attack, Ends)],
    arguments: impl Fn(String, &Node, usize) -> Value + Sync,
) {
    // Nothing waits for a disk here, whose time belongs to others too.
    let node = Node::start(&["--ephemeral", "--log", "error"]);
    let mut client = Client::new(&node);
    client
        .post("/v1/actors", &json!({"kind": "echo", "name": "echo"}))
        .unwrap();
    let numbered: Vec<_> = attacks.iter().enumerate().collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| answers(&node, &over));
        let ends = Over(&over);
        for some in numbered.chunks(AT_ONCE) {
            let attacks = some.iter().map(|&(number, (name, attack, ends))| {
                let (node, arguments) = (&node, &arguments);
                scope.spawn(move || {
                    let arguments = arguments(source(attack), node, number);
                    let ended = attacked(node, &format!("attacker-{number}"), &arguments);
                    (name, ended, ends)
                })
            });
            for attack in attacks.collect::<Vec<_>>() {
                let (name, ended, ends) = attack.join().unwrap();
                let is_named = ends.iter().any(|word| ended.contains(word));
                assert!(is_named, "{name}: {ends:?} are not in {ended:?}");
            }
        }
        drop(ends);
        println!("{}", others.join().unwrap());
    });
}

/// Says that all is over when it goes, also where a test has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn source(attack: &Attack) -> String {
    match attack {
        Attack::Action(action) => {
            format!("{COMMON} (defrule attack (message (kind attack)) => {action})")
        }
        Attack::Text(text) => format!("{COMMON} {text}"),
    }
}

/// Has an agent attack its node: why that ended. An agent that there is answers afterwards.
fn attacked(node: &Node, name: &str, arguments: &Value) -> String {
    let mut client = Client::new(node);
    let spawn = json!({"kind": "rules", "name": name, "args": arguments});
    if let Err(why) = client.post("/v1/actors", &spawn) {
        return why;
    }
    let path = format!("/v1/actors/{name}/ask");
    let attacked = client.post(&path, &json!({"message": "attack", "timeout_ms": 60_000}));
    let hello = json!({"message": "hello", "timeout_ms": 60_000});
    assert_eq!(
        client.post(&path, &hello).unwrap()["answer"],
        "hi",
        "{attacked:?}"
    );
    match attacked {
        Ok(answer) => format!("no end: {answer}"),
        Err(why) => why,
    }
}

/// Asks an actor, the space and the node itself, again and again, until `over`; fails at the first
/// answer that was late. Says how many there were, and of the slowest what it took.
fn answers(node: &Node, over: &AtomicBool) -> String {
    let control = Control::start();
    let mut client = Client::new(node);
    let (mut count, mut slowest) = (0_u64, (Duration::ZERO, Duration::ZERO));
    while !over.load(Ordering::Relaxed) {
        let before = Kept::now(node, &control);
        let begun = now();
        match count % 4 {
            0 => {
                let asked = client.post("/v1/actors/echo/ask", &json!({"message": count}));
                assert_eq!(asked.unwrap()["answer"], json!(count));
            }
            1 => {
                let stored = json!({"name": "x", "value": count});
                client.post("/v1/spaces/w/store", &stored).unwrap();
            }
            2 => {
                let template = json!({"template": ["x", count - 1]});
                client.post("/v1/spaces/w/inp", &template).unwrap();
            }
            _ => assert_eq!(client.get("/v1/status").unwrap()["alive"], 1),
        }
        let took = begun.elapsed();
        let kept = before.until(&Kept::now(node, &control));
        assert!(
            took <= WITHIN + kept,
            "answer {count} took {took:?}, of which the machine kept {kept:?}"
        );
        if took > slowest.0 {
            slowest = (took, kept);
        }
        count += 1;
    }
    assert!(count > 100, "only {count} answers: nothing was to be seen");
    let (took, kept) = slowest;
    format!("{count} answers; the slowest took {took:?}, of which the machine kept {kept:?}")
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is about how long others wait"
)]
fn now() -> Instant {
    Instant::now()
}

/// What the machine has kept so far from those who answer and who ask: time that they were ready to
/// run and did not.
struct Kept {
    threads: Vec<(u64, Duration)>,
    late: Duration,
}

impl Kept {
    fn now(node: &Node, control: &Control) -> Self {
        let mut threads = waited(&format!("/proc/{}/task", node.pid()));
        threads.extend(waited_by("/proc/thread-self").map(|waited| (0, waited)));
        Self {
            threads,
            late: control.late(),
        }
    }

    fn until(&self, later: &Self) -> Duration {
        let before = |thread| self.threads.iter().find(|(of, _)| *of == thread);
        let threads = later.threads.iter().map(|(thread, waited)| {
            let before = before(*thread).map_or(Duration::ZERO, |(_, before)| *before);
            waited.saturating_sub(before)
        });
        threads.sum::<Duration>() + (later.late - self.late)
    }
}

/// How long each thread of a process was kept waiting, but for those that rules run on: what they
/// do is the attack.
fn waited(tasks: &str) -> Vec<(u64, Duration)> {
    let tasks = std::fs::read_dir(tasks).unwrap().flatten();
    let tasks = tasks.filter_map(|task| {
        let path = task.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        if name.trim() == "rules" {
            return None;
        }
        let number = task.file_name().to_str()?.parse().ok()?;
        Some((number, waited_by(path.to_str()?)?))
    });
    tasks.collect()
}

fn waited_by(task: &str) -> Option<Duration> {
    let counters = std::fs::read_to_string(format!("{task}/schedstat")).ok()?;
    let nanoseconds = counters.split(' ').nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// A thread that wakes each millisecond, and how late it was in all.
struct Control {
    late_us: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Control {
    fn start() -> Self {
        const PERIOD: Duration = Duration::from_millis(1);
        let this = Self {
            late_us: Arc::default(),
            over: Arc::default(),
        };
        let (late, over) = (this.late_us.clone(), this.over.clone());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let begun = now();
                thread::sleep(PERIOD);
                let more = begun.elapsed().saturating_sub(PERIOD).as_micros();
                late.fetch_add(u64::try_from(more).unwrap(), Ordering::Relaxed);
            }
        });
        this
    }

    fn late(&self) -> Duration {
        Duration::from_micros(self.late_us.load(Ordering::Relaxed))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A connection to a node's API that stays open.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    fn new(node: &Node) -> Self {
        let stream = TcpStream::connect(&node.api).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            host: node.api.clone(),
        }
    }

    fn get(&mut self, path: &str) -> Result<Value, String> {
        self.ask("GET", path, "")
    }

    fn post(&mut self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask("POST", path, &body.to_string())
    }

    /// The answer, or what the node says is wrong.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let (host, length) = (&self.host, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut is_good, mut length) = (false, 0);
        for number in 0.. {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if number == 0 {
                is_good = line.contains(" 200 ") || line.contains(" 204 ");
            }
            if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        let text = String::from_utf8(body).unwrap();
        if !is_good {
            return Err(text);
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}
