//! The original Python client, unmodified, with its own tests: `cargo xtask test` gets both it and
//! Jython, which runs Python 2.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{door, three, three_homes_for_everything};
use crate::harness::Node;

/// Names the folder of the client's source distribution.
const CLIENT: &str = "CPE_NWSCLIENT";

/// Where the folder is, or a line for the list of tests that were skipped.
fn client(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(CLIENT) {
        return Some(folder.into());
    }
    if let Some(list) = std::env::var_os("CPE_SKIPPED_TESTS") {
        let mut list = OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)
            .unwrap();
        writeln!(list, "nws::clients::{test}: no jython or no nwsclient here").unwrap();
    }
    None
}

/// In the place of ssh, for sleighs that start their workers by it: what the other host would run,
/// run here. A login has a shell and nothing of this environment but where the programs are.
const SSH: &str = "while :; do case \"$1\" in
    -l|-p|-i|-o) shift 2;;
    -*) shift;;
    *) break;;
esac; done
shift
exec /bin/sh -c \"$*\"";

/// Writes a program into a folder.
fn script(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs one of the client's test programs, or some of its tests, against an address.
fn run(client: &Path, program: &[&str], address: &str) -> String {
    let (_folder, mut command) = jython(client, program, address);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{program:?}: {said}\n{out}");
    format!("{out}{said}")
}

/// A program of Python 2 that has the client and finds an address in its environment; and a folder
/// that it needs.
fn jython(client: &Path, program: &[&str], address: &str) -> (TempDir, Command) {
    let (host, port) = address.rsplit_once(':').unwrap();
    // A sleigh starts its workers by a script of the client, and that one `python`.
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), "python", "exec jython \"$@\"");
    script(folder.path(), "ssh", SSH);
    let found = std::env::var_os("PATH").unwrap_or_default();
    let ours = [folder.path().to_owned(), client.join("scripts")];
    let path = std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&found)));
    let mut command = Command::new("jython");
    command
        .args(program)
        .env("PATH", path.unwrap())
        .env("PYTHONPATH", client)
        .current_dir(client.join("test"))
        .env("JYTHONPATH", client)
        .env("NWS_HOST", host)
        .env("NWS_PORT", port)
        .stdin(Stdio::null());
    (folder, command)
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

/// Demands that so many tests ran and all passed.
#[track_caller]
fn all_passed(said: &str, count: usize) {
    assert!(said.contains(&format!("Ran {count} tests")), "{said}");
    assert!(said.trim_end().ends_with("OK"), "{said}");
}

#[test]
fn the_client_s_own_tests_pass_at_one_node() {
    let Some(client) = client("the_client_s_own_tests_pass_at_one_node") else {
        return;
    };
    // The tests store and fetch hundreds of values one by one: each would be a sync of the disk.
    let node = Node::start(&["--nws", "127.0.0.1:0", "--ephemeral"]);
    all_passed(&run(&client, &["test_nws.py"], door(&node)), 26);
    all_passed(&run(&client, &["test_file.py"], door(&node)), 9);
}

#[test]
fn the_client_s_own_tests_pass_when_each_connection_is_to_another_node() {
    let name = "the_client_s_own_tests_pass_when_each_connection_is_to_another_node";
    let Some(client) = client(name) else {
        return;
    };
    let [a, b] = two();
    let address = spread(&[&a, &b]);
    all_passed(&run(&client, &["test_nws.py"], &address), 26);
    all_passed(&run(&client, &["test_file.py"], &address), 9);
}

/// Two nodes that keep their state in memory.
fn two() -> [Node; 2] {
    let memory = ["--nws", "127.0.0.1:0", "--ephemeral"];
    let a = Node::start(&memory);
    let b = a.join(&memory);
    a.sees(2);
    b.sees(2);
    [a, b]
}

/// Each worker is two Java machines: of the client's sleigh tests two are enough.
#[test]
fn a_sleigh_rides_whose_connections_are_each_to_another_node() {
    let Some(client) = client("a_sleigh_rides_whose_connections_are_each_to_another_node") else {
        return;
    };
    let [a, b] = two();
    let tests = ["SleighTest.testString", "SleighTest.testIterables"];
    let program = [&["test_sleigh2.py"][..], &tests].concat();
    all_passed(&run(&client, &program, &spread(&[&a, &b])), 2);
}

/// Nobody is connected to the node that dies; it is home of what the sleigh's programs share.
#[test]
fn a_sleigh_rides_on_while_a_node_of_the_mesh_dies() {
    const ROUNDS: &str = "import sys
from nws.sleigh import Sleigh
host, port = sys.argv[1:]
s = Sleigh(nwsHost=host, nwsPort=int(port), workerCount=2)
s.status(True, 120)
for n in range(6):
    assert s.eachElem(abs, range(-20, 20)) == [abs(i) for i in range(-20, 20)]
    print 'round', n
    sys.stdout.flush()
s.stop()
print 'over'
";
    let Some(client) = client("a_sleigh_rides_on_while_a_node_of_the_mesh_dies") else {
        return;
    };
    let [a, b, c] = three();
    three_homes_for_everything(&a);
    let address = spread(&[&a, &b]);
    let (host, port) = address.rsplit_once(':').unwrap();
    let program = tempfile::NamedTempFile::new().unwrap();
    fs::write(&program, ROUNDS).unwrap();
    let program = [program.path().to_str().unwrap(), host, port];
    let (_folder, mut command) = jython(&client, &program, &address);
    let mut rides = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(rides.stdout.take().unwrap()).lines();
    let mut third = Some(c);
    let mut said = Vec::new();
    for line in lines.map_while(Result::ok) {
        if line == "round 1" {
            third.take().unwrap().end_by(Signal::KILL);
        }
        said.push(line);
    }
    assert!(rides.wait().unwrap().success(), "{said:?}");
    let wanted = (0..6).map(|n| format!("round {n}"));
    let wanted: Vec<String> = wanted.chain(["over".to_owned()]).collect();
    assert_eq!(said, wanted);
}

/// A node in memory, and two behind one address.
fn one_and_two(test: impl Fn(&str)) {
    let node = Node::start(&["--nws", "127.0.0.1:0", "--ephemeral"]);
    test(door(&node));
    drop(node);
    let [a, b] = two();
    test(&spread(&[&a, &b]));
}

/// The test makes 220,000 rounds, some ten gigabytes: here it goes around a hundredth of that,
/// with values as large as they are.
#[test]
fn many_long_values_come_and_go() {
    const FEWER: &str = "import sys, unittest
sys.path.insert(0, '.')
import test_long
test_long.xrange = lambda n: range(max(2, n // 50))
host, port = sys.argv[1:]
test_long.nwsargs = {'serverHost': host, 'serverPort': int(port)}
tests = unittest.defaultTestLoader.loadTestsFromModule(test_long)
sys.exit(not unittest.TextTestRunner().run(tests).wasSuccessful())
";
    let Some(client) = client("many_long_values_come_and_go") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("fewer.py");
    fs::write(&program, FEWER).unwrap();
    one_and_two(|address| {
        let (host, port) = address.rsplit_once(':').unwrap();
        let program = [program.to_str().unwrap(), host, port];
        all_passed(&run(&client, &program, address), 4);
    });
}

/// Minutes of Java: `cargo nextest run -p cpe-node --run-ignored only nws::clients`, with
/// `CPE_NWSCLIENT` as `cargo xtask test` sets it.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_rounds_of_all_workers_are_in_step() {
    let Some(client) = client("a_thousand_rounds_of_all_workers_are_in_step") else {
        return;
    };
    one_and_two(|address| {
        let said = run(&client, &["test_barrier.py"], address);
        assert!(said.contains("999 ["), "{said}");
    });
}

/// As above. One of the tests gives its workers some seconds to start, and waits for ever when they
/// take longer, as Java may: here each test begins when its workers are there.
///
/// Four of the thirteen cannot run in Jython, whatever the server: the client finds that Jython's
/// `sqrt` is no function (`testImap`), that its code objects cannot be pickled
/// (`testElementArgsIFind`, `testStarmap`) and that its files have no number
/// (`testElementArgsStoreFile`).
fn sleigh_tests(client: &Path, address: &str) {
    const WHEN_THERE: &str = "import sys, unittest
sys.path.insert(0, '.')
import test_sleigh2
host, port = sys.argv[1:3]
test_sleigh2.slargs = {'nwsHost': host, 'nwsPort': int(port)}
class SleighTest(test_sleigh2.SleighTest):
    def setUp(self):
        test_sleigh2.SleighTest.setUp(self)
        self.s.status(True, 120)
tests = unittest.TestSuite(map(SleighTest, sys.argv[3:]))
sys.exit(not unittest.TextTestRunner(verbosity=2).run(tests).wasSuccessful())
";
    const TESTS: [&str; 9] = [
        "testAccumulator",
        "testBroadcast",
        "testDefaultElementArgs",
        "testEachWorkerAccum",
        "testIterables",
        "testListOfString",
        "testMonitor",
        "testNewStyleAccum",
        "testString",
    ];
    let program = tempfile::NamedTempFile::new().unwrap();
    fs::write(&program, WHEN_THERE).unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    let begin = [program.path().to_str().unwrap(), host, port];
    let said = run(client, &[&begin[..], &TESTS].concat(), address);
    all_passed(&said, TESTS.len());
}

#[test]
#[ignore = "takes minutes"]
fn the_client_s_sleigh_tests_pass_at_one_node() {
    if let Some(client) = client("the_client_s_sleigh_tests_pass_at_one_node") {
        let node = Node::start(&["--nws", "127.0.0.1:0", "--ephemeral"]);
        sleigh_tests(&client, door(&node));
    }
}

#[test]
#[ignore = "takes minutes"]
fn the_client_s_sleigh_tests_pass_when_each_connection_is_to_another_node() {
    let name = "the_client_s_sleigh_tests_pass_when_each_connection_is_to_another_node";
    if let Some(client) = client(name) {
        let [a, b] = two();
        sleigh_tests(&client, &spread(&[&a, &b]));
    }
}

/// As above. Sixteen sleighs, each with another way to start its workers by ssh. They ask for `exp`
/// of a hundred numbers; as the client does not take Jython's for a function, it is `abs` here.
#[test]
#[ignore = "takes minutes"]
fn sleighs_start_their_workers_by_ssh_in_all_ways() {
    const WITH_ABS: &str = "text = open('test_sleigh.py').read()
wanted = 'from math import exp'
assert wanted in text
exec compile(text.replace(wanted, 'exp = abs'), 'test_sleigh.py', 'exec')
";
    let Some(client) = client("sleighs_start_their_workers_by_ssh_in_all_ways") else {
        return;
    };
    let program = tempfile::NamedTempFile::new().unwrap();
    fs::write(&program, WITH_ABS).unwrap();
    let [a, b] = two();
    let program = program.path().to_str().unwrap();
    let said = run(&client, &[program], &spread(&[&a, &b]));
    assert!(said.contains("successes: 17; failures: 0"), "{said}");
}
