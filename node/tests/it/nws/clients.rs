//! The original Python client, unmodified, with its own tests. `cargo xtask test` gets the client,
//! Jython, which runs Python 2 in a Java machine, and CPython 2.7 where there is one.
//!
//! Jython is what everybody can install. It cannot do all that the client wants (see
//! [`jython`]), and takes seconds of a processor to start: a sleigh of three workers is seven Java
//! machines. CPython runs everything as it stands.

use std::fs::{self, File, OpenOptions};
use std::io::{Write as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

use super::{Client, STRING, door};
use crate::harness::Node;

mod jython;
mod python2;

/// Names the folder of the client's source distribution.
const CLIENT: &str = "CPE_NWSCLIENT";

/// Names a program that is CPython 2.7.
const PYTHON2: &str = "CPE_PYTHON2";

/// Tests of `test_sleigh2.py`.
const SLEIGH_TESTS: [&str; 13] = [
    "testAccumulator",
    "testBroadcast",
    "testDefaultElementArgs",
    "testEachWorkerAccum",
    "testElementArgsIFind",
    "testElementArgsStoreFile",
    "testImap",
    "testIterables",
    "testListOfString",
    "testMonitor",
    "testNewStyleAccum",
    "testStarmap",
    "testString",
];

/// Runs the tests of `test_sleigh2.py` that are named after host and port.
///
/// Some of them give their workers some seconds to start, and wait for ever when they take longer:
/// here each test begins when its workers are there and have run something.
const SLEIGH_TEST: &str = "import sys, unittest
sys.path.insert(0, '.')
import test_sleigh2
host, port = sys.argv[1:3]
test_sleigh2.slargs = {'nwsHost': host, 'nwsPort': int(port)}
class SleighTest(test_sleigh2.SleighTest):
    def setUp(self):
        test_sleigh2.SleighTest.setUp(self)
        self.s.status(True, 300)
        assert self.s.workerCount == 3
        self.s.eachWorker(test_sleigh2.nothing, 1)
tests = unittest.TestSuite(map(SleighTest, sys.argv[3:]))
sys.exit(not unittest.TextTestRunner(verbosity=2).run(tests).wasSuccessful())
";

/// `test_long.py` makes 220,000 rounds, some ten gigabytes: here it goes around a fiftieth of that,
/// with values as large as they are.
const FEWER_ROUNDS: &str = "import sys, unittest
sys.path.insert(0, '.')
import test_long
test_long.xrange = lambda n: range(max(2, n // 50))
host, port = sys.argv[1:]
test_long.nwsargs = {'serverHost': host, 'serverPort': int(port)}
tests = unittest.defaultTestLoader.loadTestsFromModule(test_long)
sys.exit(not unittest.TextTestRunner().run(tests).wasSuccessful())
";

/// In the place of the original server's module `nwss.local`, which `test_local.py` starts a server
/// by and which neither the client nor the last release of the server brings along: the nodes are
/// there already, and end when they are told to.
const LOCAL_SERVER: &str = "import os, socket
class NwsLocalServer(object):
    def __init__(self, daemon=True):
        self.port = int(os.environ['NWS_PORT'])
        self._alive = True
    def waitUntilStarted(self):
        pass
    def isAlive(self):
        return self._alive
    def shutdown(self):
        s = socket.create_connection(('127.0.0.1', int(os.environ['NWS_END_PORT'])))
        assert s.recv(1) == ''
        s.close()
        self._alive = False
";

/// In the place of ssh, for sleighs that start their workers by it: what the other host would run,
/// run here.
const SSH: &str = "while :; do case \"$1\" in
    -l|-p|-i|-o) shift 2;;
    -*) shift;;
    *) break;;
esac; done
shift
exec /bin/sh -c \"$*\"";

/// Options of each Java machine. One that lives for seconds is done before its second compiler has
/// paid for itself: without it Jython takes half the processor time.
const JAVA: &str = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC";

/// What runs the client's programs.
struct Python {
    /// By which name or path it is started.
    program: PathBuf,
    /// The folder of the client.
    client: PathBuf,
}

/// Names a test that is skipped here, or a part of it.
fn skip(test: &str, why: &str) {
    let Some(list) = std::env::var_os("CPE_SKIPPED_TESTS") else {
        return;
    };
    let mut list = OpenOptions::new()
        .create(true)
        .append(true)
        .open(list)
        .unwrap();
    writeln!(list, "nws::clients::{test}: {why}").unwrap();
}

/// Writes a program into a folder.
fn script(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Where programs are and what they need: it is gone when this is dropped.
struct Programs {
    folder: TempDir,
    command: Command,
}

impl Python {
    /// A program that has the client and finds an address in its environment.
    fn command(&self, program: &[&str], address: &str) -> Programs {
        let (host, port) = address.rsplit_once(':').unwrap();
        // A sleigh starts its workers by a script of the client, and that one `python`.
        let folder = tempfile::tempdir().unwrap();
        let python = format!("exec '{}' \"$@\"", self.program.display());
        script(folder.path(), "python", &python);
        script(folder.path(), "ssh", SSH);
        let found = std::env::var_os("PATH").unwrap_or_default();
        let ours = [folder.path().to_owned(), self.client.join("scripts")];
        let path = std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&found)));
        let modules = std::env::join_paths([&self.client, folder.path()]).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(program)
            .env("PATH", path.unwrap())
            .env("PYTHONPATH", &modules)
            .env("JYTHONPATH", &modules)
            .env("JAVA_TOOL_OPTIONS", JAVA)
            // Several run at once: none may read what another one is compiling.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NWS_HOST", host)
            .env("NWS_PORT", port)
            .current_dir(self.client.join("test"))
            .stdin(Stdio::null());
        Programs { folder, command }
    }

    /// Runs one of the client's test programs, or some of its tests, against an address.
    #[track_caller]
    fn run(&self, program: &[&str], address: &str) -> String {
        self.command(program, address).succeeds(program)
    }

    /// Runs a program that is given here, with host, port and these arguments.
    #[track_caller]
    fn run_text(&self, text: &str, arguments: &[&str], address: &str) -> String {
        let program = tempfile::NamedTempFile::new().unwrap();
        fs::write(&program, text).unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        let begin = [program.path().to_str().unwrap(), host, port];
        self.run(&[&begin[..], arguments].concat(), address)
    }

    /// `test_nws.py` and `test_file.py`.
    fn runs_its_own_tests(&self, address: &str) {
        all_passed(&self.run(&["test_nws.py"], address), 26);
        all_passed(&self.run(&["test_file.py"], address), 9);
    }

    /// `test_long.py`.
    fn runs_the_long_tests(&self, address: &str) {
        all_passed(&self.run_text(FEWER_ROUNDS, &[], address), 4);
    }

    /// Some of `test_sleigh2.py`.
    fn runs_sleigh_tests(&self, tests: &[&str], address: &str) {
        all_passed(&self.run_text(SLEIGH_TEST, tests, address), tests.len());
    }

    /// The example, with workers that do what `squares.R` does.
    fn runs_the_example(&self, nodes: &[&Node]) {
        const WORKERS: usize = 2;
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/squares.py");
        let (host, port) = door(nodes[0]).rsplit_once(':').unwrap();
        let program = [example, host, port, &WORKERS.to_string()];
        let said = thread::scope(|scope| {
            for node in nodes.iter().cycle().take(WORKERS) {
                scope.spawn(move || squares(node));
            }
            self.run(&program, door(nodes[0]))
        });
        for n in 0..10 {
            let line = format!("{n} squared is {}\n", n * n);
            assert!(said.contains(&line), "{said}");
        }
    }

    /// `test_barrier.py`.
    fn runs_a_thousand_rounds_in_step(&self, address: &str) {
        let said = self.run(&["test_barrier.py"], address);
        assert!(said.contains("\n999 ["), "{said}");
    }

    /// `test_sleigh.py`: seventeen sleighs, all but one with another way to start their workers by
    /// ssh; so many, if something in its text is replaced by something else.
    fn runs_sleighs_by_ssh(&self, replaced: &[[&str; 2]], sleighs: usize, address: &str) {
        // As it stands it removes log files from folders that all such programs share, and fails
        // when another one has done that in the middle.
        let alone = File::create(self.client.join("sleighs-by-ssh.lock")).unwrap();
        if replaced.is_empty() {
            alone.lock().unwrap();
        }
        let said = self.runs_with("test_sleigh.py", replaced, address, |_| {});
        let all = format!("successes: {sleighs}; failures: 0");
        assert!(said.contains(&all), "{said}");
    }

    /// `test_local.py`, which ends its server: a node, or two.
    fn runs_with_a_server_of_its_own(&self, replaced: &[[&str; 2]], nodes: Vec<Node>) {
        let address = spread(&nodes.iter().collect::<Vec<_>>());
        let ends = TcpListener::bind("127.0.0.1:0").unwrap();
        let end = ends.local_addr().unwrap().port();
        let ended = thread::spawn(move || {
            let asked = ends.accept().unwrap();
            drop(nodes);
            drop(asked);
        });
        let said = self.runs_with("test_local.py", replaced, &address, |programs| {
            let module = programs.folder.path().join("nwss");
            fs::create_dir(&module).unwrap();
            fs::write(module.join("__init__.py"), "").unwrap();
            fs::write(module.join("local.py"), LOCAL_SERVER).unwrap();
            programs.command.env("NWS_END_PORT", end.to_string());
        });
        assert!(said.contains("'Value 0', 'Value 1'"), "{said}");
        assert!(said.contains("got expected exception"), "{said}");
        assert!(!said.contains("did not get"), "{said}");
        ended.join().unwrap();
    }

    /// Runs a program of the client, with some of its text replaced if need be.
    fn runs_with(
        &self,
        program: &str,
        replaced: &[[&str; 2]],
        address: &str,
        prepare: impl Fn(&mut Programs),
    ) -> String {
        let mut programs = self.command(&[], address);
        let mut path = self.client.join("test").join(program);
        if !replaced.is_empty() {
            let mut text = fs::read_to_string(&path).unwrap();
            for [old, new] in replaced {
                assert!(text.contains(old), "{text}");
                text = text.replace(old, new);
            }
            path = programs.folder.path().join(program);
            fs::write(&path, text).unwrap();
        }
        programs.command.arg(path);
        prepare(&mut programs);
        programs.succeeds(&[program])
    }
}

impl Programs {
    /// What it said, if it ended well.
    #[track_caller]
    fn succeeds(mut self, what: &[&str]) -> String {
        let output = self.command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{what:?}: {said}\n{out}");
        format!("{out}{said}")
    }
}

/// What `squares.R` does, to the end: it is refused nothing.
fn squares(node: &Node) {
    let mut worker = Client::at(node);
    worker.status(&["use ws", "squares", "", "no"], "0000");
    loop {
        let task = worker.get(&["fetch", "squares", "task"]).unwrap();
        if task == "stop" {
            return worker.status(&["store", "squares", "bye", STRING, ""], "0000");
        }
        let n: u64 = task.parse().unwrap();
        let result = format!("{n} {}", n * n);
        worker.status(&["store", "squares", "result", STRING, &result], "0000");
    }
}

/// Demands that so many tests ran and all passed.
#[track_caller]
fn all_passed(said: &str, count: usize) {
    assert!(said.contains(&format!("Ran {count} test")), "{said}");
    assert!(said.trim_end().ends_with("OK"), "{said}");
}

/// A node that keeps its state in memory: the tests store and fetch hundreds of values one by one,
/// and each would be a sync of the disk.
fn one() -> Node {
    Node::start(&["--nws", "127.0.0.1:0", "--ephemeral"])
}

/// Two such nodes of one mesh.
fn two() -> [Node; 2] {
    let a = one();
    let b = a.join(&["--nws", "127.0.0.1:0", "--ephemeral"]);
    a.sees(2);
    b.sees(2);
    [a, b]
}

/// Listens, and hands each connection on to the next of the nodes.
fn spread(nodes: &[&Node]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let doors: Vec<String> = nodes.iter().map(|node| door(node).to_owned()).collect();
    thread::spawn(move || {
        for (client, door) in listener.incoming().zip(doors.iter().cycle()) {
            let (Ok(client), Ok(node)) = (client, TcpStream::connect(door)) else {
                return;
            };
            client.set_nodelay(true).ok();
            node.set_nodelay(true).ok();
            pass(client.try_clone().unwrap(), node.try_clone().unwrap());
            pass(node, client);
        }
    });
    address
}

/// Passes on what one side sends, and its end.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
}
