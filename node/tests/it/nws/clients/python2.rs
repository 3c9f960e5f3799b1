//! The client in CPython 2.7, as people ran it: all of its programs as they stand. They pause most
//! of the time, and so run side by side.

use super::*;

/// CPython 2.7 with the client, or a line for the list of tests that were skipped.
fn python2(test: &str) -> Option<Python> {
    let found = std::env::var_os(PYTHON2).zip(std::env::var_os(CLIENT));
    let Some((program, client)) = found else {
        skip(test, "no Python 2.7 or no nwsclient here");
        return None;
    };
    Some(Python {
        program: program.into(),
        client: client.into(),
    })
}

/// All programs but the one that ends its server. `test_nws.py` and `test_file.py` use the same
/// workspaces, and go one after the other.
fn everything(python: &Python, address: &str) {
    thread::scope(|scope| {
        for test in &SLEIGH_TESTS {
            scope.spawn(move || python.runs_sleigh_tests(&[*test], address));
        }
        scope.spawn(|| python.runs_sleighs_by_ssh(&[], 17, address));
        scope.spawn(|| python.runs_a_thousand_rounds_in_step(address));
        python.runs_its_own_tests(address);
        python.runs_the_long_tests(address);
    });
}

#[test]
fn all_of_its_programs_pass_at_one_node() {
    if let Some(python) = python2("python2::all_of_its_programs_pass_at_one_node") {
        let node = one();
        everything(&python, door(&node));
        drop(node);
        python.runs_with_a_server_of_its_own(&[], vec![one()]);
    }
}

#[test]
fn all_of_its_programs_pass_when_each_connection_is_to_another_node() {
    let name = "python2::all_of_its_programs_pass_when_each_connection_is_to_another_node";
    if let Some(python) = python2(name) {
        let [a, b] = two();
        everything(&python, &spread(&[&a, &b]));
        drop([a, b]);
        python.runs_with_a_server_of_its_own(&[], two().into());
    }
}

#[test]
fn the_example_ends_well_and_so_do_its_workers() {
    let name = "python2::the_example_ends_well_and_so_do_its_workers";
    if let Some(python) = python2(name) {
        let [a, b] = two();
        python.runs_the_example(&[&a, &b]);
    }
}
