//! The client in Jython. Four tests of `test_sleigh2.py` cannot run in it, whatever the server:
//! they are named here, and so is why. `sqrt` and `exp` are no functions for the client there: who
//! asks for one of them gets `abs`.

use std::io::{BufRead as _, BufReader};

use rustix::process::Signal;

use super::super::{three, three_homes_for_everything};
use super::*;

/// Jython's code objects have not what the client wants to pickle of them.
const NO_CODE: &str = "'tablecode' object has no attribute 'co_stacksize'";

/// Jython's `sqrt` is of another type than functions are.
const NO_FUNCTION: &str = "\"fun\" argument must be a function or a string";

/// Jython's files have no number, which the client asks them for.
const NO_NUMBER: &str = "fileno";

/// Tests that the client gives up in Jython, and what it says.
const CANNOT: [(&str, &str); 4] = [
    ("testElementArgsIFind", NO_CODE),
    ("testElementArgsStoreFile", NO_NUMBER),
    ("testImap", NO_FUNCTION),
    ("testStarmap", NO_CODE),
];

/// And with one worker each in the place of three: a worker is two Java machines, for each of
/// seventeen sleighs. It finds no log files to remove: so two such programs can run at once.
const ABS_FOR_EXP: [&str; 2] = [
    "from math import exp",
    "import nws.sleigh
nws.sleigh.defaultSleighOptions['workerCount'] = 1
nws.sleigh.defaultSleighOptions['nodeList'] = ['localhost']
glob.glob = lambda pattern: []
exp = abs",
];
/// The folders that workers are started in.
const BOTH_FOLDERS: &str = "('/tmp', os.getcwd())";

const ABS_FOR_SQRT: [&str; 2] = ["from math import sqrt", "sqrt = abs"];

/// Jython with the client, or a line for the list of tests that were skipped.
fn jython(test: &str) -> Option<Python> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join("jython").is_file());
    let Some(client) = std::env::var_os(CLIENT).filter(|_| there) else {
        skip(test, "no jython or no nwsclient here");
        return None;
    };
    Some(Python {
        program: "jython".into(),
        client: client.into(),
    })
}

#[test]
fn its_own_tests_pass_at_one_node() {
    if let Some(jython) = jython("jython::its_own_tests_pass_at_one_node") {
        let node = one();
        jython.runs_its_own_tests(door(&node));
    }
}

#[test]
fn its_own_tests_pass_when_each_connection_is_to_another_node() {
    let name = "jython::its_own_tests_pass_when_each_connection_is_to_another_node";
    if let Some(jython) = jython(name) {
        let [a, b] = two();
        jython.runs_its_own_tests(&spread(&[&a, &b]));
    }
}

#[test]
fn many_long_values_come_and_go() {
    if let Some(jython) = jython("jython::many_long_values_come_and_go") {
        let node = one();
        jython.runs_the_long_tests(door(&node));
        drop(node);
        let [a, b] = two();
        jython.runs_the_long_tests(&spread(&[&a, &b]));
    }
}

#[test]
fn a_thousand_rounds_of_all_workers_are_in_step() {
    if let Some(jython) = jython("jython::a_thousand_rounds_of_all_workers_are_in_step") {
        let node = one();
        jython.runs_a_thousand_rounds_in_step(door(&node));
        drop(node);
        let [a, b] = two();
        jython.runs_a_thousand_rounds_in_step(&spread(&[&a, &b]));
    }
}

/// Those of `test_sleigh2.py` that can run.
fn sleigh_tests() -> Vec<&'static str> {
    let cannot = CANNOT.map(|(test, _)| test);
    let tests = SLEIGH_TESTS.into_iter().filter(|it| !cannot.contains(it));
    let tests: Vec<_> = tests.collect();
    assert_eq!(tests.len(), 9);
    tests
}

#[test]
fn the_sleigh_tests_pass_at_one_node() {
    if let Some(jython) = jython("jython::the_sleigh_tests_pass_at_one_node") {
        let node = one();
        jython.runs_sleigh_tests(&sleigh_tests(), door(&node));
    }
}

/// Every third: each is seven Java machines, whose start is what all the time goes to.
#[test]
fn a_third_of_the_sleigh_tests_pass_when_each_connection_is_to_another_node() {
    let name = "jython::a_third_of_the_sleigh_tests_pass_when_each_connection_is_to_another_node";
    if let Some(jython) = jython(name) {
        let [a, b] = two();
        let tests: Vec<_> = sleigh_tests().into_iter().step_by(3).collect();
        jython.runs_sleigh_tests(&tests, &spread(&[&a, &b]));
    }
}

/// The client itself gives up before it has sent a task: no worker is needed, and none is started.
#[test]
fn four_sleigh_tests_cannot_run_in_jython_whatever_the_server() {
    const WITHOUT_WORKERS: &str = "import sys, unittest
sys.path.insert(0, '.')
import test_sleigh2
host, port = sys.argv[1:3]
test_sleigh2.slargs = {'nwsHost': host, 'nwsPort': int(port), 'workerCount': 0}
class SleighTest(test_sleigh2.SleighTest):
    def tearDown(self):
        name, nws = self._testMethodName, self.s.nws
        print name, 'sent', nws.fetchTry('totalTasks'), nws.fetchTry('task')
        test_sleigh2.SleighTest.tearDown(self)
tests = unittest.TestSuite(map(SleighTest, sys.argv[3:]))
result = unittest.TextTestRunner(stream=sys.stdout).run(tests)
sys.exit(result.testsRun != len(result.errors))
";
    let name = "jython::four_sleigh_tests_cannot_run_in_jython_whatever_the_server";
    let Some(jython) = jython(name) else {
        return;
    };
    let node = one();
    let tests = CANNOT.map(|(test, _)| test);
    let said = jython.run_text(WITHOUT_WORKERS, &tests, door(&node));
    assert!(said.contains("Ran 4 tests"), "{said}");
    for (test, why) in CANNOT {
        let error = format!("ERROR: {test} (");
        let error = said.split("======").find(|it| it.contains(&error));
        assert!(error.is_some_and(|it| it.contains(why)), "{said}");
        assert!(said.contains(&format!("{test} sent 0 None\n")), "{said}");
        skip(
            &format!("jython: {test} of test_sleigh2.py"),
            &format!("the client gives up in Jython, whatever the server: {why}"),
        );
    }
}

/// The program takes each way twice, in two folders: once here, and once at two nodes.
#[test]
#[ignore = "minutes of Java machines; `python2` runs the same programs where it can"]
fn sleighs_start_their_workers_by_ssh_in_all_ways_at_one_node() {
    let name = "jython::sleighs_start_their_workers_by_ssh_in_all_ways_at_one_node";
    if let Some(jython) = jython(name) {
        let node = one();
        let replaced = [ABS_FOR_EXP, [BOTH_FOLDERS, "('/tmp',)"]];
        jython.runs_sleighs_by_ssh(&replaced, 9, door(&node));
    }
}

#[test]
#[ignore = "minutes of Java machines; `python2` runs the same programs where it can"]
fn sleighs_start_their_workers_by_ssh_in_all_ways_at_two_nodes() {
    let name = "jython::sleighs_start_their_workers_by_ssh_in_all_ways_at_two_nodes";
    if let Some(jython) = jython(name) {
        let [a, b] = two();
        let replaced = [ABS_FOR_EXP, [BOTH_FOLDERS, "(os.getcwd(),)"]];
        jython.runs_sleighs_by_ssh(&replaced, 9, &spread(&[&a, &b]));
    }
}

#[test]
fn a_program_ends_the_server_that_it_started() {
    if let Some(jython) = jython("jython::a_program_ends_the_server_that_it_started") {
        jython.runs_with_a_server_of_its_own(&[ABS_FOR_SQRT], vec![one()]);
        jython.runs_with_a_server_of_its_own(&[ABS_FOR_SQRT], two().into());
    }
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
    let Some(jython) = jython("jython::a_sleigh_rides_on_while_a_node_of_the_mesh_dies") else {
        return;
    };
    let [a, b, c] = three();
    three_homes_for_everything(&a);
    let address = spread(&[&a, &b]);
    let (host, port) = address.rsplit_once(':').unwrap();
    let program = tempfile::NamedTempFile::new().unwrap();
    fs::write(&program, ROUNDS).unwrap();
    let program = [program.path().to_str().unwrap(), host, port];
    let mut programs = jython.command(&program, &address);
    let mut rides = programs.command.stdout(Stdio::piped()).spawn().unwrap();
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

#[test]
fn the_example_ends_well_and_so_do_its_workers() {
    let name = "jython::the_example_ends_well_and_so_do_its_workers";
    if let Some(python) = jython(name) {
        let [a, b] = two();
        python.runs_the_example(&[&a, &b]);
    }
}
