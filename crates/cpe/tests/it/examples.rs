//! The examples do what they say.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::LONG;

/// An example as the test run has built it, beside the tests.
fn program(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let target: PathBuf = tests.ancestors().nth(2).unwrap().into();
    let mut command = Command::new(target.join("examples").join(name));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What an example prints when it ends well.
async fn printed(name: &str) -> String {
    let output = timeout(5 * LONG, program(name).output()).await;
    let output = output.unwrap().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}{errors}");
    out
}

#[tokio::test]
async fn what_a_durable_actor_asks_for_is_done_once_though_its_process_is_killed_again_and_again() {
    let out = printed("ledger").await;
    let killed = out.lines().filter(|it| it.starts_with("killed ")).count();
    assert_eq!(killed, 4, "{out}");
    for line in [
        "each entry is there once, in order: true",
        "the till counts Int(1830) of Int(1830)",
    ] {
        assert!(out.lines().any(|it| it == line), "{line:?} is not in {out}");
    }
}

#[tokio::test]
async fn of_what_an_actor_takes_each_tuple_counts_once_though_its_process_is_killed() {
    let out = printed("mailbox").await;
    let killed = out.lines().filter(|it| it.starts_with("killed ")).count();
    assert_eq!(killed, 3, "{out}");
    for line in [
        "60 of 60 sales were counted",
        "they come to 1830 of 1830",
        "0 are left",
    ] {
        assert!(out.lines().any(|it| it == line), "{line:?} is not in {out}");
    }
}

#[tokio::test]
async fn a_counter_survives_kill_9_and_who_watches_its_neighbour_is_told() {
    let out = printed("counter").await;
    for line in [
        "killed at 10",
        "the plain actor was lost: its node is gone",
        "it goes on from 10",
        "and counts 11",
    ] {
        assert!(out.lines().any(|it| it == line), "{line:?} is not in {out}");
    }
}
