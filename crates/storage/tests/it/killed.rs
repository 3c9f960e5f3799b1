//! A process killed in the middle of its writes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cpe_mesh::Table;
use cpe_storage::Storage;

use crate::put;

const FOLDER: &str = "CPE_STORAGE_TEST_FOLDER";

/// Writes numbers for ever, many at a time, and prints each when it is acknowledged as synced.
/// Only the test below runs it, as a process of its own.
#[test]
#[ignore = "a part of what_was_acknowledged_survives_a_kill"]
fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let mut opened = Storage::open(Path::new(&folder)).unwrap();
    let mut next = opened.image.table(Table::Log).count() as u64;
    let mut waiting = 0;
    let mut out = std::io::stderr().lock();
    loop {
        while waiting < 20 {
            let value = next.to_be_bytes().repeat(10);
            // Some are not synced by themselves, but by the next that is.
            opened
                .storage
                .write(
                    next,
                    put(&next.to_be_bytes(), &value),
                    !next.is_multiple_of(5),
                )
                .unwrap();
            next += 1;
            waiting += 1;
        }
        let done = opened.completions.blocking_recv().unwrap();
        done.result.unwrap();
        waiting -= 1;
        if !done.token.is_multiple_of(5) {
            writeln!(out, "synced {}", done.token).unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::child_that_writes_until_it_is_killed",
                "--ignored",
            ])
            .arg("--nocapture")
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let synced = |line: String| {
            line.strip_prefix("synced ")
                .and_then(|n| n.parse::<u64>().ok())
        };
        let mut acknowledged = Vec::<u64>::new();
        for line in lines {
            acknowledged.extend(synced(line.unwrap()));
            if acknowledged.len() == 30 + 17 * round {
                // SIGKILL; what it printed before it died is still read below.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let image = Storage::open(folder.path()).unwrap().image;
        let last = *acknowledged.iter().max().unwrap();
        let kept: Vec<_> = image.table(Table::Log).collect();
        assert!(
            kept.len() as u64 > last,
            "round {round}: {} kept of {last}",
            kept.len()
        );
        for (n, (key, value)) in (0_u64..).zip(kept) {
            assert_eq!(
                (key, value),
                (&n.to_be_bytes()[..], &n.to_be_bytes().repeat(10)[..])
            );
        }
    }
}
