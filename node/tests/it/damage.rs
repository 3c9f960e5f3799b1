//! Disks that give back other bytes than were written.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use super::harness::{Node, cpe};
use super::homes::groups_of_three;

/// Flips bits all over those of a node's files whose names begin so.
fn damage(data: &Path, names: &str) {
    let files = fs::read_dir(data).unwrap().map(|entry| entry.unwrap());
    let damaged = files
        .filter(|file| file.file_name().to_string_lossy().starts_with(names))
        .map(|file| {
            let mut bytes = fs::read(file.path()).unwrap();
            for at in (100..bytes.len()).step_by(1_009) {
                bytes[at] ^= 0x40;
            }
            fs::write(file.path(), bytes).unwrap();
        });
    assert!(damaged.count() > 0, "no file is called {names}");
}

fn incarnation(of: &str, asked: &Node) -> u64 {
    let peers = asked.cpe(&["mesh", "peers", "--json"]).json();
    let all = peers.as_array().unwrap();
    let alive = |peer: &&serde_json::Value| peer["name"] == of && peer["state"] == "alive";
    all.iter().find(alive).unwrap()["inc"].as_u64().unwrap()
}

#[test]
fn a_founder_whose_disk_flips_bits_comes_back_as_a_new_member_that_founds_nothing() {
    a_damaged_founder_comes_back_as_a_new_member("state.redb");
}

/// What was acknowledged last is in the log alone.
#[test]
fn a_founder_whose_log_flips_bits_comes_back_as_a_new_member_that_founds_nothing() {
    a_damaged_founder_comes_back_as_a_new_member("log-");
}

fn a_damaged_founder_comes_back_as_a_new_member(damaged: &str) {
    let [a, b, c] = Node::three();
    for n in 1..=10 {
        a.cpe(&["space", "store", "w", &format!("v{n}"), &n.to_string()])
            .code(0);
    }
    groups_of_three(&b);
    let before = incarnation("a", &b);
    let address = a.address().to_owned();
    let folder = a.keep_folder();
    a.end_by(Signal::KILL);
    damage(&folder.path().join("data"), damaged);

    let mut command = cpe();
    command.args(["node", "--json", "--name", "a", "--api", "127.0.0.1:0"]);
    command.args(["--listen", &address]);
    let a = Node::run_in(command, folder);
    a.logs("set aside");
    for node in [&a, &b, &c] {
        node.sees(3);
    }
    assert!(incarnation("a", &b) > before);
    assert!(a.data().join("damaged-1").exists());
    for n in 1..=10 {
        let name = format!("v{n}");
        let got = a.cpe(&["space", "fetch", "w", &name, "--timeout", "20s"]);
        assert_eq!(got.code(0).out, format!("{n}\n"));
        c.cpe(&["space", "fetch-try", "w", &name, "--timeout", "20s"])
            .code(3);
    }
    // Its new state is a state like any other.
    let folder = a.keep_folder();
    assert!(a.stop().success());
    let mut command = cpe();
    command.args(["node", "--json", "--name", "a", "--api", "127.0.0.1:0"]);
    command.args(["--listen", &address]);
    let a = Node::run_in(command, folder);
    a.sees(3);
}
